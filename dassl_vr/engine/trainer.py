"""The loop that all trainers share, under the names of the Dassl family.

`TrainerBase` fixes the order of events; it builds on the registered models (`models`) and the state that a resumed run continues
from (`run_state`). `SimpleTrainer` adds data, evaluation and the hooks between epochs. `TrainerX` and `TrainerXU` feed labelled
(and unlabelled) batches to the loop in `batch_loop`. A method overrides what differs, usually `build_model` and `forward_backward`.
"""

import contextlib
import datetime
import itertools
import os
import shutil
import time

import torch
from tqdm import tqdm
from yacs.config import CfgNode

from ..config.validate import lookup
from ..data import DataManager, name_of_data
from ..data.augment_rng import derive_seed
from ..data.loader import BatchLoader
from ..evaluation import build_evaluator
from ..optim import epochs_for
from ..utils import checkpoint as ckpt
from ..utils import devices, distributed
from ..utils.errors import ConfigError, DataError
from ..utils.logger import print_brief
from ..utils.memory import keep_freed_memory
from ..utils.seeding import set_deterministic, set_random_seed
from .batch_loop import BatchLoop
from .batch_norm import survive_single_images
from .charts import write_layout, write_outcome
from .compiled_kernels import use_kernels
from .epoch_tests import EpochTests
from .evaluation_pass import EvaluationPass
from .events import EVENTS, EventWriter
from .models import RegisteredModels
from .parallel import train_together
from .resume import load_resume_file, save_resume_file, stoppable
from .run_state import RunState
from .step_graph import check_graph, use_graph

BEST_MODEL = ckpt.BEST_MODEL


def resolve_precision(precision: str, device: torch.device) -> str:
    """TRAIN.PRECISION as one of fp32, bf16, fp16: `auto` is the fastest that is safe on `device`. Raises `ConfigError` for one that
    the device does not have."""
    if precision == "auto":
        return devices.fastest_precision(device)
    devices.check_precision(precision, device)
    return precision


class TrainerBase(RegisteredModels, RunState):
    """Registered models, and the order of events of a training run.

    Attributes:
        step_share: weight of this process's samples in the current step (`utils.distributed.StepShare`).
    """

    def __init__(self):
        super().__init__()
        self._writer = None
        self.step_share = distributed.StepShare()

    # ------------------------------------------------------------------------------------------------- TensorBoard
    def init_writer(self, log_dir: str, purge_step: int | None = None) -> None:
        """Open the TensorBoard writer in the main process. Events that an interrupted run wrote from `purge_step` on are hidden."""
        if self._writer is None and distributed.is_main():
            print(f"Initialize tensorboard (log_dir={log_dir})")
            self._writer = EventWriter(log_dir, purge_step)

    def close_writer(self) -> None:
        """Close TensorBoard's writer, if it is open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Write one number to TensorBoard; does nothing outside of training."""
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    # ---------------------------------------------------------------------------------------------- order of events
    def train(self, start_epoch: int, max_epoch: int) -> None:
        """Run the epochs from `start_epoch` to `max_epoch`."""
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        if distributed.is_parallel():
            train_together(self._models.values(), self.step_share)
        else:
            survive_single_images(self._models.values())
        self.before_train()
        for epoch in range(self.start_epoch, self.max_epoch):
            self.epoch = epoch
            if self._begin_epoch():
                self.before_epoch()
            self.run_epoch()
            self.after_epoch()
            self._end_epoch()
        self.after_train()

    def _begin_epoch(self):
        """The engine's own work before an epoch, separate from the hooks, so that no trainer can forget it.

        Returns:
            True at the start of an epoch, False if an interrupted run continues in the middle of it.
        """
        return True

    def _end_epoch(self):
        pass

    def before_train(self) -> None:
        """Hook: once, before the first epoch."""

    def after_train(self) -> None:
        """Hook: once, after the last epoch."""

    def before_epoch(self) -> None:
        """Hook: before each epoch; not where an interrupted one continues."""

    def after_epoch(self) -> None:
        """Hook: after each epoch."""

    def run_epoch(self) -> None:
        """Take the steps of one epoch."""
        raise NotImplementedError

    def test(self) -> float:
        """Evaluate; returns the metric that a run is judged by, in percent."""
        raise NotImplementedError

    def parse_batch_train(self, batch: dict) -> tuple[torch.Tensor, ...]:
        """What `forward_backward` needs of a training batch, on the device: images (B, 3, S, S), labels (B,), ..."""
        raise NotImplementedError

    def parse_batch_test(self, batch: dict) -> tuple[torch.Tensor, ...]:
        """Images (B, 3, S, S) and labels (B,) of a batch, on the device."""
        raise NotImplementedError

    def forward_backward(self, batch: dict) -> dict[str, float | torch.Tensor] | None:
        """One training step; returns what is logged, {name: number}. Every trainer defines it."""
        raise NotImplementedError

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) images -> (B, classes) scores."""
        raise NotImplementedError


class SimpleTrainer(BatchLoop, EpochTests, TrainerBase):
    """A trainer with data loaders, evaluation, TensorBoard and the files of a run.

    Raises:
        ConfigError, DataError: settings and data that do not go together, or that several processes cannot share.
    """

    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.check_cfg(cfg)
        self.device = devices.open_device(cfg.DEVICE, cfg.USE_CUDA)
        set_deterministic(cfg.TRAIN.DETERMINISTIC, self.device)
        for line in devices.shortcomings(self.device, cfg.DATALOADER.PIN_MEMORY, cfg.TRAIN.DETERMINISTIC):
            print(f"NOTE: {line}")
        if self.device.type == "cpu" and cfg.TRAIN.KEEP_MEMORY:
            keep_freed_memory()
        self.precision = resolve_precision(cfg.TRAIN.PRECISION, self.device)
        self.loss_scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.start_epoch = self.epoch = self.batch_idx = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.cfg, self.output_dir = cfg, cfg.OUTPUT_DIR
        check_graph(self)
        self.watch = None  # called with the trainer at the end of each epoch, if set
        self.build_data_loader()
        self._check_data()
        if not self.max_epoch:
            self.max_epoch = self._epochs_for_data()
        if distributed.is_parallel() and not isinstance(self.train_loader_x, BatchLoader):
            raise ConfigError(
                f"trainer {cfg.TRAINER.NAME} builds its own loaders, which several processes cannot share; start one process"
            )
        self.build_model()
        use_kernels(cfg.TRAIN.KERNELS, self._models.values(), self.device)
        use_graph(self)
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)

    def _epochs_for_data(self):
        if self.dm is None:
            name = self.cfg.TRAINER.NAME
            raise ConfigError(f"OPTIM.MAX_EPOCH is 0, but trainer {name} makes its own loaders; set it to a number of epochs")
        return epochs_for(self.cfg.OPTIM, len(self.dm.dataset.train_x), self.num_classes, len(self.train_loader_x))

    def _check_data(self):
        cfg = self.cfg
        if self.num_classes < 2:
            raise DataError(f"{name_of_data(cfg)} has {self.num_classes} class; expected two or more")
        only_tested = getattr(getattr(self.dm, "dataset", None), "test_only", False)  # the model was chosen before
        needs_val = [
            f"{key} is {value}"
            for key, value in (("TEST.FINAL_MODEL", "best_val"), ("TEST.SPLIT", "val"))
            if lookup(cfg, key) == value and self.val_loader is None and not cfg.TEST.NO_TEST
            if key == "TEST.SPLIT" or not only_tested
        ]
        if needs_val:
            raise ConfigError(
                f"{' and '.join(needs_val)}, but {name_of_data(cfg)} has no validation split, and the test split selects nothing"
            )

    def check_cfg(self, cfg: CfgNode) -> None:
        """Check what this trainer needs of the configuration, before anything is built; raise `ConfigError`."""

    def build_data_loader(self) -> None:
        """Build the data loaders and set the attributes that describe the classes."""
        dm = DataManager(self.cfg, device=self.device)
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u
        self.val_loader = dm.val_loader
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm

    def build_model(self) -> None:
        """Build `self.model` and register what is trained (`register_model`); every trainer defines it."""
        raise NotImplementedError

    def train(self) -> None:
        super().train(self.start_epoch, self.max_epoch)

    def before_train(self) -> None:
        if self.cfg.RESUME and not load_resume_file(self, self.cfg.RESUME):
            self.start_epoch = self.resume_model_if_exist(self.cfg.RESUME)
        elif self.cfg.RESUME and os.path.realpath(self.cfg.RESUME) != os.path.realpath(self.output_dir):
            self._bring_best_model(self.cfg.RESUME)
        steps = self.start_epoch * len(self.train_loader_x) + (self.progress.batches if self.progress else 0)
        self.begin_tensorboard(steps)
        if not distributed.is_main():  # random numbers drawn within a step differ between processes
            set_random_seed(derive_seed("process", self.cfg.SEED, distributed.rank(), steps) >> 1)
        self.time_start = time.time()  # for the family's trainers, which subtract it from `time.time()`

    def begin_tensorboard(self, steps: int) -> None:
        """Open TensorBoard's writer, `steps` training batches into the run."""
        # Hide what the interrupted run wrote after its last resume file, or everything if it wrote none
        self.init_writer(os.path.join(self.output_dir, EVENTS), purge_step=steps + 1 if steps else 0)
        write_layout(self._writer)

    def _bring_best_model(self, directory):
        """Copy the best model by validation so far: the resumed run may still need it."""
        for name in self.get_model_names() if distributed.is_main() else ():
            path = os.path.join(directory, name, BEST_MODEL)
            if os.path.isfile(path):
                os.makedirs(os.path.join(self.output_dir, name), exist_ok=True)
                shutil.copy2(path, os.path.join(self.output_dir, name, BEST_MODEL))

    def steps_done(self) -> int:
        """Training batches up to the end of the current epoch: the x axis of TensorBoard."""
        return (self.epoch + 1) * len(self.train_loader_x)

    def _begin_epoch(self):
        if self.progress is None:
            self.begin_progress()
        self._epoch_start = time.monotonic() - self.progress.seconds
        self.epoch_record = {"epoch": self.epoch + 1}
        if self.dm is not None:
            self.dm.set_epoch(self.epoch)
        return self.progress.batches == 0

    def _end_epoch(self):
        self.check_before_saving()
        self.epoch_record["seconds"] = time.monotonic() - self._epoch_start
        self.history.append(self.epoch_record)
        self.progress = None
        last = self.epoch + 1 == self.max_epoch
        if last or (self.epoch + 1) % self.cfg.TRAIN.RESUME_FREQ == 0:
            save_resume_file(self, self.output_dir)
        if self.watch is not None:
            self.watch(self)
        self._epoch_start = time.monotonic()

    def after_epoch(self) -> None:
        self.check_before_saving()
        self.validate_and_keep_best()
        self.save_checkpoints()

    def save_checkpoints(self) -> None:
        """Write the family's checkpoint files after the last epoch, and in between as TRAIN.CHECKPOINT_FREQ says."""
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        last = self.epoch + 1 == self.max_epoch
        if last or (frequency > 0 and (self.epoch + 1) % frequency == 0):
            self.save_model(self.epoch, self.output_dir)

    def after_train(self) -> None:
        test = not self.cfg.TEST.NO_TEST
        if test and self.cfg.TEST.FINAL_MODEL == "best_val":
            print("Deploy the model with the best val performance")
            distributed.barrier()  # the main process may still be writing it
            self.load_model(self.output_dir)
        else:
            print("Deploy the last-epoch model")
        if test and self.cfg.TEST.TRAIN_GAP and self.dm is not None:
            self.test(split="train")  # before the next line: log parsers take the first result after it as the run's
        print("Finish training")
        if test:
            self.test()
        if self._writer is not None:
            write_outcome(self)
        print(f"Elapsed: {datetime.timedelta(seconds=round(self.seconds_train()))}")

    def seconds_train(self) -> float:
        """Seconds spent in epochs, over all interruptions."""
        return sum(record["seconds"] for record in self.history)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on a split ("test", "val" or "train", the last with the transform for testing).

        Returns:
            The first metric of the evaluator (accuracy in percent); all are kept in `self.results[split]`.

        Raises:
            ConfigError: the data set has no such split.
        """
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = split or self.cfg.TEST.SPLIT
        plain = {"val": self.val_loader, "test": self.test_loader}
        data_loader = self.dm.train_loader_plain if split == "train" else plain.get(split)
        if data_loader is None:
            raise ConfigError(f"{name_of_data(self.cfg)} has no {split} split to evaluate on")
        line = f"Evaluate on the *{split}* set"
        print_brief("" if getattr(self.evaluator, "brief", "") else line, line)
        bar = tqdm(data_loader, desc=f"test on {split}", disable=distributed.no_progress_bar(), leave=False)
        kept = EvaluationPass(self.device, self.cfg.TEST.PREDICTIONS) if split == self.cfg.TEST.SPLIT else None
        for batch in stoppable(self, bar):
            input, label = self.parse_batch_test(batch)
            with kept.predicting() if kept else contextlib.nullcontext():
                output = self.model_inference(input)
            self.evaluator.process(output, label)
            if kept:
                kept.add(batch, output, label)
        results = self.results[split] = self.evaluator.evaluate()
        self.last_pass = kept or self.last_pass
        return next(iter(results.values()))

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:
        return self.model(input)

    def parse_batch_test(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        return batch["img"].to(self.device), batch["label"].to(self.device)


class TrainerX(SimpleTrainer):
    """A trainer on labelled data."""

    def run_epoch(self) -> None:
        loader, done = self.train_loader_x, self.progress.position
        if hasattr(loader, "start_at"):
            loader.start_at(done)
            batches = iter(loader)
        else:  # the trainer built its own loader
            batches = itertools.islice(loader, done, None)
        self.run_batches(((batch,) for batch in batches), len(loader))

    def parse_batch_train(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return batch["img"].to(self.device), batch["label"].to(self.device), batch["domain"].to(self.device)


class TrainerXU(SimpleTrainer):
    """A trainer on labelled and unlabelled data: `forward_backward(batch_x, batch_u)`.

    Raises:
        ConfigError: the data set has no unlabelled images.
    """

    def run_epoch(self) -> None:
        if self.train_loader_u is None:
            raise ConfigError(f"trainer {self.cfg.TRAINER.NAME} needs unlabelled data; {name_of_data(self.cfg)} has none")
        len_x, len_u = len(self.train_loader_x), len(self.train_loader_u)
        lengths = {"train_x": len_x, "train_u": len_u, "smaller_one": min(len_x, len_u)}
        num_batches = lengths[self.cfg.TRAIN.COUNT_ITER]
        loaders = [self._endless(loader) for loader in (self.train_loader_x, self.train_loader_u)]
        batches = zip(range(self.progress.batches, num_batches), *loaders, strict=False)
        self.run_batches(((batch_x, batch_u) for _, batch_x, batch_u in batches), num_batches, endless=True)

    def _endless(self, loader):
        """Passes over `loader` without end. All but the first have the order and augmentation of epochs beyond the run's last."""
        passes, first = divmod(self.progress.batches, len(loader))
        for beyond in itertools.count(passes):
            loader.set_epoch(self.epoch + beyond * self.max_epoch)
            loader.start_at(first)
            yield from loader
            first = 0

    def parse_batch_train(self, batch_x: dict, batch_u: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return batch_x["img"].to(self.device), batch_x["label"].to(self.device), batch_u["img"].to(self.device)

"""The loop that all trainers share, under the names of the Dassl family.

`TrainerBase` holds registered models and the order of events, `SimpleTrainer` data, evaluation and files, `TrainerX` and
`TrainerXU` the pass over labelled (and unlabelled) batches. A method overrides what differs, mostly `build_model` and
`forward_backward`.
"""

import datetime
import itertools
import os
import shutil
import time
from collections import OrderedDict

import torch
from tqdm import tqdm

from ..backbones import FrozenBackbone
from ..config.validate import lookup
from ..data import DataManager
from ..data.augment_rng import derive_seed
from ..data.loader import BatchLoader
from ..evaluation import build_evaluator
from ..utils import checkpoint as ckpt
from ..utils import distributed
from ..utils.errors import ConfigError, DataError, NonFiniteLossError
from ..utils.memory import keep_freed_memory
from ..utils.misc import check_availability, tolist_if_not
from ..utils.seeding import set_deterministic, set_random_seed
from .batch_norm import survive_single_images
from .charts import write_hparams, write_layout
from .epoch_pass import EpochPass
from .events import EVENTS, EventWriter
from .parallel import train_together
from .resume import load_resume_file, save_resume_file, stoppable

BEST_MODEL = ckpt.BEST_MODEL


def resolve_precision(precision, device):
    """TRAIN.PRECISION as one of fp32, bf16, fp16: `auto` is the fastest that is safe on `device`."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


class TrainerBase:
    """Registered models, each with an optimizer and a schedule, and the order of events of a training run.

    Attributes:
        weights_sha256: of the pre-trained backbone as it was built; None = it has none, or not one of `dassl_vr.backbones`.
    """

    weights_sha256 = None

    def __init__(self):
        self._models = OrderedDict()
        self._optims = OrderedDict()
        self._scheds = OrderedDict()
        self._writer = None
        # Not `scaler`, which the family's trainers set themselves, to None as well
        self.loss_scaler = torch.amp.GradScaler(enabled=False)
        self._bad_loss = None  # on the loss's device: whether any loss was NaN or infinite since the last look

    # ------------------------------------------------------------------------------------------- registered models
    def register_model(self, name="model", model=None, optim=None, sched=None):
        """Hand a model over to the engine: it is saved, resumed, switched between modes, stepped.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._models:
            raise ValueError(f"a model called '{name}' is registered already")
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names=None):
        """All registered names, or `names` as a list once they are checked."""
        if names is None:
            return list(self._models)
        names = tolist_if_not(names)
        for name in names:
            check_availability(name, list(self._models))
        return names

    def set_model_mode(self, mode="train", names=None):
        """Put registered models into "train" or "eval" ("test") mode."""
        check_availability(mode, ["train", "eval", "test"])
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def update_lr(self, names=None):
        """Step the schedules. A trainer calls it at the last batch of an epoch; the engine never does."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names=None):
        """The learning rate of the first of `names` (of all, by default) that has an optimizer."""
        return next(iter(self.get_current_lrs(names).values()), 0.0)

    def get_current_lrs(self, names=None):
        """{registered name: learning rate of its first parameter group}, of models with an optimizer."""
        names = self.get_model_names(names)
        return {n: self._optims[n].param_groups[0]["lr"] for n in names if self._optims[n] is not None}

    # ------------------------------------------------------------------------------------------------- checkpoints
    def save_model(self, epoch, directory, is_best=False, val_result=None, model_name=""):
        """Write the family's checkpoint file of each registered model; frozen parameters are left out."""
        if not distributed.is_main():
            return
        for name in self.get_model_names():
            optim, sched = self._optims[name], self._scheds[name]
            state = {
                "state_dict": ckpt.trained_state(self._models[name]),
                "epoch": epoch + 1,
                "optimizer": None if optim is None else optim.state_dict(),
                "scheduler": None if sched is None else sched.state_dict(),
                "val_result": val_result,
            }
            ckpt.save_checkpoint(state, os.path.join(directory, name), is_best=is_best, model_name=model_name)

    def resume_model_if_exist(self, directory):
        """Continue from the family's checkpoint files, if there are any; returns the epoch to start with."""
        names = self.get_model_names()
        if not all(ckpt.newest_checkpoint(os.path.join(directory, name)) for name in names):
            print(f"No checkpoint in {directory}, training from the start")
            return 0
        print(f"Continuing from the checkpoints in {directory} (they hold no random states: not bit for bit)")
        epochs = [
            ckpt.resume_from_checkpoint(os.path.join(directory, n), self._models[n], self._optims[n], self._scheds[n])
            for n in names
        ]
        return epochs[0] if epochs else 0

    def load_model(self, directory, epoch=None):
        """Load each registered model's checkpoint.

        Args:
            directory: of a run; empty = do nothing.
            epoch: which one; None = the best by validation if there is one, else the newest.

        Raises:
            WeightsError: there is none, or it does not fit.
        """
        if not directory:
            print("No model directory given: the model stays as it was built")
            return
        for name in self.get_model_names():
            path = ckpt.find_checkpoint(os.path.join(directory, name), epoch)
            checkpoint = ckpt.load_checkpoint(path, ckpt.CHECKPOINT)
            ckpt.load_trained_state(self._models[name], checkpoint["state_dict"], path)
            val_result = checkpoint.get("val_result")
            note = "" if val_result is None else f", val_result={val_result:.1f}"
            print(f"Loaded {path} into {name} (epoch={checkpoint['epoch']}{note})")

    # ------------------------------------------------------------------------------------------------- TensorBoard
    def init_writer(self, log_dir, purge_step=None):
        """Open the TensorBoard writer, in the main process. Events of an interrupted run from `purge_step` on are hidden."""
        if self._writer is None and distributed.is_main():
            print(f"Initialize tensorboard (log_dir={log_dir})")
            self._writer = EventWriter(log_dir, purge_step)

    def close_writer(self):
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_scalar(self, tag, scalar_value, global_step=None):
        """Write one number to TensorBoard; nothing outside of training."""
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    # ---------------------------------------------------------------------------------------------- order of events
    def train(self, start_epoch, max_epoch):
        """Run the epochs from `start_epoch` to `max_epoch`."""
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        if distributed.is_parallel():
            train_together(self._models.values())
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

    def extra_state(self):
        """{name: tensor} that a trainer needs to continue bit for bit besides what its models, optimizers and schedules hold."""
        return {}

    def load_extra_state(self, state):
        """Take back what `extra_state` gave, or an empty dictionary."""

    def _begin_epoch(self):
        """The engine's own work around an epoch, apart from the hooks so that no trainer can forget it.

        Returns:
            whether the epoch begins here: not if an interrupted run continues within it.
        """
        return True

    def _end_epoch(self):
        pass

    def before_train(self):
        pass

    def after_train(self):
        pass

    def before_epoch(self):
        pass

    def after_epoch(self):
        pass

    def run_epoch(self):
        raise NotImplementedError

    def test(self):
        raise NotImplementedError

    def parse_batch_train(self, batch):
        raise NotImplementedError

    def parse_batch_test(self, batch):
        raise NotImplementedError

    def forward_backward(self, batch):
        raise NotImplementedError

    def model_inference(self, input):
        raise NotImplementedError

    # --------------------------------------------------------------------------------------------------- one update
    def model_zero_grad(self, names=None):
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def detect_anomaly(self, loss):
        """Stop at a NaN or infinite loss: at once on the CPU; on a GPU or several processes, where looking means waiting, at the
        next print-out and in any case before a checkpoint is written.

        Raises:
            NonFiniteLossError: naming the place.
        """
        bad = ~torch.isfinite(loss.detach()).all()
        self._bad_loss = bad if self._bad_loss is None else self._bad_loss | bad
        if loss.device.type == "cpu" and not distributed.is_parallel():
            self.raise_if_anomaly()

    def raise_if_anomaly(self):
        """Look at what `detect_anomaly` gathered, on all processes."""
        bad, self._bad_loss = self._bad_loss, None
        if distributed.any_process(bad is not None and bool(bad)):
            rates = ", ".join(f"{name} {lr:g}" for name, lr in self.get_current_lrs().items())
            raise NonFiniteLossError(
                f"the loss became NaN or infinite in epoch {self.epoch + 1}, at batch {self.batch_idx + 1} or shortly before;"
                f" nothing was saved after that, earlier checkpoints are intact; try lower learning rates (now {rates})"
                " or TRAIN.PRECISION fp32"
            )

    def check_before_saving(self):
        """Raise `NonFiniteLossError` if a loss since the last look, or what the last update made of the weights, is not finite."""
        self.raise_if_anomaly()
        for name, model in self._models.items():
            for key, p in model.named_parameters():
                if p.requires_grad and not bool(torch.isfinite(p).all()):
                    raise NonFiniteLossError(
                        f"'{key}' of {name} became NaN or infinite in epoch {self.epoch + 1}; nothing was saved after that, earlier"
                        " checkpoints are intact; try lower learning rates"
                    )

    def model_backward(self, loss):
        self.detect_anomaly(loss)
        self.loss_scaler.scale(loss).backward()

    def model_update(self, names=None):
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self.loss_scaler.step(self._optims[name])
        self.loss_scaler.update()

    def model_backward_and_update(self, loss, names=None):
        """Zero the gradients, go backward, step the optimizers (of `names`, or all)."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)


class SimpleTrainer(TrainerBase):
    """A trainer with data loaders, evaluation, TensorBoard and the files of a run."""

    def __init__(self, cfg):
        super().__init__()
        self.check_cfg(cfg)
        set_deterministic(cfg.TRAIN.DETERMINISTIC)
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
        if self.device.type == "cpu" and cfg.TRAIN.KEEP_MEMORY:
            keep_freed_memory()
        self.precision = resolve_precision(cfg.TRAIN.PRECISION, self.device)
        self.loss_scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.start_epoch = self.epoch = 0
        self.batch_idx = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self.best_result = -float("inf")
        self.progress = None  # the `EpochPass` of the current epoch
        self.watch = None  # called with the trainer at the end of each epoch, if set
        self.history = []  # one dictionary of numbers per epoch, carried over a resume
        self.results = {}  # split -> the metrics of the last test on it
        self.peak_memory_before = 0  # in bytes, of the interrupted run that this one continues
        self.dm = None  # a trainer that makes its own loaders may leave it so
        self.build_data_loader()
        self._check_data()
        if distributed.is_parallel() and not isinstance(self.train_loader_x, BatchLoader):
            raise ConfigError(f"trainer {cfg.TRAINER.NAME} makes its own loaders, which several processes cannot share; start one")
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)

    def _check_data(self):
        cfg = self.cfg
        if self.num_classes < 2:
            raise DataError(
                f"{cfg.DATASET.NAME} has {self.num_classes} class; there is nothing to tell apart, expected two or more"
            )
        only_tested = getattr(getattr(self.dm, "dataset", None), "test_only", False)  # the model was chosen before
        needs_val = [
            f"{key} is {value}"
            for key, value in (("TEST.FINAL_MODEL", "best_val"), ("TEST.SPLIT", "val"))
            if lookup(cfg, key) == value and self.val_loader is None and not cfg.TEST.NO_TEST
            if key == "TEST.SPLIT" or not only_tested
        ]
        if needs_val:
            raise ConfigError(
                f"{' and '.join(needs_val)}, but {cfg.DATASET.NAME} has no validation split, and the test split selects nothing"
            )

    def check_cfg(self, cfg):
        """Check what this trainer needs of the configuration, before anything is built; raise `ConfigError`."""

    def build_data_loader(self):
        """Make the loaders and what is known of the classes."""
        dm = DataManager(self.cfg, device=self.device)
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u
        self.val_loader = dm.val_loader
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm

    def build_model(self):
        """Build `self.model` and register what is trained (`register_model`): a trainer's own to do."""
        raise NotImplementedError

    def train(self):
        super().train(self.start_epoch, self.max_epoch)

    def before_train(self):
        if self.cfg.RESUME and not load_resume_file(self, self.cfg.RESUME):
            self.start_epoch = self.resume_model_if_exist(self.cfg.RESUME)
        elif self.cfg.RESUME and os.path.realpath(self.cfg.RESUME) != os.path.realpath(self.output_dir):
            self._bring_best_model(self.cfg.RESUME)
        steps = self.start_epoch * len(self.train_loader_x) + (self.progress.batches if self.progress else 0)
        # What the interrupted run wrote after its last resume file is hidden; all of it, if it died before the first
        self.init_writer(os.path.join(self.output_dir, EVENTS), purge_step=steps + 1 if steps else 0)
        write_layout(self._writer)
        if not distributed.is_main():  # what is drawn in a step shall not be the same for the samples of each process
            set_random_seed(derive_seed("process", self.cfg.SEED, distributed.rank(), steps) >> 1)
        self.time_start = time.time()  # for the family's trainers, which subtract it from `time.time()`

    def _bring_best_model(self, directory):
        """The best model by validation so far is part of what a run continues from."""
        for name in self.get_model_names() if distributed.is_main() else ():
            path = os.path.join(directory, name, BEST_MODEL)
            if os.path.isfile(path):
                os.makedirs(os.path.join(self.output_dir, name), exist_ok=True)
                shutil.copy2(path, os.path.join(self.output_dir, name, BEST_MODEL))

    def steps_done(self):
        """Training batches up to the end of the current epoch: the x axis of TensorBoard."""
        return (self.epoch + 1) * len(self.train_loader_x)

    def begin_progress(self):
        """A new `EpochPass`, at its first batch."""
        self.progress = EpochPass()
        return self.progress

    def _begin_epoch(self):
        if self.progress is None:
            self.begin_progress()
        self._epoch_start = time.monotonic() - self.progress.seconds
        self._epoch_record = {"epoch": self.epoch + 1}
        if self.dm is not None:
            self.dm.set_epoch(self.epoch)
        return self.progress.batches == 0

    def _end_epoch(self):
        self.check_before_saving()
        self._epoch_record["seconds"] = time.monotonic() - self._epoch_start
        self.history.append(self._epoch_record)
        self.progress = None
        last = self.epoch + 1 == self.max_epoch
        if last or (self.epoch + 1) % self.cfg.TRAIN.RESUME_FREQ == 0:
            save_resume_file(self, self.output_dir)
        if self.watch is not None:
            self.watch(self)
        self._epoch_start = time.monotonic()

    def after_epoch(self):
        self.check_before_saving()
        last = self.epoch + 1 == self.max_epoch
        validates = last or (self.epoch + 1) % self.cfg.TEST.VAL_FREQ == 0
        if validates and not self.cfg.TEST.NO_TEST and self.cfg.TEST.FINAL_MODEL == "best_val":
            result = self.test(split="val")
            if result > self.best_result:
                self.best_result = result
                self.save_model(self.epoch, self.output_dir, val_result=result, model_name=BEST_MODEL)
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        if last or (frequency > 0 and (self.epoch + 1) % frequency == 0):
            self.save_model(self.epoch, self.output_dir)

    def after_train(self):
        test = not self.cfg.TEST.NO_TEST
        if test and self.cfg.TEST.FINAL_MODEL == "best_val":
            print("Deploy the model with the best val performance")
            distributed.barrier()  # the main process may still be writing it
            self.load_model(self.output_dir)
        else:
            print("Deploy the last-epoch model")
        if test and self.cfg.TEST.TRAIN_GAP and self.dm is not None:
            self.test(split="train")  # before the next line, after which log parsers take the first result for the run's
        print("Finish training")
        if test:
            self.test()
        if self._writer is not None:
            write_hparams(self)
        print(f"Elapsed: {datetime.timedelta(seconds=round(self.seconds_train()))}")

    def seconds_train(self):
        """Seconds spent in epochs, over all interruptions."""
        return sum(record["seconds"] for record in self.history)

    @torch.no_grad()
    def test(self, split=None):
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
            raise ConfigError(f"{self.cfg.DATASET.NAME} has no {split} split to evaluate on")
        print(f"Evaluate on the *{split}* set")
        bar = tqdm(data_loader, desc=f"test on {split}", disable=distributed.no_progress_bar(), leave=False)
        for batch in stoppable(self, bar):
            input, label = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(input), label)
        results = self.results[split] = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.steps_done())
        return next(iter(results.values()))

    def model_inference(self, input):
        return self.model(input)

    def parse_batch_test(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def count_parameters(self):
        """(trained, frozen) numbers of parameters of the registered models and `self.model`.

        A frozen backbone counts with all parameters of the published model, those folded away included.
        """
        roots = [module for module in (*self._models.values(), getattr(self, "model", None)) if module is not None]
        backbones = {m for root in roots for m in root.modules() if isinstance(m, FrozenBackbone) and m.frozen}
        inside = {id(p) for backbone in backbones for p in backbone.parameters()}
        params = {id(p): p for root in roots for p in root.parameters() if id(p) not in inside}
        trained = sum(p.numel() for p in params.values() if p.requires_grad)
        frozen = sum(p.numel() for p in params.values() if not p.requires_grad)
        return trained, frozen + sum(backbone.num_parameters for backbone in backbones)

    def _run_batches(self, batches, num_batches, endless=False):
        """One pass: `batches` yields tuples of arguments for `forward_backward`, the first of them from `train_loader_x`."""
        self.set_model_mode("train")
        self.num_batches = num_batches
        self.progress.run(self, batches, num_batches, self.train_loader_x, endless)
        self._epoch_record.update(self.progress.record())


class TrainerX(SimpleTrainer):
    """A trainer on labelled data."""

    def run_epoch(self):
        loader, done = self.train_loader_x, self.progress.position
        if hasattr(loader, "start_at"):
            loader.start_at(done)
            batches = iter(loader)
        else:  # of a trainer that makes its own
            batches = itertools.islice(loader, done, None)
        self._run_batches(((batch,) for batch in batches), len(loader))

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device), batch["domain"].to(self.device)


class TrainerXU(SimpleTrainer):
    """A trainer on labelled and unlabelled data: `forward_backward(batch_x, batch_u)`."""

    def run_epoch(self):
        if self.train_loader_u is None:
            raise ConfigError(f"trainer {self.cfg.TRAINER.NAME} needs unlabelled data; {self.cfg.DATASET.NAME} has none")
        len_x, len_u = len(self.train_loader_x), len(self.train_loader_u)
        lengths = {"train_x": len_x, "train_u": len_u, "smaller_one": min(len_x, len_u)}
        num_batches = lengths[self.cfg.TRAIN.COUNT_ITER]
        loaders = [self._endless(loader) for loader in (self.train_loader_x, self.train_loader_u)]
        batches = zip(range(self.progress.batches, num_batches), *loaders, strict=False)
        self._run_batches(((batch_x, batch_u) for _, batch_x, batch_u in batches), num_batches, endless=True)

    def _endless(self, loader):
        """Pass after pass; each after the first takes the order and the augmentation of an epoch beyond the run's own."""
        passes, first = divmod(self.progress.batches, len(loader))
        for beyond in itertools.count(passes):
            loader.set_epoch(self.epoch + beyond * self.max_epoch)
            loader.start_at(first)
            yield from loader
            first = 0

    def parse_batch_train(self, batch_x, batch_u):
        return batch_x["img"].to(self.device), batch_x["label"].to(self.device), batch_u["img"].to(self.device)

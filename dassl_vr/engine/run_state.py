"""What a run continues from, asked of its trainer: the content of the resume file."""

import os

import torch

from ..backbones.weights import require_same_weights
from ..data import name_of_data
from ..utils import distributed, kinds
from ..utils.checkpoint import check_trained_state, load_trained_state, trained_state
from ..utils.environment import peak_memory_bytes
from ..utils.errors import ConfigError, WeightsError
from ..utils.seeding import get_random_states, set_random_states
from ..utils.training_state import optimizer_problem, random_states_problem, schedule_problem


class ExtraStateError(Exception):
    """`load_extra_state` cannot take what is there."""


class RunState:
    """The part of a trainer that knows how far its run has come.

    Attributes:
        progress: the `EpochPass` of the current epoch; None between two epochs.
        best_result: of the validations so far.
        history: one dictionary of numbers per epoch.
        results: {split: the metrics of the last test on it}.
        last_pass: the `EvaluationPass` of the last test on TEST.SPLIT; None before the first.
        peak_memory_before: in bytes, of the interrupted run that this one continues.
        weights_sha256: of the pre-trained backbone as it was built; None = it has none, or not one of `dassl_vr.backbones`.
    """

    weights_sha256 = None

    def __init__(self):
        super().__init__()
        self.progress = None
        self.best_result = -float("inf")
        self.history = []
        self.results = {}
        self.last_pass = None
        self.peak_memory_before = 0
        self.dm = None  # a trainer that makes its own loaders may leave it so

    def own_results(self) -> dict[str, object]:
        """{entry of results.json: value} that only this method has; whole numbers, texts, lists of them."""
        return {}

    def extra_state(self) -> dict[str, torch.Tensor]:
        """{name: tensor} that a trainer needs to continue bit for bit besides what its models, optimizers and schedules hold."""
        return {}

    def load_extra_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `extra_state` gave, or an empty dictionary."""

    def run_state(self) -> dict:
        """The state of now, at the end of `epoch` or within it. All processes of a run call it; it is that of all together.

        Data loaders need no state of their own: their order and their augmentation are functions of (seed, epoch, sample).
        """
        within_epoch = None if self.progress is None else self.progress.state_dict()
        extra = self.extra_state()
        skipped = self._skipped_images()
        return {
            "next_epoch": self.epoch + (within_epoch is None),
            "within_epoch": within_epoch,
            "models": {name: trained_state(model) for name, model in self._models.items()},
            "optims": {name: o.state_dict() for name, o in self._optims.items() if o is not None},
            "scheds": {name: s.state_dict() for name, s in self._scheds.items() if s is not None},
            "scaler": self.loss_scaler.state_dict(),
            "best_result": self.best_result,
            "history": self.history,
            "results": {split: {name: _plain(value) for name, value in metrics.items()} for split, metrics in self.results.items()},
            "skipped_images": skipped,
            "peak_memory_bytes": self.peak_memory(),
            "precision": self.precision,
            "split_sha256": self._split_sha256(),
            "weights_sha256": self.weights_sha256,
            "processes": distributed.world_size(),
            "random_states": get_random_states(),
            "extra": extra,
        }

    def run_state_problem(self, state: dict, path: str) -> str:
        """What of the state in the file `path`, which is of the kind `resume.RESUME`, does not fit this trainer; "" if all does.

        Raises:
            WeightsError: it belongs to another trainer, other data or another backbone.
            ConfigError: it was written within an epoch whose batches are others with this number of processes.
        """
        if state["split_sha256"] != self._split_sha256():
            raise WeightsError(
                f"{path} belongs to a run on other images or labels than {name_of_data(self.cfg)} has; choose another --output-dir"
            )
        require_same_weights(state.get("weights_sha256"), self.weights_sha256, path, "MODEL.BACKBONE.WEIGHTS")
        processes = state.get("processes", 1)
        if state.get("within_epoch") and self.cfg.DATALOADER.BATCH_PER_PROCESS and processes != distributed.world_size():
            raise ConfigError(
                f"{path} was written within an epoch by {processes} process(es), and with DATALOADER.BATCH_PER_PROCESS their number"
                f" decides which images a batch has; end that epoch with --nproc_per_node {processes}"
            )
        if set(state["models"]) != set(self._models):
            raise WeightsError(f"{path} holds the models {', '.join(state['models'])}; this trainer has {', '.join(self._models)}")
        for name, model in self._models.items():
            check_trained_state(model, state["models"][name], path)
        return self._problem_of_progress(state) or self._problem_of_optimizers(state) or _problem_of_random_states(state)

    def load_run_state(self, state: dict, path: str) -> None:
        """Continue from what `run_state` gave, in which `run_state_problem` found no problem. `path` is for messages.

        Raises:
            ExtraStateError: `load_extra_state` cannot take its part.
        """
        if state["precision"] != self.precision:
            print(f"WARNING: the run began with {state['precision']} arithmetic and continues with {self.precision}")
        for name, model in self._models.items():
            load_trained_state(model, state["models"][name], path)
            if self._optims[name] is not None:
                self._optims[name].load_state_dict(state["optims"][name])
            if self._scheds[name] is not None:
                self._scheds[name].load_state_dict(state["scheds"][name])
        if state["scaler"]:
            self.loss_scaler.load_state_dict(state["scaler"])
        self.start_epoch = state["next_epoch"]
        self.epoch = self.start_epoch - 1  # the last one done: nothing but a test may be left
        self.best_result = state["best_result"]
        self.history = list(state["history"])
        self.results = state.get("results", {})
        self.peak_memory_before = state.get("peak_memory_bytes", 0)
        if distributed.is_main() and self.dm is not None:
            base = self.images_base()
            self.dm.skipped_images.update({os.path.join(base, file): why for file, why in state.get("skipped_images", {}).items()})
        try:
            self.load_extra_state(state.get("extra", {}))
        except (ValueError, KeyError, RuntimeError) as error:
            raise ExtraStateError(error) from error
        set_random_states(state["random_states"])
        if state.get("within_epoch"):
            self.begin_progress().load_state_dict(state["within_epoch"])

    def peak_memory(self) -> int:
        """In bytes, the highest since the run began, over all interruptions."""
        return max(self.peak_memory_before, peak_memory_bytes(self.device))

    def _skipped_images(self):
        """{path, from the data set's directory on: why} of the images that any process has left out so far."""
        base, skipped = self.images_base(), getattr(self.dm, "skipped_images", {})
        found = {os.path.relpath(path, base) if base else path: why for path, why in skipped.items()}
        return {path: why for part in distributed.gather_values(found) for path, why in part.items()}

    def images_base(self) -> str:
        """The data set's directory; "" where it does not tell."""
        base = str(getattr(getattr(self.dm, "dataset", None), "dataset_dir", ""))
        return base if os.path.isabs(base) else ""

    def _split_sha256(self):
        return self.dm.split_sha256 if self.dm is not None else ""

    def _problem_of_progress(self, state):
        within, left = state.get("within_epoch"), self.max_epoch - state["next_epoch"]
        if left < bool(within):
            return f"entry 'next_epoch' is {state['next_epoch']}; expected no more than the {self.max_epoch} epochs of this run"
        if within:
            loaders = [getattr(self, name, None) for name in ("train_loader_x", "train_loader_u")]
            longest = max((len(loader) for loader in loaders if hasattr(loader, "__len__")), default=kinds.LARGEST)
            if not within["batches"] <= within["position"] <= longest:
                return f"entry 'within_epoch' is at batch {within['batches']}, position {within['position']} of {longest}"
        epochs = [record.get("epoch") for record in state["history"]]
        if epochs != sorted(set(epochs)) or any(epoch > state["next_epoch"] for epoch in epochs):
            return f"entry 'history' has other epochs than 1 to {state['next_epoch']}"
        return ""

    def _problem_of_optimizers(self, state):
        steps = self.max_epoch - state["next_epoch"]
        for name in self._models:
            for entry, holders, find in (("optims", self._optims, optimizer_problem), ("scheds", self._scheds, schedule_problem)):
                if holders[name] is None:
                    continue
                if name not in state[entry]:
                    return f"entry '{entry}.{name}' is missing"
                more = {"steps": steps} if entry == "scheds" else {}
                if problem := find(holders[name], state[entry][name], f"{entry}.{name}", **more):
                    return problem
        return ""


def _problem_of_random_states(state):
    return random_states_problem(state["random_states"], "random_states")


def _plain(number):
    return number.item() if hasattr(number, "item") else number  # an evaluator's own may be numpy's, which are not loaded

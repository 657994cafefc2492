"""The models of a trainer, each with an optimizer and a schedule: their modes, their files, one update of them."""

import os
from collections import OrderedDict

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..backbones import FrozenBackbone
from ..utils import checkpoint as ckpt
from ..utils import distributed
from ..utils.errors import NonFiniteLossError
from ..utils.misc import check_availability, tolist_if_not


class RegisteredModels:
    """What a trainer has registered, under the names of the Dassl family."""

    def __init__(self):
        super().__init__()
        self._models = OrderedDict()
        self._optims = OrderedDict()
        self._scheds = OrderedDict()
        # Not `scaler`, which the family's trainers set themselves, to None as well
        self.loss_scaler = torch.amp.GradScaler(enabled=False)
        self._bad_loss = None  # from the first loss on, on its device: whether any was NaN or infinite since the last look

    # ------------------------------------------------------------------------------------------- registered models
    def register_model(
        self, name: str = "model", model: nn.Module | None = None, optim: Optimizer | None = None, sched: LRScheduler | None = None
    ) -> None:
        """Hand a model over to the engine: it is saved, resumed, switched between modes, stepped.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._models:
            raise ValueError(f"a model called '{name}' is registered already")
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names: str | list[str] | None = None) -> list[str]:
        """All registered names, or `names` as a list once they are checked."""
        if names is None:
            return list(self._models)
        names = tolist_if_not(names)
        for name in names:
            check_availability(name, list(self._models))
        return names

    def set_model_mode(self, mode: str = "train", names: str | list[str] | None = None) -> None:
        """Put registered models into "train" or "eval" ("test") mode."""
        check_availability(mode, ["train", "eval", "test"])
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Step the schedules. A trainer calls it at the last batch of an epoch; the engine never does."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names: str | list[str] | None = None) -> float:
        """The learning rate of the first of `names` (of all, by default) that has an optimizer."""
        return next(iter(self.get_current_lrs(names).values()), 0.0)

    def get_current_lrs(self, names: str | list[str] | None = None) -> dict[str, float]:
        """{registered name: learning rate of its first parameter group}, of models with an optimizer."""
        names = self.get_model_names(names)
        return {n: self._optims[n].param_groups[0]["lr"] for n in names if self._optims[n] is not None}

    def count_parameters(self) -> tuple[int, int]:
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

    # ------------------------------------------------------------------------------------------------- checkpoints
    def save_model(
        self, epoch: int, directory: str, is_best: bool = False, val_result: float | None = None, model_name: str = ""
    ) -> None:
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

    def resume_model_if_exist(self, directory: str) -> int:
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

    def load_model(self, directory: str, epoch: int | None = None) -> None:
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

    # --------------------------------------------------------------------------------------------------- one update
    def model_zero_grad(self, names: str | list[str] | None = None) -> None:
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def detect_anomaly(self, loss: torch.Tensor) -> None:
        """Stop at a NaN or infinite loss: at once on the CPU; on a GPU or several processes, where looking means waiting, at the
        next print-out and in any case before a checkpoint is written.

        Raises:
            NonFiniteLossError: naming the place.
        """
        bad = ~torch.isfinite(loss.detach()).all()
        if self._bad_loss is None:
            self._bad_loss = torch.zeros_like(bad)
        self._bad_loss |= bad  # in place, so that a recorded step does it as well
        if loss.device.type == "cpu" and not distributed.is_parallel():
            self.raise_if_anomaly()

    def raise_if_anomaly(self) -> None:
        """Look at what `detect_anomaly` gathered, on all processes."""
        found = self._bad_loss is not None and bool(self._bad_loss)
        if found:
            self._bad_loss.zero_()
        if distributed.any_process(found):
            rates = ", ".join(f"{name} {lr:g}" for name, lr in self.get_current_lrs().items())
            raise NonFiniteLossError(
                f"the loss became NaN or infinite in epoch {self.epoch + 1}, at batch {self.batch_idx + 1} or shortly before;"
                f" nothing was saved after that, earlier checkpoints are intact; try lower learning rates (now {rates})"
                " or TRAIN.PRECISION fp32"
            )

    def check_before_saving(self) -> None:
        """Raise `NonFiniteLossError` if a loss since the last look, or what the last update made of the weights, is not finite."""
        self.raise_if_anomaly()
        for name, model in self._models.items():
            for key, p in model.named_parameters():
                if p.requires_grad and not bool(torch.isfinite(p).all()):
                    raise NonFiniteLossError(
                        f"'{key}' of {name} became NaN or infinite in epoch {self.epoch + 1}; nothing was saved after that, earlier"
                        " checkpoints are intact; try lower learning rates"
                    )

    def model_backward(self, loss: torch.Tensor) -> None:
        self.detect_anomaly(loss)
        self.loss_scaler.scale(loss).backward()

    def model_update(self, names: str | list[str] | None = None) -> None:
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self.loss_scaler.step(self._optims[name])
        self.loss_scaler.update()

    def model_backward_and_update(self, loss: torch.Tensor, names: str | list[str] | None = None) -> None:
        """Zero the gradients, go backward, step the optimizers (of `names`, or all)."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

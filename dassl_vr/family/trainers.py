"""The family's base classes of trainers: ours, with a model for those that bring none."""

from .. import engine
from ..optim import build_lr_scheduler, build_optimizer
from ..utils.checkpoint import load_pretrained_weights
from .modeling import SimpleNet


class SimpleTrainer(engine.SimpleTrainer):
    """Our `SimpleTrainer`, which trains a `SimpleNet` unless a subclass builds another model."""

    def build_model(self) -> None:
        """Build and register a classifier on a backbone, all of it trained."""
        cfg = self.cfg
        self.model = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)


class TrainerX(SimpleTrainer, engine.TrainerX):
    """Our `TrainerX`, for labelled images."""


class TrainerXU(SimpleTrainer, engine.TrainerXU):
    """Our `TrainerXU`, for labelled and unlabelled images."""

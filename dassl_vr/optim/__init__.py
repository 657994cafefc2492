"""Optimizers and learning-rate schedules from the `OPTIM` keys."""

from .budget import epochs_for
from .lr_scheduler import ConstantWarmupScheduler, LinearWarmupScheduler, build_lr_scheduler
from .optimizer import build_optimizer

__all__ = ["ConstantWarmupScheduler", "LinearWarmupScheduler", "build_lr_scheduler", "build_optimizer", "epochs_for"]

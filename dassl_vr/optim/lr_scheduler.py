"""Learning-rate schedules, stepped once per epoch."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR
from yacs.config import CfgNode

from ..utils.errors import ConfigError
from ..utils.registry import unknown_name_message

_SCHEDULERS = ("single_step", "multi_step", "cosine")
_WARMUPS = ("linear", "ramp", "constant")


class _WarmupScheduler(LRScheduler):
    """Own learning rates for the first `warmup_epoch` epochs, then those of `successor`, which starts only then."""

    def __init__(self, optimizer, successor, warmup_epoch):
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        super().__init__(optimizer)

    def _warmup_lr(self, base_lr):
        raise NotImplementedError

    def get_lr(self):
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return [self._warmup_lr(base_lr) for base_lr in self.base_lrs]

    def step(self, epoch=None):
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step(epoch)
            self._last_lr = self.successor.get_last_lr()
        else:
            super().step(epoch)

    def state_dict(self):
        """As torch's, with the successor's state in place of the object, so that it loads with `weights_only=True`."""
        return {**super().state_dict(), "successor": self.successor.state_dict()}

    def load_state_dict(self, state_dict):
        self.successor.load_state_dict(state_dict["successor"])
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "successor"})


class ConstantWarmupScheduler(_WarmupScheduler):
    """`cons_lr` throughout the first `warmup_epoch` epochs, then the schedule `successor`."""

    def __init__(self, optimizer: Optimizer, successor: LRScheduler, warmup_epoch: int, cons_lr: float):
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch)

    def _warmup_lr(self, base_lr):
        return self.cons_lr


class LinearWarmupScheduler(_WarmupScheduler):
    """`min_lr` in the first epoch, then the share epoch / warmup_epoch of the learning rate; then the schedule `successor`."""

    def __init__(self, optimizer: Optimizer, successor: LRScheduler, warmup_epoch: int, min_lr: float):
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch)

    def _warmup_lr(self, base_lr):
        return base_lr * self.last_epoch / self.warmup_epoch if self.last_epoch else self.min_lr


class RampWarmupScheduler(_WarmupScheduler):
    """The share (epoch + 1) / warmup_epoch of the learning rate: the last epoch of the warm-up has all of it."""

    def _warmup_lr(self, base_lr):
        return base_lr * (self.last_epoch + 1) / self.warmup_epoch


def _epochs(stepsize, max_epoch):
    """STEPSIZE in whole epochs: shares of the run resolved, entries that mean "never" left out."""
    epochs = []
    for step in stepsize if isinstance(stepsize, (list, tuple)) else [stepsize]:
        if 0 < step < 1:
            # Not before the second epoch; the small term keeps 0.29 * 100 at 29
            step = max(1, int(step * max_epoch + 1e-9))
        elif step != int(step):
            raise ConfigError(f"OPTIM.STEPSIZE holds {step}, expected whole epochs, or shares of the run below 1")
        if step > 0:
            epochs.append(int(step))
    return epochs


def build_lr_scheduler(optimizer: Optimizer, optim_cfg: CfgNode) -> LRScheduler:
    """The schedule that `optim_cfg`, a node with the keys of `cfg.OPTIM`, describes.

    - `single_step`: x GAMMA every STEPSIZE epochs (the last entry of a list);
    - `multi_step`: x GAMMA at each epoch in STEPSIZE;
    - `cosine`: half a cosine from the learning rate to COSINE_MIN_LR over MAX_EPOCH.

    With `WARMUP_EPOCH` above 0 a warm-up comes first. `WARMUP_RECOUNT` True starts the schedule from its beginning
    after it; False lets it continue at epoch WARMUP_EPOCH: changes that it would have made until then are skipped, as in
    the family. `COSINE_AFTER_WARMUP` True lets a cosine that starts from its beginning fall over the epochs that the
    warm-up leaves of MAX_EPOCH.

    Raises:
        ConfigError: an unknown schedule or warm-up, a STEPSIZE that is neither epochs nor shares, or a MAX_EPOCH of 0.
    """
    name, max_epoch, warmup = optim_cfg.LR_SCHEDULER, optim_cfg.MAX_EPOCH, optim_cfg.WARMUP_EPOCH
    if name not in _SCHEDULERS:
        raise ConfigError(f"OPTIM.LR_SCHEDULER: {unknown_name_message('schedule', name, _SCHEDULERS)}")
    if max_epoch < 1:  # `optim_cfg` is as the user wrote it, not with the number that the data lead to
        raise ConfigError("OPTIM.MAX_EPOCH is 0, but this trainer's schedule takes a number of epochs; set it to one")
    if name == "cosine":
        after_warmup = warmup >= 1 and optim_cfg.WARMUP_RECOUNT and optim_cfg.COSINE_AFTER_WARMUP
        length = max(1, max_epoch - warmup) if after_warmup else max_epoch
        scheduler = CosineAnnealingLR(optimizer, length, optim_cfg.COSINE_MIN_LR)
    elif name == "multi_step":
        scheduler = MultiStepLR(optimizer, sorted(_epochs(optim_cfg.STEPSIZE, max_epoch)), gamma=optim_cfg.GAMMA)
    else:
        last = optim_cfg.STEPSIZE[-1:] if isinstance(optim_cfg.STEPSIZE, (list, tuple)) else optim_cfg.STEPSIZE
        every = _epochs(last, max_epoch)
        # "Never" is a step that no run reaches, warm-up and all
        scheduler = StepLR(optimizer, every[0] if every else 10**9, gamma=optim_cfg.GAMMA)
    if warmup < 1:
        return scheduler
    if optim_cfg.WARMUP_TYPE not in _WARMUPS:
        raise ConfigError(f"OPTIM.WARMUP_TYPE: {unknown_name_message('warm-up', optim_cfg.WARMUP_TYPE, _WARMUPS)}")
    if not optim_cfg.WARMUP_RECOUNT:
        scheduler.last_epoch = warmup
    if optim_cfg.WARMUP_TYPE == "constant":
        return ConstantWarmupScheduler(optimizer, scheduler, warmup, optim_cfg.WARMUP_CONS_LR)
    if optim_cfg.WARMUP_TYPE == "ramp":
        return RampWarmupScheduler(optimizer, scheduler, warmup)
    return LinearWarmupScheduler(optimizer, scheduler, warmup, optim_cfg.WARMUP_MIN_LR)

"""Optimizers by name."""

import warnings
from collections.abc import Callable, Iterable

import torch
from torch import nn
from yacs.config import CfgNode

from ..utils.devices import steps_fused
from ..utils.errors import ConfigError
from ..utils.registry import unknown_name_message
from ..utils.training_state import with_own_kernels


class NormalizedSGD(torch.optim.SGD):
    """SGD on the gradient divided by its length, for each parameter: with OPTIM.MOMENTUM 0 a step of length `lr` (EVP, Wu et al.,
    TMLR 2024)."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        with torch.no_grad():
            for parameter in (parameter for group in self.param_groups for parameter in group["params"]):
                if parameter.grad is not None:
                    parameter.grad.div_(parameter.grad.norm() + 1e-10)
        return super().step(closure)


def _adam(cfg, **extra):
    return {"betas": (cfg.ADAM_BETA1, cfg.ADAM_BETA2), "eps": cfg.ADAM_EPS, **extra}


def _sgd(cfg):
    return {"momentum": cfg.MOMENTUM, "dampening": cfg.SGD_DAMPNING, "nesterov": cfg.SGD_NESTEROV}


# Name -> (class, arguments besides parameters, lr and weight decay)
_OPTIMIZERS = {
    "adam": (torch.optim.Adam, _adam),
    "amsgrad": (torch.optim.Adam, lambda cfg: _adam(cfg, amsgrad=True)),
    "adamw": (torch.optim.AdamW, _adam),
    # The family's RAdam applies weight decay to the weights, not to the gradient
    "radam": (torch.optim.RAdam, lambda cfg: _adam(cfg, decoupled_weight_decay=True)),
    "rmsprop": (torch.optim.RMSprop, lambda cfg: {"momentum": cfg.MOMENTUM, "alpha": cfg.RMSPROP_ALPHA}),
    "sgd": (torch.optim.SGD, _sgd),
    "normalized_sgd": (NormalizedSGD, _sgd),
}


def build_optimizer(
    model: nn.Module | torch.Tensor | Iterable[torch.Tensor] | None,
    optim_cfg: CfgNode,
    param_groups: Iterable[dict] | Iterable[torch.Tensor] | None = None,
) -> torch.optim.Optimizer:
    """An optimizer over what is trainable in `model`. Adam's step is one kernel on an accelerator that has it (torch's `fused`).

    Args:
        model: a module, or an iterable of parameters.
        optim_cfg: a node with the keys of `cfg.OPTIM`. With `STAGED_LR` the layers (direct children) named in
            `NEW_LAYERS` learn with `LR` and the rest of the module with `LR * BASE_LR_MULT`.
        param_groups: torch's parameter groups, used as they are in place of `model`.

    Raises:
        ConfigError: unknown `OPTIM.NAME`, a value out of range, `STAGED_LR` without a module, or nothing to train.
    """
    if optim_cfg.NAME not in _OPTIMIZERS:
        raise ConfigError(f"OPTIM.NAME: {unknown_name_message('optimizer', optim_cfg.NAME, _OPTIMIZERS)}")
    if param_groups is None:
        groups = _staged_groups(model, optim_cfg) if optim_cfg.STAGED_LR else [{"params": _trainable(model)}]
    else:
        if optim_cfg.STAGED_LR:
            warnings.warn("OPTIM.STAGED_LR has no effect on parameter groups that a trainer made itself", stacklevel=2)
        groups = list(param_groups)
        if not all(isinstance(group, dict) for group in groups):
            groups = [{"params": groups}]
        # A group may hold a generator, which can be walked only once
        groups = [{**group, "params": _trainable(group["params"])} for group in groups]
    groups = [group for group in groups if group["params"]]
    if not groups:
        name = type(model).__name__ if isinstance(model, nn.Module) else "the parameters given"
        raise ConfigError(f"there is nothing to train: {name} has no parameter that takes a gradient; unfreeze some")
    optimizer, arguments = _OPTIMIZERS[optim_cfg.NAME]
    try:
        options = {**arguments(optim_cfg), **_fused(optimizer, groups)}
        built = optimizer(groups, lr=optim_cfg.LR, weight_decay=optim_cfg.WEIGHT_DECAY, **options)
    except ValueError as error:  # torch checks the ranges
        raise ConfigError(f"OPTIM ({optim_cfg.NAME}): {error}") from error
    built.register_load_state_dict_pre_hook(with_own_kernels)
    return built


def _fused(optimizer, groups):
    """{"fused": True} for an optimizer whose step is one kernel on the parameters' device."""
    parameters = [p for group in groups for p in group["params"]]
    fits = issubclass(optimizer, torch.optim.Adam) and all(p.is_floating_point() and steps_fused(p.device) for p in parameters)
    return {"fused": True} if fits else {}


def _trainable(model):
    if isinstance(model, torch.Tensor):
        model = [model]
    parameters = model.parameters() if isinstance(model, nn.Module) else model
    return [p for p in parameters if p.requires_grad]


def _staged_groups(model, cfg):
    if not isinstance(model, nn.Module):
        raise ConfigError("OPTIM.STAGED_LR needs a module with layers, got a list of parameters; set it to False")
    model = getattr(model, "module", model)  # inside a data-parallel wrapper
    names = [cfg.NEW_LAYERS] if isinstance(cfg.NEW_LAYERS, str) else list(cfg.NEW_LAYERS)
    missing = sorted(set(names) - {name for name, _ in model.named_children()})
    if missing or not names:
        which = ", ".join(missing) or "(none is named)"
        warnings.warn(f"OPTIM.NEW_LAYERS: {type(model).__name__} has no layer {which}", stacklevel=3)
    base, new = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (new if name.partition(".")[0] in names else base).append(parameter)
    return [{"params": base, "lr": cfg.LR * cfg.BASE_LR_MULT}, {"params": new}]

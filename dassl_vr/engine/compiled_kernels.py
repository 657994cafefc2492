"""TRAIN.KERNELS: what runs the loops of modules that have compiled ones for CPUs."""

import importlib.util
from collections.abc import Iterable

import torch
from torch import nn

from ..utils.errors import ConfigError
from ..utils.text import one_line


def use_kernels(choice: str, models: Iterable[nn.Module], device: torch.device) -> None:
    """Call `compile_kernels()` of the modules of `models` that have this method.

    Args:
        choice: "auto" = on a CPU, if the extra `numba` is installed; "numba"; "torch" = leave them as they are.

    Raises:
        ConfigError: "numba" on another device than a CPU, or without the extra.
    """
    modules = [module for model in models for module in model.modules() if hasattr(module, "compile_kernels")]
    if choice == "torch" or not modules:
        return
    if device.type != "cpu":
        if choice == "numba":
            raise ConfigError(f"TRAIN.KERNELS is numba, which is for CPUs, and the device is {device.type}; use auto or torch")
        return
    try:
        for module in modules:
            module.compile_kernels()
    # Numba refuses releases of numpy that it does not know, and to go without a directory for compiled code
    except (ImportError, RuntimeError) as error:
        if choice == "numba":
            raise ConfigError(f"TRAIN.KERNELS numba: {one_line(error)}; install it with: pip install 'dassl_vr[numba]'") from error
        if importlib.util.find_spec("numba"):
            print(f"NOTE: TRAIN.KERNELS: the mask generator runs without Numba ({one_line(error)})")

"""Random number generators: seeding them, and carrying their states from one process to the next."""

import os
import random

import numpy as np
import torch

from . import devices


def set_random_seed(seed: int) -> None:
    """Seed python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def set_deterministic(wanted: bool, device: torch.device = devices.CPU) -> None:
    """Restrict torch to deterministic algorithms, or let it take the fastest.

    On an accelerator an operation that has none runs all the same, and torch warns of it: an error would come in the middle of a
    run, and of nothing that a user could change.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the GPU is first used
    torch.use_deterministic_algorithms(wanted, warn_only=device.type != devices.CPU.type)
    torch.backends.cudnn.benchmark = False


def get_random_states() -> dict:
    """The states of all generators, made of tensors and plain values only (so that they load with `weights_only`)."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "accelerator": devices.random_states(),
    }


def set_random_states(states: dict) -> None:
    """Put back what `get_random_states` gave, on this machine or another (see `devices.set_random_states`)."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    devices.set_random_states(of_accelerator(states))


def of_accelerator(states: dict) -> dict[str, list[torch.Tensor]]:
    """The part of `get_random_states` about the accelerator, also of a file from before this had a name of its own."""
    return states["accelerator"] if "accelerator" in states else {"cuda": states["cuda"]}

"""Processor cores."""

import os

from .distributed import local_world_size


def cpu_cores() -> int:
    """How many processor cores this process may use, if all processes of the run on this machine take equally many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // local_world_size())

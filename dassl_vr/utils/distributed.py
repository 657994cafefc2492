"""Several processes on one run, as `torchrun` starts them: who is who, and what they tell each other.

With one process everything here is a no-op, so that nobody has to ask how many there are. Small numbers on the CPU go over gloo
also where gradients go over NCCL: gloo notices at once when a process is gone, and waits for no device.
"""

import contextlib
import datetime
import functools
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from .devices import AUTO, choose_device, take_device
from .errors import LostProcessError

# Gloo learns of a dead process from its closed connection; the limit is for what may rightly take long (a store, a download)
TIMEOUT = datetime.timedelta(hours=12)

_store = None  # shared by the processes while they are joined


def _launched_as(variable, alone):
    return int(os.environ[variable]) if dist.is_available() and dist.is_torchelastic_launched() else alone


def world_size() -> int:
    """The number of processes that work on this run."""
    return _launched_as("WORLD_SIZE", 1)


def rank() -> int:
    """The number of this process, from 0."""
    return _launched_as("RANK", 0)


def local_rank() -> int:
    """The number of this process among those on its machine."""
    return _launched_as("LOCAL_RANK", 0)


def local_world_size() -> int:
    """The number of processes on this machine."""
    return _launched_as("LOCAL_WORLD_SIZE", 1)


def is_parallel() -> bool:
    """Whether there is more than one process."""
    return world_size() > 1


def is_main() -> bool:
    """Whether this process is the one that prints and writes files."""
    return rank() == 0


@contextlib.contextmanager
def process_group(device: str = AUTO, use_cuda: bool = True) -> Iterator[None]:
    """Join the other processes of `torchrun` inside the block; only the main process prints there.

    Args:
        device, use_cuda: where the processes are to compute, see `devices.choose_device`. Each gets the accelerator of its local
            number.

    Raises:
        ConfigError: there is no such device, or there are more processes than devices on this machine.
        LostProcessError: the others do not come.
    """
    global _store
    chosen = choose_device(device, use_cuda)
    if not is_parallel():
        yield
        return
    backend = take_device(chosen, local_rank(), local_world_size())
    with _noticing_lost_processes():
        store, *_ = next(dist.rendezvous("env://", rank(), world_size(), timeout=TIMEOUT))
        store = dist.PrefixStore(f"dassl_vr/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        dist.init_process_group(backend, store=store, rank=rank(), world_size=world_size(), timeout=TIMEOUT)
    _store = store
    with contextlib.ExitStack() as stack:
        if not is_main():
            silence = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(silence))
        yield
    # Not after an error: the others may be gone, and there would be nobody to part from
    _store = None
    dist.destroy_process_group()


@contextlib.contextmanager
def _noticing_lost_processes():
    try:
        yield
    except RuntimeError as error:  # of torch.distributed: gloo has no class of its own
        raise LostProcessError(
            "another process of this run has ended or cannot be reached, so this one ends too; what was saved is intact,"
            " start the same command with --resume to continue"
        ) from error


def _collective(function):
    """A collective function that raises `LostProcessError` if a process is lost."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with _noticing_lost_processes():
            return function(*args, **kwargs)

    return wrapped


@_collective
def sum_(tensor: torch.Tensor) -> torch.Tensor:
    """Replace `tensor` by its sum over all processes, in place; returns it."""
    if is_parallel():
        dist.all_reduce(tensor)
    return tensor


def sums(*numbers: float) -> list[float]:
    """The sum of each number over all processes, as a list of floats."""
    return sum_(torch.tensor(numbers, dtype=torch.float64)).tolist() if is_parallel() else list(map(float, numbers))


def any_process(flag: bool) -> bool:
    """Whether `flag` is true on any process."""
    return bool(sums(bool(flag))[0])


@_collective
def gather(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors of all processes, which may differ in length: a list by rank, on the device of `tensor` (n, ...)."""
    if not is_parallel():
        return [tensor]
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(world_size())]
    dist.all_gather(lengths, torch.tensor([len(tensor)]))
    longest = max(int(length) for length in lengths)
    padded = tensor.new_zeros((longest, *tensor.shape[1:]))
    padded[: len(tensor)] = tensor
    parts = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(parts, padded)
    return [part[: int(length)] for part, length in zip(parts, lengths, strict=True)]


def gather_values(value: Any) -> list:
    """The values of all processes by rank; `value` is anything that JSON can hold."""
    if not is_parallel():
        return [value]
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    return [json.loads(part.numpy().tobytes()) for part in gather(text)]


def from_main(value: Any) -> Any:
    """The main process's `value`, on every process."""
    return gather_values(value)[0]


@_collective
def broadcast_(tensor: torch.Tensor) -> None:
    """Replace `tensor` by the main process's, in place."""
    if is_parallel():
        dist.broadcast(tensor, 0)


def barrier() -> None:
    """Wait until every process is here."""
    sums(0)


class StepShare:
    """`value`: weight of this process's mean in the mean over all samples of a step; an equal share until `set`."""

    def __init__(self):
        self.value = 1 / world_size()

    def set(self, count: float, total: float) -> None:
        """State that this process works on `count` of the `total` samples of the step that begins."""
        self.value = count / total


def is_first_to_report() -> bool:
    """Whether this process reports why the run ends: true for the first that asks."""
    if not is_parallel():
        return True
    if _store is None:
        return is_main()  # before they are joined all fail alike
    try:
        return _store.add("reasons", 1) == 1
    except RuntimeError:
        return True  # the store is gone, with whoever held it


def no_progress_bar() -> bool:
    """For tqdm's `disable`: true except in the main process on a terminal."""
    return not is_main() or not sys.stderr.isatty()

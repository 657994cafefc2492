"""The device of a run, and what differs between devices. No other module asks for a kind of device by its name but "cpu".

A machine has one kind of accelerator at most, the one that `torch.accelerator` names: cuda (AMD's GPUs too), mps, xpu, or what a
library adds to torch. None of this waits for a device unless it says so.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
import torch.distributed as dist

from .errors import ConfigError

AUTO = "auto"
CPU = torch.device("cpu")
T = TypeVar("T")


def accelerator() -> torch.device | None:
    """The accelerator of this machine, without a number; None if there is none that works."""
    return torch.accelerator.current_accelerator(check_available=True)


def choose_device(name: str = AUTO, use_cuda: bool = True, what: str = "DEVICE") -> torch.device:
    """The device called `name`. Nothing is started on it.

    Args:
        name: "auto" (the accelerator if there is one, else the CPU), "cpu", or a kind of accelerator, such as "cuda", "mps", "xpu";
            "cuda:1" is the second of several.
        use_cuda: False = the CPU (the family's USE_CUDA).
        what: the key or flag that `name` comes from, for messages.

    Raises:
        ConfigError: the name is none of a device, or of one that this machine lacks, or it contradicts `use_cuda`.
    """
    found = accelerator()
    if name == AUTO:
        return found if found is not None and use_cuda else CPU
    if name == CPU.type:
        return CPU
    here = f"auto, cpu{f' or {found.type}' if found is not None else ''} on this machine"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"{what} is '{name}', which torch does not know; expected {here}") from error
    if found is None or device.type != found.type:
        raise ConfigError(f"{what} is '{name}', and there is none that torch can use; expected {here}")
    if device.index is not None and device.index >= torch.accelerator.device_count():
        raise ConfigError(f"{what} is '{name}', but torch finds {torch.accelerator.device_count()}, numbered from 0")
    if not use_cuda:
        raise ConfigError(f"{what} is '{name}' and USE_CUDA is False, which asks for the CPU; leave one of the two out")
    return device


def open_device(name: str = AUTO, use_cuda: bool = True, what: str = "DEVICE") -> torch.device:
    """`choose_device`, and a first tensor on it. One with a number becomes the current one of its kind.

    Raises:
        ConfigError: as `choose_device`, or the device cannot be used (another program has it for itself, its driver is too old).
    """
    device = choose_device(name, use_cuda, what)
    try:
        if device.index is not None:
            torch.accelerator.set_device_index(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"device '{device}' cannot be used ({reason}); take another with {what}, such as cpu") from error
    return device


def take_device(device: torch.device, local_rank: int, local_world_size: int) -> str:
    """Make the device of its own number the current one of this process, one of several on a machine.

    Returns:
        The backend for `torch.distributed.init_process_group`: gloo on the CPU, and the accelerator's own besides, if it is used.

    Raises:
        ConfigError: more processes than devices, or torch has no way between devices of this kind.
    """
    if device.type == CPU.type:
        return "gloo"
    count, cpu = torch.accelerator.device_count(), "DEVICE cpu computes on the CPU"
    if device.index is not None:
        raise ConfigError(f"DEVICE is '{device}', one device, for {local_world_size} processes; take {device.type}, or one process")
    if local_world_size > count:
        kind = "GPU(s)" if device.type == "cuda" else f"device(s) of kind {device.type}"
        raise ConfigError(
            f"--nproc_per_node {local_world_size} with {count} {kind}; expected at most one process per device ({cpu})"
        )
    backend = dist.Backend.default_device_backend_map.get(device.type)
    if backend is None:
        raise ConfigError(f"torch.distributed has no backend for devices of kind {device.type}; take one process ({cpu})")
    torch.accelerator.set_device_index(local_rank)
    return f"cpu:gloo,{device.type}:{backend}"


# ----------------------------------------------------------------------------------------------------- what a device can do
@functools.cache
def has_float64(device: torch.device) -> bool:
    """Whether it computes in double precision."""
    if device.type == "xpu":  # some of Intel's
        return bool(getattr(torch.xpu.get_device_properties(device), "has_fp64", True))
    return device.type != "mps"


@functools.cache
def pins_memory(device: torch.device) -> bool:
    """Whether copies to it gain from page-locked memory, and torch can have some."""
    if device.type in (CPU.type, "mps"):  # whose memory is the machine's
        return False
    try:
        return torch.empty(1).pin_memory().is_pinned()
    except (RuntimeError, NotImplementedError):
        return False


@functools.cache
def steps_fused(device: torch.device) -> bool:
    """Whether Adam's step is to be one kernel there. Not on the CPU, where its bits are others than those of all earlier runs."""
    if device.type == CPU.type:
        return False
    try:
        stand_in = torch.zeros(1, device=device, requires_grad=True)
        stand_in.grad = torch.zeros_like(stand_in)
        torch.optim.Adam([stand_in], fused=True).step()
    except (RuntimeError, NotImplementedError):
        return False
    return True


@functools.cache
def has_graphs(device: torch.device) -> bool:
    """Whether it can record what it is told to do, and repeat it (`Recorder`)."""
    found = accelerator()
    if found is None or found.type != device.type or not hasattr(torch.accelerator, "Graph"):
        return False
    try:
        torch.accelerator.Graph()
    except (RuntimeError, NotImplementedError):
        return False
    return True


class Recorder:
    """Records the work of an accelerator that has graphs.

    Args:
        device: the current one of its kind.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._stream = torch.Stream(device)
        self._pool = None  # of memory, for all graphs: they never run at the same time

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Work on the stream that recordings are made on, after all that was given to the current one and before all that will be.

        What autograd keeps from one step to the next belongs to a stream, and a recording takes nothing from others.
        """
        current = torch.accelerator.current_stream(self.device)
        self._stream.wait_stream(current)
        with self._stream:
            yield
        current.wait_stream(self._stream)

    def record(self, function: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """Record the work that `function` asks for; nothing of it is done yet.

        Returns:
            what `function` returns, whose tensors have values after a replay, and what replays it on the current stream. Numbers
            drawn from the device's generator are new ones in each replay, as if the work were asked for anew.

        Raises:
            RuntimeError: or whatever comes of work that cannot be recorded, such as reading a value.
        """
        # Other threads, such as one that pins memory for the data loader, go on meanwhile
        graph = torch.accelerator.Graph(pool=self._pool, capture_error_mode="thread_local")
        with self.aside(), graph:
            result = function()
        self._pool = graph.pool()
        return result, graph.replay


def _module(device):
    """torch's module about this kind of device, or None."""
    try:
        return torch.get_device_module(device)
    except RuntimeError:
        return None


def fastest_precision(device: torch.device) -> str:
    """The fastest arithmetic that is safe for a frozen network: bf16 or fp16 where the device's library says which, else fp32."""
    supported = getattr(_module(device), "is_bf16_supported", None)
    if supported is None:
        return "fp32"
    return "bf16" if supported() else "fp16"


def check_precision(precision: str, device: torch.device) -> None:
    """Raise `ConfigError` if `device` cannot compute in "bf16" or "fp16" within a network of float32."""
    if precision != "fp32" and not torch.amp.is_autocast_available(device.type):
        raise ConfigError(f"TRAIN.PRECISION is {precision}; on device '{device}' torch has fp32 alone")


def autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager:
    """A context in which layers compute in `dtype`; None = in the type of their tensors, whatever context is around this one."""
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def is_autocast(device: torch.device) -> bool:
    """Whether layers now compute in another type than that of their tensors."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def in_double(x: torch.Tensor) -> torch.Tensor:
    """`x` in double precision: on its device, or on the CPU (for which the device is waited for) where that has none."""
    return x.double() if has_float64(x.device) else x.cpu().double()


def compensated_sum(x: torch.Tensor) -> torch.Tensor:
    """(D, N) float32 -> (D,) sums as exact as from double precision, for devices without it.

    Pairs are added until one number is left. What rounding takes from a sum (Knuth's two-sum) is kept beside it.
    """
    lost = torch.zeros_like(x)
    while x.shape[1] > 1:
        half = x.shape[1] // 2
        a, b, rest = x[:, :half], x[:, half : 2 * half], x[:, 2 * half :]
        x = a + b
        of_b = x - a
        error = (a - (x - of_b)) + (b - of_b)
        lost = torch.cat([lost[:, :half] + lost[:, half : 2 * half] + error, lost[:, 2 * half :]], dim=1)
        x = torch.cat([x, rest], dim=1)
    return (x + lost)[:, 0]


def shortcomings(device: torch.device, pin_memory: bool, deterministic: bool) -> list[str]:
    """One sentence for each thing that a run asks for and `device` lacks, saying what is done in its place."""
    found = []
    if not has_float64(device):
        found.append(
            f"{device.type} has no double precision: statistics of batches are added up in pairs of float32 numbers, those of label"
            " mappings on the CPU"
        )
    if pin_memory and device.type != CPU.type and not pins_memory(device):
        found.append(f"{device.type} takes no page-locked memory (DATALOADER.PIN_MEMORY): batches are copied from ordinary memory")
    if deterministic and device.type != CPU.type:
        found.append(
            f"TRAIN.DETERMINISTIC: operations that have no deterministic form on {device.type} run all the same, and torch warns of"
            " each"
        )
    return found


# ------------------------------------------------------------------------------------------------------- what it says of itself
def device_label(device: torch.device) -> str | None:
    """The name of an accelerator, as its maker gives it; its kind where torch does not know; None for the CPU."""
    if device.type == CPU.type:
        return None
    if device.type == "mps":
        return torch.backends.mps.get_name() if hasattr(torch.backends.mps, "get_name") else device.type
    ask = getattr(_module(device), "get_device_name", None)
    return ask(device) if ask is not None else device.type


def accelerator_lines() -> list[str]:
    """What accelerators this machine has, as lines of text."""
    found = accelerator()
    if found is None:
        return []
    numbers = range(torch.accelerator.device_count())
    lines = [f"{found.type} {number}: {device_label(torch.device(found.type, number))}" for number in numbers]
    version = getattr(torch.version, found.type, None)
    return lines + ([f"{found.type} version: {version}"] if version else [])


def peak_bytes(device: torch.device) -> int | None:
    """The most memory that tensors had on an accelerator at a time; None for the CPU, and where torch does not count it."""
    if device.type == CPU.type:
        return None
    with contextlib.suppress(RuntimeError, NotImplementedError, ValueError):
        return torch.accelerator.max_memory_allocated(device) or None
    return None


def wait_for(device: torch.device) -> None:
    """Wait until an accelerator has done all that it was given."""
    found = accelerator()
    if found is not None and found.type == device.type:
        torch.accelerator.synchronize(device)


# ------------------------------------------------------------------------------------------------------------- random numbers
def random_states() -> dict[str, list[torch.Tensor]]:
    """{kind: [state of each device's generator]} of the accelerator; {} where there is none, or nothing has used it yet."""
    found = accelerator()
    if found is None:
        return {}
    module = torch.get_device_module(found)
    if not getattr(module, "is_initialized", lambda: True)():
        return {}
    return {found.type: module.get_rng_state_all() if hasattr(module, "get_rng_state_all") else [module.get_rng_state()]}


def set_random_states(states: dict[str, list[torch.Tensor]]) -> None:
    """Put back what `random_states` gave. On a machine with another accelerator, or another number of them, nothing is done."""
    found = accelerator()
    mine = states.get(found.type, []) if found is not None else []
    if not mine or len(mine) != torch.accelerator.device_count():
        return
    module = torch.get_device_module(found)
    if hasattr(module, "set_rng_state_all"):
        module.set_rng_state_all(mine)
    else:
        module.set_rng_state(mine[0])


def try_random_states(states: dict[str, list[torch.Tensor]]) -> None:
    """Raise what torch raises if `states` are none of generators of this machine's accelerator."""
    found = accelerator()
    for number, state in enumerate(states.get(found.type, [])[: torch.accelerator.device_count()] if found is not None else ()):
        torch.Generator(torch.device(found.type, number)).set_state(state)

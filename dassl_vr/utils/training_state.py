"""Whether the saved state of an optimizer, of a schedule or of random generators can be continued from, found out on stand-ins.

torch takes nearly anything in `load_state_dict`; what does not fit fails later, in the middle of a step, or silently.
"""

import copy
import random
import warnings
from collections import defaultdict

import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from . import devices, kinds
from .kinds import ANYTHING, COUNT, dict_of, is_number, kind, list_of, optional, record, tuple_of, whole
from .seeding import of_accelerator

WORDS = 624  # of a Mersenne twister

UINT8 = kind("a tensor of bytes", lambda value: is_dense(value) and value.dtype == torch.uint8 and value.dim() == 1)
_COMMON = {
    "python": tuple_of(kinds.INTEGER, list_of(COUNT, WORDS + 1), optional(kinds.NUMBER)),
    "numpy": tuple_of(kinds.one_of("MT19937"), list_of(whole(0, 2**32 - 1), WORDS), whole(0, WORDS), whole(0, 1), kinds.NUMBER),
    "torch": UINT8,
}  # fmt: skip
RANDOM_STATES = record({**_COMMON, "accelerator": dict_of(list_of(UINT8))})
OLD_RANDOM_STATES = record({**_COMMON, "cuda": list_of(UINT8)})  # of files from before other accelerators were known


def is_dense(value: object) -> bool:
    """Whether `value` is a tensor with values in memory of its own: not sparse, quantized or on the `meta` device."""
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not (value.is_quantized or value.is_meta)


def is_finite(value: object) -> bool:
    """Whether a number or a dense tensor holds no NaN and no infinity."""
    if not isinstance(value, torch.Tensor):
        return is_number(value)
    return is_dense(value) and bool(torch.isfinite(value.float() if value.is_floating_point() else value).all())


# Options of a group of parameters that say how an optimizer computes, not what
KERNELS = ("foreach", "fused", "capturable", "differentiable")


def with_own_kernels(optimizer: Optimizer, state: dict) -> dict | None:
    """The state of another such optimizer, which may have worked on another device, with `optimizer`'s own choice of kernels. As a
    hook in front of `load_state_dict`."""
    own, found = optimizer.param_groups, state["param_groups"]
    if len(own) != len(found):
        return None  # torch says so
    groups = [{**there, **{key: here[key] for key in KERNELS if key in here}} for here, there in zip(own, found)]
    return {**state, "param_groups": groups}


FINITE = kind("a finite number or a dense tensor of such", is_finite)


def optimizer_problem(optimizer: Optimizer, state: object, place: str) -> str:
    """Why `optimizer` cannot continue from `state`, the dictionary that another like it gave; "" if it can."""
    groups = optimizer.param_groups
    owners = [(group, param) for group, options in enumerate(groups) for param in options["params"]]
    form = record({
        "state": dict_of(dict_of(optional(FINITE)), whole(0, len(owners) - 1)),
        "param_groups": list_of(dict_of(ANYTHING), len(groups)),
    })  # fmt: skip
    if problem := form(state, place):
        return problem
    first = 0
    for group, (own, found) in enumerate(zip(groups, state["param_groups"])):
        indices = list(range(first, first + len(own["params"])))
        first += len(indices)
        needed = {"lr": kinds.AMOUNT, "params": kind(f"the numbers {indices}", lambda value, indices=indices: value == indices)}
        others = {name: ANYTHING if name in KERNELS else _like(value) for name, value in own.items() if name not in needed}
        if problem := record(needed, others)(found, f"{place}.param_groups[{group}]"):
            return problem
    state = with_own_kernels(optimizer, state)
    for index, (group, param) in enumerate(owners):
        entries, options = state["state"].get(index, {}), state["param_groups"][group]
        problem = _failing_step(optimizer, group, param, entries, options)
        # An optimizer that cannot be tried at all, such as one whose step needs a closure, is taken as it is
        if problem and not _failing_step(optimizer, group, param, {}, groups[group]):
            return f"entry '{place}.state.{index}' does not let the optimizer take a step ({problem})"
    return ""


def _failing_step(optimizer, group, param, entries, options):
    """What goes wrong in a step with gradient 0 on a stand-in for `param`, "" if nothing does."""
    stand_in = torch.zeros_like(param, requires_grad=True)
    stand_in.grad = torch.zeros_like(param)
    trial = copy.copy(optimizer)
    trial.state = defaultdict(dict)
    trial.param_groups = [{**optimizer.param_groups[group], "params": [stand_in]}]
    try:
        trial.load_state_dict({"state": {0: copy.deepcopy(entries)}, "param_groups": [{**options, "params": [0]}]})
        trial.step()
    except Exception as error:  # whatever an optimizer makes of such a state
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return "" if is_finite(stand_in.detach()) else "it gives NaN or infinity"


def schedule_problem(schedule: LRScheduler, state: object, place: str, steps: int = 1) -> str:
    """Why `schedule` cannot continue for `steps` steps from `state`, which another like it gave; "" if it can."""
    own = schedule.state_dict()
    # Names that torch uses for itself come and go with its versions
    internal = (
        {name: ANYTHING for name in state if str(name).startswith("_") or name == "verbose"} if isinstance(state, dict) else {}
    )
    form = record(
        {name: _like(value) for name, value in own.items() if name not in internal and not name.startswith("_")},
        {**internal, **{name: _like(value) for name, value in own.items() if name.startswith("_")}},
        rest=kinds.NOTHING,
    )
    if problem := form(state, place):
        return problem
    return _failing_schedule(schedule, state, place, steps) if not _failing_schedule(schedule, own, place, steps) else ""


def _failing_schedule(schedule, state, place, steps):
    optimizer = copy.copy(schedule.optimizer)
    optimizer.param_groups = [{**group, "params": []} for group in optimizer.param_groups]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the order of steps of optimizer and schedule
            trial = copy.deepcopy(schedule, {id(schedule.optimizer): optimizer})
            trial.load_state_dict(copy.deepcopy(state))
            for _ in range(steps):
                trial.step()
                if any(not is_finite(group["lr"]) or group["lr"] < 0 for group in optimizer.param_groups):
                    return f"entry '{place}' gives learning rates that are none"
    except Exception as error:  # whatever a schedule makes of such a state
        return f"entry '{place}' does not let the schedule continue ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
    return ""


def _like(own):
    """The kind of the values that may take the place of `own` in a state."""
    if isinstance(own, bool):
        return kind("true or false", lambda value: isinstance(value, bool))
    if isinstance(own, (int, float)):
        return kinds.NUMBER if is_number(own) else kinds.ANY_NUMBER
    if isinstance(own, str):
        return kinds.TEXT
    if isinstance(own, (list, tuple)):
        return tuple_of(*map(_like, own))
    if isinstance(own, dict):
        return record({name: _like(value) for name, value in own.items()})
    if isinstance(own, torch.Tensor):
        return kind(
            f"a finite tensor {tuple(own.shape)}", lambda value: is_dense(value) and value.shape == own.shape and is_finite(value)
        )
    return ANYTHING


def random_states_problem(states: object, place: str) -> str:
    """Why the generators cannot be put into `states` (see `seeding.get_random_states`); "" if they can."""
    form = OLD_RANDOM_STATES if isinstance(states, dict) and "cuda" in states else RANDOM_STATES
    if problem := form(states, place):
        return problem
    version, internal, gauss = states["python"]
    name, keys, *rest = states["numpy"]
    try:
        random.Random().setstate((version, tuple(internal), gauss))
        np.random.RandomState().set_state((name, np.array(keys, dtype=np.uint32), *rest))
        torch.Generator().set_state(states["torch"])
        devices.try_random_states(of_accelerator(states))
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        return f"entry '{place}' is no state of a generator ({' '.join(str(error).split())[:120]})"
    return ""

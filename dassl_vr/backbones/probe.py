"""What a backbone makes of images of a given side, found without weights, memory or random numbers: on torch's `meta` device.

A convolution or a pooling whose steps do not end at the last row of its input leaves rows out. Where nothing has mixed the rows
before, as in a patch embedding, those are pixels that nothing sees: part of a prompt would be dead. So an image without values is
followed through the model, and with it which rows of the image each row of each tensor has seen.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, reduce

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..utils.errors import ConfigError
from .adapters import Adapter
from .base import BackboneSpec
from .weights import first_line

aten = torch.ops.aten
_POOLINGS = (aten.max_pool2d_with_indices, aten.max_pool2d, aten.avg_pool2d)
_MIXING = (aten.native_group_norm, aten.group_norm)  # each output depends on all of the image
_RESIZING = ("upsample", "interpolate")


@dataclass
class _Seen:
    """Rows of the image that a tensor has seen.

    Attributes:
        rows: (R, S) booleans, for each of the R places along `dim`; (1, S) if all places have seen the same.
        dim: of the tensor, where rows of the image are still distinguishable; None = nowhere.
    """

    rows: np.ndarray
    dim: int | None = None

    @property
    def all(self):
        return self.rows.any(axis=0, keepdims=True)


class _Follow(TorchDispatchMode):
    """Follows which rows of the image reach which tensor, through whatever is run inside of it."""

    def __init__(self, image):
        super().__init__()
        side = image.shape[2]
        self.known = {id(image): (image, _Seen(np.eye(side, dtype=bool), 2))}  # with the tensor, so that its id stays its own

    def seen(self, tensor):
        return self.known.get(id(tensor), (None, None))[1]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        inputs = [x for arg in (*args, *(kwargs or {}).values()) for x in (arg if isinstance(arg, (list, tuple)) else (arg,))]
        inputs = [(x, self.seen(x)) for x in inputs if isinstance(x, torch.Tensor) and self.seen(x) is not None]
        if inputs:
            for out in result if isinstance(result, (list, tuple)) else (result,):
                if isinstance(out, torch.Tensor):
                    self.known[id(out)] = out, _after(func.overloadpacket, args, inputs, out)
        return result


def _after(op, args, inputs, out):
    """The `_Seen` of `out`, an output of `op`."""
    x, seen = inputs[0]
    if x is args[0] and x.dim() == 4 and seen.dim == 2:
        if op is aten.convolution and not args[6]:
            return _window(seen, args[1].shape[2], args[3][0], args[4][0], args[5][0], out)
        if op in _POOLINGS:
            given = dict(enumerate(args))
            stride = given.get(2) or given[1]
            return _window(seen, given[1][0], stride[0], (given.get(3) or [0])[0], 1, out)
        if op is aten.constant_pad_nd and len(args[1]) >= 4 and min(args[1]) >= 0:
            return _Seen(np.pad(seen.rows, ((args[1][2], args[1][3]), (0, 0))), 2)
        if op is aten.im2col:
            steps = (x.shape[2] + 2 * args[3][0] - args[2][0] * (args[1][0] - 1) - 1) // args[4][0] + 1
            return _Seen(_windows(seen.rows, args[1][0], args[4][0], args[3][0], args[2][0], steps).any(axis=0, keepdims=True))
        if op is aten.slice and len(args) > 3 and args[1] in (2, -2):
            return _Seen(seen.rows[slice(*args[2:5])], 2)
        if any(word in str(op) for word in _RESIZING):
            return _resized(seen, out.shape[2])
    if op in _MOVING and seen.dim is not None:
        places = _MOVING[op](list(range(x.dim())), *args[1:])
        return _Seen(seen.rows, places.index(seen.dim)) if seen.dim in places else _Seen(seen.rows[args[2]][None])
    shape = {seen.dim: len(seen.rows) for _, seen in inputs if seen.dim is not None}
    if len(shape) == 1 and op not in _MIXING:
        ((dim, side),) = shape.items()
        if all(x.dim() == out.dim() and out.shape[dim] == side == len(seen.rows) for x, seen in inputs if seen.dim is not None):
            return _Seen(reduce(np.logical_or, [seen.rows for _, seen in inputs]), dim)
    return _Seen(reduce(np.logical_or, [seen.all for _, seen in inputs]))


def _permuted(places, order):
    return [places[d] for d in order]


def _transposed(places, a, b):
    places[a], places[b] = places[b], places[a]
    return places


def _selected(places, dim, index):
    places.pop(dim)
    return places


def _unsqueezed(places, dim):
    places.insert(dim % (len(places) + 1), None)
    return places


# What becomes of a tensor's dimensions
_MOVING = {aten.permute: _permuted, aten.transpose: _transposed, aten.select: _selected, aten.unsqueeze: _unsqueezed}


def _window(seen, kernel, stride, padding, dilation, out):
    return _Seen(_windows(seen.rows, kernel, stride, padding, dilation, out.shape[2]), 2)


def _windows(rows, kernel, stride, padding, dilation, steps):
    """(steps, S): what each step of a window has seen of (R, S) `rows`."""
    reach = dilation * (kernel - 1) + 1
    behind = max(0, (steps - 1) * stride + reach - padding - len(rows))
    padded = np.pad(rows, ((padding, behind), (0, 0)))
    return reduce(np.logical_or, [padded[d * dilation : d * dilation + (steps - 1) * stride + 1 : stride] for d in range(kernel)])


def _resized(seen, side):
    """Interpolation looks at two rows on either side."""
    centres = (np.arange(side) + 0.5) * len(seen.rows) / side - 0.5
    reach = max(2, int(np.ceil(len(seen.rows) / side)))
    near = np.floor(centres).astype(int)[:, None] + np.arange(1 - reach, reach + 1)
    return _Seen(seen.rows[near.clip(0, len(seen.rows) - 1)].any(axis=1), 2)


@torch.no_grad()
def unseen_rows(function: Callable[[torch.Tensor], torch.Tensor], size: int) -> int:
    """How many of the `size` rows of an image do not reach what `function` makes of it; -1 if that cannot be said.

    Args:
        function: (1, 3, size, size) on the meta device -> tensor.
    """
    image = torch.empty(1, 3, size, size, device="meta")
    with _Follow(image) as follow:
        seen = follow.seen(function(image))
    return -1 if seen is None else int((~seen.all).sum())


@cache
def side_problem(adapter: Adapter, spec: BackboneSpec) -> str:
    """Why the model of `spec` cannot be used for images of `spec.input_size`, in a line with sides that fit; "" if it can.

    A side that is the model's own is taken without a look. No weights are read and no random generator moves.
    """
    own = adapter.spec(spec.model_name).input_size
    if spec.input_size == own:
        return ""
    unseen, error = _look(adapter, spec)
    if error is not None and not isinstance(error, ConfigError):  # perhaps only the meta device's own
        unseen, error = _look_for_real(adapter, spec)
    if error is None and not unseen:
        return ""
    side = f"INPUT.SIZE is {spec.input_size}"
    if isinstance(error, ConfigError):
        problem = str(error)
    elif error is not None:
        problem = f"{side}, which backbone '{spec.name}' cannot take ({first_line(error)})"
    else:
        problem = f"{side}: backbone '{spec.name}' would not see the last {unseen} rows and columns of pixels"
    fitting = _sides_that_fit(adapter, spec, own)
    return f"{problem}; sides that fit: {', '.join(map(str, fitting))}" if fitting else problem


def _look(adapter, spec):
    """(rows of pixels that nothing sees, None), or (0, what went wrong)."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            backbone = adapter.wrap(adapter.build(spec, False, None, False), spec)
            return max(0, unseen_rows(backbone.features, spec.input_size)), None
    except Exception as error:  # any of a model's own, or the library's refusal to build it
        return 0, error


def _look_for_real(adapter, spec):
    """`_look` with random weights and a random image, whose gradient says what is seen: slow, and certain."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        image = torch.randn(1, 3, spec.input_size, spec.input_size, requires_grad=True)
        try:
            backbone = adapter.wrap(adapter.build(spec, False, None, False), spec)
            backbone.features(image).square().sum().backward()
        except Exception as error:
            return 0, error
    return int((image.grad.abs().sum(dim=(0, 1, 3)) == 0).sum()), None


def _sides_that_fit(adapter, spec, own):
    """The nearest below and above the side of `spec`, of those that patches and strides are likely to divide."""
    asked, fitting = spec.input_size, []
    steps = (1, 2, 4, 7, 8, 12, 14, 16, 28, 32, 56, 64, 224)
    likely = {own, *(step * (asked // step + more) for step in steps for more in (-1, 0, 1))}
    for nearest_first in (
        sorted((side for side in likely if 0 < side < asked), reverse=True),
        sorted(side for side in likely if asked < side),
    ):
        for side in nearest_first:
            if _look(adapter, replace(spec, input_size=side)) == (0, None):
                fitting.append(side)
                break
    return fitting

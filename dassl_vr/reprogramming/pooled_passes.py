"""The passes over memory of `pooled_block`, in the ways in which it can make them.

Each class has the same functions. Maps are (B, D, H, W); h is H // 2, w is W // 2.

`mean_image(x)`: (B, C, H, W) -> (1, C, H, W).
`convolve(x, weight, bias)`: what `gradients` needs, as a tuple of tensors; pooled (B, D, h, w); (D,) sums of the squares of the
    unpooled map, in double.
`evaluate(x, weight, bias)`: `relu(max_pool2d(conv2d(x, weight, bias, padding=1), 2))`.
`activate(pooled, factor, offset)`: `relu(factor * pooled + offset)`; factor and offset are (D,).
`passed(grad, out, pooled)`: what the ReLU lets through of `grad`; (D,) sums of it and of it times `pooled`, in double.
`gradients(x, weight, kept, passed, factor, slope, constant, needed)`: those of x and weight, as far as `needed`. That of the
    unpooled map is `constant + slope * map`, and `factor * passed` more at the maxima; (D,) each. May overwrite `passed`.
"""

from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional as F

from ..utils import devices

# Position of a 3x3 kernel inside the 4x4 one, for the four places of a 2x2 pool in the order in which a max pool looks at them
_PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))

_threshold_backward = torch.ops.aten.threshold_backward.grad_input
_max_pool_backward = torch.ops.aten.max_pool2d_with_indices_backward

Kept = Sequence[torch.Tensor]
Gradients = tuple[torch.Tensor | None, torch.Tensor | None]

PIECE = 1 << 20  # values of a map that are worked on at a time on a CPU: 4 MB


def pieces(*maps: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """The same few images of each map at a time, so many that those of the first map have `PIECE` values; all at once where there
    is no CPU's cache."""
    first = maps[0]
    count = max(PIECE * len(first) // max(first.numel(), 1), 1) if first.device.type == "cpu" else len(first)
    return zip(*(part.split(count) for part in maps), strict=True)


def over_channels(lines: torch.Tensor) -> torch.Tensor:
    """(..., D, H) sums of lines -> (D,) totals. Lines first and then in double: a black border is many equal values, whose
    rounding errors would add up."""
    if not devices.has_float64(lines.device):
        return devices.compensated_sum(lines.movedim(-2, 0).flatten(1))
    return lines.double().movedim(-2, 0).flatten(1).sum(dim=1)


class ChannelsLast:
    """With torch's operations on maps in channels_last order."""

    order = torch.channels_last

    @staticmethod
    def mean_image(x: torch.Tensor) -> torch.Tensor:
        return x.movedim(1, -1).mean(dim=0, keepdim=True).movedim(-1, 1)

    @classmethod
    def convolve(cls, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> tuple[Kept, torch.Tensor, torch.Tensor]:
        conv = F.conv2d(x, weight, bias, padding=1)
        squares = [cls._lines(part.square()) for (part,) in pieces(conv)]
        pooled, places = F.max_pool2d(conv, 2, return_indices=True)
        return (conv, places), pooled, over_channels(torch.cat(squares))

    @staticmethod
    def evaluate(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.conv2d(x, weight, bias, padding=1), 2).relu_()

    @staticmethod
    def activate(pooled: torch.Tensor, factor: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(offset.view(-1, 1, 1), pooled, factor.view(-1, 1, 1)).relu_()

    @classmethod
    def passed(cls, grad: torch.Tensor, out: torch.Tensor, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        passed, lines, products = torch.empty_like(pooled), [], []
        for target, part, after, before in pieces(passed, grad, out, pooled):
            _threshold_backward(part.contiguous(memory_format=cls.order), after, 0.0, grad_input=target)
            lines.append(cls._lines(target))
            products.append(cls._lines(target * before))
        return passed, over_channels(torch.cat(lines)), over_channels(torch.cat(products))

    @classmethod
    def gradients(
        cls,
        x: torch.Tensor,
        weight: torch.Tensor,
        kept: Kept,
        passed: torch.Tensor,
        factor: torch.Tensor,
        slope: torch.Tensor,
        constant: torch.Tensor,
        needed: Sequence[bool],
    ) -> Gradients:
        conv, places = kept
        full = torch.empty_like(conv)
        factor, slope, constant = (each.view(-1, 1, 1) for each in (factor, slope, constant))
        for target, part, values, place in pieces(full, conv, passed, places):
            torch.addcmul(constant, part, slope, out=target)
            target += _max_pool_backward(values.mul_(factor), part, [2, 2], [2, 2], [0, 0], [1, 1], False, place)
        return convolution_backward(full, x, weight, 1, needed)

    @staticmethod
    def _lines(values):
        """Sums over the lines of maps (B, D, H, W) -> (B, D, H)"""
        return values.movedim(1, -1).sum(dim=2).movedim(-1, 1)  # torch adds along the memory of the result


class Grouped(ChannelsLast):
    """With torch's operations, for images of even sides and few channels.

    A stride-1 3x3 convolution followed by a 2x2 pool looks at 4x4 pixels with stride 2. Computed that way, the four values of a
    pool are in four groups of channels, (B, 4, D, h, w), and the maximum over them runs along memory. That pays for the first
    block.
    """

    order = torch.contiguous_format

    @staticmethod
    def mean_image(x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=0, keepdim=True)

    @classmethod
    def convolve(cls, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> tuple[Kept, torch.Tensor, torch.Tensor]:
        conv = cls._groups(x, weight, bias)
        pooled, squares = conv.new_empty(len(conv), *conv.shape[2:]), []
        for part, target in pieces(conv, pooled):
            squares.append(torch.linalg.vector_norm(part, dim=-1).square())
            cls._pool_groups(part, target)
        return (conv,), pooled, over_channels(torch.cat(squares))

    @classmethod
    def evaluate(cls, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return cls._pool_groups(cls._groups(x, weight, bias)).relu_()

    @classmethod
    def gradients(
        cls,
        x: torch.Tensor,
        weight: torch.Tensor,
        kept: Kept,
        passed: torch.Tensor,
        factor: torch.Tensor,
        slope: torch.Tensor,
        constant: torch.Tensor,
        needed: Sequence[bool],
    ) -> Gradients:
        (conv,) = kept
        full = torch.empty_like(conv)
        factor, slope, constant = (each.view(-1, 1, 1) for each in (factor, slope, constant))
        for target, part, values in pieces(full, conv, passed):
            torch.addcmul(constant, part, slope, out=target)
            cls._add_at_maxima(target, part, values.mul_(factor))
        grad_x, grad_weight = convolution_backward(full.flatten(1, 2), x, cls._to_stride_2(weight), 2, needed)
        return grad_x, None if grad_weight is None else cls._from_stride_2(grad_weight)

    @staticmethod
    def _lines(values):
        return values.sum(dim=-1)

    @classmethod
    def _groups(cls, x, weight, bias):
        conv = F.conv2d(x, cls._to_stride_2(weight), bias.repeat(4), stride=2, padding=1)
        return conv.contiguous().unflatten(1, (4, -1))

    @staticmethod
    def _pool_groups(conv, out=None):
        first, second, third, fourth = conv.unbind(1)
        return torch.maximum(torch.maximum(first, second), torch.maximum(third, fourth), out=out)

    @staticmethod
    def _to_stride_2(weight):
        """(D, C, 3, 3) -> (4 D, C, 4, 4): group g computes the outputs at place g of each 2x2 pool."""
        return torch.cat([F.pad(weight, (left, 1 - left, top, 1 - top)) for top, left in _PLACES])

    @staticmethod
    def _from_stride_2(gradient):
        """The adjoint of `_to_stride_2`."""
        groups = gradient.chunk(4)
        return sum(group[:, :, top : top + 3, left : left + 3] for group, (top, left) in zip(groups, _PLACES, strict=True))

    @staticmethod
    def _add_at_maxima(full, conv, grad):
        """Add `grad` (B, D, h, w) to `full` (B, 4, D, h, w) where the maxima over the second dimension of `conv` are. Of equal
        values the first wins, as in a max pool."""
        first, second, third, fourth = conv.unbind(1)
        chosen = torch.empty_like(grad)  # 0 or 1 as a float: a product with a boolean would convert it first
        upper, lower = torch.maximum(first, second), torch.maximum(third, fourth)
        in_lower = grad * torch.gt(lower, upper, out=chosen)
        in_upper = grad - in_lower
        for row, (part, left, right) in enumerate(((in_upper, first, second), (in_lower, third, fourth))):
            at_right = part * torch.gt(right, left, out=chosen)
            full[:, 2 * row + 1] += at_right
            full[:, 2 * row] += part.sub_(at_right)


def convolution_backward(
    full: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: int, needed: Sequence[bool]
) -> Gradients:
    """Gradients of x and weight, as far as `needed`, of a convolution with padding 1."""
    gradients = torch.ops.aten.convolution_backward(
        full, x, weight, None, [stride, stride], [1, 1], [1, 1], False, [0, 0], 1, [*needed, False]
    )
    return gradients[:2]

"""Convolution, batch norm, 2x2 max pool and ReLU as one step, for the blocks of the mask generator.

The blocks have few channels and many pixels, so half of their time is reading and writing memory. What saves most of it:

- Batch norm is increasing in its input (after a change of sign where its scale is negative) and so is ReLU, so both may come
  after the pool, on a quarter of the values. Only the batch statistics need the unpooled map.
- The mean over a batch of a convolution's output is the mean of its output for the mean image. Known beforehand, it is subtracted
  by the convolution's bias.
- A stride-1 3x3 convolution followed by a 2x2 pool looks at 4x4 pixels with stride 2. Computed that way (`grouped`), the four
  values of a pool are in four groups of channels and the maximum over them runs along memory. That pays for the first block;
  the others are faster in channels_last order.
- Between the forward and the backward pass only the convolution's output is kept at full resolution, and what is done to it is
  done to a few images at a time, which stay in a CPU's cache meanwhile.
"""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from ..utils import devices

# Position of a 3x3 kernel inside the 4x4 one, for the four places of a 2x2 pool in the order in which a max pool looks at them
_PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))

_threshold_backward = torch.ops.aten.threshold_backward.grad_input
_max_pool_backward = torch.ops.aten.max_pool2d_with_indices_backward

PIECE = 1 << 20  # values of a map that are worked on at a time on a CPU: 4 MB


def applies(x: torch.Tensor, conv: nn.Conv2d, norm: nn.Module) -> bool:
    """Whether `pooled_block` may stand in for these layers on `x`: in float32, in training or without gradients."""
    return (
        # not torch's synchronized one, whose statistics come from other processes as well
        (type(norm) is nn.BatchNorm2d or hasattr(norm, "of_whole_batch"))
        and (norm.training or not torch.is_grad_enabled())
        and x.dtype == conv.weight.dtype == torch.float32
        and not devices.is_autocast(x.device)
    )


def pooled_block(x: torch.Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> torch.Tensor:
    """`relu(max_pool2d(norm(conv(x)), 2))`: (B, C, H, W) -> (B, D, H // 2, W // 2).

    Args:
        conv: 3x3 with padding 1 and a bias.
        norm: batch norm with running statistics, which move as they do in its own forward pass. One whose batch is shared by
            several processes has `of_whole_batch` and `gradient_of_whole_batch` (`engine.parallel`).

    The bias of `conv` has no influence on the result, because batch norm subtracts the mean: its gradient is zero, where a step
    by step computation gives rounding errors.
    """
    grouped = x.shape[1] < 4 and x.shape[2] % 2 == x.shape[3] % 2 == 0
    if not norm.training:
        return _evaluate(x, conv, norm, grouped)
    out, mean, var = _PooledBlock.apply(x, conv.weight, conv.bias, norm.weight, norm.bias, norm, grouped)
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var, norm.momentum)
    return out


def _to_stride_2(weight):
    """(D, C, 3, 3) -> (4 D, C, 4, 4): group g computes the outputs at place g of each 2x2 pool."""
    return torch.cat([F.pad(weight, (left, 1 - left, top, 1 - top)) for top, left in _PLACES])


def _from_stride_2(gradient):
    """The adjoint of `_to_stride_2`."""
    groups = gradient.chunk(4)
    return sum(group[:, :, top : top + 3, left : left + 3] for group, (top, left) in zip(groups, _PLACES, strict=True))


def _evaluate(x, conv, norm, grouped):
    """With the running statistics, which go into the convolution's weights."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # (D,)
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    bias = (conv.bias - norm.running_mean) * scale + norm.bias
    if not grouped:
        x = x.contiguous(memory_format=torch.channels_last)
        return F.max_pool2d(F.conv2d(x, weight, bias, padding=1), 2).relu_()
    out = F.conv2d(x.contiguous(), _to_stride_2(weight), bias.repeat(4), stride=2, padding=1)
    return _pool_groups(out.unflatten(1, (4, -1))).relu_()


def pieces(*maps: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """The same few images of each map at a time, so many that those of the first map have `PIECE` values; all at once where there
    is no CPU's cache."""
    first = maps[0]
    count = max(PIECE * len(first) // max(first.numel(), 1), 1) if first.device.type == "cpu" else len(first)
    return zip(*(part.split(count) for part in maps), strict=True)


def _lines(values, grouped):
    """Sums over the lines of maps (B, ..., D, H, W) -> (B, ..., D, H)"""
    if grouped:
        return values.sum(dim=-1)
    return values.movedim(1, -1).sum(dim=2).movedim(-1, 1)  # in channels_last order: torch adds along the memory of the result


def _mean_image(x, grouped):
    """(B, C, H, W) -> (1, C, H, W)"""
    return x.mean(dim=0, keepdim=True) if grouped else x.movedim(1, -1).mean(dim=0, keepdim=True).movedim(-1, 1)


def _over_channels(lines):
    """(..., D, H) sums of lines -> (D,) totals. Lines first and then in double: a black border is many equal values, whose
    rounding errors would add up."""
    if not devices.has_float64(lines.device):
        return devices.compensated_sum(lines.movedim(-2, 0).flatten(1))
    return lines.double().movedim(-2, 0).flatten(1).sum(dim=1)


def _pool_groups(conv, out=None):
    """(B, 4, D, H / 2, W / 2), the place in the pool second -> the maximum over it."""
    first, second, third, fourth = conv.unbind(1)
    return torch.maximum(torch.maximum(first, second), torch.maximum(third, fourth), out=out)


def _add_at_maxima(full, conv, grad):
    """Add `grad` (B, D, H / 2, W / 2) to `full` (B, 4, D, H / 2, W / 2) where the maxima over the second dimension of `conv` are.
    Of equal values the first wins, as in a max pool."""
    first, second, third, fourth = conv.unbind(1)
    chosen = torch.empty_like(grad)  # 0 or 1 as a float: a product with a boolean would convert it first
    upper, lower = torch.maximum(first, second), torch.maximum(third, fourth)
    in_lower = grad * torch.gt(lower, upper, out=chosen)
    in_upper = grad - in_lower
    for row, (part, left, right) in enumerate(((in_upper, first, second), (in_lower, third, fourth))):
        at_right = part * torch.gt(right, left, out=chosen)
        full[:, 2 * row + 1] += at_right
        full[:, 2 * row] += part.sub_(at_right)


class _PooledBlock(torch.autograd.Function):
    """Maps are (B, D, H, W) in channels_last order, or, if grouped, (B, 4, D, H / 2, W / 2) with the place in the pool
    as the second dimension; channels are the third dimension from the end in both."""

    @staticmethod
    def forward(ctx, x, weight, bias, gamma, beta, norm, grouped):
        batch, _, height, width = x.shape
        channels, count = len(weight), batch * height * width
        # Where the scale is negative, the sign goes into the weights: then all scales count as positive
        sign = torch.where(gamma < 0, -1.0, 1.0)  # (D,)
        weight = weight * sign.view(-1, 1, 1, 1)
        x = x.contiguous(memory_format=torch.contiguous_format if grouped else torch.channels_last)
        mean = _over_channels(F.conv2d(_mean_image(x, grouped), weight, padding=1).sum(dim=-1)) / (height * width)
        if grouped:
            weight = _to_stride_2(weight)
            conv = F.conv2d(x, weight, -mean.float().repeat(4), stride=2, padding=1).contiguous()
            conv = conv.view(batch, 4, channels, height // 2, width // 2)
            pooled, places, squares = conv.new_empty(batch, channels, height // 2, width // 2), (), []
            for part, target in pieces(conv, pooled):
                squares.append(torch.linalg.vector_norm(part, dim=-1).square())
                _pool_groups(part, target)
        else:
            conv = F.conv2d(x, weight, -mean.float(), padding=1)
            squares = [_lines(part.square(), grouped) for (part,) in pieces(conv)]
            pooled, *places = F.max_pool2d(conv, 2, return_indices=True)
        var = _over_channels(torch.cat(squares)) / count
        number, own_mean = count, mean
        if hasattr(norm, "of_whole_batch"):
            number, mean, var = norm.of_whole_batch(count, mean, var)
        shift = (own_mean - mean).float()  # (D,) what the maps still lack to a mean of 0 over all processes
        scale = torch.rsqrt(var + norm.eps).float()  # (D,) 1 / sigma
        factor = gamma.abs() * scale
        out = torch.addcmul((beta + factor * shift).view(-1, 1, 1), pooled, factor.view(-1, 1, 1)).relu_()
        ctx.save_for_backward(x, weight, conv, pooled, out, gamma, sign, scale, shift, *places)
        ctx.norm, ctx.number = norm, number
        mean, var = (mean * sign + bias).float(), (var * (number / (number - 1))).float()  # as batch norm keeps them
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad, *_):
        x, weight, conv, pooled, out, gamma, sign, scale, shift, *places = ctx.saved_tensors
        grouped, channels = conv.dim() == 5, len(gamma)
        order = torch.contiguous_format if grouped else torch.channels_last
        passed, lines, products = torch.empty_like(pooled), [], []  # passed: (B, D, H / 2, W / 2), what the ReLU lets through
        for target, part, after, before in pieces(passed, grad, out, pooled):
            _threshold_backward(part.contiguous(memory_format=order), after, 0.0, grad_input=target)
            lines.append(_lines(target, grouped))
            products.append(_lines(target * before, grouped))
        grad_beta = _over_channels(torch.cat(lines)).float()
        # the normalized value at each maximum is (pooled + shift) * scale
        grad_gamma = (_over_channels(torch.cat(products)).float() + shift * grad_beta) * scale

        # Batch norm's gradient is (gamma / sigma) (g - mean(g) - z mean(g z)) with z the normalized map; g is zero but at
        # the maxima, and both means follow from the sums above.
        sums = torch.stack([grad_beta, grad_gamma])
        if hasattr(ctx.norm, "gradient_of_whole_batch"):
            sums = ctx.norm.gradient_of_whole_batch(sums)
        factor = gamma.abs() * scale
        of_ones, of_values = -factor * sums / ctx.number  # (D,) each
        slope = of_values * scale
        constant = (of_ones + slope * shift).view(-1, 1, 1)
        slope, factor = slope.view(-1, 1, 1), factor.view(-1, 1, 1)
        full = torch.empty_like(conv)
        for target, part, values, *place in pieces(full, conv, passed, *places):
            torch.addcmul(constant, part, slope, out=target)
            values = values.mul_(factor)
            if grouped:
                _add_at_maxima(target, part, values)
            else:
                target += _max_pool_backward(values, part, [2, 2], [2, 2], [0, 0], [1, 1], False, *place)
        if grouped:
            full = full.view(-1, 4 * channels, *full.shape[-2:])
        stride = [2, 2] if grouped else [1, 1]
        needs = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False]
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            full, x, weight, None, stride, [1, 1], [1, 1], False, [0, 0], 1, needs
        )
        if grad_weight is not None:
            grad_weight = (_from_stride_2(grad_weight) if grouped else grad_weight) * sign.view(-1, 1, 1, 1)
        grad_bias = torch.zeros_like(gamma) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, grad_gamma * sign, grad_beta, None, None

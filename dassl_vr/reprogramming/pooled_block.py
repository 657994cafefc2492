"""Convolution, batch norm, 2x2 max pool and ReLU as one step, for the blocks of the mask generator.

The blocks have few channels and many pixels, so nearly all of their time is reading and writing memory. What saves most of it:

- Batch norm is increasing in its input (after a change of sign where its scale is negative) and so is ReLU, so both may come
  after the pool, on a quarter of the values. Only the batch statistics need the unpooled map.
- A stride-1 3x3 convolution followed by a 2x2 pool looks at 4x4 pixels with stride 2. Computed that way (`grouped`), the four
  values of a pool are in four groups of channels and the maximum over them runs along memory. That pays for the first block;
  the others are faster in channels_last order.
- Between the forward and the backward pass only the convolution's output is kept at full resolution.
"""

import torch
from torch import nn
from torch.nn import functional as F

from ..utils import devices

# Position of a 3x3 kernel inside the 4x4 one, for the four places of a 2x2 pool in the order in which a max pool looks at them
_PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))


def applies(x: torch.Tensor, conv: nn.Conv2d, norm: nn.Module) -> bool:
    """Whether `pooled_block` may stand in for these layers on `x`: in float32, in training or without gradients."""
    return (
        type(norm) is torch.nn.BatchNorm2d  # not a synchronized one, whose statistics come from other processes as well
        and (norm.training or not torch.is_grad_enabled())
        and x.dtype == conv.weight.dtype == torch.float32
        and not devices.is_autocast(x.device)
    )


def pooled_block(x: torch.Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> torch.Tensor:
    """`relu(max_pool2d(norm(conv(x)), 2))`: (B, C, H, W) -> (B, D, H // 2, W // 2).

    Args:
        conv: 3x3 with padding 1 and a bias.
        norm: batch norm with running statistics, which move as they do in its own forward pass.

    The bias of `conv` has no influence on the result, because batch norm subtracts the mean: its gradient is zero, where a step
    by step computation gives rounding errors.
    """
    grouped = x.shape[1] < 4 and x.shape[2] % 2 == x.shape[3] % 2 == 0
    if not norm.training:
        return _evaluate(x, conv, norm, grouped)
    out, mean, var = _PooledBlock.apply(x, conv.weight, conv.bias, norm.weight, norm.bias, norm.eps, grouped)
    with torch.no_grad():
        count = x.shape[0] * x.shape[2] * x.shape[3]
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var * (count / (count - 1)), norm.momentum)
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
    return out.unflatten(1, (4, -1)).amax(dim=1).relu_()


def _over_channels(lines):
    """(..., D, H) sums of lines -> (D,) totals. Lines first and then in double: a black border is many equal values, whose
    rounding errors would add up."""
    if not devices.has_float64(lines.device):
        return devices.compensated_sum(lines.movedim(-2, 0).flatten(1))
    return lines.double().movedim(-2, 0).flatten(1).sum(dim=1)


class _PooledBlock(torch.autograd.Function):
    """Maps are (B, D, H, W) in channels_last order, or, if grouped, (B, 4, D, H / 2, W / 2) with the place in the pool
    as the second dimension; channels are the third dimension from the end in both."""

    @staticmethod
    def forward(ctx, x, weight, bias, gamma, beta, eps, grouped):
        batch, _, height, width = x.shape
        channels, count = len(weight), batch * height * width
        # Where the scale is negative, the sign goes into the weights: then all scales count as positive
        sign = torch.where(gamma < 0, -1.0, 1.0)  # (D,)
        weight = weight * sign.view(-1, 1, 1, 1)
        if grouped:
            x, weight = x.contiguous(), _to_stride_2(weight)
            conv = F.conv2d(x, weight, stride=2, padding=1).contiguous().view(batch, 4, channels, height // 2, width // 2)
        else:
            x = x.contiguous(memory_format=torch.channels_last)
            conv = F.conv2d(x, weight, padding=1)
        mean = (_over_channels(conv.sum(dim=-1)) / count).float()
        conv.sub_(mean.view(-1, 1, 1))
        # The one is faster along memory, the other across it
        squares = torch.linalg.vector_norm(conv, dim=-1).square() if grouped else conv.square().sum(dim=-1)
        var = _over_channels(squares) / count
        scale = torch.rsqrt(var + eps).float()  # (D,) 1 / sigma

        if grouped:
            first, second, third, fourth = conv.unbind(1)
            upper, lower = torch.maximum(first, second), torch.maximum(third, fourth)
            pooled = torch.maximum(upper, lower)  # (B, D, H / 2, W / 2)
            # `>`: of equal values the first wins, as in a max pool
            places = second > first, fourth > third, lower > upper
        else:
            pooled, *places = F.max_pool2d(conv, 2, return_indices=True)
        out = torch.addcmul(beta.view(-1, 1, 1), pooled, (gamma.abs() * scale).view(-1, 1, 1)).relu_()
        ctx.save_for_backward(x, weight, conv, pooled, out, gamma, sign, scale, *places)
        mean, var = mean * sign + bias, var.float()
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad, *_):
        x, weight, conv, pooled, out, gamma, sign, scale, *places = ctx.saved_tensors
        grouped = conv.dim() == 5
        channels, count = len(gamma), conv.numel() // len(gamma)
        grad = grad.contiguous(memory_format=torch.contiguous_format if grouped else torch.channels_last)
        grad = torch.ops.aten.threshold_backward(grad, out, 0.0)  # behind the ReLU
        grad_beta = _over_channels(grad.sum(dim=-1)).float()
        # the normalized value at each maximum is pooled * scale
        grad_gamma = _over_channels((grad * pooled).sum(dim=-1)).float() * scale

        # Batch norm's gradient is (gamma / sigma) (g - mean(g) - z mean(g z)) with z the normalized map; g is zero but at
        # the maxima, and both means follow from the sums above.
        factor = gamma.abs() * scale
        full = conv * (-factor * scale * grad_gamma / count).view(-1, 1, 1)
        full += (-factor * grad_beta / count).view(-1, 1, 1)
        grad = grad.mul_(factor.view(-1, 1, 1))
        if grouped:
            right_above, right_below, below = places
            at_lower = grad * below
            at_upper = grad.sub_(at_lower)
            for row, (at, right) in enumerate(((at_upper, right_above), (at_lower, right_below))):
                at_right = at * right
                full[:, 2 * row + 1] += at_right
                full[:, 2 * row] += at.sub_(at_right)
            full = full.view(-1, 4 * channels, *full.shape[-2:])
        else:
            full += torch.ops.aten.max_pool2d_with_indices_backward(grad, conv, [2, 2], [2, 2], [0, 0], [1, 1], False, places[0])
        stride = [2, 2] if grouped else [1, 1]
        needs = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False]
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            full, x, weight, None, stride, [1, 1], [1, 1], False, [0, 0], 1, needs
        )
        if grad_weight is not None:
            grad_weight = (_from_stride_2(grad_weight) if grouped else grad_weight) * sign.view(-1, 1, 1, 1)
        grad_bias = torch.zeros_like(gamma) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, grad_gamma * sign, grad_beta, None, None

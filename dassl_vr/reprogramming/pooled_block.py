"""Convolution, batch norm, 2x2 max pool and ReLU as one step, for the blocks of the mask generator.

The blocks have few channels and many pixels, so half of their time is reading and writing memory. What saves most of it:

- Batch norm is increasing in its input (after a change of sign where its scale is negative) and so is ReLU, so both may come
  after the pool, on a quarter of the values. Only the batch statistics need the unpooled map.
- The mean over a batch of a convolution's output is the mean of its output for the mean image. Known beforehand, it is subtracted
  by the convolution's bias.
- Between the forward and the backward pass at most the convolution's output is kept at full resolution, and what is done to it is
  done to a few images at a time, which stay in a CPU's cache meanwhile (`pooled_passes`).
"""

import torch
from torch import nn
from torch.nn import functional as F

from ..utils import devices
from .pooled_passes import ChannelsLast, Grouped, over_channels


def applies(x: torch.Tensor, conv: nn.Conv2d, norm: nn.Module) -> bool:
    """Whether `pooled_block` may stand in for these layers on `x`: in float32, in training or without gradients."""
    return (
        # not torch's synchronized one, whose statistics come from other processes as well
        (type(norm) is nn.BatchNorm2d or hasattr(norm, "of_whole_batch"))
        and (norm.training or not torch.is_grad_enabled())
        and x.dtype == conv.weight.dtype == torch.float32
        and not devices.is_autocast(x.device)
    )


def pooled_block(x: torch.Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, compiled: bool = False, pool: bool = True) -> torch.Tensor:
    """`relu(max_pool2d(norm(conv(x)), 2))`: (B, C, H, W) -> (B, D, H // 2, W // 2).

    Args:
        conv: 3x3 with padding 1 and a bias.
        norm: batch norm with running statistics, which move as they do in its own forward pass. One whose batch is shared by
            several processes has `of_whole_batch` and `gradient_of_whole_batch` (`engine.parallel`).
        compiled: with the loops of `kernels`, for `x` on a CPU; equal up to rounding.
        pool: False = `relu(norm(conv(x)))`, (B, D, H, W); only with `compiled`.

    The bias of `conv` has no influence on the result, because batch norm subtracts the mean: its gradient is zero, where a step
    by step computation gives rounding errors.
    """
    passes = _passes(x, compiled, pool)
    x = x.contiguous(memory_format=passes.order)
    if not norm.training:
        return _evaluate(x, conv, norm, passes)
    out, mean, var = _PooledBlock.apply(x, conv.weight, conv.bias, norm.weight, norm.bias, norm, passes)
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var, norm.momentum)
    return out


def _passes(x, compiled, pool):
    first = x.shape[1] < 4 and x.shape[2] % 2 == x.shape[3] % 2 == 0
    if compiled:
        from . import compiled_passes  # here: it needs Numba

        if not pool:
            return compiled_passes.CompiledUnpooled
        if not first:
            return compiled_passes.CompiledChannelsLast
        if not x.requires_grad:
            return compiled_passes.CompiledFirst
    return Grouped if first else ChannelsLast


def _evaluate(x, conv, norm, passes):
    """With the running statistics, which go into the convolution's weights."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # (D,)
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    return passes.evaluate(x, weight, (conv.bias - norm.running_mean) * scale + norm.bias)


class _PooledBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, gamma, beta, norm, passes):
        batch, _, height, width = x.shape
        count = batch * height * width
        # Where the scale is negative, the sign goes into the weights: then all scales count as positive
        sign = torch.where(gamma < 0, -1.0, 1.0)  # (D,)
        weight = weight * sign.view(-1, 1, 1, 1)
        mean = over_channels(F.conv2d(passes.mean_image(x), weight, padding=1).sum(dim=-1)) / (height * width)
        kept, pooled, squares = passes.convolve(x, weight, -mean.float())
        var = squares / count
        number, own_mean = count, mean
        if hasattr(norm, "of_whole_batch"):
            number, mean, var = norm.of_whole_batch(count, mean, var)
        shift = (own_mean - mean).float()  # (D,) what the maps still lack to a mean of 0 over all processes
        scale = torch.rsqrt(var + norm.eps).float()  # (D,) 1 / sigma
        factor = gamma.abs() * scale
        out = passes.activate(pooled, factor, beta + factor * shift)
        ctx.save_for_backward(x, weight, pooled, out, gamma, sign, scale, shift, *kept)
        ctx.norm, ctx.number, ctx.passes = norm, number, passes
        mean, var = (mean * sign + bias).float(), (var * (number / (number - 1))).float()  # as batch norm keeps them
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad, *_):
        x, weight, pooled, out, gamma, sign, scale, shift, *kept = ctx.saved_tensors
        passed, grad_beta, products = ctx.passes.passed(grad, out, pooled)
        grad_beta = grad_beta.float()
        # the normalized value at each maximum is (pooled + shift) * scale
        grad_gamma = (products.float() + shift * grad_beta) * scale

        # Batch norm's gradient is (gamma / sigma) (g - mean(g) - z mean(g z)) with z the normalized map; g is zero but at
        # the maxima, and both means follow from the sums above.
        sums = torch.stack([grad_beta, grad_gamma])
        if hasattr(ctx.norm, "gradient_of_whole_batch"):
            sums = ctx.norm.gradient_of_whole_batch(sums)
        factor = gamma.abs() * scale
        of_ones, of_values = -factor * sums / ctx.number  # (D,) each
        slope = of_values * scale
        constant = of_ones + slope * shift
        grad_x, grad_weight = ctx.passes.gradients(x, weight, kept, passed, factor, slope, constant, ctx.needs_input_grad[:2])
        if grad_weight is not None:
            grad_weight = grad_weight * sign.view(-1, 1, 1, 1)
        grad_bias = torch.zeros_like(gamma) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, grad_gamma * sign, grad_beta, None, None

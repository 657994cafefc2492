"""The passes of `pooled_passes` with the loops of `kernels`, which the extra `numba` compiles: float32 on a CPU."""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from ..utils.threads import share_out
from . import first_kernels, kernels
from .pooled_passes import ChannelsLast, Gradients, Grouped, Kept, convolution_backward


class CompiledChannelsLast(ChannelsLast):
    """As `ChannelsLast`, all but the convolutions in loops."""

    @classmethod
    def convolve(cls, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> tuple[Kept, torch.Tensor, torch.Tensor]:
        conv = _convolution(x, weight, bias)
        pooled = _new(len(x), len(weight), x.shape[2] // 2, x.shape[3] // 2)
        places, squares = _new(*pooled.shape, dtype=torch.uint8), _sums(pooled)
        share_out(kernels.pool, len(x), *_last(conv, pooled, places), squares.numpy())
        return (conv, places), pooled, squares.sum(dim=0)

    @classmethod
    def evaluate(cls, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return cls.convolve(x, weight, bias)[1].relu_()

    @staticmethod
    def activate(pooled: torch.Tensor, factor: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        out = _new(*pooled.shape)
        share_out(kernels.relu, len(pooled), *_rows(pooled), factor.numpy(), offset.numpy(), *_rows(out))
        return out

    @staticmethod
    def passed(grad: torch.Tensor, out: torch.Tensor, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        passed, ones, products = _new(*pooled.shape), _sums(pooled), _sums(pooled)
        arrays = *_rows(grad, out, pooled, passed), ones.numpy(), products.numpy()
        share_out(kernels.relu_gradient, len(pooled), *arrays)
        return passed, ones.sum(dim=0), products.sum(dim=0)

    @staticmethod
    def gradients(
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
        full = _new(*conv.shape)
        arrays = *_last(conv, places, passed), factor.numpy(), slope.numpy(), constant.numpy(), *_last(full)
        share_out(kernels.pool_gradient, len(x), *arrays)
        return convolution_backward(full, x, weight, 1, needed)


class CompiledUnpooled(CompiledChannelsLast):
    """For layers without a pool: `pooled` is the map itself."""

    @staticmethod
    def convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> tuple[Kept, torch.Tensor, torch.Tensor]:
        conv = _convolution(x, weight, bias)
        squares = _sums(conv)
        share_out(kernels.square_sums, len(x), *_rows(conv), squares.numpy())
        return (conv,), conv, squares.sum(dim=0)

    @staticmethod
    def evaluate(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, weight, bias, padding=1).relu_()

    @staticmethod
    def gradients(
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
        full = _new(*conv.shape)
        arrays = *_rows(conv, passed), factor.numpy(), slope.numpy(), constant.numpy(), *_rows(full)
        share_out(kernels.norm_gradient, len(x), *arrays)
        return convolution_backward(full, x, weight, 1, needed)


class CompiledFirst(Grouped):
    """For images of even sides that need no gradient, few channels: the convolution too, whose result is not kept."""

    @staticmethod
    def convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> tuple[Kept, torch.Tensor, torch.Tensor]:
        pooled = x.new_empty(len(x), len(weight), x.shape[2] // 2, x.shape[3] // 2)
        places, squares = torch.empty_like(pooled, dtype=torch.uint8), _sums(pooled)
        arrays = [each.numpy() for each in (x, weight.flatten(2), bias, pooled, places, squares)]
        share_out(first_kernels.first_block, len(x), *arrays)
        return (places, bias), pooled, squares.sum(dim=0)

    @classmethod
    def evaluate(cls, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return cls.activate(cls.convolve(x, weight, bias)[1], torch.ones_like(bias), torch.zeros_like(bias))

    @staticmethod
    def activate(pooled: torch.Tensor, factor: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        out = _new(*pooled.shape)  # in the order that the next block wants
        share_out(first_kernels.first_relu, len(pooled), *(each.numpy() for each in (pooled, factor, offset)), *_last(out))
        return out

    @staticmethod
    def passed(grad: torch.Tensor, out: torch.Tensor, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        passed, ones, products = torch.empty_like(pooled), _sums(pooled), _sums(pooled)
        arrays = *_rows(grad, out), *(each.numpy() for each in (pooled, passed, ones, products))
        share_out(first_kernels.first_relu_gradient, len(pooled), *arrays)
        return passed, ones.sum(dim=0), products.sum(dim=0)

    @staticmethod
    def gradients(
        x: torch.Tensor,
        weight: torch.Tensor,
        kept: Kept,
        passed: torch.Tensor,
        factor: torch.Tensor,
        slope: torch.Tensor,
        constant: torch.Tensor,
        needed: Sequence[bool],
    ) -> Gradients:
        if not needed[1]:
            return None, None
        places, bias = kept
        sums = torch.empty(len(x), *weight.flatten(2).shape, dtype=torch.double)
        arrays = [each.numpy() for each in (x, weight.flatten(2), bias, places, passed, factor, slope, constant, sums)]
        share_out(first_kernels.first_block_gradient, len(x), *arrays)
        return None, sums.sum(dim=0).view_as(weight).float()


def _convolution(x, weight, bias):
    return F.conv2d(x, weight, bias, padding=1).contiguous(memory_format=torch.channels_last)


def _new(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)


def _sums(pooled):
    return torch.empty(pooled.shape[:2], dtype=torch.double)


def _last(*maps):
    """(B, D, H, W) -> arrays (B, H, W, D), of the same memory if that is in channels_last order."""
    return [each.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).numpy() for each in maps]


def _rows(*maps):
    """(B, D, H, W) -> arrays (B, H, W * D), of the same memory if that is in channels_last order."""
    return [each.reshape(*each.shape[:2], -1) for each in _last(*maps)]

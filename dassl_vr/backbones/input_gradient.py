"""Less work on the way to the input gradient of a frozen CNN.

A convolution with a stride: its input gradient is computed as a convolution without one. The first layer of a ResNet is a 7x7
convolution of three channels with stride 2. Only prompts of the input ask for its input gradient, and on a CPU that is the slowest
part of a backward pass: libraries write the pixels in strides, three values at a time. The pixels at one place of each
stride x stride square form a picture of the result's size, which is an ordinary convolution of the gradient. All these pictures are
computed by one convolution and woven together.

ReLU6 in place: autograd copies its input first, which torch's own backward pass reads. The result says as well where the input was
between 0 and 6.
"""

import torch
from torch import nn
from torch.nn import functional as F

from ..utils import devices


class InputGradientConv2d(nn.Conv2d):
    """A convolution whose input gradient is `input_gradient`'s while its weights are frozen; in all else an `nn.Conv2d`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self._applies(x):
            return super().forward(x)
        return _Convolution.apply(x, self.weight, self.bias, self.stride[0], self.padding[0])

    def _applies(self, x):
        return (
            torch.is_grad_enabled()
            and x.requires_grad
            and not self.weight.requires_grad
            and x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and not devices.is_autocast(x.device)
            and not torch.compiler.is_compiling()
        )


class InputGradientReLU6(nn.ReLU6):
    """A ReLU6 that needs no copy of its input, if it works in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.inplace or not torch.is_grad_enabled() or not x.requires_grad or torch.compiler.is_compiling():
            return super().forward(x)
        return _ClampInPlace.apply(x)


def speed_up_input_gradients(model: nn.Module) -> None:
    """Make the classes above of those modules of `model`, in place, that they compute the same as, faster."""
    for module in model.modules():  # nothing but the class changes: both have no more to them than another backward pass
        if type(module) is nn.Conv2d and _pays(module):
            module.__class__ = InputGradientConv2d
        elif type(module) is nn.ReLU6:
            module.__class__ = InputGradientReLU6


def _pays(conv):
    """Few input channels and a kernel more than twice as wide as the stride: 7x7 with stride 2 is faster, 3x3 is slower."""
    (height, width), (stride, other) = conv.kernel_size, conv.stride
    return (
        conv.in_channels <= 4
        and conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and conv.padding[0] == conv.padding[1] < height == width
        and stride == other > 1
        and height > 2 * stride
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding):
        ctx.save_for_backward(weight)
        ctx.stride, ctx.padding, ctx.size = stride, padding, x.shape[-2:]
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (weight,) = ctx.saved_tensors
        return input_gradient(grad, weight, ctx.size, ctx.stride, ctx.padding), None, None, None, None


class _ClampInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        out = x.clamp_(0.0, 6.0)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad, out, 0.0, 6.0)


def input_gradient(grad: torch.Tensor, weight: torch.Tensor, size: tuple[int, int], stride: int, padding: int) -> torch.Tensor:
    """The gradient of `conv2d(x, weight, stride=stride, padding=padding)` to x, from that to its result.

    Args:
        grad: (B, D, h, w).
        weight: (D, C, k, k) with k > padding.
        size: (H, W) of x.

    Returns:
        (B, C, H, W)
    """
    out, channels, kernel, _ = weight.shape
    # A pixel at place a of a square m takes from the results m + i with stride * i = a + padding - (row of the kernel)
    first = -((kernel - 1 - padding) // stride)
    last = (stride - 1 + padding) // stride
    count = last - first + 1  # rows of the new kernels
    front = stride * last - padding
    back = stride * count - kernel - front
    taps = F.pad(weight, (front, back) * 2).view(out, channels, count, stride, count, stride).flip(2, 4)
    kernels = taps.permute(1, 3, 5, 0, 2, 4).reshape(channels * stride**2, out, count, count)
    kernels = kernels.contiguous(memory_format=torch.channels_last)
    rows, columns = (-(-side // stride) for side in size)  # squares, the cut ones at the border included
    border = max(-first, last + max(rows - grad.shape[2], columns - grad.shape[3], 0))
    start = border + first
    squares = F.conv2d(grad, kernels, padding=border)[:, :, start : start + rows, start : start + columns]
    return F.pixel_shuffle(squares, stride)[:, :, : size[0], : size[1]]

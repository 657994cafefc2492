"""Input gradients of strided convolutions and of ReLU6, against autograd's own."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dassl_vr.backbones import build_backbone
from dassl_vr.backbones.input_gradient import InputGradientConv2d, InputGradientReLU6, input_gradient


@pytest.mark.parametrize(
    "kernel, stride, padding", [(7, 2, 3), (7, 2, 0), (5, 2, 2), (3, 2, 1), (8, 4, 2), (11, 4, 2), (7, 3, 4), (4, 4, 0)]
)
@pytest.mark.parametrize("size", [(32, 32), (33, 38), (23, 29)])
def test_as_autograd_has_it(kernel, stride, padding, size):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 3, kernel, kernel, generator=generator, dtype=torch.float64)
    out = F.conv2d(x, weight, stride=stride, padding=padding)
    grad = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad(out, x, grad)
    torch.testing.assert_close(input_gradient(grad, weight, size, stride, padding), expected)


def stems(backbone):
    return [module for module in backbone.modules() if isinstance(module, InputGradientConv2d)]


@pytest.mark.parametrize("name, number", [("rn18", 1), ("timm:resnet18", 1), ("mobilenet_v2", 0)])
def test_a_frozen_cnn_has_it_where_it_pays(name, number):
    assert len(stems(build_backbone(name, pretrained=False, verbose=False))) == number
    assert not stems(build_backbone(name, pretrained=False, verbose=False, fold=False))
    assert not stems(build_backbone(name, pretrained=False, verbose=False, frozen=False))


def test_a_backbone_gives_the_same_gradient_with_it():
    torch.manual_seed(0)
    fast = build_backbone("rn18", pretrained=False, size=64, verbose=False)
    plain = copy.deepcopy(fast)
    plain.model.conv1.__class__ = nn.Conv2d
    x = torch.randn(3, 3, 64, 64, requires_grad=True)
    logits = [backbone.logits(x) for backbone in (fast, plain)]
    torch.testing.assert_close(*logits, rtol=0, atol=0)
    got, expected = (torch.autograd.grad(part.logsumexp(1).sum(), x)[0] for part in logits)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert "_Convolution" in str(_nodes(fast.logits(x))) and "_Convolution" not in str(_nodes(plain.logits(x)))


def test_layers_whose_weights_are_trained_are_left_to_autograd():
    conv = InputGradientConv2d(3, 8, 7, 2, 3)
    x = torch.randn(1, 3, 16, 16, requires_grad=True)
    conv(x).sum().backward()
    assert conv.weight.grad.abs().sum() > 0 and x.grad.abs().sum() > 0


@pytest.mark.parametrize("inplace", [True, False])
def test_relu6_is_torchs_to_the_bit(inplace):
    values = torch.tensor([-1.0, -0.0, 0.0, 1e-30, 3.0, 6.0 - 1e-6, 6.0, 7.0, float("inf"), float("nan")])
    results = []
    for layer in (nn.ReLU6(inplace), InputGradientReLU6(inplace)):
        x = values.clone().requires_grad_()
        out = layer(x * 1)
        (out * torch.arange(1.0, 11)).sum().backward()
        results.append((out.detach(), x.grad))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)


def test_a_frozen_cnn_has_it_in_place_of_each_relu6():
    backbone = build_backbone("mobilenet_v2", pretrained=False, size=32, verbose=False)
    plain = copy.deepcopy(backbone)
    layers = [module for module in plain.modules() if isinstance(module, InputGradientReLU6)]
    assert len(layers) == 35
    for layer in layers:
        layer.__class__ = nn.ReLU6
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    got, expected = (torch.autograd.grad(model.logits(x).logsumexp(1).sum(), x)[0] for model in (backbone, plain))
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("layer, copies", [(nn.ReLU6(inplace=True), 1), (InputGradientReLU6(inplace=True), 0)])
def test_relu6_in_place_copies_nothing(layer, copies):
    x = torch.randn(5, requires_grad=True) * 2
    with Copies() as counted:
        layer(x).sum().backward()
    assert counted.number == copies


class Copies(TorchDispatchMode):
    """Counts the tensors that are cloned inside the block."""

    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += function is torch.ops.aten.clone.default
        return function(*args, **(kwargs or {}))


def _nodes(tensor):
    """The names of all operations that `tensor` was computed by."""
    found, left = set(), [tensor.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in found:
            found.add(node)
            left += [before for before, _ in node.next_functions]
    return [node.name() for node in found]

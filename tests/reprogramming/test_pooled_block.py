"""The mask generator's fast blocks, with torch's operations and with compiled loops, against its layers, one after the other."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dassl_vr.reprogramming import MaskGenerator, SampleSpecificMask, first_kernels, pooled_passes
from dassl_vr.reprogramming.pooled_block import applies
from dassl_vr.utils import threads

COMPILED = pytest.mark.parametrize("compiled", [False, True], ids=["torch", "numba"])


def generator(compiled=False, **arguments):
    """Batch norms with scales of both signs, as after some training."""
    torch.manual_seed(0)
    module = MaskGenerator(**arguments)
    module.compiled_kernels = compiled
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return module


def step_by_step(module, x):
    """Convolution, norm, ReLU, pool, in the order of the paper."""
    pools = module.patch_size.bit_length() - 1
    convs = [layer for layer in module.body if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in module.body if isinstance(layer, nn.BatchNorm2d)]
    for number, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
        x = F.relu(norm(conv(x)))
        if number < pools:
            x = F.max_pool2d(x, 2)
    return x.mean(1, keepdim=True) if module.last is None else module.last(x)


def pictures(kind, size):
    noise = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(3))
    if kind == "noise":
        return noise
    flat = torch.full((3, 3, size, size), -2.1)  # a black border: all four values of a pool are equal
    flat[:, :, size // 4 : -size // 4, size // 4 : -size // 4] = noise[:, :, size // 4 : -size // 4, size // 4 : -size // 4]
    return flat


@COMPILED
@pytest.mark.parametrize("kind", ["noise", "flat"])
@pytest.mark.parametrize("image_gradient", [True, False])
@pytest.mark.parametrize(
    "size, arguments",
    [
        (32, {}),
        (96, {}),
        (44, {}),
        (33, {}),
        (46, {"width": 0.5}),
        (32, {"layers": 6, "patch_size": 32}),
        (32, {"channels": 1}),
        (16, {"patch_size": 1}),
    ],
)
def test_values_gradients_and_running_statistics_are_those_of_the_layers(size, arguments, image_gradient, kind, compiled):
    fast = generator(compiled, **arguments)
    slow = copy.deepcopy(fast).double()
    x = pictures(kind, size).requires_grad_(image_gradient)
    x_slow = x.detach().double().requires_grad_(image_gradient)
    assert applies(x, fast.body[0], fast.body[1])
    for step in range(2):  # the second shows whether running statistics add up
        got, expected = fast(x), step_by_step(slow, x_slow)
        assert (got - expected).abs().max() < 1e-5 * expected.abs().max(), f"step {step}"
        weights = torch.randn(got.shape, generator=torch.Generator().manual_seed(step))
        (got * weights).sum().backward()
        (expected * weights.double()).sum().backward()
    scale = max(p.grad.abs().max() for p in slow.parameters())
    for (name, p), q in zip(fast.named_parameters(), slow.parameters(), strict=True):
        # a bias before batch norm has no influence: its gradient is zero but for rounding
        largest = scale if name.endswith("bias") and q.grad.abs().max() < 1e-9 * scale else q.grad.abs().max()
        assert (p.grad - q.grad).abs().max() < 1e-4 * largest, name
    if image_gradient:
        assert (x.grad - x_slow.grad).abs().max() < 1e-4 * x_slow.grad.abs().max()
    for (name, p), q in zip(fast.named_buffers(), slow.buffers(), strict=True):
        assert torch.allclose(p.double(), q.double(), rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize("channels", [3, 1])
def test_the_number_of_images_at_a_time_changes_nothing(channels, monkeypatch):
    module = SampleSpecificMask(32, channels=channels).train()
    module.delta.data.normal_()
    results = []
    for piece in (1 << 30, 10_000, 1):  # all three images at once; in the first block one image has 8 x 32 x 32 values
        monkeypatch.setattr(pooled_passes, "PIECE", piece)
        module.zero_grad()
        module(pictures("flat", 32)).square().sum().backward()
        results.append([p.grad for p in module.parameters()])
    for gradients in results[1:]:
        for got, expected in zip(gradients, results[0], strict=True):
            assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5 * expected.abs().max())


@pytest.mark.parametrize("channels", [3, 1])
def test_compiled_loops_give_the_gradients_of_mask_and_pattern(channels):
    """Given a gradient in either order of memory, with a border outside of the patches and without."""
    torch.manual_seed(0)
    for size, order in ((32, torch.contiguous_format), (32, torch.channels_last), (36, torch.contiguous_format)):
        plain = SampleSpecificMask(size, channels=channels, patch_size=8).train()
        plain.delta.data.normal_()
        compiled = copy.deepcopy(plain)
        compiled.generator.compiled_kernels = True
        weights = torch.randn(3, 3, size, size).contiguous(memory_format=order)
        for module in (plain, compiled):
            module(pictures("noise", size)).backward(weights)
        for (name, p), q in zip(compiled.named_parameters(), plain.parameters(), strict=True):
            assert torch.allclose(p.grad, q.grad, rtol=1e-4, atol=1e-5 * q.grad.abs().max() + 1e-4), name


@pytest.mark.parametrize("team", [True, False], ids=["torch's threads", "threads of their own"])
def test_compiled_loops_give_the_same_bits_in_any_number_of_threads(team, monkeypatch):
    if not team:
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    before, results = torch.get_num_threads(), []
    images = pictures("flat", 32).repeat(2, 1, 1, 1)[:5]
    try:
        for number in (1, 2, 3, 7):  # 7: more than images
            torch.set_num_threads(number)
            pooled, places, squares = torch.empty(5, 8, 16, 16), torch.empty(5, 8, 16, 16, dtype=torch.uint8), torch.empty(5, 8)
            weight, bias = torch.linspace(-1, 1, 8 * 27).view(8, 3, 9), torch.zeros(8)
            arrays = [each.numpy() for each in (images, weight, bias, pooled, places, squares.double())]
            threads.share_out(first_kernels.first_block, 5, *arrays)
            results.append((pooled, places, torch.from_numpy(arrays[-1])))
    finally:
        torch.set_num_threads(before)
    expected, where = F.max_pool2d(F.conv2d(images, weight.view(8, 3, 3, 3), padding=1), 2, return_indices=True)
    for pooled, places, squares in results:
        assert torch.allclose(pooled, expected, atol=1e-5)
        assert torch.equal(pooled, results[0][0]) and torch.equal(places, results[0][1]) and torch.equal(squares, results[0][2])
    row, column = where // 32, where % 32
    assert torch.equal(results[0][1].long(), row % 2 * 2 + column % 2)


@COMPILED
@pytest.mark.parametrize("size, patch_size", [(64, 8), (45, 8), (32, 1), (32, 2)])
def test_evaluation_is_that_of_the_layers(size, patch_size, compiled):
    fast = generator(compiled, patch_size=patch_size).eval()
    x = pictures("noise", size)
    expected = step_by_step(fast, x)
    assert not applies(x, fast.body[0], fast.body[1]), "gradients in evaluation mode go through the layers"
    assert torch.allclose(fast(x), expected, rtol=1e-5, atol=1e-6)
    with torch.inference_mode():
        assert applies(x, fast.body[0], fast.body[1])
        assert torch.allclose(fast(x), expected, rtol=1e-5, atol=1e-5)


@COMPILED
def test_what_is_not_needed_is_not_computed(compiled):
    module = SampleSpecificMask(32).train()
    module.generator.compiled_kernels = compiled
    module.generator.body[0].requires_grad_(False)
    module.delta.data.normal_()
    module(pictures("noise", 32)).sum().backward()
    assert module.generator.body[0].weight.grad is None and module.generator.body[1].weight.grad is not None


def test_norms_that_ask_other_processes_keep_their_layers():
    module = nn.SyncBatchNorm.convert_sync_batchnorm(MaskGenerator())
    assert not applies(pictures("noise", 32), module.body[0], module.body[1])
    assert not applies(pictures("noise", 32).double(), *MaskGenerator().double().body[:2])

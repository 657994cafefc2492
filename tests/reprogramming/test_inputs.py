"""Each f_in against its definition, written out the slow way."""

import pytest
import torch
from torch.nn import functional as F
from yacs.config import CfgNode

from dassl_vr.backbones import build_backbone
from dassl_vr.reprogramming import (
    MaskGenerator,
    Pad,
    SampleSpecificMask,
    Watermark,
    centred_box,
    frame_width,
    patch_interpolate,
    pixel_accesses,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(size, batch=2, seed=0):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def trained(module, seed=1):
    """`module` with a pattern that is not zero, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    if module.delta is not None:
        module.delta.data = torch.randn(module.delta.shape, generator=generator)
    return module.eval()


def upsample_slowly(mask, size, patch):
    """Kronecker product with a patch of ones, then the last row and column again up to the border."""
    blown_up = torch.kron(mask, torch.ones(1, 1, patch, patch))
    rows = [blown_up[:, :, min(i, blown_up.shape[2] - 1)] for i in range(size)]
    blown_up = torch.stack(rows, dim=2)
    return torch.stack([blown_up[..., min(j, blown_up.shape[3] - 1)] for j in range(size)], dim=3)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("layers, channels, expected", [(5, 3, 26_499), (6, 3, 102_339), (5, 1, 24_768)])
@pytest.mark.parametrize("patch_size", [1, 8])
def test_generator_has_the_published_number_of_parameters(layers, channels, expected, patch_size):
    assert parameters(MaskGenerator(layers, patch_size, channels)) == expected


@pytest.mark.parametrize(
    "width, expected", [(0.5, 7_203), (1, 26_499), (2, 101_379), (4, 396_291), (8, 1_566_723), (16, 6_230_019)]
)
def test_wider_generators_have_the_published_number_of_parameters(width, expected):
    with torch.device("meta"):
        assert parameters(MaskGenerator(width=width)) == expected


@pytest.mark.parametrize("size, expected", [(224, 150_528), (384, 442_368)])
def test_pattern_has_the_published_number_of_parameters(size, expected):
    assert parameters(Watermark(size)) == expected
    assert SampleSpecificMask(size).delta.numel() == expected


@pytest.mark.parametrize("layers, patch_size", [(5, 1), (5, 2), (5, 4), (5, 8), (5, 16), (6, 1), (6, 16), (6, 32)])
@pytest.mark.parametrize("size", [32, 50, 63])
def test_generator_gives_a_value_a_whole_patch(layers, patch_size, size):
    side = size // patch_size
    assert MaskGenerator(layers, patch_size)(images(size)).shape == (2, 3, side, side)
    assert MaskGenerator(layers, patch_size, channels=1)(images(size)).shape == (2, 1, side, side)


def test_single_channel_is_the_mean_of_the_penultimate_output():
    single, triple = MaskGenerator(channels=1).eval(), MaskGenerator().eval()
    triple.body.load_state_dict(single.body.state_dict())
    seen = []
    triple.last.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    triple(images(32))
    assert torch.equal(single(images(32)), seen[0].mean(1, keepdim=True))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"patch_size": 3}, ["patch_size is 3", "1, 2, 4, 8, 16"]),
        ({"patch_size": 32}, ["patch_size is 32", "layers=6"]),
        ({"patch_size": 64, "layers": 6}, ["patch_size is 64", "32"]),
        ({"layers": 4}, ["layers is 4", "5 or 6"]),
        ({"channels": 2}, ["channels is 2", "3", "1"]),
        ({"width": 0.3}, ["width is 0.3", "8, 16, 32, 64"]),
        ({"mask_init": "zeros"}, ["mask_init is 'zeros'", "'ones'"]),
        ({"mask_init": "ones", "channels": 1}, ["mask_init 'ones'", "channels=3"]),
    ],
)
def test_wrong_generator_arguments_are_named(arguments, words):
    with pytest.raises(ValueError) as error:
        MaskGenerator(**arguments)
    assert all(word in str(error.value) for word in words)


def test_images_smaller_than_a_patch_are_refused():
    with pytest.raises(ValueError, match="size is 4, expected at least patch_size = 8"):
        SampleSpecificMask(4)
    with pytest.raises(ValueError, match="images are 4 x 4"):
        MaskGenerator()(images(4))


@pytest.mark.parametrize("size, patch", [(32, 8), (33, 8), (39, 8), (30, 8), (16, 16), (31, 16), (7, 1), (64, 32)])
def test_patch_interpolate_copies_every_value_over_its_patch(size, patch):
    mask = images(size // patch, batch=3)
    assert torch.equal(patch_interpolate(mask, size, patch), upsample_slowly(mask, size, patch))


def test_patch_interpolate_derives_the_patch():
    mask = images(12)
    assert torch.equal(patch_interpolate(mask, 96), upsample_slowly(mask, 96, 8))
    assert torch.equal(patch_interpolate(mask, 100), upsample_slowly(mask, 100, 8))


@pytest.mark.parametrize("size, patch", [(24, 8), (29, 8)])
def test_patch_interpolate_gradient_counts_the_copies(size, patch):
    mask = images(size // patch).double().requires_grad_()
    weights = images(size, seed=3).double()
    (patch_interpolate(mask, size, patch) * weights).sum().backward()
    expected = torch.zeros_like(mask)
    last = mask.shape[-1] - 1
    for i in range(size):
        for j in range(size):
            expected[:, :, min(i // patch, last), min(j // patch, last)] += weights[:, :, i, j]
    assert torch.allclose(mask.grad, expected)


def test_a_mask_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="patch_size 0"):
        patch_interpolate(images(16), 8)


@pytest.mark.parametrize("size, patch_size", [(32, 8), (45, 8), (32, 1), (16, 16)])
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_an_interpolated_mask_is_that_of_torch(size, patch_size, channels, mode):
    module, x = trained(SampleSpecificMask(size, 5, patch_size, channels, interpolation=mode)), images(size)
    mask = F.interpolate(module.generator(x), size=(size, size), mode=mode, align_corners=False).expand(-1, 3, -1, -1)
    assert torch.allclose(module.masks(x), mask, atol=1e-5)
    assert torch.allclose(module(x), x + mask * module.delta, atol=1e-5)
    same_parts = SampleSpecificMask(size, 5, patch_size, channels).state_dict().keys()
    assert module.state_dict().keys() == same_parts  # nothing more to save


def test_an_interpolation_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="interpolation is 'nearest', expected one of patch, bilinear, bicubic"):
        SampleSpecificMask(32, interpolation="nearest")
    with pytest.raises(ValueError, match="interpolation is 'nearest'"):
        pixel_accesses(224, "nearest")


def test_the_keys_of_a_trainer_reach_the_mask():
    keys = {"LAYERS": 6, "PATCH_SIZE": 4, "WIDTH": 2.0, "INTERPOLATION": "bilinear", "MASK_INIT": "ones"}
    module = SampleSpecificMask.from_cfg(CfgNode(keys), 32)
    assert parameters(module.generator) == parameters(MaskGenerator(6, width=2)) and module.generator.patch_size == 4
    assert torch.allclose(module.masks(images(32)), torch.ones(2, 3, 32, 32))
    assert module.up.shape == (32, 8)
    assert SampleSpecificMask.from_cfg(CfgNode({"METHOD": "smm"}), 32).generator.patch_size == 8


@pytest.mark.parametrize("mode, per_pixel", [("patch", 1), ("bilinear", 4), ("bicubic", 16)])
def test_pixel_accesses_are_the_mask_values_that_a_pixel_depends_on(mode, per_pixel):
    size, patch_size = 32, 4
    module = SampleSpecificMask(size, 5, patch_size, interpolation=mode)
    values = torch.zeros(1, 3, size // patch_size, size // patch_size, requires_grad=True)
    module.generator.forward = lambda x: values
    row = size // 2 + 1  # a pixel in the middle, whose neighbours are all inside
    (gradient,) = torch.autograd.grad(module.masks(images(size, batch=1))[0, 0, row, row], values)
    assert (gradient != 0).sum() == per_pixel
    assert pixel_accesses(size, mode) == 3 * size * size * per_pixel
    assert [pixel_accesses(224, each) for each in ("patch", "bilinear", "bicubic")] == [150_528, 602_112, 2_408_448]


@pytest.mark.parametrize("size", [32, 50, 61, 96])
@pytest.mark.parametrize("layers, patch_size, channels", [(5, 8, 3), (6, 16, 3), (5, 8, 1), (5, 1, 3), (6, 32, 1)])
def test_sample_specific_mask_equals_the_slow_version(size, layers, patch_size, channels):
    module = trained(SampleSpecificMask(size, layers, patch_size, channels))
    x = images(size)
    mask = upsample_slowly(module.generator(x), size, patch_size)
    torch.testing.assert_close(module(x), x + mask * module.delta, rtol=1e-6, atol=1e-6)  # product and sum may be rounded at once
    assert torch.equal(module.masks(x), mask.expand(-1, 3, -1, -1))
    assert torch.equal(module.added(x), mask * module.delta)


def test_sample_specific_mask_learns_in_all_its_parts():
    module = trained(SampleSpecificMask(32)).train()
    slow = trained(SampleSpecificMask(32)).train()
    slow.load_state_dict(module.state_dict())
    x, weights = images(32), images(32, seed=5)
    (module(x) * weights).sum().backward()
    ((x + upsample_slowly(slow.generator(x), 32, 8) * slow.delta) * weights).sum().backward()
    for (name, fast), ours in zip(module.named_parameters(), slow.parameters()):
        assert torch.allclose(fast.grad, ours.grad, rtol=1e-4, atol=1e-4), name
    assert module.delta.grad.abs().min() > 0


def test_a_fresh_module_changes_nothing():
    x = images(32)
    for module in (SampleSpecificMask(32), Watermark(32, 4), Watermark(32)):
        assert torch.equal(module(x), x)


@pytest.mark.parametrize("size", [32, 45])
@pytest.mark.parametrize("width", [None, 4])
def test_a_constant_mask_reproduces_any_shared_mask(size, width):
    """F^shr is contained in F^smm: generator constant at 1, the frame in the pattern."""
    shared = trained(Watermark(size, width))
    module = SampleSpecificMask(size, mask_init="ones").eval()
    module.delta.data = shared.mask * shared.delta.data
    x = images(size)
    assert torch.equal(module.masks(x), torch.ones(2, 3, size, size))
    assert torch.equal(module(x), shared(x))


@pytest.mark.parametrize("size", [32, 45])
def test_a_pattern_of_one_reproduces_the_pattern_of_the_mask_alone(size):
    """F^sp is contained in F^smm: delta = 1."""
    alone = SampleSpecificMask(size, pattern=False).eval()
    module = SampleSpecificMask(size).eval()
    module.generator.load_state_dict(alone.generator.state_dict())
    module.delta.data.fill_(1.0)
    x = images(size)
    assert alone.delta is None and "delta" not in alone.state_dict()
    assert torch.equal(module(x), alone(x))
    assert torch.equal(alone(x), x + upsample_slowly(alone.generator(x), size, 8))


@pytest.mark.parametrize("width", [None, 8])
def test_containment_holds_behind_a_real_backbone(width):
    backbone = build_backbone("lite0", verbose=False)
    shared, alone = trained(Watermark(64, width)), SampleSpecificMask(64, pattern=False).eval()
    as_shared, as_alone = SampleSpecificMask(64, mask_init="ones").eval(), SampleSpecificMask(64).eval()
    as_shared.delta.data = shared.mask * shared.delta.data
    as_alone.load_state_dict({**alone.state_dict(), "delta": torch.ones(3, 64, 64)})
    x = images(64)
    assert torch.equal(backbone.logits(as_shared(x)), backbone.logits(shared(x)))
    assert torch.equal(backbone.logits(as_alone(x)), backbone.logits(alone(x)))
    assert not torch.equal(backbone.logits(shared(x)), backbone.logits(x))


def test_ones_start_still_learns_a_sample_specific_mask():
    module = trained(SampleSpecificMask(32, mask_init="ones")).train()
    module(images(32)).square().sum().backward()
    assert module.generator.last.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("size", [32, 45, 224])
@pytest.mark.parametrize("frame", ["narrow", "medium", "full"])
def test_watermark_adds_its_pattern_on_the_frame_only(size, frame):
    width = frame_width(size, frame)
    module, x = trained(Watermark(size, width)), images(size)
    result = module(x)
    for i in range(0, size, 3):
        for j in range(0, size, 3):
            inside = min(i, j, size - 1 - i, size - 1 - j) >= width
            expected = x[:, :, i, j] if inside else x[:, :, i, j] + module.delta[:, i, j]
            assert torch.equal(result[:, :, i, j], expected)
    assert torch.equal(result, x + module.added(x))
    assert "mask" not in module.state_dict()


def test_frame_widths_of_the_paper():
    assert [frame_width(224, frame) for frame in ("narrow", "medium", "full")] == [28, 56, 112]
    assert torch.equal(Watermark(45, frame_width(45, "full")).mask, Watermark(45).mask)
    with pytest.raises(ValueError, match="frame is 'wide'"):
        frame_width(224, "wide")
    with pytest.raises(ValueError, match="width is 0"):
        Watermark(32, 0)


@pytest.mark.parametrize("size, inner", [(32, 8), (32, 9), (45, 20), (45, 44)])
def test_pad_equals_its_definition_on_raw_pixels(size, inner):
    """normalize(pad0(image) + sigmoid(delta) * M) against the module on the normalized image."""
    module = trained(Pad(size, inner, MEAN, STD))
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    small = torch.rand(2, 3, inner, inner, generator=torch.Generator().manual_seed(3))
    start = (size - inner) // 2
    padded = torch.zeros(2, 3, size, size)
    outside = torch.ones(size, size)
    for i in range(inner):
        for j in range(inner):
            padded[:, :, start + i, start + j] = small[:, :, i, j]
            outside[start + i, start + j] = 0
    x = (padded - mean) / std
    expected = (padded + torch.sigmoid(module.delta) * outside - mean) / std
    result = module(x)
    assert torch.allclose(result, expected, atol=1e-6)
    start, stop = centred_box(size, inner)
    assert torch.equal(result[..., start:stop, start:stop], x[..., start:stop, start:stop])
    assert torch.allclose(x + module.added(x), result, atol=1e-6)
    result.sum().backward()
    assert torch.equal(module.delta.grad != 0, outside.bool().expand(3, -1, -1))


def test_pad_refuses_an_image_as_large_as_the_input():
    with pytest.raises(ValueError, match="inner is 32, expected 1 to 31"):
        Pad(32, 32, MEAN, STD)
    with pytest.raises(ValueError, match="std has 1 numbers"):
        Pad(32, 8, MEAN, (0.5,))

"""The f_in that work on pixels from 0 to 1, each against its definition written out."""

import pytest
import torch
from torch.nn import functional as F

from dassl_vr.config import get_cfg_default
from dassl_vr.optim import build_optimizer
from dassl_vr.plugins import load_plugins
from dassl_vr.reprogramming import INPUT_REGISTRY
from dassl_vr.reprogramming.inputs.acavp import AffineColourFrame
from dassl_vr.reprogramming.inputs.autovp import LearnedScale
from dassl_vr.reprogramming.inputs.lorvp import LowRank
from dassl_vr.reprogramming.inputs.pad import Ar, Evp, Pad

load_plugins()
WITHOUT_MASKS, WITHOUT_PATTERN = {"lorvp"}, {"only_mask"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalize(pixels):
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def framed(size, inner, batch=2, seed=0):
    """Pixels from 0 to 1 in a black border."""
    pixels = torch.rand(batch, 3, inner, inner, generator=torch.Generator().manual_seed(seed))
    left = (size - inner) // 2
    return F.pad(pixels, [left, size - inner - left] * 2)


def near(one, other, atol=1e-5):
    torch.testing.assert_close(one, other, atol=atol, rtol=0)


def filled(module, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape, generator=generator)
    return module


def test_ar_is_pad():
    pixels = framed(32, 20)
    ar, pad = filled(Ar(32, 20, MEAN, STD)), filled(Pad(32, 20, MEAN, STD))
    assert torch.equal(ar(normalize(pixels)), pad(normalize(pixels)))
    near(ar(normalize(pixels)), normalize(pixels + torch.sigmoid(ar.delta) * ar.mask))


def test_low_rank_is_a_product_added_to_the_pixels():
    pixels, f_in = framed(16, 16), LowRank(16, MEAN, STD)
    assert torch.equal(f_in(normalize(pixels)), normalize(pixels))  # the left matrix starts as zeros
    filled(f_in)
    product = torch.stack([left @ right for left, right in zip(f_in.left, f_in.right)])
    near(f_in(normalize(pixels)), normalize(pixels + product))
    assert sum(p.numel() for p in f_in.parameters()) == 2 * 3 * 16 * 4


def test_low_rank_of_full_rank_is_any_watermark():
    pattern, f_in = torch.randn(3, 16, 16), LowRank(16, MEAN, STD, rank=16)
    f_in.left.data, f_in.right.data = pattern.clone(), torch.eye(16).expand(3, -1, -1).clone()
    near(f_in.pattern(), pattern / torch.tensor(STD).view(3, 1, 1))


@pytest.mark.parametrize("rank", [0, 17])
def test_impossible_rank(rank):
    with pytest.raises(ValueError, match=f"RANK is {rank}, expected 1 to 16"):
        LowRank(16, MEAN, STD, rank)


def test_evp_takes_the_published_step():
    """Gradient of the noise on the whole image, divided by its length, then masked; the image in the middle stays as it is."""
    size, inner, rate = 16, 10, 70.0
    pixels, weights = framed(size, inner), torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3))
    f_in = Evp(size, inner, MEAN, STD)
    cfg = get_cfg_default().OPTIM
    cfg.NAME, cfg.LR, cfg.MOMENTUM, cfg.WEIGHT_DECAY = "normalized_sgd", rate, 0.0, 0.0
    optimizer = build_optimizer(f_in, cfg)
    noise = torch.zeros(3, size, size)
    for _ in range(3):
        expected = normalize(pixels + noise)
        near(f_in(normalize(pixels)), expected, 2e-3)
        loss = (f_in(normalize(pixels)) * weights).tanh().mean()
        variable = noise.expand(2, -1, -1, -1).clone().requires_grad_()
        (gradient,) = torch.autograd.grad((normalize(pixels + variable) * weights).tanh().mean(), variable)
        gradient = gradient.mean(0)
        noise = noise - rate * f_in.mask * gradient / (gradient.norm() + 1e-10)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    near(f_in.pattern(), noise, 2e-3)


def autovp(scale=1.0, border="sigmoid", size=24, inner=12):
    return LearnedScale(size, inner, MEAN, STD, scale, border)


@pytest.mark.parametrize("border", ["sigmoid", "free"])
def test_autovp_at_scale_1_is_a_border_without_resize(border):
    pixels, f_in = framed(24, 12), filled(autovp(border=border))
    f_in.resize.scale.data.fill_(1.0)
    values = f_in.delta.sigmoid() if border == "sigmoid" else f_in.delta
    mask = torch.ones(24, 24)
    mask[6:18, 6:18] = 0
    assert torch.equal(f_in.mask(), mask)
    near(f_in(normalize(pixels)), normalize(pixels + values * mask))


@pytest.mark.parametrize("scale, side", [(0.5, 6), (1.3, 15), (2.0, 24), (5.0, 24)])
def test_autovp_keeps_the_border_outside_the_resized_image(scale, side):
    f_in = autovp(scale)
    zeros = 1 - f_in.mask()
    start = (24 - side) // 2
    assert zeros.sum() == side**2 and zeros[start : start + side, start : start + side].all()


def test_autovp_doubles_an_image():
    pixels = framed(25, 13)
    doubled = autovp(2.0, "free", 25, 13)(normalize(pixels))
    near(doubled[..., ::2, ::2], normalize(pixels[..., 6:19, 6:19]))


def test_autovp_learns_the_scale_within_its_bounds():
    pixels, f_in = framed(24, 12), autovp()
    f_in(normalize(pixels)).square().mean().backward()
    assert f_in.resize.scale.grad != 0
    f_in.resize.scale.data.fill_(9.0)
    f_in(normalize(pixels))
    assert f_in.resize.scale == 5
    with pytest.raises(ValueError, match=r"SCALE is 6, expected 0\.1 to 5\.0"):
        autovp(6)
    with pytest.raises(ValueError, match="BORDER is 'tanh', expected sigmoid or free"):
        autovp(border="tanh")


def test_acavp_moves_colours_and_frames():
    pixels, f_in = framed(16, 16), AffineColourFrame(16, 3, MEAN, STD)
    near(f_in(normalize(pixels)), normalize(pixels))
    f_in.transform.theta.data = torch.tensor([[-1.0, 0, 0], [0, 1, 0]])  # mirrored
    f_in.transform.colour.data = torch.eye(3)[[1, 2, 0]]
    f_in.transform.shift.data.fill_(0.25)
    f_in.delta.data.fill_(2.0)
    frame = torch.ones(16, 16)
    frame[3:-3, 3:-3] = 0
    near(f_in(normalize(pixels)), normalize(pixels.flip(-1)[:, [1, 2, 0]] + 0.25) + 2 * frame)


@pytest.mark.parametrize("name", INPUT_REGISTRY.registered_names())
def test_what_is_added_is_what_forward_adds(name):
    """To an image in a black border, where there is one."""
    options = get_cfg_default().TRAINER.VR.clone()
    options.update(PIXEL_MEAN=MEAN, PIXEL_STD=STD, PAD_SIDE=20)
    f_in = filled(INPUT_REGISTRY.get(name).from_cfg(options, 32)).eval()
    x = normalize(framed(32, 20))
    copies, several = f_in.copies(x), () if f_in.views == 1 else (f_in.views,)
    assert len(copies) == len(x) * f_in.views
    near(copies + f_in.added(x), f_in(x), 1e-4)
    masks, pattern = f_in.masks(x), f_in.pattern()
    assert (None if masks is None else masks.shape) == (None if name in WITHOUT_MASKS else copies.shape)
    assert (None if pattern is None else pattern.shape) == (None if name in WITHOUT_PATTERN else (*several, *x.shape[1:]))

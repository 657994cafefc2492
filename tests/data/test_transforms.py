import pickle

import numpy as np
import pytest
import torch
import torchvision.transforms as v1
from PIL import Image

from dassl_vr.data import transforms
from dassl_vr.data.augment_rng import SampleKeys, integers, uniform
from dassl_vr.data.pipeline import TRANSFORM_REGISTRY, register_transform
from dassl_vr.data.transforms import build_transform, pad_side, squash_margin
from dassl_vr.utils.errors import ConfigError, DataError

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))


@pytest.fixture
def keys():
    return SampleKeys(5, 2, np.array([3, 0, 11, 4, 8, 9, 1, 2]))


def batch_of(pipeline, picture, keys):
    x = torch.stack([pipeline.per_sample(picture.rotate(30 * n)) for n in range(len(keys.index))])
    return x, pipeline.per_batch(x, keys)


def test_batched_crop_and_flip_equal_one_image_at_a_time(make_cfg, picture, keys):
    cfg = make_cfg("INPUT.TRANSFORMS", ("vr_squash", "vr_crop", "vr_flip", "normalize"), "INPUT.MARGIN", 9)
    pipeline = build_transform(cfg, is_train=True)
    x, result = batch_of(pipeline, picture, keys)
    assert x.dtype == torch.uint8 and x.shape == (8, 3, 41, 41) and pipeline.deterministic
    top, left = integers(keys, "crop top", 10), integers(keys, "crop left", 10)
    mirrored = uniform(keys, "flip") < 0.5
    assert 0 < mirrored.sum() < 8 and len(set(top)) > 1 and len(set(left)) > 1
    for n in range(8):
        image = v1.functional.to_pil_image(x[n]).crop((left[n], top[n], left[n] + 32, top[n] + 32))
        if mirrored[n]:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        torch.testing.assert_close(result[n], v1.functional.normalize(v1.functional.to_tensor(image), MEAN, STD))
        alone = pipeline(picture.rotate(30 * n), SampleKeys(5, 2, keys.index[n : n + 1]))
        assert torch.equal(alone, result[n])


def test_crops_reach_every_place(make_cfg):
    cfg = make_cfg("INPUT.TRANSFORMS", ("vr_squash", "vr_crop"), "INPUT.MARGIN", 2)
    places = torch.arange(34 * 34).reshape(1, 1, 34, 34).expand(200, 1, -1, -1).to(torch.int32)
    _, crop = build_transform(cfg).batch_ops[0]
    corners = crop(places, SampleKeys(0, 0, np.arange(200)))[:, 0, 0, 0]
    assert sorted(set(corners.tolist())) == [0, 1, 2, 34, 35, 36, 68, 69, 70]


@pytest.mark.parametrize("side, margin, small", [(224, 32, 128), (384, 32, 128), (112, 16, 64), (96, 14, 55)])
def test_margin_and_pad_side_scale_below_224(make_cfg, side, margin, small):
    cfg = make_cfg("INPUT.SIZE", (side, side))
    assert squash_margin(cfg) == margin and pad_side(cfg) == small
    assert squash_margin(make_cfg("INPUT.MARGIN", 0)) == 0


def test_squash_ignores_the_aspect_ratio_and_is_what_pil_does(make_cfg, picture):
    cfg = make_cfg("INPUT.TRANSFORMS", ("vr_squash",))
    for is_train in (True, False):  # without vr_crop there is no margin
        expected = v1.functional.to_tensor(picture.resize((32, 32), Image.Resampling.BILINEAR))
        torch.testing.assert_close(build_transform(cfg, is_train)(picture), expected)


@pytest.mark.parametrize("names", [("short_side",), ("short_side", "random_crop")])
@pytest.mark.parametrize("is_train", [True, False])
def test_short_side_keeps_the_aspect_ratio_and_crops_the_centre(make_cfg, picture, names, is_train):
    """(50, 70) -> the short side is 32 + 8 -> 32 x 32 from the centre, or in training from where `random_crop` takes it."""
    cfg = make_cfg("INPUT.TRANSFORMS", names, "INPUT.MARGIN", 8, "INPUT.CROP_PADDING", 0)
    resized = picture.resize((56, 40), Image.Resampling.BILINEAR)
    pipeline = build_transform(cfg, is_train)
    if is_train and "random_crop" in names:
        expected = v1.functional.to_tensor(resized).unfold(1, 32, 1).unfold(2, 32, 1)  # every possible crop
        torch.manual_seed(0)
        for _ in range(3):
            same = (pipeline(picture)[:, None, None] - expected).abs().amax(dim=(0, 3, 4)) < 1e-6
            assert same.sum() == 1
        assert not pipeline.deterministic
    else:
        expected = v1.functional.to_tensor(v1.functional.center_crop(resized, 32))
        torch.testing.assert_close(pipeline(picture), expected)
        assert pipeline.deterministic and pipeline.repeatable


def test_squash_tests_without_margin_and_randomness(make_cfg, picture, keys):
    cfg = make_cfg("INPUT.TRANSFORMS", ("normalize", "vr_flip", "vr_crop", "vr_squash"), "INPUT.MARGIN", 9)
    x, result = batch_of(build_transform(cfg, is_train=False), picture, keys)
    assert x.shape == result.shape == (8, 3, 32, 32)
    torch.testing.assert_close(result[0], v1.functional.normalize(x[0] / 255, MEAN, STD))


@pytest.mark.parametrize("is_train", [True, False])
def test_pad_centres_on_black_pixels(make_cfg, picture, is_train):
    cfg = make_cfg("INPUT.TRANSFORMS", ("vr_pad", "normalize"), "INPUT.SIZE", (33, 40), "DATASET.NATIVE_SIZE", 68)
    pipeline = build_transform(cfg, is_train)
    assert pipeline.deterministic and pipeline.per_sample(picture).shape == (3, 10, 10)
    image = pipeline(picture) * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    assert image.shape == (3, 33, 40)
    inside = torch.zeros(33, 40, dtype=torch.bool)
    inside[11:21, 15:25] = True
    assert image[:, ~inside].abs().max() < 1e-6
    small = v1.functional.to_tensor(picture.resize((10, 10), Image.Resampling.BILINEAR))
    torch.testing.assert_close(image[:, 11:21, 15:25], small)


def test_pad_needs_a_border(make_cfg):
    with pytest.raises(ConfigError, match=r"NATIVE_SIZE gives an image of 224 pixels"):
        build_transform(make_cfg("INPUT.TRANSFORMS", ("vr_pad",), "INPUT.SIZE", (224, 224), "DATASET.NATIVE_SIZE", 224))


def test_the_familys_test_transform(make_cfg, picture):
    cfg = make_cfg("INPUT.TRANSFORMS", ("random_resized_crop", "random_flip", "normalize"), "INPUT.INTERPOLATION", "bicubic")
    pipeline = build_transform(cfg, is_train=False)
    expected = v1.Compose(
        [
            v1.Resize(32, v1.InterpolationMode.BICUBIC),
            v1.CenterCrop(32),
            v1.ToTensor(),
            v1.Normalize(MEAN, STD),
        ]
    )
    assert pipeline.deterministic
    torch.testing.assert_close(pipeline(picture), expected(picture))


@pytest.mark.parametrize("size", [(32, 32), (40, 25)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("sides", [(3, 301), (297, 4), (1, 90), (50, 700)])
def test_thin_images_are_cropped_before_they_are_enlarged(make_cfg, monkeypatch, size, interpolation, sides):
    x = np.linspace(0, 255, sides[0] * sides[1] * 3).reshape(sides[1], sides[0], 3)
    image = Image.fromarray((127.5 + 127.5 * np.sin(x)).astype(np.uint8) // 2 + x.astype(np.uint8) // 2)
    pipeline = build_transform(make_cfg("INPUT.SIZE", size, "INPUT.INTERPOLATION", interpolation), is_train=False)
    slow = pipeline.per_sample(image)
    monkeypatch.setattr(transforms, "LARGE", 0)
    fast = pipeline.per_sample(image)
    assert fast.shape == slow.shape == (3, *size)
    assert (fast.int() - slow.int()).abs().float().mean() < (4 if interpolation == "nearest" else 0.5)


@pytest.mark.parametrize(
    "names, most", [((), 224), (("short_side",), 224), (("short_side", "random_crop"), transforms.LARGE // 256)]
)
def test_very_thin_images_take_little_memory(make_cfg, monkeypatch, names, most):
    made, resize = [], Image.Image.resize

    def noted(image, size, *how, **more):
        made.append(size)
        return resize(image, size, *how, **more)

    monkeypatch.setattr(Image.Image, "resize", noted)
    pipeline = build_transform(make_cfg("INPUT.SIZE", (224, 224), "INPUT.TRANSFORMS", names), is_train="random_crop" in names)
    for sides in ((1, 20_000), (20_000, 1), (3, 80_000)):
        assert pipeline.per_sample(Image.new("RGB", sides, "red"))[0].float().mean() > (0 if "random_crop" in names else 254)
    assert max(map(max, made)) == most


@pytest.mark.parametrize("names", [("vr_pad",), ("random_resized_crop", "vr_pad"), ("short_side", "random_crop", "vr_pad")])
def test_a_border_around_small_images_of_any_make(make_cfg, picture, names):
    settings = ("INPUT.SIZE", (32, 32), "INPUT.PAD_SIDE", 140, "INPUT.MARGIN", 0, "INPUT.CROP_PADDING", 0)
    for is_train in (True, False):
        pipeline = build_transform(make_cfg("INPUT.TRANSFORMS", names, *settings), is_train)
        small, whole = pipeline.per_sample(picture), pipeline(picture)
        assert small.shape == (3, 20, 20) and whole.shape == (3, 32, 32)
        border = torch.ones(32, 32)
        border[6:26, 6:26] = 0
        assert not (whole * border).any()
        if names == ("vr_pad",):
            assert torch.equal(whole[:, 6:26, 6:26], small / 255)
        elif not is_train:  # the middle of the short side
            assert "centre crop" in repr(pipeline) or "short_side" in repr(pipeline)


def test_the_familys_training_order(make_cfg):
    cfg = make_cfg("INPUT.TRANSFORMS", ("gaussian_noise", "normalize", "cutout", "randaugment", "random_flip"))
    names = [name for name, _ in (lambda p: p.image_ops + p.batch_ops)(build_transform(cfg))]
    assert names == ["resize", "random_flip", "randaugment", "cutout", "to float", "normalize", "gaussian_noise"]


@pytest.mark.parametrize("name", TRANSFORM_REGISTRY.registered_names())
def test_every_transform_works_on_one_image_and_in_a_batch(make_cfg, picture, keys, name):
    names = ("vr_squash", name) if name == "vr_crop" else (name,)
    cfg = make_cfg("INPUT.TRANSFORMS", names)
    for is_train in (True, False):
        pipeline = pickle.loads(pickle.dumps(build_transform(cfg, is_train)))  # as workers get it where they are spawned
        assert pipeline(picture).shape == (3, 32, 32)
        _, result = batch_of(pipeline, picture, keys)
        assert result.shape == (8, 3, 32, 32) and result.dtype == torch.float32 and result.isfinite().all()
    assert pipeline.deterministic  # the last one is for testing


@pytest.mark.parametrize("name", ["random_flip", "random_resized_crop", "randaugment2", "colorjitter"])
def test_random_image_transforms_follow_torchs_generator(make_cfg, picture, name):
    pipeline = build_transform(make_cfg("INPUT.TRANSFORMS", (name,)))
    results = []
    for seed in (0, 0, 1, 2, 3, 4, 5):
        torch.manual_seed(seed)
        results.append(pipeline.per_sample(picture))
    assert not pipeline.deterministic
    assert torch.equal(results[0], results[1])
    assert any(not torch.equal(results[0], other) for other in results[2:])


@pytest.mark.parametrize("names", [("random_flip",), ("vr_squash", "vr_flip")])
def test_data_sets_that_may_not_be_mirrored_are_not(make_cfg, picture, keys, names):
    pipeline = build_transform(make_cfg("INPUT.TRANSFORMS", names, "DATASET.FLIP", False))
    still, flipped = (
        pipeline.per_sample(picture),
        pipeline.per_sample(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    )
    assert pipeline.deterministic and not torch.equal(still, flipped)
    result = pipeline.per_batch(still.expand(8, -1, -1, -1), keys)
    assert torch.equal(result, (still / 255).expand(8, -1, -1, -1))


def test_cutout_equals_one_image_at_a_time(make_cfg, keys):
    cfg = make_cfg("INPUT.TRANSFORMS", ("cutout",), "INPUT.CUTOUT_N", 2, "INPUT.CUTOUT_LEN", 10)
    result = build_transform(cfg).per_batch(torch.full((8, 3, 32, 32), 255, dtype=torch.uint8), keys)
    for n in range(8):
        expected = torch.ones(3, 32, 32)
        for hole in range(2):
            y, x = (integers(keys, f"cutout {axis} {hole}", 32)[n] for axis in ("row", "column"))
            expected[:, max(y - 5, 0) : y + 5, max(x - 5, 0) : x + 5] = 0
        assert torch.equal(result[n], expected)


def test_instance_norm(make_cfg, picture, keys):
    _, result = batch_of(build_transform(make_cfg("INPUT.TRANSFORMS", ("instance_norm",))), picture, keys)
    torch.testing.assert_close(result.mean((2, 3)), torch.zeros(8, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std((2, 3)), torch.ones(8, 3), atol=1e-5, rtol=0)


def test_no_transform_leaves_resize_and_normalization(make_cfg, picture):
    cfg = make_cfg("INPUT.TRANSFORMS", ("random_resized_crop",), "INPUT.NO_TRANSFORM", True)
    small = v1.functional.to_tensor(picture.resize((32, 32), Image.Resampling.BILINEAR))
    torch.testing.assert_close(build_transform(cfg)(picture), v1.functional.normalize(small, MEAN, STD))


def test_choices_take_the_place_of_the_config(make_cfg):
    cfg = make_cfg("INPUT.TRANSFORMS", ("vr_squash", "vr_crop"))
    assert "vr_pad" in repr(build_transform(cfg, choices=["vr_pad"]))
    assert cfg.INPUT.TRANSFORMS == ("vr_squash", "vr_crop")


@pytest.mark.parametrize(
    "names, message",
    [
        (("vr_squish",), "unknown transform 'vr_squish'; did you mean 'vr_squash'"),
        (("vr_crop",), "vr_crop needs vr_squash"),
        (("vr_squash", "random_resized_crop"), "vr_squash and random_resized_crop exclude each other"),
        (("vr_pad", "vr_squash"), "vr_squash and vr_pad exclude each other"),
        (("short_side", "vr_squash"), "vr_squash and short_side exclude each other"),
        (("short_side", "random_crop", "random_resized_crop"), "short_side and random_crop and random_resized_crop exclude"),
    ],
)
def test_impossible_choices(make_cfg, names, message):
    with pytest.raises(ConfigError, match=message):
        build_transform(make_cfg("INPUT.TRANSFORMS", names))


def test_size_must_be_resolved(make_cfg):
    with pytest.raises(ConfigError, match=r"INPUT\.SIZE is \(0, 0\)"):
        build_transform(make_cfg("INPUT.SIZE", (0, 0)))


def test_random_crop_of_a_small_image_is_one_line(make_cfg):
    pipeline = build_transform(make_cfg("INPUT.TRANSFORMS", ("random_crop",), "INPUT.SIZE", (64, 64)))
    with pytest.raises(DataError, match="random_crop") as caught:
        pipeline(Image.new("RGB", (20, 20)))
    assert "\n" not in str(caught.value)


def test_a_plug_in_may_add_a_transform(make_cfg, picture):
    @register_transform("upside_down", stage="image", random=False)
    def _build(cfg, is_train):
        return lambda img: img.transpose(Image.Transpose.FLIP_TOP_BOTTOM)

    try:
        plain = build_transform(make_cfg("INPUT.TRANSFORMS", ("vr_squash",)))(picture)
        turned = build_transform(make_cfg("INPUT.TRANSFORMS", ("vr_squash", "upside_down")))(picture)
    finally:
        TRANSFORM_REGISTRY.remove("upside_down")
    assert torch.equal(turned, plain.flip(-2))


@pytest.mark.parametrize(("kernel", "fits"), [(63, True), (65, False)])
def test_a_blur_wider_than_the_image_is_refused(make_cfg, kernel, fits):
    cfg = make_cfg("INPUT.SIZE", (32, 32), "INPUT.TRANSFORMS", ("gaussian_blur",), "INPUT.GB_K", kernel, "INPUT.GB_P", 1.0)
    if fits:
        assert build_transform(cfg)(Image.new("RGB", (32, 32))).shape == (3, 32, 32)
    else:
        with pytest.raises(ConfigError, match="at most 63"):
            build_transform(cfg)

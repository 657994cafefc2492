"""Image transforms by name: the Dassl family's, and those of visual reprogramming; `build_transform` puts them together."""

import functools
import math
from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.functional import pil_modes_mapping
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F
from yacs.config import CfgNode

from ..utils.errors import ConfigError, DataError
from ..utils.registry import unknown_name_message
from .augment_rng import generators, integers, uniform
from .pipeline import IMAGE, PIXELS, RESIZE, STAGES, TRANSFORM_REGISTRY, VALUES, Pipeline, register_transform

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}

LARGE = 1 << 24  # pixels of a resized image, most of which a centre crop would throw away


# ------------------------------------------------------------------------------------------------------- geometry
def squash_margin(cfg: CfgNode) -> int:
    """By how many pixels `vr_squash` makes training images larger than INPUT.SIZE."""
    if cfg.INPUT.MARGIN >= 0:
        return cfg.INPUT.MARGIN
    return _scaled(32, cfg)


def pad_side(cfg: CfgNode) -> int:
    """Side of the small image that `vr_pad` centres: INPUT.PAD_SIDE, or DATASET.NATIVE_SIZE where that is 0, scaled with SIZE / 224
    below 224."""
    key = "INPUT.PAD_SIDE" if cfg.INPUT.PAD_SIDE else "DATASET.NATIVE_SIZE"
    side = max(_scaled(cfg.INPUT.PAD_SIDE or cfg.DATASET.NATIVE_SIZE, cfg), 1)
    if side >= min(cfg.INPUT.SIZE):
        raise ConfigError(
            f"vr_pad: {key} gives an image of {side} pixels, which leaves no border in INPUT.SIZE {tuple(cfg.INPUT.SIZE)}; lower it"
        )
    return side


def _scaled(pixels, cfg):
    return math.floor(pixels * min(*cfg.INPUT.SIZE, 224) / 224 + 0.5)


def _resize(cfg, size):
    return v2.Resize(list(size), interpolation=INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION], antialias=True)


class ResizeShortSide(v2.Resize):
    """Resize the short side to `side` pixels.

    Of an image so thin that the whole would have more than `LARGE` pixels, only the middle is made, to `crop` (height, width) at
    most: up to rounding what a centre crop of that size leaves of the whole.
    """

    def __init__(self, side, crop, interpolation):
        super().__init__([side], interpolation=interpolation, antialias=True)
        self.crop = tuple(crop)

    def forward(self, img: Image.Image) -> Image.Image:
        sides = [self.size[0] * side // min(img.size) for side in img.size]  # (width, height), as all below
        if math.prod(sides) <= LARGE:
            return super().forward(img)
        kept, low, high = [], [], []
        for whole, side, crop in zip(img.size, sides, reversed(self.crop), strict=True):
            kept.append(min(side, crop))
            start = round((side - kept[-1]) / 2)
            low.append(start * whole / side)
            high.append((start + kept[-1]) * whole / side)
        return img.resize(kept, pil_modes_mapping[self.interpolation], (*low, *high))


def _resize_short_side(cfg, side, crop):
    return ResizeShortSide(side, crop, INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION])


# ------------------------------------------------------------------------------------------ visual reprogramming
@register_transform("vr_squash", RESIZE, random=False)
def _vr_squash(cfg, is_train):
    """Resize without regard to the aspect ratio: to SIZE + margin where `vr_crop` follows in training, else to SIZE."""
    margin = squash_margin(cfg) if is_train and "vr_crop" in cfg.INPUT.TRANSFORMS else 0
    return _resize(cfg, [side + margin for side in cfg.INPUT.SIZE])


@register_transform("short_side", RESIZE, random=False)
def _short_side(cfg, is_train):
    """Resize the short side to SIZE + INPUT.MARGIN, keeping the aspect ratio, then crop SIZE: where `random_crop` or
    `random_resized_crop` follows in training from a place of its choice, else from the centre."""
    side = max(cfg.INPUT.SIZE) + squash_margin(cfg)
    if is_train and {"random_crop", "random_resized_crop"} & {*cfg.INPUT.TRANSFORMS}:
        return _resize_short_side(cfg, side, [max(LARGE // side, side)] * 2)
    return v2.Compose([_resize_short_side(cfg, side, cfg.INPUT.SIZE), v2.CenterCrop(list(cfg.INPUT.SIZE))])


@register_transform("vr_pad", RESIZE, random=False)
def _vr_pad(cfg, is_train):
    """A small square, of side `pad_side`, for a border around it: `build_transform` lets all other transforms work at that side.
    Where none of them makes it, the image is resized without regard to its aspect ratio. The border, zeros, follows in the batch
    (`_centre`), so only the small image is kept."""
    return None if _OF_SMALL_SIDE & {*cfg.INPUT.TRANSFORMS} else _resize(cfg, cfg.INPUT.SIZE)


def _centre(x, keys, size):
    height, width = size
    top, left = (height - x.shape[-2]) // 2, (width - x.shape[-1]) // 2
    return F.pad(x, [left, top, width - x.shape[-1] - left, height - x.shape[-2] - top])


@register_transform("vr_crop", PIXELS)
def _vr_crop(cfg, is_train):
    """A crop of SIZE from a place of its own for each sample."""
    return functools.partial(_crop, size=tuple(cfg.INPUT.SIZE)) if is_train else None


def _crop(x, keys, size):
    # x: (B, C, H + margin, W + margin) -> (B, C, H, W)
    height, width = size
    top = integers(keys, "crop top", x.shape[-2] - height + 1)
    left = integers(keys, "crop left", x.shape[-1] - width + 1)
    if x.device.type == "cpu":  # copying row by row is six times as fast as indexing
        cropped = x.new_empty((*x.shape[:2], height, width))
        for picture, target, y, x0 in zip(x, cropped, top.tolist(), left.tolist(), strict=True):
            target.copy_(picture[:, y : y + height, x0 : x0 + width])
        return cropped
    # a view with every possible crop, of which one per sample is copied
    crops = x.unfold(2, height, 1).unfold(3, width, 1)
    place = (torch.from_numpy(numbers).to(x.device, non_blocking=True) for numbers in (np.arange(len(x)), top, left))
    sample, top, left = place
    return crops[sample, :, top, left]


@register_transform("vr_flip", PIXELS)
def _vr_flip(cfg, is_train):
    """Mirror every other image, if the data set may be mirrored (DATASET.FLIP)."""
    return _flip if is_train and cfg.DATASET.FLIP else None


def _flip(x, keys):
    mirrored = uniform(keys, "flip") < 0.5
    if x.device.type == "cpu":
        flipped = x.clone()
        pixels = flipped.numpy()  # numpy walks backwards through memory, torch would index each pixel
        for number in mirrored.nonzero()[0]:
            pixels[number] = pixels[number, ..., ::-1].copy()
        return flipped
    mirrored = torch.from_numpy(mirrored).to(x.device, non_blocking=True)
    return torch.where(mirrored[:, None, None, None], x.flip(-1), x)


# ---------------------------------------------------------------------------------------------------- the family's
def _in_training(build):
    """The family applies its augmentations in training only."""
    return lambda cfg, is_train: build(cfg) if is_train else None


class RandomTranslation(torch.nn.Module):
    """With probability p, enlarge by an eighth and crop at random; else only resize to `size`."""

    def __init__(self, size, p=0.5):
        super().__init__()
        larger = [round(side * 1.125) for side in size]
        self.translate = v2.RandomApply([v2.Resize(larger, antialias=True), v2.RandomCrop(list(size))], p=p)
        self.resize = v2.Resize(list(size), antialias=True)

    def forward(self, img: Image.Image) -> Image.Image:
        return self.resize(self.translate(img))  # the second resize leaves a cropped image as it is


class PaddedRandomCrop(v2.RandomCrop):
    """`RandomCrop` whose error for a small image is one line for the user."""

    def forward(self, *inputs: Image.Image) -> Image.Image:
        try:
            return super().forward(*inputs)
        except ValueError as error:
            raise DataError(f"random_crop: {error}; use random_resized_crop, or raise INPUT.CROP_PADDING") from error


class RandomMagnitudeAugment(torch.nn.Module):
    """`n` of RandAugment's operations, each at a random magnitude and left out with probability 1 - p."""

    def __init__(self, n, p=1.0):
        super().__init__()
        self.n, self.p = n, p
        self.operations = [v2.RandAugment(num_ops=1, magnitude=magnitude) for magnitude in range(31)]

    def forward(self, img: Image.Image) -> Image.Image:
        for _ in range(self.n):
            if torch.rand(()) < self.p:
                img = self.operations[int(torch.randint(31, ()))](img)
        return img


def _gaussian_blur(cfg):
    if min(cfg.INPUT.SIZE) <= cfg.INPUT.GB_K // 2:  # the border is mirrored
        raise ConfigError(
            f"gaussian_blur: INPUT.GB_K is {cfg.INPUT.GB_K}, too much for INPUT.SIZE {tuple(cfg.INPUT.SIZE)}; it must be at most"
            f" {2 * min(cfg.INPUT.SIZE) - 1}"
        )
    return v2.GaussianBlur(cfg.INPUT.GB_K)


_FAMILY_IMAGE_TRANSFORMS = {
    "random_translation": lambda cfg: RandomTranslation(cfg.INPUT.SIZE),
    "random_crop": lambda cfg: PaddedRandomCrop(list(cfg.INPUT.SIZE), padding=cfg.INPUT.CROP_PADDING),
    "random_resized_crop": lambda cfg: v2.RandomResizedCrop(
        list(cfg.INPUT.SIZE),
        scale=tuple(cfg.INPUT.RRCROP_SCALE),
        interpolation=INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION],
        antialias=True,
    ),
    "random_flip": lambda cfg: v2.RandomHorizontalFlip() if cfg.DATASET.FLIP else None,
    "imagenet_policy": lambda cfg: v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET),
    "cifar10_policy": lambda cfg: v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
    "svhn_policy": lambda cfg: v2.AutoAugment(v2.AutoAugmentPolicy.SVHN),
    "trivialaugment": lambda cfg: v2.TrivialAugmentWide(),
    "randaugment": lambda cfg: v2.RandAugment(cfg.INPUT.RANDAUGMENT_N, cfg.INPUT.RANDAUGMENT_M),
    "randaugment_fixmatch": lambda cfg: RandomMagnitudeAugment(cfg.INPUT.RANDAUGMENT_N),
    "randaugment2": lambda cfg: RandomMagnitudeAugment(cfg.INPUT.RANDAUGMENT_N, p=0.6),
    "colorjitter": lambda cfg: v2.ColorJitter(
        cfg.INPUT.COLORJITTER_B, cfg.INPUT.COLORJITTER_C, cfg.INPUT.COLORJITTER_S, cfg.INPUT.COLORJITTER_H
    ),
    "randomgrayscale": lambda cfg: v2.RandomGrayscale(p=cfg.INPUT.RGS_P),
    "gaussian_blur": lambda cfg: v2.RandomApply([_gaussian_blur(cfg)], p=cfg.INPUT.GB_P),
    # What testing does anyway, and all that it does
    "center_crop": lambda cfg: None,
}
for _name, _build in _FAMILY_IMAGE_TRANSFORMS.items():
    register_transform(_name, IMAGE)(_in_training(_build))


@register_transform("cutout", PIXELS)
def _cutout(cfg, is_train):
    """Black squares, cut off where they reach over the edge."""
    if not is_train:
        return None
    return functools.partial(_cut_out, holes=cfg.INPUT.CUTOUT_N, length=cfg.INPUT.CUTOUT_LEN)


def _cut_out(x, keys, holes, length):
    height, width = x.shape[-2:]
    half = length // 2
    keep = np.ones((len(x), 1, height, width), dtype=bool)
    for hole in range(holes):
        # (B, H) and (B, W): which rows and columns the hole of each image covers
        rows = np.arange(height) - integers(keys, f"cutout row {hole}", height)[:, None]
        columns = np.arange(width) - integers(keys, f"cutout column {hole}", width)[:, None]
        rows, columns = (rows >= -half) & (rows < half), (columns >= -half) & (columns < half)
        keep[:, 0] &= ~(rows[:, :, None] & columns[:, None, :])
    return x * torch.from_numpy(keep).to(x.device, non_blocking=True)


@register_transform("normalize", VALUES, random=False)
def _normalize(cfg, is_train):
    return functools.partial(_shift_and_scale, mean=list(cfg.INPUT.PIXEL_MEAN), std=list(cfg.INPUT.PIXEL_STD))


def _shift_and_scale(x, keys, mean, std):
    return F.normalize(x, mean, std, inplace=True)  # `_to_float` has made the batch our own


@register_transform("gaussian_noise", VALUES)
def _gaussian_noise(cfg, is_train):
    """Noise on every other image; drawn on the CPU, so that all devices see the same."""
    return functools.partial(_add_noise, mean=cfg.INPUT.GN_MEAN, std=cfg.INPUT.GN_STD) if is_train else None


def _add_noise(x, keys, mean, std):
    noisy = uniform(keys, "noise or not") < 0.5
    noise = torch.zeros(x.shape)
    for picture, chosen, generator in zip(noise, noisy, generators(keys, "noise"), strict=True):
        if chosen:
            picture.normal_(mean, std, generator=generator)
    return x + noise.to(x.device)


@register_transform("instance_norm", VALUES, random=False)
def _instance_norm(cfg, is_train):
    """Each channel of each image to mean 0 and standard deviation 1."""
    return _standardize


def _standardize(x, keys):
    std, mean = torch.std_mean(x, dim=(-2, -1), keepdim=True)
    return (x - mean) / (std + 1e-8)


def _to_float(x, keys):
    """(B, C, H, W) uint8 -> float32 from 0 to 1."""
    return x.to(torch.float32).div_(255)


# ----------------------------------------------------------------------------------------------------- assembling
# Transforms that may make the small image of `vr_pad`
_OF_SMALL_SIDE = {"short_side", "random_crop", "random_resized_crop"}
# Each of these fixes the size of the image, so at most one makes sense where one of ours, which come first, is among them.
_SIZING = ("vr_squash", "vr_pad", "short_side", "random_translation", "random_crop", "random_resized_crop")


def build_transform(cfg: CfgNode, is_train: bool = True, choices: Iterable[str] | None = None) -> Pipeline:
    """The pipeline for training or testing that INPUT.TRANSFORMS describes.

    Testing resizes the short side to SIZE and crops the centre, unless `vr_squash`, `vr_pad` or `short_side` is chosen; of
    the rest only `normalize` and `instance_norm` act there. INPUT.NO_TRANSFORM leaves a resize to SIZE and the normalization.

    Args:
        cfg: with INPUT.SIZE, PIXEL_MEAN and PIXEL_STD resolved.
        choices: names in place of INPUT.TRANSFORMS.

    Raises:
        ConfigError: an unknown name, or names that exclude each other.
    """
    if min(cfg.INPUT.SIZE) <= 0:
        raise ConfigError(f"INPUT.SIZE is {tuple(cfg.INPUT.SIZE)}; give height and width in pixels, such as (224, 224)")
    if cfg.INPUT.NO_TRANSFORM:
        return plain_pipeline(cfg)
    chosen = _check_names(cfg.INPUT.TRANSFORMS if choices is None else choices)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.TRANSFORMS = tuple(sorted(chosen))  # as registered, for the builders that look at their company
    canvas = tuple(cfg.INPUT.SIZE)
    if "vr_pad" in chosen:
        cfg.INPUT.SIZE = (pad_side(cfg),) * 2
    ops = {stage: [] for stage in STAGES}
    random_images = random_batches = False
    for name in TRANSFORM_REGISTRY.registered_names():
        if name not in chosen:
            continue
        transform = TRANSFORM_REGISTRY.get(name)
        op = transform.build(cfg, is_train)
        if op is not None:
            ops[transform.stage].append((name, op))
            random_images |= transform.random and transform.stage in (RESIZE, IMAGE)
            random_batches |= transform.random and transform.stage in (PIXELS, VALUES)
    if not ops[RESIZE]:
        ops[RESIZE] = _default_resize(cfg, is_train, chosen)
    if "vr_pad" in chosen:
        ops[PIXELS].append(("centre on zeros", functools.partial(_centre, size=canvas)))
    return Pipeline(
        [*ops[RESIZE], *ops[IMAGE]],
        [*ops[PIXELS], ("to float", _to_float), *ops[VALUES]],
        deterministic=not random_images,
        repeatable=not (random_images or random_batches),
    )


def plain_pipeline(cfg: CfgNode, normalize: bool = True) -> Pipeline:
    """Resize to SIZE, to float, and normalize if asked to."""
    values = [("normalize", _normalize(cfg, False))] if normalize else []
    return Pipeline(
        [("resize", _resize(cfg, cfg.INPUT.SIZE))], [("to float", _to_float), *values], deterministic=True, repeatable=True
    )


def _check_names(names):
    problems = [
        unknown_name_message("transform", name, TRANSFORM_REGISTRY.registered_names())
        for name in names
        if name not in TRANSFORM_REGISTRY
    ]
    if problems:
        raise ConfigError("INPUT.TRANSFORMS: " + "; ".join(problems))
    chosen = {TRANSFORM_REGISTRY.canonical_name(name) for name in names}
    sizing = [name for name in _SIZING if name in chosen]
    if "vr_pad" in chosen and _OF_SMALL_SIDE & {*sizing}:
        sizing.remove("vr_pad")
    cropped = (["short_side", "random_crop"], ["short_side", "random_resized_crop"])
    if len(sizing) > 1 and sizing[0] in _SIZING[:3] and sizing not in cropped:
        raise ConfigError(f"INPUT.TRANSFORMS: {' and '.join(sizing)} exclude each other; keep one")
    if "vr_crop" in chosen and "vr_squash" not in chosen:
        raise ConfigError("INPUT.TRANSFORMS: vr_crop needs vr_squash, which makes images larger than INPUT.SIZE; add it")
    return chosen


def _default_resize(cfg, is_train, chosen):
    if not is_train:
        return [
            ("resize short side", _resize_short_side(cfg, max(cfg.INPUT.SIZE), cfg.INPUT.SIZE)),
            ("centre crop", v2.CenterCrop(list(cfg.INPUT.SIZE))),
        ]
    if chosen & {"random_crop", "random_resized_crop"}:
        return []
    return [("resize", _resize(cfg, cfg.INPUT.SIZE))]

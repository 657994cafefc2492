"""What files of weights may look like: which are taken, as what, and which are refused with what words."""

import shlex
import subprocess
import sys
import warnings

import pytest
import torch
from safetensors.torch import save_file

from dassl_vr.backbones import build_backbone
from dassl_vr.utils.errors import UserError, WeightsError

NAME = "test_resnet"  # of timm


@pytest.fixture(scope="module")
def states():
    """Two state dicts of the model."""
    found = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_backbone(NAME, pretrained=False, fold=False, channels_last=False, verbose=False).model
            found.append(model.state_dict())
    return found


def load(path, content=None, entry="", verbose=False, name=NAME):
    """The state dict of a backbone with the weights of a file."""
    if content is not None:
        torch.save(content, path)
    return build_backbone(name, weights=path, weights_entry=entry, fold=False, verbose=verbose).model.state_dict()


def same(one, other):
    return all(torch.equal(one[name], tensor) for name, tensor in other.items())


def behind(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def middle(state):
    return {name.replace("layer1.", "layer1._orig_mod."): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "content",
    [
        lambda s: behind("_orig_mod.", s),
        lambda s: behind("_orig_mod.module.", s),
        lambda s: behind("module._orig_mod.", s),
        lambda s: middle(s),
        lambda s: behind("module.base_encoder.", s),
        lambda s: behind("base_encoder.", s) | {"queue": torch.zeros(3), "momentum.bias": torch.zeros(2)},
        lambda s: behind("model.net.", s),
        lambda s: {"state_dict": behind("model.", s), "hyper_parameters": {"lr": 1.0}, "epoch": 3},
        lambda s: {"state_dict": behind("net.", s) | {"loss.weight": torch.zeros(5)}},
        lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(2)}}}},
        lambda s: {"checkpoint": {"model": s}, "args": {"lr": 1}},
        lambda s: {"student": behind("backbone.", s)},
        lambda s: {"n_averaged": torch.tensor(3), **behind("module.", s)},
        lambda s: {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in s.items()},
    ],
)
def test_names_that_wrappers_and_trainers_write(tmp_path, states, content):
    assert same(load(tmp_path / "w.pth", content(states[0])), states[0])


def test_what_does_not_fit_is_named_with_its_prefix(tmp_path, states):
    content = behind("module.base_encoder.", states[0])
    content.pop("module.base_encoder.fc.weight")
    content["queue"] = torch.zeros(3)
    with pytest.raises(WeightsError, match=r"names behind 'module\.base_encoder\.'.*tensor 'fc\.weight' is missing"):
        load(tmp_path / "w.pth", content | {"other": torch.zeros(1)})


@pytest.mark.parametrize(
    "content, entry, note",
    [
        (lambda a, b: {"state_dict": a, "state_dict_ema": b, "epoch": 3}, "state_dict_ema", "entry 'state_dict'"),
        (lambda a, b: {"model_ema": behind("module.", b), "model": a}, "model_ema", "entry 'model'"),
        (lambda a, b: {"ema": {"module": b}, "net": a, "optimizer": {"state": {}}}, "ema.module", "entry 'net'"),
        (lambda a, b: {"teacher": b, "student": a}, "teacher", None),
        (lambda a, b: behind("student.", a) | behind("teacher.", b), "teacher", None),
        (lambda a, b: {"state_dict": behind("model.", a) | behind("ema.model.", b)}, "ema.model", None),
    ],
)
def test_one_of_several_models_is_taken_with_a_word(tmp_path, states, content, entry, note, capsys):
    path, content = tmp_path / "w.pth", content(*states)
    assert same(load(path, content, entry, verbose=True), states[1])
    assert "WEIGHTS_ENTRY" not in capsys.readouterr().out
    if note:
        assert same(load(path, verbose=True), states[0])
        out = capsys.readouterr().out
        assert note in out and f"holds {entry}, which MODEL.BACKBONE.WEIGHTS_ENTRY" in out
        with pytest.raises(WeightsError, match=rf"no entry 'teacher'.*it has .*{entry}"):
            load(path, entry="teacher")
    else:
        with pytest.raises(WeightsError, match=rf"several models; choose with MODEL.BACKBONE.WEIGHTS_ENTRY one of .*{entry}"):
            load(path)


def test_a_file_of_one_model_needs_no_entry(tmp_path, states):
    assert same(load(tmp_path / "w.pth", states[0], entry="state_dict_ema"), states[0])


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: t * float("nan"), "has values.*NaN"),
        (lambda t: torch.where(t == t.max(), float("inf"), t), "has values.*infinite"),
        (lambda t: t.double() * 1e300, "has values.*too large"),
        (lambda t: t.half() * float("nan"), "has values.*NaN"),
        (lambda t: (10 * t).int(), "is int32, expected float32"),
        (lambda t: t > 0, "is bool, expected float32"),
        (lambda t: t + 1j, "has complex numbers"),
        (lambda t: t.to("meta"), "has no values"),
        (lambda t: t.to_sparse(), "is sparse"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "is quantized"),
    ],
)
def test_tensors_without_plain_finite_numbers_are_refused_by_name(tmp_path, states, change, words):
    name = next(iter(states[0]))
    with pytest.raises(WeightsError, match=f"w.pth.*'{name}' {words}") as error:
        torch.save({**states[0], name: change(states[0][name])}, tmp_path / "w.pth")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # which would be further lines
            load(tmp_path / "w.pth")
    assert "\n" not in str(error.value)


def test_values_are_looked_at_in_every_library(tmp_path):
    for name, key in (
        ("resnet18", "fc.bias"),
        ("tiny_vit", "head.bias"),
        ("tiny_clip", "visual.proj"),
        ("lite0", "classifier.bias"),
    ):
        state = build_backbone(name, pretrained=False, fold=False, verbose=False).model.state_dict()
        with pytest.raises(WeightsError, match=f"is damaged: tensor '{key}'"):
            load(tmp_path / "w.pth", {**state, key: state[key] * float("nan")}, name=name)
    with pytest.raises(WeightsError, match="negative variances"):
        state = build_backbone("resnet18", pretrained=False, fold=False, verbose=False).model.state_dict()
        load(tmp_path / "w.pth", {**state, "bn1.running_var": -state["bn1.running_var"]}, name="resnet18")


@pytest.mark.parametrize(
    "content",
    [
        {1: torch.zeros(1)},
        {"state_dict": 5},
        {"state_dict": {}},
        {"state_dict": {"a": "text"}},
        {"a": {"b": {"c": {"d": {}}}}},
        3,
        "w",
    ],
)
def test_files_without_tensors_by_name(tmp_path, content):
    with pytest.raises(WeightsError, match="holds no state_dict"):
        load(tmp_path / "w.pth", content)


@pytest.mark.parametrize("path", ["~nobody-of-that-name/w.pth", "w\0.pth", "x" * 300, "."])
def test_paths_of_no_file(path):
    with pytest.raises(UserError, match="there is no file|no home directory"):
        load(path)


def test_an_entry_without_a_file_is_refused():
    with pytest.raises(UserError, match="WEIGHTS_ENTRY is model, without"):
        build_backbone(NAME, pretrained=False, weights_entry="model", verbose=False)


def test_the_remedy_for_a_torchscript_file_works(tmp_path, states):
    model = build_backbone(NAME, pretrained=False, fold=False, verbose=False).model
    path = tmp_path / "a 'quoted' name.pt"
    with torch.no_grad():
        torch.jit.trace(model.eval(), torch.zeros(1, 3, 64, 64)).save(path)
    with pytest.raises(WeightsError, match="TorchScript") as error:
        load(path)
    command = shlex.split(str(error.value).split("`")[1])
    assert command[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True)
    assert same(load(tmp_path / "a 'quoted' name_weights.pth"), model.state_dict())


def test_safetensors_have_prefixes_too(tmp_path, states):
    save_file(behind("model.", states[0]) | {"decoder.bias": torch.zeros(2)}, tmp_path / "w.safetensors")
    assert same(load(tmp_path / "w.safetensors"), states[0])

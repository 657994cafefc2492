"""Bundles: what is in them, and what is refused."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dassl_vr import load_prompted
from dassl_vr.backbones import build_backbone
from dassl_vr.cli.predict import main as predict
from dassl_vr.deploy import description
from dassl_vr.deploy.bundle import write_bundle
from dassl_vr.utils.errors import ConfigError


@pytest.fixture
def bundle(smm_bundle, tmp_path):
    """A copy to damage."""
    return shutil.copytree(smm_bundle, tmp_path / "bundle")


def rewrite(bundle, change):
    """Change the description and seal it again, as somebody would who means to."""
    path = bundle / "config.json"
    content = json.loads(path.read_text())
    change(content)
    content.pop("sha256")
    content["sha256"] = description._seal(content)
    path.write_text(json.dumps(content))


def error_of(bundle, capsys, *more):
    """The line with which predict.py refuses a bundle."""
    code = predict([str(bundle), str(bundle / "no image"), *more])
    printed = capsys.readouterr()
    assert code == 2 and not printed.out
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    return printed.err


def test_content(smm_bundle, trained):
    assert sorted(path.name for path in smm_bundle.iterdir()) == ["config.json", "prompt.safetensors"]
    content = json.loads((smm_bundle / "config.json").read_text())
    results = json.loads((trained("SMM") / "results.json").read_text())
    assert content["results"]["accuracy"] == results["accuracy"] and content["classnames"] == [str(n) for n in range(10)]
    assert content["label_mapping"].keys() == set(content["classnames"])
    assert content["preprocessing"]["pixels"]["shape"] == ["N", 3, 64, 64]
    assert str(trained("SMM")) not in (smm_bundle / "config.json").read_text(), "no paths of the machine that trained"
    assert load_prompted(smm_bundle).details.results["split_sha256"] == results["split_sha256"]


def test_loading_leaves_all_random_generators_alone_on_a_machine_of_many_gpus(smm_bundle, monkeypatch, recwarn):
    touched = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name in ("get_rng_state", "set_rng_state", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, lambda *args, name=name: touched.append(name))
    before = torch.get_rng_state()
    load_prompted(smm_bundle, device="cpu")
    assert torch.equal(torch.get_rng_state(), before) and not touched
    assert not [str(warning.message) for warning in recwarn if "devices" in str(warning.message)]


@pytest.mark.parametrize("name", ["prompt.safetensors", "config.json"])
def test_any_changed_byte(bundle, name, capsys):
    file = bundle / name
    good = file.read_bytes()
    letters = [place for place, byte in enumerate(good) if name != "config.json" or chr(byte).isalnum()]
    for place in letters[:: len(letters) // 12]:
        file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        error_of(bundle, capsys)
    file.write_bytes(good)
    load_prompted(bundle)


def test_a_pickle_instead_of_tensors(bundle, capsys):
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("it was unpickled",)

    file = bundle / "prompt.safetensors"
    file.write_bytes(pickle.dumps(Bomb()))
    assert "was changed" in error_of(bundle, capsys)
    rewrite(bundle, lambda content: content["files"].update({file.name: description.sha256_of_file(file)}))
    assert "not a file of tensors" in error_of(bundle, capsys)


def test_another_backbone(bundle, capsys):
    rewrite(bundle, lambda content: content["config"]["MODEL"]["BACKBONE"].update(NAME="lite0"))
    assert "SHA-256" in error_of(bundle, capsys)


def test_other_weights_of_the_backbone_and_the_right_ones(bundle, tmp_path, capsys):
    with torch.random.fork_rng(devices=[]):
        other = build_backbone("tiny_vit", pretrained=False, verbose=False).model.state_dict()
    right = build_backbone("tiny_vit", verbose=False).model.state_dict()
    for name, state in (("other", other), ("right", right)):
        torch.save(state, tmp_path / f"{name}.pth")
    assert "SHA-256" in error_of(bundle, capsys, "--weights", str(tmp_path / "other.pth"))
    load_prompted(bundle, weights=tmp_path / "right.pth")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["classnames"].pop(), "9 class names for 10 classes"),
        (lambda content: content["classnames"].__setitem__(3, ""), "class 3 has no name"),
        (lambda content: (content["classnames"].pop(), content.update(num_classes=9)), "does not fit"),
        (lambda content: content.pop("classnames"), "'classnames' is missing"),
        (lambda content: content.update(version=99), "newer"),
        (lambda content: content["config"]["TRAINER"].update(NAME="VR"), "trained parts"),
        (lambda content: content["config"]["TRAINER"]["SMM"].update(SECRET=1), "SECRET"),
        (lambda content: content["files"].update({"../stolen": "0" * 64}), "no such file"),
        (lambda content: content["files"].update({"..": "0" * 64}), "no such file"),
        (lambda content: content["files"].update({"a": "0"}), "'files.a' is '0'; expected 64 digits"),
        (lambda content: content.update(files={}), "was changed since"),
        (lambda content: content.update(files=[]), "'files' is a list"),
        (lambda content: content.update(version="1"), "'version' is '1'"),
        (lambda content: content.update(version=True), "'version' is True"),
        (lambda content: content.update(format=["bundle"]), "'format' is a list"),
        (lambda content: content.update(trainer=5), "'trainer' is 5"),
        (lambda content: content.update(num_classes="10"), "'num_classes' is '10'"),
        (lambda content: content["classnames"].__setitem__(3, 3), "'classnames[3]' is 3"),
        (lambda content: content["classnames"].__setitem__(3, "\ud800"), "'classnames[3]' is '\\ud800'; expected a text"),
        (lambda content: content["backbone"].pop("weights_sha256"), "'backbone.weights_sha256' is missing"),
        (lambda content: content["backbone"].update(weights_sha256=None), "'backbone.weights_sha256' is None"),
        (lambda content: content["backbone"].update(weights_sha256=5), "'backbone.weights_sha256' is 5"),
        (lambda content: content["backbone"].update(weights_sha256="A" * 64), "expected 64 digits"),
        (lambda content: content.update(backbone="tiny_vit"), "'backbone' is 'tiny_vit'"),
        (lambda content: content["config"]["INPUT"].update(SIZE=[64, 128]), "'preprocessing.size' says [64, 64]"),
        (lambda content: content["config"]["INPUT"].update(SIZE=[16_000_000] * 2), "INPUT.SIZE is (16000000, 16000000)"),
        (lambda content: content["config"]["INPUT"].update(PIXEL_MEAN=[0.0] * 3), "'preprocessing.mean' says"),
        (lambda content: content["preprocessing"]["pixels"].update(shape=["N", 3, 32, 32]), "'preprocessing.pixels.shape' says"),
        (lambda content: content["preprocessing"]["pixels"].update(shape=5), "'preprocessing.pixels.shape' is 5"),
        (lambda content: content["preprocessing"].pop("size"), "'preprocessing.size' is missing"),
        (lambda content: content["results"].update(accuracy="high"), "'results.accuracy' is 'high'"),
        (lambda content: content["results"].update(accuracy=float("nan")), "'results.accuracy' is nan"),
        (lambda content: content["results"].update(num_test=10**400), "a huge number"),
        (lambda content: content.update(label_mapping=[1]), "'label_mapping' is a list"),
        (lambda content: content.update(config=5), "'config' is 5"),
    ],
)
def test_a_description_that_does_not_fit(bundle, change, words, capsys):
    rewrite(bundle, change)
    assert words in error_of(bundle, capsys)


def test_a_side_that_a_transformer_cannot_take(bundle, capsys):
    def oblong(content):
        content["config"]["INPUT"]["SIZE"] = content["preprocessing"]["size"] = [64, 128]
        content["preprocessing"]["pixels"]["shape"] = ["N", 3, 64, 128]

    rewrite(bundle, oblong)
    assert "takes square images" in error_of(bundle, capsys)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"5", b"\xff\xfe", b"[" * 10**5, b'{"version": ' + b"9" * 5000 + b"}"], ids=range(6)
)
def test_a_file_that_is_no_description(bundle, content, capsys):
    (bundle / "config.json").write_bytes(content)
    assert "config.json: " in error_of(bundle, capsys)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: {name: tensor.long() for name, tensor in tensors.items()}, "int64 where the model has torch.float32"),
        (lambda tensors: {name: tensor * float("nan") for name, tensor in tensors.items()}, "NaN or infinity"),
        (lambda tensors: {name.replace(".", " "): tensor for name, tensor in tensors.items()}, "has the trained parts"),
        (lambda tensors: {}, "missing"),
        (lambda tensors: {**tensors, "prompt.more": torch.ones(1)}, "'more' is unknown"),
    ],
)
def test_tensors_of_another_kind(bundle, change, words, capsys):
    file = bundle / "prompt.safetensors"
    save_file(change(load_file(file)), file)
    rewrite(bundle, lambda content: content["files"].update({file.name: description.sha256_of_file(file)}))
    assert words in error_of(bundle, capsys)


@pytest.fixture
def graph(bundle):
    """Makes of the bundle the description of a graph of one node, and writes that; a stand-in for an exported model."""
    onnx = pytest.importorskip("onnx")

    def write(name="pixels", kind=2, sides=("N", 3, 64, 64), output="logits", classes=("N", 10), real_classes=10):
        arrays = {"head": np.ones((3, 10), np.float32), "axes": np.array([2, 3])}
        arrays |= {"start": np.array([0]), "end": np.array(real_classes, np.float32), "one": np.array([1])}
        nodes = [("Cast", [name], "floats", {"to": 1}), ("ReduceMean", ["floats", "axes"], "means", {"keepdims": 0})]
        nodes.append(("MatMul", ["means", "head"], output if real_classes == 10 else "all", {}))
        if real_classes != 10:  # seen when it runs, not before
            nodes += [("ReduceMax", ["floats"], "largest", {"keepdims": 0}), ("Clip", ["largest", "end", "end"], "clipped", {})]
            nodes += [("Reshape", ["clipped", "one"], "ends", {}), ("Cast", ["ends"], "stop", {"to": 7})]
            nodes.append(("Slice", ["all", "start", "stop", "one"], output, {}))
        nodes = [onnx.helper.make_node(operation, inputs, [result], **options) for operation, inputs, result, options in nodes]
        value = onnx.helper.make_tensor_value_info
        ends = [value(name, kind, list(sides))], [value(output, 1, list(classes))]
        arrays = [onnx.numpy_helper.from_array(array, key) for key, array in arrays.items()]
        model = onnx.helper.make_graph(nodes, "graph", *ends, arrays)
        model = onnx.helper.make_model(model, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
        file = bundle / "model.onnx"
        file.write_bytes(model.SerializeToString())
        sha256 = description.sha256_of_file(file)
        rewrite(bundle, lambda content: content.update(format="onnx", files={file.name: sha256}))
        return bundle

    return write


def test_a_graph_as_it_is_described(graph):
    model = load_prompted(graph())
    assert model.predict(np.zeros((8, 8, 3), dtype=np.uint8)).probabilities.shape == (1, 10)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "x"}, "its input is 'x' tensor(uint8) ['N', 3, 64, 64]; expected 'pixels'"),
        ({"kind": 1}, "tensor(float) ['N', 3, 64, 64]; expected"),
        ({"sides": ("N", 3, 32, 32)}, "['N', 3, 32, 32]; expected"),
        ({"sides": (1, 3, 64, 64)}, "[1, 3, 64, 64]; expected"),
        ({"output": "y"}, "its output is 'y'"),
        ({"classes": ("N",)}, "its output is 'logits' tensor(float) []; expected"),
        ({"classes": ("N", 9)}, "its output is 'logits' tensor(float) ['N', None]; expected"),
        ({"real_classes": 9}, "(1, 9) for an image and 10 class names"),
    ],
)
def test_a_graph_of_another_form(graph, changes, words, capsys):
    assert words in error_of(graph(**changes), capsys)


def test_directories_without_a_model_are_refused(tmp_path, trained, capsys):
    assert "no such directory" in error_of(tmp_path / "nothing", capsys)
    assert "neither a run nor a bundle" in error_of(tmp_path, capsys)
    unfinished = shutil.copytree(trained("SMM"), tmp_path / "unfinished")
    (unfinished / "results.json").unlink()
    assert "not finished" in error_of(unfinished, capsys)
    without = shutil.copytree(trained("SMM"), tmp_path / "without")
    shutil.rmtree(without / "mask_generator")
    assert "no checkpoint" in error_of(without, capsys)


def test_nothing_is_overwritten_and_nothing_half_written(smm_bundle, tmp_path, monkeypatch):
    model = load_prompted(smm_bundle)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ConfigError, match="exists already"):
        write_bundle(model, tmp_path / "full")
    monkeypatch.setattr("dassl_vr.deploy.bundle.describe", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_bundle(model, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]

"""Bundles: what is in them, and what is refused."""

import json
import pickle
import shutil

import pytest
import torch

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
    assert "no file of tensors" in error_of(bundle, capsys)


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
        (lambda content: content["files"].update({"../stolen": "0"}), "no such file"),
    ],
)
def test_a_description_that_does_not_fit(bundle, change, words, capsys):
    rewrite(bundle, change)
    assert words in error_of(bundle, capsys)


def test_what_is_no_model(tmp_path, trained, capsys):
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

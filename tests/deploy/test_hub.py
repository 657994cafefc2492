"""Bundles to the hub and back, through a hub on the loopback."""

import json
import pickle
import re
import shutil

import pytest
import yaml
from hub_server import TOKEN, Hub
from huggingface_hub import constants

from dassl_vr import load_prompted
from dassl_vr.cli.export import main as export
from dassl_vr.cli.predict import main as predict
from dassl_vr.deploy import description
from dassl_vr.deploy.hub import hub_place
from dassl_vr.deploy.model_card import model_card
from dassl_vr.utils.errors import ConfigError, DataError

REPOSITORY = "somebody/digits-smm"
PLACE = f"hub:{REPOSITORY}"


def use(address, monkeypatch):
    """What HF_ENDPOINT does before the first import."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty hub, a token for it and an empty cache."""
    server = Hub()
    use(server.address, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def shared(hub, smm_bundle):
    """The hub with a bundle on it, as it was uploaded; gives the id of its commit."""
    return hub.commit(REPOSITORY, {path.name: path.read_bytes() for path in smm_bundle.iterdir()})


def error_of(command, capsys, *arguments):
    """The line with which a command refuses."""
    code = command([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and "Traceback" not in printed.err and "Retry" not in printed.err and not printed.out
    return lines[0]


def test_a_licence_that_the_hub_does_not_know_leaves_nothing_there(hub, smm_bundle, capsys):
    line = error_of(export, capsys, smm_bundle, PLACE, "--license", "mine alone")
    assert "refuses the card" in line and "check --license" in line and not hub.commits


def test_there_and_back(hub, smm_bundle, digits, capsys):
    assert export([str(smm_bundle), PLACE, "--private", "--license", "mit"]) == 0
    ((commit, files),) = hub.commits[REPOSITORY]
    assert f"wrote {PLACE}: {hub.address}/{REPOSITORY}/commit/{commit}" in capsys.readouterr().out
    assert sorted(files) == ["README.md", "config.json", "prompt.safetensors"] and hub.private[REPOSITORY]

    here, there = (load_prompted(source, device="cpu") for source in (smm_bundle, PLACE))
    images = digits[0][:4]
    assert here.predict(images).probabilities.equal(there.predict(images).probabilities)
    fetched = {path.rsplit("/", 1)[1] for method, path in hub.log if method == "GET" and "/resolve/" in path}
    assert fetched == {"config.json", "prompt.safetensors"}

    card = files["README.md"].decode()
    head, text = re.fullmatch(r"---\n(.*?)---\n(.*)", card, re.DOTALL).groups()
    assert yaml.safe_load(head)["license"] == "mit" and yaml.safe_load(head)["library_name"] == "dassl_vr"
    results = json.loads(files["config.json"])["results"]
    assert f"{results['accuracy']:.2f} %" in text and results["split_sha256"] in text
    assert f'load_prompted("{PLACE}")' in text


def test_a_second_upload_is_a_second_commit_and_the_first_can_still_be_had(hub, shared, smm_bundle):
    assert export([str(smm_bundle), PLACE]) == 0
    assert len(hub.commits[REPOSITORY]) == 2
    load_prompted(f"{PLACE}@{shared}", device="cpu")
    assert {path.split("/")[4] for method, path in hub.log if method == "GET" and "/resolve/" in path} == {shared}


def test_both_files_are_of_one_commit(hub, shared, monkeypatch):
    """The branch moves on between them."""
    other = {"config.json": b"{}", "prompt.safetensors": b"other"}
    monkeypatch.setattr("dassl_vr.deploy.hub.read_sealed", lambda place: (hub.commit(REPOSITORY, other), {"format": "bundle"})[1])
    load_prompted(PLACE, device="cpu")


def test_offline_takes_the_copy(hub, shared, monkeypatch, capsys, tmp_path):
    load_prompted(PLACE, device="cpu")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.log.clear()
    load_prompted(PLACE, device="cpu")
    assert not hub.log
    assert "HF_HUB_OFFLINE is set; fetch it once" in error_of(predict, capsys, "hub:somebody/else", "image.png")
    assert "HF_HUB_OFFLINE is set; unset it" in error_of(export, capsys, tmp_path, PLACE)


def test_what_is_not_there(hub, shared, capsys):
    assert "no such repository" in error_of(predict, capsys, "hub:somebody/nothing", "image.png")
    assert "no such revision" in error_of(predict, capsys, f"{PLACE}@nothing", "image.png")
    hub.commit("somebody/else", {"model.bin": b""})
    assert "not a bundle" in error_of(predict, capsys, "hub:somebody/else", "image.png")


def test_no_network(hub, monkeypatch, capsys):
    use("http://127.0.0.1:9", monkeypatch)  # the discard port, which nobody listens on
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # it is tried several times
    assert "cannot be reached" in error_of(predict, capsys, PLACE, "image.png")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config.json": b'{"format": "pickle"}'}, "config.json: "),
        ({"prompt.safetensors": pickle.dumps(["code"])}, "its SHA-256 differs"),
        ({"prompt.safetensors": None}, "not a bundle"),
    ],
)
def test_a_changed_bundle(hub, shared, change, words, capsys):
    files = {**hub.commits[REPOSITORY][-1][1], **change}
    hub.commit(REPOSITORY, {name: content for name, content in files.items() if content is not None})
    assert words in error_of(predict, capsys, PLACE, "image.png")


def test_only_bundles(hub, smm_bundle, tmp_path, capsys):
    """A graph on the hub is refused before its file is fetched; so is uploading one."""
    content = json.loads((smm_bundle / "config.json").read_text())
    content.update(format="torch", files={"model.pt2": "0" * 64})
    content["sha256"] = description._seal({key: value for key, value in content.items() if key != "sha256"})
    hub.commit(REPOSITORY, {"config.json": json.dumps(content).encode(), "model.pt2": b"code"})
    assert "only bundles are loaded" in error_of(predict, capsys, PLACE, "image.png")
    assert not [path for _, path in hub.log if path.endswith("pt2")]
    assert "only bundles" in error_of(export, capsys, smm_bundle, PLACE, "--format", "torch")
    assert "for the hub" in error_of(export, capsys, smm_bundle, tmp_path / "out", "--private")


def test_uploading_without_the_right(hub, smm_bundle, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    assert "refuses (403)" in error_of(export, capsys, smm_bundle, PLACE)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert "no token" in error_of(export, capsys, smm_bundle, PLACE)
    assert not hub.commits.get(REPOSITORY)


def test_a_branch_that_is_not_there(hub, smm_bundle, capsys):
    assert "no such revision" in error_of(export, capsys, smm_bundle, f"{PLACE}@nothing")


@pytest.mark.parametrize(
    "text", ["hub:", "hub:name", "hub:a/b/c", "hub:../b", "hub:a/b@", "hub:a/b@../x", "hub:a/b c", "hub:a/b\n"]
)
def test_no_place(text):
    with pytest.raises(ConfigError, match="expected hub:USER/NAME"):
        load_prompted(text)


def test_places():
    assert str(hub_place("hub:a/b_c.d@v1/x")) == "hub:a/b_c.d@v1/x" and hub_place("hub:a/b").revision is None
    assert hub_place("hubs/a") is None and hub_place(".") is None


def test_texts_of_users_are_no_markup_in_a_card(smm_bundle):
    evil = "<script>|`x`\n---\n# [a](http://b) *c*"
    content = description.read_description(smm_bundle)
    content["classnames"] = [evil] * 10
    content["results"]["dataset"] = content["trainer"] = evil
    card = model_card(content, hub_place(PLACE), licence='x"\nlibrary_name: y')
    assert "<script>" not in card and "](http" not in card and "`x`" not in card
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["library_name"] == "dassl_vr" and head["license"].startswith('x"\n')
    assert card.count("\n---\n") == 1
    content["classnames"] = [f"class {number}" for number in range(250)]
    assert "and 150 more" in model_card(content, hub_place(PLACE))


def test_a_directory_is_preferred_to_nothing(smm_bundle, tmp_path, hub):
    """Paths never ask the hub."""
    load_prompted(shutil.copytree(smm_bundle, tmp_path / "somebody" / "digits-smm"), device="cpu")
    with pytest.raises((ConfigError, DataError)):
        load_prompted(str(tmp_path / "somebody"), device="cpu")
    assert not hub.log

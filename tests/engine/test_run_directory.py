"""What may be done with an output directory."""

import os

import pytest

from dassl_vr.config import get_cfg_default
from dassl_vr.engine.run_directory import (
    NEW,
    RESUMED,
    check_place,
    check_unused,
    claim_run_directory,
    clear_evaluation,
    hold,
    hold_unused,
    write_config,
)
from dassl_vr.plugins import load_plugins
from dassl_vr.utils.errors import ConfigError, DiskError


@pytest.fixture
def cfg(tmp_path):
    load_plugins()
    cfg = get_cfg_default()
    cfg.OUTPUT_DIR, cfg.DATASET.NAME, cfg.TRAINER.NAME, cfg.SEED = str(tmp_path / "run"), "digits", "SMM", 1
    return cfg


def put(cfg, name, text):
    path = os.path.join(cfg.OUTPUT_DIR, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


@pytest.mark.parametrize("resumes", [False, True])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "kind: Pod\n"),
        ("config.yaml", "TRAINER: me\n"),
        ("config.yaml", "- a list\n"),
        ("config.yaml/below", ""),
        ("results.json", '{"score": 3}'),
        ("tensorboard/mine.txt", "precious"),
        ("tensorboard", "a file"),
        ("cmat.pt", ""),
        ("log.txt/below", ""),
    ],
)
def test_files_of_others_are_refused(cfg, name, text, resumes):
    path = put(cfg, name, text)
    cfg.RESUME = cfg.OUTPUT_DIR if resumes else ""
    with pytest.raises(ConfigError, match="config file|choose another"):
        claim_run_directory(cfg)
    with open(path, encoding="utf-8") as file:
        assert file.read() == text
    with pytest.raises(ConfigError, match="choose another"):
        check_unused(cfg.OUTPUT_DIR)


def test_other_names_do_not_matter(cfg):
    put(cfg, "notes.txt", "")
    assert claim_run_directory(cfg) == NEW


def test_a_link_that_leads_nowhere_is_not_written_through(cfg, tmp_path):
    os.makedirs(cfg.OUTPUT_DIR)
    os.symlink(tmp_path / "elsewhere", os.path.join(cfg.OUTPUT_DIR, "log.txt"))
    cfg.RESUME = cfg.OUTPUT_DIR
    with pytest.raises(ConfigError, match="holds log.txt"):
        claim_run_directory(cfg)


def test_which_runs_can_be_continued(cfg):
    write_config(cfg)
    cfg.RESUME = cfg.OUTPUT_DIR
    assert claim_run_directory(cfg) == NEW, "it died before it was first saved"
    put(cfg, "prompt/checkpoint", "model.pth.tar-1\n")
    assert claim_run_directory(cfg) == RESUMED
    os.unlink(os.path.join(cfg.OUTPUT_DIR, "config.yaml"))
    put(cfg, "log.txt", "of the original family")
    assert claim_run_directory(cfg) == RESUMED


def test_places_that_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for place in ("file", "file/below", "dangling", "dangling/below", "loop", "a" * 300, f"new/{'a' * 300}/b", "ab/" * 2000):
        with pytest.raises(ConfigError, match="choose another"):
            check_place(str(tmp_path / place))
    check_place(str(tmp_path / "new" / "deep"))
    monkeypatch.chdir(tmp_path)
    for place in (".", "new"):
        check_place(place)
    assert sorted(os.listdir()) == ["dangling", "file", "loop"]


def test_hold(tmp_path):
    run = tmp_path / "run"
    with hold(str(run)), pytest.raises(ConfigError, match="another process"), hold(str(run)):
        pass
    assert not run.exists(), "nothing was written"
    run.mkdir()
    with pytest.raises(DiskError), hold(str(run)):
        (run / "mine").touch()
        run.rename(tmp_path / "moved")
        write_config_at(run)
    assert not run.exists() and (tmp_path / "moved" / "mine").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"), hold(str(tmp_path / "file" / "run")):
        pass


def write_config_at(directory):
    cfg = get_cfg_default()
    cfg.OUTPUT_DIR = str(directory)
    write_config(cfg)


def test_an_evaluation_is_left_whole_or_not_at_all(cfg):
    put(cfg, "notes.txt", "mine")
    with pytest.raises(ZeroDivisionError), hold_unused(cfg.OUTPUT_DIR):
        write_config(cfg)
        put(cfg, "log.txt", "half")
        raise ZeroDivisionError
    assert sorted(set(os.listdir(cfg.OUTPUT_DIR)) - {".lock"}) == ["notes.txt"]
    put(cfg, "log.txt", "of another")
    with pytest.raises(ConfigError, match="log.txt is there"), hold_unused(cfg.OUTPUT_DIR):
        pass
    assert os.path.exists(os.path.join(cfg.OUTPUT_DIR, "log.txt"))


def test_only_evaluations_are_cleared_away(cfg):
    write_config(cfg)
    put(cfg, "results.json", "{}")
    put(cfg, "tensorboard/events", "")
    with pytest.raises(ConfigError, match="a run that trained"):
        clear_evaluation(cfg.OUTPUT_DIR)
    os.unlink(put(cfg, "tensorboard/events", ""))
    os.rmdir(os.path.join(cfg.OUTPUT_DIR, "tensorboard"))
    clear_evaluation(cfg.OUTPUT_DIR)
    assert os.listdir(cfg.OUTPUT_DIR) == []
    put(cfg, "config.yaml", "kind: Pod\n")
    with pytest.raises(ConfigError, match="not of a run"):
        clear_evaluation(cfg.OUTPUT_DIR)

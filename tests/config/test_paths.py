"""Which keys hold paths of the user, and how a run records them."""

import os
import re
from pathlib import Path

import pytest

from dassl_vr.config import expand_paths, get_cfg_default, is_path, make_absolute
from dassl_vr.config.validate import leaves
from dassl_vr.plugins import load_plugins
from dassl_vr.utils.errors import ConfigError

NO_PATHS_OF_THE_USER = {
    "DATASET.FEW_SHOT_FILE": "relative to the data set's directory",
    "MODEL.BACKBONE.WEIGHTS_ENTRY": "a part of a file",
}


def test_every_key_that_names_a_file_or_a_directory_is_known(repository):
    rows = re.findall(r"^\| `([\w.]+)` \| .* \| (?:text|list) \| (.*) \|$", (repository / "docs/configuration.md").read_text(), re.M)
    about = re.compile(r"\b(files?|director(y|ies)|paths?|checkpoint)\b", re.IGNORECASE)
    named = {key for key, comment in rows if about.search(comment) and not key.endswith(".VIEWS_BY")}
    assert {key for key in named if not is_path(key)} == set(NO_PATHS_OF_THE_USER)
    load_plugins()
    assert {key for key, _ in leaves(get_cfg_default()) if is_path(key)} == named - set(NO_PATHS_OF_THE_USER)


def test_paths_are_relative_to_where_the_user_stands(tmp_path, monkeypatch):
    load_plugins()
    cfg = get_cfg_default()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cfg.OUTPUT_DIR, cfg.DATASET.ROOT, cfg.TRAINER.SMM.DESCRIPTIONS = "out/./a", "~/data", ("b.json", "/c.json")
    expand_paths(cfg)
    assert (cfg.OUTPUT_DIR, cfg.DATASET.ROOT) == ("out/a", f"{tmp_path}/home/data")
    make_absolute(cfg)
    assert cfg.OUTPUT_DIR == f"{tmp_path}/out/a" and cfg.TRAINER.SMM.DESCRIPTIONS == (f"{tmp_path}/b.json", "/c.json")
    assert cfg.RESUME == cfg.MODEL.BACKBONE.WEIGHTS == "", "none was named"
    cfg.DATASET.FEW_SHOT_FILE = "shots_{split}.jsonl"
    os.symlink("out", "link")
    cfg.OUTPUT_DIR = "link/a"
    make_absolute(cfg, real=True)
    assert cfg.OUTPUT_DIR == str(Path(tmp_path, "out/a").resolve()) and cfg.DATASET.FEW_SHOT_FILE == "shots_{split}.jsonl"
    cfg.DATASET.ROOT = "~nobody-of-that-name/data"
    with pytest.raises(ConfigError, match="no home"):
        expand_paths(cfg)

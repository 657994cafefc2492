"""Which keys hold paths of the user, and how a run records them."""

import os
import re
from pathlib import Path

import pytest

from dassl_vr.config import expand_paths, get_cfg_default, is_path, make_absolute
from dassl_vr.plugins import load_plugins
from dassl_vr.utils.errors import ConfigError

NO_PATHS_OF_THE_USER = {
    "DATASET.FEW_SHOT_FILE": "relative to the data set's directory",
    "MODEL.BACKBONE.WEIGHTS_ENTRY": "a part of a file",
}


def test_every_key_that_names_a_file_or_a_directory_is_known(repository):
    """Of the keys in the document, which has all of the package; other tests may have loaded plug-ins with keys of their own."""
    document = (repository / "docs/configuration.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)` \| .* \| (\w+) \| (.*) \|$", document, re.MULTILINE)
    about = re.compile(r"\b(files?|director(y|ies)|paths?|checkpoint)\b", re.IGNORECASE)
    named = {key for key, kind, comment in rows if kind in ("text", "list") and about.search(comment)}
    named -= {key for key in named if key.endswith(".VIEWS_BY")}
    paths = {key for key, _, _ in rows if is_path(key)}
    assert len(paths) > 5 and named - paths == set(NO_PATHS_OF_THE_USER)
    assert paths == named - set(NO_PATHS_OF_THE_USER)


def test_paths_are_relative_to_where_the_user_stands(tmp_path, monkeypatch):
    load_plugins()
    cfg = get_cfg_default()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cfg.OUTPUT_DIR, cfg.DATASET.ROOT, cfg.DATASET.FEW_SHOT_FILE = "out/a", "~/data", "shots_{split}.jsonl"
    cfg.TRAINER.SMM.DESCRIPTIONS = ("b.json", "/c.json")
    expected = get_cfg_default()
    expected.merge_from_other_cfg(cfg)
    expected.DATASET.ROOT = f"{tmp_path}/home/data"
    expand_paths(cfg)
    assert cfg == expected
    expected.OUTPUT_DIR, expected.TRAINER.SMM.DESCRIPTIONS = f"{tmp_path}/out/a", (f"{tmp_path}/b.json", "/c.json")
    make_absolute(cfg)
    assert cfg == expected
    os.symlink("out", "link")
    cfg.OUTPUT_DIR, expected.OUTPUT_DIR = "link/a", str(Path(tmp_path, "out/a").resolve())
    make_absolute(cfg, real=True)
    assert cfg == expected
    cfg.DATASET.ROOT = "~nobody-of-that-name/data"
    with pytest.raises(ConfigError, match="no home"):
        expand_paths(cfg)

"""The process that a run becomes."""

import sys

import pytest

from dassl_vr.cli.train import build_parser
from dassl_vr.runs.plan import Run


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """`mine.py`, a plug-in in the current directory that registers nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    yield tmp_path / "mine.py"
    sys.modules.pop("dassl_vr_plugin_mine", None)


def test_plugins_are_named_in_full_also_to_a_process_elsewhere(plugin, tmp_path, monkeypatch, repository):
    flags = {"config_file": repository / "configs/trainers/LinearProbe/tiny_vit.yaml", "trainer": "LinearProbe"}
    run = Run("one", tmp_path / "out", flags, ["DATASET.NAME", "digits"], ["mine.py"])
    assert run.argv[:2] == ["--plugin", str(plugin)] and run.argv.count("--plugin") == 1
    assert build_parser().parse_args(run.argv).plugin == [str(plugin)]
    assert "dassl_vr_plugin_mine" in sys.modules, "its keys and names are known to the plan"
    monkeypatch.chdir("/")
    assert Run(**run.parts()).argv == run.argv

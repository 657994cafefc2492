"""Every f_in of VR in its own recipe: trained, found again by a test of the run, and exported."""

import json

import pytest

from dassl_vr import load_prompted
from dassl_vr.cli.export import main as export
from dassl_vr.cli.train import main


@pytest.mark.parametrize("method", ["ar", "evp", "lorvp", "autovp", "acavp"])
def test_trained_saved_and_found_again(tmp_path, tiny_command, method):
    out = tmp_path / "run"
    assert main(tiny_command(out, "INPUT.SIZE", (64, 64), trainer="VR", backbone=f"tiny_vit_{method}")) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["method"] == method
    assert main(["--eval-only", "--model-dir", str(out), "--output-dir", str(tmp_path / "again")]) == 0
    assert json.loads((tmp_path / "again" / "results.json").read_text())["accuracy"] == results["accuracy"]
    assert export([str(out), str(tmp_path / "graph"), "--format", "onnx"]) == 0
    assert load_prompted(tmp_path / "graph").classnames == results["classnames"]

"""The study of the recipe runs, and its runs become cards."""

import re
import subprocess
import sys

import pytest

from dassl_vr.report.cards import read_table


@pytest.mark.slow
def test_the_study_runs(repository, tmp_path):
    study = [sys.executable, "benchmarks/recipe_study.py", "--out", tmp_path, "--backbones", "tiny_vit", "--shots", "2"]
    study += ["--epochs", "1", "--seeds", "1", "2", "--datasets", "StudyDigits", "StudyDigitsNoise"]
    done = subprocess.run(
        [*study, "--variants", "best", "no prompt", "LinearProbe"], cwd=repository, capture_output=True, text=True, timeout=290
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"no prompt +\|( +[\d.]+ ± [\d.]+ +\|){2} +[+-]\d", done.stdout), done.stdout
    report = [sys.executable, "-m", "dassl_vr.report", tmp_path, "--cards", tmp_path / "cards"]
    report += ["--plugin", "benchmarks/recipe_data.py"]
    subprocess.run(report, cwd=repository, check=True, capture_output=True, timeout=120)
    for dataset in ("studydigits", "studydigitsnoise"):
        names = {(group.trainer, group.tag) for group in read_table(tmp_path / "cards" / dataset / "tiny_vit/2shots-val")}
        assert names == {("SMM", "ep1-2shots-best"), ("SMM", "ep1-2shots-no_prompt"), ("LinearProbe", "ep1-2shots")}

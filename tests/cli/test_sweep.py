"""`python sweep.py`: what is refused before the first run, and what a dry run says."""

import sys

import pytest

from dassl_vr.cli import reproduce
from dassl_vr.cli.sweep import main

GRID = ["--trainers", "LinearProbe", "--backbones", "tiny_vit"]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch, repository, tmp_path):
    monkeypatch.chdir(repository)
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("DATA", str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trainers", "SMMM"], "configs/trainers/SMMM/tiny_vit.yaml: no such file"),
        (["--backbones", "rn51"], "configs/trainers/LinearProbe/rn51.yaml: no such file"),
        (["--datasets", "digitz"], "did you mean 'digits'"),
        (["--seeds", "0", "-1"], "--seeds -1: expected 0 or more"),
        (["--seeds", "one"], "invalid int value: 'one'"),
        (["--retries", "-1"], "--retries -1: expected 0 or more"),
        (["--cpus-per-run", "0"], "expected a whole number above 0, got '0'"),
        (["--gpus-per-run", "-0.5"], "--gpus-per-run -0.5: expected a fraction from 0 to 1, or a whole number"),
        (["--gpus-per-run", "1.5"], "--gpus-per-run 1.5: expected a fraction from 0 to 1, or a whole number"),
        (["--search", "space.txt"], "space.txt: only .yaml and .yml files are read"),
        (["--trials", "0"], "expected a whole number above 0, got '0'"),
        (["--", "OPTIM.MAX", "3"], "OPTIM.MAX_EPOCH"),
        (["--", "SEED", "3"], "sets SEED itself"),
    ],
)
def test_mistakes_end_in_one_line_before_the_first_run(capfd, tmp_path, arguments, words):
    assert main([*GRID, "--datasets", "digits", *arguments]) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_method_of_a_trainer_is_not_for_the_end_of_the_line(capfd):
    assert main(["--trainers", "VR-pad", "--datasets", "digits", "--backbones", "lite0", "--", "TRAINER.VR.METHOD", "full"]) == 2
    assert "sets TRAINER.VR.METHOD itself" in capfd.readouterr().err


def test_a_dry_run_says_what_would_be_done(capfd, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # it does not need Ray
    grid = ["--trainers", "SMM", "VR-pad", "--datasets", "digits", "--backbones", "lite0", "--seeds", "0", "0", "2"]
    assert main([*grid, "--tag", "mine", "--dry-run"]) == 0
    runs = [f"train     {tmp_path}/out/digits/{name}/lite0/mine/seed{seed}" for name in ("SMM", "VR-pad") for seed in (0, 2)]
    assert capfd.readouterr().out.splitlines() == [*runs, "4 train"] and not (tmp_path / "out").exists()


def test_without_ray(capfd, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # makes its import fail
    for end in (
        lambda: main([*GRID, "--datasets", "digits"]),
        lambda: reproduce.main(["methods", "--backbone", "lite0", "--sweep"]),
    ):
        assert end() == 2
        assert capfd.readouterr().err == "error: this needs Ray; install it with: pip install 'dassl_vr[sweep]'\n"
    assert not (tmp_path / "out").exists()

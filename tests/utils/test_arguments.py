"""Commands as a user would type them."""

import sys

import pytest

from dassl_vr.utils import arguments
from dassl_vr.utils.arguments import program, same_command


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """environment(*names): directory of an interpreter with these programs beside it, which is first in PATH."""

    def make(*names):
        folder = tmp_path / "my env" / "bin"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_text("#!/bin/sh\n")
            (folder / name).chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(folder / names[0]))
        monkeypatch.setenv("PATH", str(folder))
        return folder

    return make


def test_in_a_checkout(environment, monkeypatch, repository, tmp_path):
    environment("python")
    monkeypatch.chdir(repository)
    assert program("predict") == "python predict.py"
    monkeypatch.chdir(repository / "docs")
    assert program("predict") == "python ../predict.py"
    monkeypatch.setenv("PATH", "/nowhere")
    assert program("train").startswith("'") and program("train").endswith("/my env/bin/python' ../train.py")


def test_in_an_installation(environment, monkeypatch, tmp_path):
    monkeypatch.setattr(arguments, "CHECKOUT", tmp_path)
    folder = environment("python", "dassl-vr-predict")
    assert program("predict") == "dassl-vr-predict"
    assert program("train") == "python -m dassl_vr.cli.train"
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(folder)
    assert program("predict") == "./dassl-vr-predict", "what a shell finds"


def test_the_same_command_has_the_variables_that_it_reads(monkeypatch):
    monkeypatch.setattr(arguments, "_SCRIPT", "../scripts/smm.sh")
    monkeypatch.setattr(sys, "argv", ["-m", "smm", "digits", "lite0", "--", "INPUT.SIZE", "(32, 32)"])
    for name in arguments.SCRIPT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA", "my data")
    assert same_command() == "DATA='my data' bash ../scripts/smm.sh digits lite0 -- INPUT.SIZE '(32, 32)'"
    monkeypatch.setattr(arguments, "_AGAIN", "as before")
    assert same_command() == "as before"

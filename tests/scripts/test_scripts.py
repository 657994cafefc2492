"""The shell scripts: what they call, where the runs go, how they end."""

import importlib
import json
import os
import shlex
import subprocess
import sys
import time

import pytest

from dassl_vr.cli.method import SCRIPTS

TINY = ["INPUT.SIZE", "(32, 32)", "DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "1", "VERBOSE", "False"]
TINY += ["TRAIN.END_FIGURES", "False"]


@pytest.fixture
def started_by(repository, tmp_path):
    """started_by(script, *arguments, **environment): (words, environment) of the Python that a script starts."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\" 'end of the words'\nenv -0\n")
    python.chmod(0o755)

    def run(script, *arguments, **environment):
        environment = {**os.environ, "PYTHON": str(python), "OUTPUT": str(tmp_path / "out"), **environment}
        command = ["bash", str(repository / "scripts" / script), *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        words, _, variables = done.stdout.partition("end of the words\0")
        return words.split("\0")[:-1], dict(entry.split("=", 1) for entry in variables.split("\0")[:-1])

    return run


@pytest.fixture
def bash(started_by, run_python):
    """What becomes of a script, whose Python starts in a moment."""

    def run(script, *arguments, **environment):
        words, environment = started_by(script, *arguments, **environment)
        return run_python(*words, env=environment)

    return run


@pytest.fixture
def here(started_by, monkeypatch, tmp_path, capfd):
    """(exit code, standard output, standard error) of a script, whose Python is this process: so its runs start in a moment too."""

    def run(script, *arguments, **environment):
        (flag, module, *words), environment = started_by(script, *arguments, **environment)
        assert flag == "-m" and environment.pop("DASSL_VR_CALLED_AS").endswith(
            f"/scripts/{script}"
        )  # read once, when a process starts
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        capfd.readouterr()
        code = importlib.import_module(module).main(words)
        return (code, *capfd.readouterr())

    return run


def test_smm_over_seeds_and_again(here, tmp_path):
    code, _, err = here("smm.sh", "digits", "tiny_vit", 0, 1, "--", *TINY, TAG="tiny")
    assert code == 0, err
    for seed in (0, 1):
        results = json.loads((tmp_path / f"out/digits/SMM/tiny_vit/tiny/seed{seed}/results.json").read_text())
        assert results["seed"] == seed and results["epochs"] == 1
        assert " -m dassl_vr.cli.train --trainer SMM " in results["command"], "to be started again as it stands"
    code, out, _ = here("smm.sh", "digits", "tiny_vit", 0, "--", *TINY, TAG="tiny")
    assert code == 0 and "finished already" in out


def test_pad_takes_its_own_recipe(here, tmp_path):
    code, _, err = here("vr.sh", "pad", "digits", "tiny_vit", "--", *TINY)
    assert code == 0, err
    results = json.loads((tmp_path / "out/digits/VR-pad/tiny_vit/default/seed0/results.json").read_text())
    assert (results["trainer"], results["method"]) == ("VR", "pad")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digits"], "DATASET BACKBONE"),
        (["digits", "rn51"], "rn50"),
        (["digits", "lite0", "one"], "seed 'one'"),
        (["digitz", "lite0"], "digits"),
    ],
)
def test_wrong_arguments(bash, arguments, words):
    done = bash("smm.sh", *arguments)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr


FAMILY = ("coop", "cocoop", "kgcoop", "maple", "promptsrc", "vp", "vpt", "zeroshot", "linear_probe", "full_ft")


@pytest.mark.parametrize("name", FAMILY)
def test_a_script_per_trainer(bash, name):
    """Its usage, by its own name; and whose recipes it takes."""
    done = bash(f"{name}.sh", "digits")
    assert done.returncode == 2 and f"bash scripts/{name}.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]" in done.stderr
    done = bash(f"{name}.sh", "digits", "rn51")
    assert done.returncode == 2 and f"no recipe configs/trainers/{SCRIPTS[name].trainer}/rn51.yaml" in done.stderr


def test_shots_and_seeds(here, tmp_path):
    """The runs are those that a comparison looks for."""
    tiny = ["VERBOSE", "False", "TRAIN.END_FIGURES", "False"]
    code, _, err = here("zeroshot.sh", "digits", "tiny_clip", 2, "--", *tiny, SEEDS="1 3", METHOD="ensemble")
    assert code == 0, err
    for seed in (1, 3):
        results = json.loads((tmp_path / f"out/digits/ZeroshotCLIP-ensemble/tiny_clip/2shots/seed{seed}/results.json").read_text())
        assert (results["trainer"], results["method"], results["seed"]) == ("ZeroshotCLIP", "ensemble", seed)
        assert (results["shots"], results["protocol"], results["epochs"]) == (2, "few-shot", 0)
    options = ["--shots", 2, "--seeds", 1, 3, "--trainers", "zeroshotclip-ensemble", "--", *tiny]
    code, out, err = here("compare.sh", "digits", "tiny_clip", *options)
    assert code == 0, err
    assert out.count("] finished ") == 2 and "ZeroshotCLIP ensemble" in out


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["digits", "tiny_clip", "few"], {}, "SHOTS 'few'"),
        (["digits", "tiny_clip", "4", "2"], {}, "seeds go into SEEDS"),
        (["digits", "tiny_clip"], {"SEEDS": "1 two"}, "seed 'two'"),
    ],
)
def test_wrong_arguments_with_shots(bash, tmp_path, arguments, environment, words):
    done = bash("coop.sh", *arguments, **environment)
    assert done.returncode == 2 and words in done.stderr and not (tmp_path / "out").exists()


def test_output_goes_below_the_current_directory(here, tmp_path):
    """Paths are the user's: without $OUTPUT, runs go below the directory that the script is called in."""
    code, _, err = here("zeroshot.sh", "digits", "tiny_clip", "--", "VERBOSE", "False", "TRAIN.END_FIGURES", "False", OUTPUT="")
    assert code == 0, err
    assert (tmp_path / "output/digits/ZeroshotCLIP-template/tiny_clip/default/seed1/results.json").is_file()


def test_a_signal_reaches_the_run(repository, tmp_path):
    """SIGTERM to the script is SIGTERM to the run, which saves itself."""
    environment = os.environ | {"PYTHON": sys.executable, "OUTPUT": str(tmp_path)}
    settings = [*TINY, "OPTIM.MAX_EPOCH", "500", "VERBOSE", "False"]
    command = ["bash", str(repository / "scripts/linear_probe.sh"), "digits", "tiny_vit", "--", *settings]
    script = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    directory = tmp_path / "digits/LinearProbe/tiny_vit/default/seed1"
    end = time.monotonic() + 120
    while not (directory / "resume.pt").exists():
        assert time.monotonic() < end and script.poll() is None
        time.sleep(0.05)
    script.terminate()
    _, err = script.communicate(timeout=60)
    assert script.returncode == 75 and err.count("\n") == 1
    again = f" bash {shlex.join([*command[1:]])}\n"
    assert "; to continue: " in err and f"OUTPUT={tmp_path}" in err and err.endswith(again), "with what it was given"


def test_reproduce_says_what_it_would_do(bash, tmp_path):
    done = bash("reproduce.sh", "ablation", "--backbone", "lite0", "--datasets", "digits", "--seeds", 0, "--dry-run", "--", *TINY)
    assert done.returncode == 0, done.stderr
    assert f"train     {tmp_path}/out/digits/SMM-only_mask/lite0/default/seed0" in done.stdout
    assert "4 train" in done.stdout and not (tmp_path / "out").exists()


def test_shots_beyond_64_bits_are_no_way_to_train_on_all(bash, tmp_path):
    done = bash("linear_probe.sh", "digits", "tiny_vit", "9" * 20)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "DATASET.NUM_SHOTS" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_zeros_in_front_of_shots(bash):
    done = bash("linear_probe.sh", "digits", "tiny_vit", "0002", "--", "OPTIM.MAX_EPOCH", "-1")
    assert done.returncode == 2 and "NUM_SHOTS" not in done.stderr and "OPTIM.MAX_EPOCH is -1" in done.stderr

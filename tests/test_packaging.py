"""The wheel works without the checkout, and puts nothing but `dassl_vr` at the top level."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ASK = """
import contextlib, importlib, io, json, sys

def answer(name, target, flag):
    module, _, function = target.partition(":")
    sys.argv = [name, flag]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            code = getattr(importlib.import_module(module), function)()
        except SystemExit as end:
            code = end.code
    return code, out.getvalue()

commands, *flags = json.loads(sys.argv[1]), *sys.argv[2:]
print(json.dumps([(name, *(answer(name, target, flag) for flag in flags)) for name, target in map(str.split, commands)]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source") / "checkout"
    ignore = shutil.ignore_patterns(".git", ".venv", "output", "data", "build", "*.egg-info", "__pycache__")
    # `data` is also the name of a sub-package, so only the one at the top is left out
    shutil.copytree(REPOSITORY, source, ignore=lambda folder, names: ignore(folder, names) if folder == str(REPOSITORY) else [])
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(out.glob("*.whl"))


def test_content(wheel, repository):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"dassl_vr"}
    for folder, pattern in (("trainers", "*.py"), ("datasets", "*.py"), ("configs", "*.yaml"), ("dassl_vr", "*.py")):
        for path in (repository / folder).rglob(pattern):
            relative = path.relative_to(repository).as_posix()
            assert (relative if folder == "dassl_vr" else f"dassl_vr/{relative}") in names
    assert {"dassl_vr/paper/tables/methods.csv", "dassl_vr/report/templates/page.html"} <= set(names)
    for pattern in ("*.json", "*.safetensors", "*.gz"):
        for path in (repository / "dassl_vr/backbones/tiny").glob(pattern):
            assert path.relative_to(repository).as_posix() in names


@pytest.fixture(scope="module")
def command(wheel, tmp_path_factory):
    """command(name, *words): a console command as the wheel brings it, in the empty directory `command.place`."""
    site, place = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("place")
    zipfile.ZipFile(wheel).extractall(site)
    points = Distribution.at(next(site.glob("*.dist-info"))).entry_points.select(group="console_scripts")
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    environment = {name: value for name, value in environment.items() if name not in ("OUTPUT", "DATA", "TAG")}

    def run(name, *words):
        point = next(point for point in points if point.name == name)
        script = tmp_path_factory.mktemp("bin") / name  # what an installer makes of it
        script.write_text(f"import sys\nfrom {point.module} import {point.attr}\nsys.exit({point.attr}())\n")
        started = [sys.executable, str(script), *words]
        return subprocess.run(started, cwd=place, env=environment, capture_output=True, text=True)

    def asked(*flags):
        """(name, (exit code, what it printed) for each of `flags`) of each command; one process, since each start costs seconds."""
        (place / "ask.py").write_text(ASK)
        words = [f"{point.name} {point.value}" for point in points]
        done = subprocess.run(
            [sys.executable, "ask.py", json.dumps(words), *flags], cwd=place, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        (place / "ask.py").unlink()
        return json.loads(done.stdout)

    run.asked = asked
    run.names, run.place = [point.name for point in points], place
    return run


def test_the_console_commands_name_themselves(command):
    names = ("train", "predict", "export", "visualize", "sweep", "compare", "reproduce", "report", "prepare", "list")
    assert sorted(command.names) == sorted(f"dassl-vr-{name}" for name in names)
    for name, (code, shown), (wrong, complaint) in command.asked("--help", "--no-such-flag"):
        assert code == 0 and shown.startswith(f"usage: {name} "), shown
        assert not re.search(r"%\(|python \w+\.py|scripts/", shown), shown
        assert wrong == 2 and f"(see {name} --help)" in complaint and complaint.count("\n") == 1


def test_runs_without_the_checkout(command):
    """A run, its results, a comparison: all in a directory that has nothing of ours."""
    settings = ["DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "1", "VERBOSE", "False", "TRAIN.END_FIGURES", "False"]
    files = ["--config-file", "configs/trainers/LinearProbe/tiny_vit.yaml", "--dataset-config-file", "configs/datasets/digits.yaml"]
    done = command("dassl-vr-train", "--trainer", "LinearProbe", *files, "--output-dir", "run", *settings)
    assert done.returncode == 0, done.stderr
    results = json.loads((command.place / "run/results.json").read_text())
    assert results["command"].startswith("dassl-vr-train --trainer LinearProbe")
    table = ["digits", "tiny_vit", "--trainers", "LinearProbe", "--epochs", "1"]
    done = command("dassl-vr-compare", *table, "--shots", "1", "--", "VERBOSE", "False")  # whose run is a process of its own
    assert done.returncode == 0 and "LinearProbe" in done.stdout, done.stderr
    assert (command.place / "output/digits/comparison-tiny_vit-few-shot-1shots-ep1.json").is_file()


def test_torch_with_known_holes_in_reading_weights_is_not_allowed(wheel):
    metadata = zipfile.ZipFile(wheel).read(next(name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA")))
    floor = re.search(r"^Requires-Dist: torch>=([0-9.]+)$", metadata.decode(), re.MULTILINE).group(1)
    assert tuple(map(int, floor.split("."))) >= (2, 10)  # CVE-2026-24747

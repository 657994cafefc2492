"""The wheel works without the checkout, and puts nothing but `dassl_vr` at the top level."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


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
    assert {"dassl_vr/report/paper_results.csv", "dassl_vr/report/templates/look.html"} <= set(names)
    for pattern in ("*.json", "*.safetensors", "*.gz"):
        for path in (repository / "dassl_vr/backbones/tiny").glob(pattern):
            assert path.relative_to(repository).as_posix() in names


def test_runs_without_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = "import sys; from dassl_vr.cli.train import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["--trainer", "SMM", "--config-file", "configs/trainers/SMM/lite0.yaml", "--output-dir", "run"]
    arguments += ["--dataset-config-file", "configs/datasets/digits.yaml", "INPUT.SIZE", "(32, 32)", "DATASET.NUM_SHOTS", "1"]
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", code, *arguments, "OPTIM.MAX_EPOCH", "1"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "run" / "results.json").is_file()


def test_torch_with_known_holes_in_reading_weights_is_not_allowed(wheel):
    metadata = zipfile.ZipFile(wheel).read(next(name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA")))
    floor = re.search(r"^Requires-Dist: torch>=([0-9.]+)$", metadata.decode(), re.MULTILINE).group(1)
    assert tuple(map(int, floor.split("."))) >= (2, 10)  # CVE-2026-24747

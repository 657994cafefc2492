"""The examples of the documents, run as they are printed."""

import ast
import json
import multiprocessing
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dassl_vr
from dassl_vr.cli.export import main as export
from dassl_vr.cli.train import main

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs/extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", TEXT, re.DOTALL))
COMMANDS = [shlex.split(command.replace("\\\n", " ")) for command in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)]
QUICK = ["DATASET.NUM_SHOTS", "2", "TRAIN.END_FIGURES", "False", "VERBOSE", "False", "TRAIN.PICTURE_FREQ", "1"]


def value_of(command, flag):
    return command[command.index(flag) + 1]


def run(command, place):
    """What a shell does with the command in `place`, except that few images are trained on; ends with its exit code."""
    from dassl_vr.backbones import adapters

    adapters.__path__.append(str(place / "dassl_vr/backbones/adapters"))
    adapters.adapters.cache_clear()  # tests before this one may have looked for them
    raise SystemExit(main([*command, *QUICK]))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: value_of(command, "--output-dir").removeprefix("output/"))
def test_an_example_trains(command, tmp_path, monkeypatch):
    assert command[:2] == ["python", "train.py"]
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)
    generator = np.random.default_rng(0)
    for name in ("chanterelle", "fly_agaric"):
        Path(f"data/mushrooms/images/{name}").mkdir(parents=True)
        for number in range(10):
            pixels = generator.integers(0, 256, (70, 70, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"data/mushrooms/images/{name}/{number}.png")
    # In a process of its own, so that what it registers is gone afterwards
    process = multiprocessing.get_context("fork").Process(target=run, args=(command[2:], tmp_path))
    process.start()
    process.join()
    assert process.exitcode == 0
    results = json.loads((tmp_path / value_of(command, "--output-dir") / "results.json").read_text())
    assert results["epochs"] == 1 and results["accuracy"] is not None


def test_every_file_is_used():
    words = {word for command in COMMANDS for word in command}
    assert {name for name in FILES if "/" not in name} <= words
    assert len(COMMANDS) == len([name for name in FILES if name.endswith(".py")])


def python_blocks(name):
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / name).read_text(encoding="utf-8"), re.DOTALL)


def test_a_run_as_in_the_readme(tmp_path, monkeypatch, capsys):
    """On few images."""
    from dassl_vr import runs

    block = next(block for block in python_blocks("README.md") if "build_cfg" in block)
    quick = {"DATASET.NUM_SHOTS": 2, "TRAIN.END_FIGURES": False, "VERBOSE": False}
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save("photo.jpg")
    monkeypatch.setattr(
        dassl_vr,
        "build_cfg",
        lambda files=(), settings=(), **more: runs.build_cfg(files, {**dict(settings), **quick}, **more),
        raising=False,
    )
    names = {}
    exec(block, names)
    assert names["results"]["accuracy"] == pytest.approx(names["metrics"]["accuracy"])
    assert len(ast.literal_eval(capsys.readouterr().out.splitlines()[-1])[0]) == 3, "the three most likely classes"


def test_the_containments_of_the_theory():
    """F_shr and F_sp within F_smm, to the last bit; the block asserts it itself."""
    block = next(block for block in python_blocks("docs/paper.md") if "as_shared" in block)
    assert block.count("assert torch.equal") == 2
    exec(block, {})


def test_a_bundle_in_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe, data = REPOSITORY / "configs/trainers/LinearProbe/tiny_vit.yaml", REPOSITORY / "configs/datasets/digits.yaml"
    command = ["--trainer", "LinearProbe", "--config-file", str(recipe), "--dataset-config-file", str(data), "--output-dir", "run"]
    assert main([*command, *QUICK, "OPTIM.MAX_EPOCH", "1"]) == 0
    assert export(["run", "my_bundle"]) == 0
    for name in ("photo.jpg", "another.png"):
        Image.new("RGB", (64, 64)).save(name)
    capsys.readouterr()
    exec(next(block for block in python_blocks("docs/own_data.md") if "load_prompted" in block), {})

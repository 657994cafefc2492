"""The loop of one's own: in the README, in help(Ilm) and as a notebook, run as printed on few images.

ResNet-18 has random weights here, because its own would be downloaded; EfficientNet-lite0 has its own.
"""

import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import sklearn.datasets
import torchvision

from dassl_vr.reprogramming import Ilm

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOK = json.loads((REPOSITORY / "docs/smm_loop.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
TEXT = "\n".join("".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown")


@pytest.fixture
def few_digits(monkeypatch):
    """15 images of the 1,797, and weights that need no connection."""
    everything, resnet18 = sklearn.datasets.load_digits(), torchvision.models.resnet18
    few = SimpleNamespace(images=everything.images[:15], target=everything.target[:15])
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: few)

    def untrained(weights):
        assert torchvision.models.ResNet18_Weights[weights].url.startswith("https://")  # there are such weights
        return resnet18(weights=None)

    monkeypatch.setattr(torchvision.models, "resnet18", untrained)


def run(blocks):
    """The names that the code leaves, with two epochs in place of eight."""
    code = "\n".join(blocks)
    assert code.count("range(8)") == 1
    names = {}
    exec(code.replace("range(8)", "range(2)"), names)
    return names


def is_trained(names):
    """Whether a namespace has an f_in that moved, and an f_out that gives each digit a source class of its own."""
    sources = names["f_out"].source_index
    return bool(names["f_in"].delta.abs().max() > 0) and len(set(sources.tolist())) == 10 and sources.min() >= 0


def test_the_loop_of_the_readme_is_that_of_help(few_digits):
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (loop,) = (block for block in blocks if "SampleSpecificMask" in block)
    shown = inspect.getdoc(Ilm).partition("::\n\n")[2].partition("\nRaises:")[0]
    assert re.sub("^ {4}", "", shown, flags=re.MULTILINE).strip() == loop.strip()
    names = run([loop])
    assert is_trained(names)
    assert names["predicted"].shape == (8,) and set(names["predicted"].tolist()) <= set(range(10))


@pytest.mark.parametrize("backbone", ["resnet18", "lite0"])
def test_the_notebook_runs(few_digits, backbone, capsys, monkeypatch):
    pytest.importorskip("matplotlib").use("Agg")
    (offline,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    cells = [offline if backbone == "lite0" and cell.startswith("classifier =") else cell for cell in CODE]
    assert (offline in cells) == (backbone == "lite0")
    names = run(cells)
    assert is_trained(names)
    shown = capsys.readouterr().out
    assert len(re.findall(r"^epoch \d: loss \d+\.\d\d, test accuracy \d+\.\d %$", shown, re.MULTILINE)) == 2
    assert len(re.findall(r"^\d [\w ]+", shown, re.MULTILINE)) >= 10  # the source class of each digit
    assert len(names["axes"]) == 6 and all(axis.images for axis in names["axes"])
    names["plt"].close("all")


def test_the_notebook_is_stored_without_outputs():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None

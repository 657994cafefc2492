"""The figures that stand in two documents are the same in both."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = sorted(
    path
    for path in (REPOSITORY / "configs/trainers").rglob("*.yaml")
    if "Measured by the command in docs/comparisons.md" in path.read_text()
)


def measured():
    """{(backbone, "SMM" or "VR full"): "95.1 ± 0.8"} of the tables in docs/comparisons.md."""
    found, backbone = {}, None
    for line in (REPOSITORY / "docs/comparisons.md").read_text().splitlines():
        if command := re.match(r"bash scripts/compare\.sh digits (\w+) --seeds 1 2 3", line):
            backbone = command.group(1)
        if row := re.match(r"\| ([\w ]+?) +\|.*?\| (\d+\.\d ± \d+\.\d) ", line):
            found[backbone, row.group(1)] = row.group(2)
    return found


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipes_head_has_the_figures_of_the_comparison(path):
    trainer, backbone = path.parent.name, path.stem.removesuffix("_pad")
    says = re.search(r"^# Test accuracy on digits, seeds 1 2 3: (.*)\.$", path.read_text(), re.MULTILINE).group(1)
    figures = re.findall(r"(?:(\w+) )?(\d+\.\d \+- \d+\.\d)", says)
    assert figures
    for variant, figure in figures:
        variant = variant or ("pad" if path.stem.endswith("_pad") else "")
        assert measured()[backbone, f"{trainer} {variant}".strip()] == figure.replace("+-", "±")


def test_every_row_of_the_comparison_stands_in_a_recipe():
    assert {(path.stem.removesuffix("_pad"), path.parent.name) for path in RECIPES} == {
        (backbone, row.split()[0]) for backbone, row in measured() if backbone
    }

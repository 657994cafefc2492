"""The figures that stand in two documents are the same in both."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def measured():
    """{(backbone, "SMM" or "VR full"): "95.1 ± 0.8"} of the tables on digits in docs/comparisons.md that come from no cards."""
    found, backbone = {}, None
    text = (REPOSITORY / "docs/comparisons.md").read_text()
    for line in re.sub(r"<!-- generated: .*?<!-- end -->", "", text, flags=re.DOTALL).splitlines():
        if line.startswith("bash scripts/compare.sh"):
            command = re.match(r"bash scripts/compare\.sh digits (\w+) --seeds 1 2 3", line)
            backbone = command and command.group(1)
        if row := re.match(r"\| ([\w ]+?) +\|.*?\| (\d+\.\d ± \d+\.\d) ", line):
            found[backbone, row.group(1)] = row.group(2)
    return found


RECIPES = sorted(
    path
    for path in (REPOSITORY / "configs/trainers").rglob("*.yaml")
    if path.stem.removesuffix("_pad") in {backbone for backbone, _ in measured()}
    and "Measured by the command in docs/comparisons.md" in path.read_text()
)


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

"""Which runs a script of one method plans."""

import pytest
from PIL import Image

from dassl_vr.cli.method import SCRIPTS, plan
from dassl_vr.plugins import load_plugins

load_plugins()


@pytest.fixture
def pets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / "my_pets" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "my_pets" / name / "1.png")
    return tmp_path / "my_pets"


@pytest.mark.parametrize(
    ("script", "data", "backbone", "recipe"),
    [
        ("smm", "./my_pets", "tiny_vit", "SMM/tiny_vit_best"),
        ("smm", "my_pets", "tiny_vit", "SMM/tiny_vit_best"),
        ("smm", "folder", "tiny_vit", "SMM/tiny_vit_best"),
        ("smm", "./my_pets", "tiny_vit_head", "SMM/tiny_vit_head"),
        ("smm", "./my_pets", "tiny_vit_best", "SMM/tiny_vit_best"),
        ("smm", "digits", "tiny_vit", "SMM/tiny_vit"),
        ("linear_probe", "./my_pets", "tiny_vit", "LinearProbe/tiny_vit"),
    ],
)
def test_own_images_are_trained_with_the_best_recipe_unless_one_is_named(pets, capsys, script, data, backbone, recipe):
    (run,) = plan(SCRIPTS[script], [data, backbone], ["DATASET.ROOT", str(pets)] if data == "folder" else [])
    assert run.flags["config_file"] == f"configs/trainers/{recipe}.yaml"
    chosen = recipe.endswith("_best") and not backbone.endswith("_best")
    assert ("the recipe is tiny_vit_best.yaml" in capsys.readouterr().out) == chosen

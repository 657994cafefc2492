"""Which runs a script of one method plans."""

import pytest
from PIL import Image

from dassl_vr.cli.method import SCRIPTS, main, plan
from dassl_vr.engine.run_directory import CONFIG_FILE
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


@pytest.mark.parametrize("script", ["smm", "linear_probe"])
def test_on_own_images_every_script_has_the_same_seed(pets, script):
    (run,) = plan(SCRIPTS[script], ["./my_pets", "tiny_vit"], [])
    assert run.output_dir.name == "seed1"


def test_what_no_script_can_continue_is_said_in_the_words_of_scripts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    (run,) = plan(SCRIPTS["linear_probe"], ["digits", "tiny_vit"], ["OPTIM.MAX_EPOCH", "3"])
    run.output_dir.mkdir(parents=True)
    (run.output_dir / CONFIG_FILE).write_text(run.cfg.dump())
    assert main(["linear_probe", "digits", "tiny_vit", "--", "OPTIM.MAX_EPOCH", "4"]) == 2
    said = capsys.readouterr().err
    assert "(OPTIM.MAX_EPOCH 3 -> 4" in said and said.rstrip().endswith("; choose another tag with TAG=NAME before the command")

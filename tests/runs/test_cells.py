"""Which run follows from a cell of a table."""

import pytest

from dassl_vr.cli.train import build_parser, setup_cfg
from dassl_vr.plugins import load_plugins
from dassl_vr.runs.cells import Cell, cell_of, data_arguments
from dassl_vr.runs.plan import Run, unique
from dassl_vr.utils.errors import ConfigError


def test_the_directory_and_the_command():
    run = Cell("VR", "pad", "digits", "lite0").run(0, "output", "default", "data", ["OPTIM.LR", "1"])
    assert str(run.output_dir) == "output/digits/VR-pad/lite0/default/seed0"
    assert " ".join(run.argv) == (
        "--trainer VR --config-file configs/trainers/VR/lite0_pad.yaml --dataset-config-file configs/datasets/digits.yaml"
        f" --root data --seed 0 --output-dir {run.output_dir} --resume {run.output_dir} DATASET.DOWNLOAD True"
        " TRAINER.VR.METHOD pad OPTIM.LR 1"
    )


def test_the_command_gives_the_configuration(tmp_path):
    run = Cell("SMM", "", "digits", "lite0").run(3, str(tmp_path), "mine", "data", ["OPTIM.MAX_EPOCH", "2"])
    cfg = setup_cfg(build_parser().parse_args(run.argv))
    assert (2, 3, str(run.output_dir), str(run.output_dir)) == (cfg.OPTIM.MAX_EPOCH, cfg.SEED, cfg.OUTPUT_DIR, cfg.RESUME)
    again = Run(**run.parts())
    assert again.cfg == run.cfg and again.argv == run.argv


@pytest.mark.parametrize(
    "cell",
    [
        Cell("SMM", "", "digits", "lite0"),
        Cell("VR", "pad", "digits", "lite0"),
        Cell("VR", "full", "digits", "lite0"),
        Cell("VPT", "deep", "digits", "tiny_vit"),
        Cell("ZeroshotCLIP", "template", "dtd", "clip_vit_b16"),
        Cell("LinearProbe", "", "eurosat", "rn18"),
    ],
)
def test_a_run_is_found_again_in_its_cell(cell):
    run = cell.run(0, "output", "default", "data")
    assert cell_of(run.cfg, run.flags["config_file"], run.flags["dataset_config_file"]) == cell


def test_the_cell_of_a_run_without_a_recipe_of_its_trainer():
    cfg = Cell("VR", "full", "digits", "lite0").run(0, "output", "default", "data", ["MODEL.BACKBONE.NAME", "timm:resnet18"]).cfg
    assert cell_of(cfg, "mine/recipe.yaml") == Cell("VR", "full", "digits", "timm-resnet18")


@pytest.mark.parametrize("word", ["a/pets", "./a/pets", "folder"])
def test_runs_on_a_folder_are_called_as_it_is(word, tmp_path, monkeypatch):
    (tmp_path / "a/pets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    load_plugins()
    more = ["DATASET.ROOT", "a/pets"] if word == "folder" else []
    run = Cell("SMM", "", word, "tiny_vit").run(0, "output", "default", "data", more)
    assert str(run.output_dir) == "output/pets/SMM/tiny_vit/default/seed0" == run.cfg.OUTPUT_DIR
    assert run.cfg.DATASET.NAME == "folder" and run.cfg.DATASET.ROOT == "a/pets"
    assert cell_of(run.cfg, run.flags["config_file"]) == Cell("SMM", "", "pets", "tiny_vit")


def test_a_data_set_before_a_folder_of_its_name(tmp_path, monkeypatch):
    for name in ("digits", "pets"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    load_plugins()
    assert data_arguments("digits") == ({"dataset_config_file": "configs/datasets/digits.yaml"}, [])
    assert data_arguments("pets") == ({}, ["DATASET.NAME", "pets"]), "an alias of OxfordPets"
    assert data_arguments("./digits") == ({}, ["DATASET.NAME", "folder", "DATASET.ROOT", "./digits"])
    with pytest.raises(ConfigError, match="no such directory"):
        data_arguments("cats/pets")


def test_a_directory_is_one_run():
    cell = Cell("SMM", "", "digits", "lite0")
    runs = [cell.run(seed, "output", "default", "data") for seed in (1, 1, 2)]
    assert [run.name for run in unique(runs)] == ["SMM seed 1", "SMM seed 2"]
    with pytest.raises(ConfigError, match="two different runs would go to output/digits/SMM"):
        unique([*runs, cell.run(2, "output", "default", "data", ["OPTIM.LR", "0.5"])])


def test_what_no_run_could_have_ends_the_plan():
    with pytest.raises(ConfigError, match="OPTIM.LRR"):
        Cell("SMM", "", "digits", "lite0").run(0, "output", "default", "data", ["OPTIM.LRR", "1"])

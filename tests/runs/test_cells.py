"""Which run follows from a cell of a table."""

import pytest

from dassl_vr.cli.train import build_parser, setup_cfg
from dassl_vr.runs.cells import Cell
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


def test_a_directory_is_one_run():
    cell = Cell("SMM", "", "digits", "lite0")
    runs = [cell.run(seed, "output", "default", "data") for seed in (1, 1, 2)]
    assert [run.name for run in unique(runs)] == ["SMM seed 1", "SMM seed 2"]


def test_what_no_run_could_have_ends_the_plan():
    with pytest.raises(ConfigError, match="OPTIM.LRR"):
        Cell("SMM", "", "digits", "lite0").run(0, "output", "default", "data", ["OPTIM.LRR", "1"])

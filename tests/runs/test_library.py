"""A run as a library call, without a command line."""

import json

import pytest

import dassl_vr
from dassl_vr.utils.errors import ConfigError, UserError

FILES = ["configs/datasets/digits.yaml", "configs/trainers/LinearProbe/tiny_vit.yaml"]
SETTINGS = {
    "TRAINER.NAME": "LinearProbe",
    "SEED": 1,
    "DATASET.NUM_SHOTS": 2,
    "OPTIM.MAX_EPOCH": 2,
    "VERBOSE": False,
    "TRAIN.END_FIGURES": False,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("library") / "run"


@pytest.fixture(scope="module")
def results(place):
    cfg = dassl_vr.build_cfg(FILES, {**SETTINGS, "OUTPUT_DIR": str(place)})
    before, epochs = cfg.clone(), []
    found = dassl_vr.run(cfg, watch=lambda trainer: epochs.append(trainer.epoch))
    assert cfg == before, "the caller's configuration stays as it is"
    assert epochs == [0, 1]
    return found


def test_a_run_returns_what_it_leaves(results, place):
    written = json.loads((place / "results.json").read_text())
    assert results["accuracy"] == written["accuracy"] and len(results["history"]) == 2
    again = dassl_vr.run(dassl_vr.build_cfg(FILES, {**SETTINGS, "OUTPUT_DIR": str(place)}))
    assert again == written, "a finished run is left alone"


def test_evaluate_gives_the_accuracy_of_the_end(results, place, tmp_path):
    cfg = dassl_vr.build_cfg(trained=place)
    assert dassl_vr.evaluate(cfg, place)["accuracy"] == results["accuracy"]
    metrics = dassl_vr.evaluate(cfg, place, output_dir=str(tmp_path / "test"))
    written = json.loads((tmp_path / "test/results.json").read_text())
    assert metrics["macro_f1"] == written["macro_f1"] and written["evaluated_model"] == "checkpoint"


def test_nothing_is_trained_where_only_building_is_asked_for(tmp_path):
    cfg = dassl_vr.build_cfg(FILES, {**SETTINGS, "OUTPUT_DIR": str(tmp_path / "run")})
    assert dassl_vr.run(cfg, train=False) is None and not (tmp_path / "run").exists()


def test_later_settings_win(tmp_path):
    (tmp_path / "mine.yaml").write_text("SEED: 5\nOPTIM:\n  LR: 2\n")
    cfg = dassl_vr.build_cfg([*FILES, tmp_path / "mine.yaml"], ["OPTIM.LR", "3", "OPTIM.GAMMA", 0.5])
    assert (cfg.SEED, cfg.OPTIM.LR, cfg.OPTIM.GAMMA, cfg.DATASET.NAME, cfg.DATASET.FLIP) == (5, 3.0, 0.5, "digits", False)


@pytest.mark.parametrize(
    ("files", "settings", "words"),
    [
        (["nowhere.yaml"], {}, "nowhere.yaml"),
        (FILES, {"OPTIM.LRR": 1}, "OPTIM.LR"),
        (FILES, {"OPTIM.MAX_EPOCH": "ten"}, "OPTIM.MAX_EPOCH"),
    ],
)
def test_errors_of_a_configuration(files, settings, words):
    with pytest.raises(ConfigError, match=words):
        dassl_vr.build_cfg(files, settings)


def test_errors_are_raised(place, tmp_path):
    settings = {**SETTINGS, "OUTPUT_DIR": str(tmp_path / "run"), "TRAINER.NAME": "LinearProb"}
    with pytest.raises(UserError, match="LinearProbe"):
        dassl_vr.run(dassl_vr.build_cfg(FILES, settings))
    with pytest.raises(UserError, match="no such directory"):
        dassl_vr.evaluate(dassl_vr.build_cfg(FILES, settings), tmp_path / "none")
    assert not (tmp_path / "run").exists()

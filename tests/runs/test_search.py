"""Spaces to search: what they may say. The search itself is tested in `test_sweep.py`."""

import pytest

from dassl_vr.plugins import load_plugins
from dassl_vr.runs.cells import Cell
from dassl_vr.runs.search import check_space, read_space
from dassl_vr.utils.errors import ConfigError

RULES = "expected one of choice: [...], uniform: [low, high], loguniform: [low, high]"


def space_of(tmp_path, text):
    (tmp_path / "space.yaml").write_text(text)
    return read_space(tmp_path / "space.yaml")


def test_kinds_and_numbers(tmp_path):
    space = space_of(
        tmp_path,
        "OPTIM.LR: {loguniform: [1e-3, 0.1]}\nOPTIM.MOMENTUM: {uniform: [0, 1]}\nINPUT.SIZE: {choice: [[32, 32], '(64, 64)']}\n",
    )
    assert space == {
        "OPTIM.LR": ("loguniform", [0.001, 0.1]),
        "OPTIM.MOMENTUM": ("uniform", [0.0, 1.0]),
        "INPUT.SIZE": ("choice", [[32, 32], "(64, 64)"]),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no key; expected KEY: {choice: [...]} and the like"),
        ("- 1\n", "expected KEY: value lines, found a list"),
        ("A: 1\n", f"A: 1; {RULES}"),
        ("A: [1, 2]\n", f"A: [1, 2]; {RULES}"),
        ("A: {choice: []}\n", RULES),
        ("A: {choice: 3}\n", RULES),
        ("A: {choice: [1], uniform: [0, 1]}\n", RULES),
        ("A: {normal: [0, 1]}\n", RULES),
        ("A: {uniform: [0, 1, 2]}\n", RULES),
        ("A: {uniform: 3}\n", RULES),
        ("A: {uniform: [1, 1]}\n", RULES),
        ("A: {uniform: [0, .inf]}\n", RULES),
        ("A: {uniform: [false, true]}\n", RULES),
        ("A: {uniform: [low, high]}\n", RULES),
        ("A: {loguniform: [0, 1]}\n", RULES),
    ],
)
def test_spaces_that_are_refused(tmp_path, text, words):
    with pytest.raises(ConfigError) as error:
        space_of(tmp_path, text)
    assert "space.yaml: " in str(error.value) and words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("OPTIM.RL: {uniform: [0, 1]}\n", "unknown key 'OPTIM.RL' (did you mean 'OPTIM.LR'?)"),
        ("OPTIM.NAME: {choice: [adam, madam]}\n", "madam"),
        ("OPTIM.LR: {choice: [0.1, fast]}\n", "'OPTIM.LR' takes a number"),
        ("DATALOADER.TRAIN_X.BATCH_SIZE: {uniform: [2, 8]}\n", "takes no fractions; write choice: [...] in place of uniform"),
        ("SEED: {choice: [1, 2]}\n", "SEED is the same for all trials; leave it out of the space"),
        ("TEST.SPLIT: {choice: [test]}\n", "TEST.SPLIT is the same for all trials"),
        ("OPTIM.MAX_EPOCH: {choice: [1, 2]}\n", "OPTIM.MAX_EPOCH is the same for all trials"),
    ],
)
def test_impossible_settings_of_a_space_are_refused(tmp_path, text, words):
    load_plugins()
    run = Cell("LinearProbe", "", "digits", "tiny_vit").run(1, tmp_path, "default", "data")
    with pytest.raises(ConfigError) as error:
        check_space([run], space_of(tmp_path, text))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_trials_whose_epochs_follow_from_the_data_are_refused(tmp_path):
    load_plugins()
    run = Cell("CLIPLoRA", "", "digits", "clip_vit_b16").run(1, tmp_path, "default", "data")
    with pytest.raises(ConfigError, match="set OPTIM.MAX_EPOCH to a number of them, not 0"):
        check_space([run], space_of(tmp_path, "OPTIM.LR: {uniform: [0, 1]}\n"))

"""Curves of validation and test accuracy: they are kept, and nothing else changes."""

import json

import pytest
import torch

from dassl_vr.cli.train import main
from dassl_vr.engine.trainer import SimpleTrainer

KEYS = ("TEST.VAL_CURVE", "TEST.TEST_CURVE")


def outcome(directory):
    """(content of results.json, the trained pattern)"""
    prompt = torch.load(directory / "prompt" / "model.pth.tar-3", weights_only=True)["state_dict"]
    return json.loads((directory / "results.json").read_text()), prompt


def test_curves_are_kept_and_training_has_the_same_bits(tmp_path, tiny_command, monkeypatch, capsys):
    test = SimpleTrainer.test

    def drawing(trainer, split=None):  # as loaders of a trainer's own may do
        torch.rand(3)
        return test(trainer, split)

    monkeypatch.setattr(SimpleTrainer, "test", drawing)
    runs = {}
    for value in ("False", "True"):
        settings = [word for key in KEYS for word in (key, value)]
        assert main(tiny_command(tmp_path / value, *settings, "TEST.TRAIN_GAP", "False", trainer="VR")) == 0
        runs[value] = outcome(tmp_path / value)
        assert capsys.readouterr().out.count("it selects nothing") == (value == "True"), "once, not after each epoch"
    (without, bits), (results, same) = runs["False"], runs["True"]
    assert all(torch.equal(value, same[key]) for key, value in bits.items())
    assert [e["loss"] for e in without["history"]] == [e["loss"] for e in results["history"]]
    assert without["accuracy"] == results["accuracy"] and results["evaluated_model"] == "last_step"
    curves = [[epoch[f"{split}_accuracy"] for epoch in results["history"]] for split in ("val", "test")]
    assert [curve[-1] for curve in curves] == [results["metrics"][split]["accuracy"] for split in ("val", "test")]
    assert len(curves[0]) == 3 and not {"val_accuracy", "test_accuracy"} & without["history"][0].keys()


@pytest.mark.parametrize(("frequency", "epochs"), [(2, [2, 3]), (5, [3])])
def test_validation_is_the_default_and_as_frequent_as_asked(tmp_path, tiny_command, frequency, epochs):
    assert main(tiny_command(tmp_path / "run", "TEST.VAL_FREQ", frequency, trainer="VR")) == 0
    history = outcome(tmp_path / "run")[0]["history"]
    assert [epoch["epoch"] for epoch in history if "val_accuracy" in epoch] == epochs
    assert not any("test_accuracy" in epoch for epoch in history)

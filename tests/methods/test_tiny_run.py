"""One tiny run from the command to a finished directory, for the fast tier."""

import json

import pytest
import torch

from dassl_vr.cli.train import main


def test_smm_trains_tests_and_leaves_its_files(tiny_command, tmp_path, capsys):
    out = tmp_path / "run"
    assert not main(tiny_command(out, "OPTIM.MAX_EPOCH", "1", backbone="tiny_vit"))
    results = json.loads((out / "results.json").read_text())
    assert results["trainer"] == "SMM" and 0 <= results["accuracy"] <= 100
    assert (out / "log.txt").is_file() and (out / "config.yaml").is_file()
    saved = torch.load(out / "prompt/model.pth.tar-1", weights_only=True)["state_dict"]
    assert saved and all(torch.isfinite(values).all() for values in saved.values())
    assert not main(tiny_command(out, "OPTIM.MAX_EPOCH", "1", backbone="tiny_vit"))
    assert "finished already" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["SMM", "VR"])
def test_loss_falls(tmp_path, tiny_command, name):
    settings = [
        "OPTIM.MAX_EPOCH",
        "6",
        "DATASET.NUM_SHOTS",
        "10",
        "OPTIM.LR",
        "0.03",
        f"TRAINER.{name}.MAPPING",
        "flm",
        "OPTIM.LR_SCHEDULER",
        "cosine",
    ]
    assert main(tiny_command(tmp_path / "run", *settings, trainer=name)) == 0
    history = json.loads((tmp_path / "run" / "results.json").read_text())["history"]
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]


def test_pattern_and_generator_have_rates_of_their_own(tmp_path, tiny_command):
    out = tmp_path / "run"
    rates = ["OPTIM.LR_SCHEDULER", "multi_step", "OPTIM.STEPSIZE", "(0.5, 0.72)", "OPTIM.GAMMA", "0.1"]
    assert main(tiny_command(out, *rates, "OPTIM.LR", "0.02", "TRAINER.SMM.MASK_LR", "0.005", "TRAINER.SMM.MASK_GAMMA", "1")) == 0
    prompt = torch.load(out / "prompt" / "model.pth.tar-3", weights_only=True)
    mask = torch.load(out / "mask_generator" / "model.pth.tar-3", weights_only=True)
    assert prompt["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.02 * 0.1**2)
    assert mask["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.005)

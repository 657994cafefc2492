"""The trainer's loop in runs on small real data: validation, anomalies, checks before the first read, untested runs."""

import json

import pytest
import torch

from dassl_vr.cli.train import main


def test_best_by_validation_is_kept_and_deployed(tmp_path, tiny_command, capsys):
    out = tmp_path / "run"
    assert main(tiny_command(out, "TEST.FINAL_MODEL", "best_val")) == 0
    best = torch.load(out / "prompt" / "model-best.pth.tar", weights_only=True)
    assert best["val_result"] is not None
    assert json.loads((out / "results.json").read_text())["evaluated_model"] == "best_val"
    assert f"model-best.pth.tar into prompt (epoch={best['epoch']}" in capsys.readouterr().out


@pytest.mark.parametrize(("frequency", "epochs"), [(1, [0, 1, 2]), (2, [1, 2]), (5, [2])])
def test_validation_every_so_many_epochs_and_after_the_last(tmp_path, tiny_command, monkeypatch, frequency, epochs):
    from dassl_vr.engine.trainer import SimpleTrainer

    seen, test = [], SimpleTrainer.test

    def watched(trainer, split=None):
        if split == "val":
            seen.append(trainer.epoch)
        return test(trainer, split)

    monkeypatch.setattr(SimpleTrainer, "test", watched)
    settings = ["TEST.FINAL_MODEL", "best_val", "TEST.VAL_FREQ", frequency, "TEST.TRAIN_GAP", "False"]
    assert main(tiny_command(tmp_path / "run", *settings, trainer="VR")) == 0
    assert seen == epochs


def test_anomaly_on_an_accelerator_waits_for_the_next_look(tmp_path, tiny_command, trainer_of, monkeypatch):
    """Off the CPU `detect_anomaly` must not read the loss; `raise_if_anomaly`, called before each checkpoint, does."""
    elsewhere, trainer = (trainer_of(tiny_command(tmp_path / name)) for name in ("elsewhere", "here"))
    elsewhere.detect_anomaly(torch.full((), float("inf"), device="meta"))  # reading a meta tensor would raise
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        elsewhere.raise_if_anomaly()
    with monkeypatch.context() as patch:
        patch.setattr("dassl_vr.utils.distributed.is_parallel", lambda: True)  # nor does it where processes have to agree
        trainer.detect_anomaly(torch.tensor(float("inf")))
        trainer.detect_anomaly(torch.tensor(1.0))
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        trainer.raise_if_anomaly()
    trainer.raise_if_anomaly()  # reported once


@pytest.mark.parametrize(
    "setting, words",
    [(["TRAINER.SMM.PATCH_SIZE", "3"], "patch_size is 3"), (["INPUT.TRANSFORMS", "['vr_squishh']"], "vr_squishh")],
)
def test_settings_are_checked_before_data_and_weights_are_read(tmp_path, tiny_command, monkeypatch, setting, words, trainer_of):
    from dassl_vr.utils.errors import ConfigError

    monkeypatch.setattr("dassl_vr.engine.trainer.DataManager", lambda *args, **kwargs: pytest.fail("data was read"))
    with pytest.raises(ConfigError, match=words):
        trainer_of(tiny_command(tmp_path / "run", *setting))


def test_a_run_without_a_test_finishes_and_is_left_alone(tmp_path, tiny_command, capsys):
    command = tiny_command(tmp_path / "run", "TEST.NO_TEST", "True", "OPTIM.MAX_EPOCH", "1")
    assert main(command) == 0
    assert json.loads((tmp_path / "run" / "results.json").read_text())["accuracy"] is None
    assert main(command) == 0
    assert "finished already, untested" in capsys.readouterr().out

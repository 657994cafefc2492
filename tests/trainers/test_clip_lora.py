"""CLIP-LoRA as a run: counted, resumed bit for bit while it drops inputs, without dropout and merged in what is exported."""

import json
import signal

import pytest
import torch

from dassl_vr.cli.train import main
from dassl_vr.deploy import load_prompted
from dassl_vr.deploy.exported import exported_program
from dassl_vr.engine import TrainerX
from dassl_vr.report.features import PROMPTED, UNPROMPTED, features_before_after

CLIP_LORA = {"trainer": "CLIPLoRA", "backbone": "tiny_clip"}
SHORT = ("TEST.NO_TEST", "True", "OPTIM.LR", "0.01")


@pytest.fixture
def whole(tmp_path, tiny_command):
    """The directory of a run that nobody interrupts."""
    assert main(tiny_command(tmp_path / "whole", *SHORT, **CLIP_LORA)) == 0
    return tmp_path / "whole"


def trained(directory):
    return torch.load(directory / "adapter/model.pth.tar-3", weights_only=True)["state_dict"]


def test_a_run_is_counted_and_resumed_bit_for_bit(whole, tmp_path, tiny_command, monkeypatch):
    results = json.loads((whole / "results.json").read_text())
    # 3 weights of rank 2, down and up: 2 blocks of width 64 in the text tower, 4 of width 128 in the image tower
    assert results["params_trainable"] == 3 * 2 * 2 * (2 * 64 + 4 * 128)
    update, out = TrainerX.model_update, tmp_path / "stopped"

    def stop_in_the_second_epoch(trainer, *arguments):
        update(trainer, *arguments)
        if (trainer.epoch, trainer.batch_idx) == (1, 1):
            signal.raise_signal(signal.SIGTERM)

    command = tiny_command(out, "--resume", out, *SHORT, **CLIP_LORA)
    monkeypatch.setattr(TrainerX, "model_update", stop_in_the_second_epoch)
    assert main(command) == 75
    monkeypatch.setattr(TrainerX, "model_update", update)
    assert main(command) == 0
    assert "epoch 2, batch 3 is next" in (out / "log.txt").read_text()
    expected, got = trained(whole), trained(out)
    assert sorted(expected) == ["image.down", "image.up", "text.down", "text.up"]
    assert expected["text.up"].any() and expected["image.up"].any()
    assert all(torch.equal(got[key], value) for key, value in expected.items())


def test_an_exported_graph_has_merged_weights_and_no_text_tower(whole):
    model, plain = load_prompted(whole, device="cpu"), load_prompted(whole, device="cpu")
    pixels = torch.randint(0, 256, (2, *model.pixel_shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    program = exported_program(model, pixels)
    assert not [name for name in program.state_dict if "in_proj_weight" in name or ".model.transformer." in name]
    assert [name for name in program.state_dict if ".visual." in name and "c_fc" in name]
    for parameter in (plain.network.text.up, plain.network.image.up):
        parameter.data.zero_()
    with torch.no_grad():
        expected = model(pixels)
        assert torch.equal(model(pixels), expected), "nothing is dropped"
        assert torch.allclose(program.module()(pixels), expected, atol=1e-4)
        assert not torch.allclose(plain(pixels), expected, atol=1e-2)
        x = model.normalize(pixels)
        assert list(features_before_after(model, [(x, x)])) == [UNPROMPTED, PROMPTED], "both towers change"


def test_the_length_of_a_run_follows_from_its_data(tmp_path, tiny_command, trainer_of):
    """Three shots of ten classes in batches of eight: four batches an epoch; 11 batches a shot are 33, the nearest are 8 epochs."""
    budget = ("OPTIM.MAX_EPOCH", "0", "OPTIM.BATCHES_PER_SHOT", "11", "OPTIM.COSINE_MIN_LR", "0.001")
    trainer = trainer_of(tiny_command(tmp_path / "run", *SHORT, *budget, **CLIP_LORA))
    assert trainer.max_epoch == 8 and len(trainer.train_loader_x) == 4
    (schedule,) = trainer._scheds.values()
    assert schedule.T_max == 32 and schedule.eta_min == 0.001


def test_settings_that_cannot_be_end_in_one_line(tmp_path, tiny_command, capsys):
    assert main(tiny_command(tmp_path / "run", "TRAINER.CLIPLORA.TEMPLATE", "a photo", **CLIP_LORA)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "template 'a photo' has no place for the class's name" in error

"""PromptSRC: its loss, written out; the Gaussian average of its epochs, which is the model; resumed bit for bit."""

import json

import numpy as np
import pytest
import torch
from dassl_vr.trainers.promptsrc import share_of_newest
from torch.nn import functional as F

from dassl_vr.cli.train import main
from dassl_vr.deploy import load_prompted
from dassl_vr.prompting import varied_templates

PROMPTSRC = {"trainer": "PromptSRC", "backbone": "tiny_clip"}
SHORT = ("TRAINER.PROMPTSRC.GPA_MEAN", "2.0", "OPTIM.LR", "0.02", "TRAIN.CHECKPOINT_FREQ", "1")


@pytest.fixture
def whole(request, tmp_path_factory, tiny_command):
    """The directory of a run of three epochs that nobody interrupts, trained once."""
    if not hasattr(request.module, "trained"):
        request.module.trained = tmp_path_factory.mktemp("whole") / "run"
        assert main(tiny_command(request.module.trained, *SHORT, **PROMPTSRC)) == 0
    return request.module.trained


def learned(directory, epoch=3):
    return torch.load(directory / f"prompt_learner/model.pth.tar-{epoch}", weights_only=True)["state_dict"]


@pytest.mark.parametrize("epochs, mean, std", [(20, 15, 1), (50, 30, 30), (50, 45, 5), (6, 100, 1), (1, 15, 1)])
def test_shares_add_up_to_the_published_weights(epochs, mean, std):
    """`get_gauss` of trainers/promptsrc.py: densities at epochs 1, 2, ..., divided by their sum."""
    numbers = np.arange(1, epochs + 1, dtype=np.longdouble)
    weights = np.exp(-0.5 * ((numbers - mean) / std) ** 2)
    weights /= weights.sum()
    values, average = np.random.default_rng(0).normal(size=epochs), 0.0
    for n, value in enumerate(values, start=1):
        average += share_of_newest(n, mean, std) * (value - average)
    assert average == pytest.approx(float((weights * values).sum()), abs=1e-12)


def test_shares_far_from_the_mean():
    """Where every density rounds to zero."""
    assert share_of_newest(1, 10_000, 1) == 1 and share_of_newest(9, 10_000, 1) == pytest.approx(1)
    assert share_of_newest(9, -10_000, 1) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("cached", [True, False])
def test_the_loss_written_out(tmp_path, tiny_command, trainer_of, cached):
    weights = ["TRAINER.PROMPTSRC.TEXT_LOSS_WEIGHT", "7.0", "TRAINER.PROMPTSRC.IMAGE_LOSS_WEIGHT", "3.0"]
    trainer = trainer_of(tiny_command(tmp_path / "run", *weights, "TRAIN.CACHE_FEATURES", cached, **PROMPTSRC))
    trainer.before_train()
    trainer.close_writer()
    trainer.set_model_mode("train")
    batch = next(iter(trainer.train_loader_x))
    images, labels = trainer.parse_batch_train(batch)
    loss, logits = trainer.train_loss(batch, images, labels)
    model, backbone = trainer.model, trainer.model.backbone
    with torch.no_grad():
        sentences = [template.replace("{}", name) for name in trainer.dm.dataset.classnames for template in varied_templates()]
        raw = backbone.adapter.encode_text(backbone.model, backbone.tokenize(sentences)).view(10, 60, -1)
        text, frozen_text = model.text_features(), F.normalize(raw.mean(dim=1), dim=-1)
        image, frozen_image = model.image_features(images), F.normalize(backbone.features(images), dim=-1)
        p = (backbone.scale * image @ text.T).softmax(dim=1)
        frozen_p = (backbone.scale * frozen_image @ frozen_text.T).softmax(dim=1)
        expected = -p[range(len(labels)), labels].log().mean()
        expected += 7 * (text - frozen_text).abs().mean() + 3 * (image - frozen_image).abs().mean()
        expected += (frozen_p * (frozen_p / p).log()).mean()
    assert torch.allclose(logits, model(images), atol=1e-4)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_what_is_tested_and_exported_is_the_average_of_the_epochs(whole, tmp_path, tiny_command):
    weights = torch.exp(-0.5 * (torch.arange(1.0, 4.0) - 2) ** 2)
    weights = weights / weights.sum()
    epochs, model = [learned(whole, epoch) for epoch in (1, 2, 3)], load_prompted(whole, device="cpu").network
    for name in ("context", "deep_text", "visual"):
        expected = sum(weight * state[name] for weight, state in zip(weights, epochs))
        assert torch.allclose(model.learned.now(name), expected, atol=1e-6)
        assert not torch.allclose(expected, epochs[2][name], atol=1e-5), "another model than the last epoch's"
    # A test of the run's files, by the engine: the same accuracy as at its end
    out, accuracy = tmp_path / "test", json.loads((whole / "results.json").read_text())["accuracy"]
    assert main(tiny_command(out, "--eval-only", "--model-dir", whole, *SHORT, **PROMPTSRC)) == 0
    assert json.loads((out / "results.json").read_text())["accuracy"] == accuracy


def test_resumed_bit_for_bit(whole, tmp_path, tiny_command, stopped_once_saved):
    out = tmp_path / "stopped"
    command = tiny_command(out, "--resume", out, *SHORT, "TEST.NO_TEST", "True", **PROMPTSRC)
    with stopped_once_saved():
        assert main(command) == 130
    assert main(command) == 0
    expected, got = learned(whole), learned(out)
    assert sorted(expected) == ["context", "deep_text", "mean_context", "mean_deep_text", "mean_visual", "visual"]
    assert all(torch.equal(got[key], value) for key, value in expected.items())


def test_two_processes_train_as_one(whole, processes, tmp_path, tiny_command):
    out = tmp_path / "two"
    command = tiny_command(out, *SHORT, "TEST.NO_TEST", "True", **PROMPTSRC)
    assert processes(2, lambda: main(command)) == [(0, 0)] * 2
    expected, got = learned(whole), learned(out)
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["TRAINER.PROMPTSRC.GPA_STD", "0.0"], "TRAINER.PROMPTSRC.GPA_STD is 0.0; it must be 0.001 or more"),
        (["TRAINER.PROMPTSRC.N_CTX_VISION", "0"], "TRAINER.PROMPTSRC.N_CTX_VISION is 0; it must be 1 or more"),
        (["TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT", "3"], "text tokens in 3 blocks, expected 1 to 2"),
        (["TRAINER.PROMPTSRC.N_CTX_TEXT", "5"], "5 context vectors, but 'a photo of a' is 4 tokens"),
    ],
)
def test_settings_that_cannot_be_end_in_one_line(tmp_path, tiny_command, capsys, settings, words):
    assert main(tiny_command(tmp_path / "run", "VERBOSE", "False", *settings, **PROMPTSRC)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
    assert not (tmp_path / "run").exists()

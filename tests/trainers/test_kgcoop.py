"""KgCoOp's loss against the paper's, and what its weight does."""

import pytest
import torch
from torch.nn import functional as F

from dassl_vr.cli.train import main

KGCOOP = {"trainer": "KgCoOp", "backbone": "tiny_clip"}


@pytest.fixture
def prepared(tmp_path, tiny_command, trainer_of):
    """prepared(*settings) -> (trainer as before its first step, its first batch)."""

    def prepare(*settings):
        trainer = trainer_of(tiny_command(tmp_path / "run", *settings, **KGCOOP))
        trainer.before_train()
        trainer.close_writer()
        trainer.set_model_mode("train")
        return trainer, next(iter(trainer.train_loader_x))

    return prepare


@pytest.mark.parametrize("cached", [True, False])
def test_the_loss_is_cross_entropy_and_half_the_squared_distance(prepared, cached):
    """Yao et al., section 3.2; with the published code's 1 - cos, half of the squared distance."""
    trainer, batch = prepared("TRAINER.KGCOOP.W", "3.0", "TRAIN.CACHE_FEATURES", cached, "DATASET.TEMPLATE", "my {}!")
    with torch.no_grad():
        trainer.model.prompts.context.add_(0.05)
    images, labels = trainer.parse_batch_train(batch)
    loss, logits = trainer.train_loss(batch, images, labels)
    hand_made = trainer.model.backbone.text_features([f"my {name}!" for name in trainer.dm.dataset.classnames])
    distance = (trainer.model.text_features() - hand_made).square().sum(dim=1).mean() / 2
    assert distance > 0.01
    assert torch.allclose(logits, trainer.model(images), atol=1e-4)
    assert loss.item() == pytest.approx((F.cross_entropy(trainer.model(images), labels) + 3 * distance).item(), rel=1e-5)


def test_a_larger_weight_keeps_the_prompts_nearer(tmp_path, tiny_command, trainer_of):
    def distance(weight):
        settings = ["TRAINER.KGCOOP.W", weight, "OPTIM.LR", "0.05", "TEST.NO_TEST", "True"]
        trainer = trainer_of(tiny_command(tmp_path / weight, *settings, **KGCOOP))
        trainer.train()
        with torch.no_grad():
            return (trainer.model.text_features() - trainer._hand_made).norm()

    assert distance("50.0") < 0.7 * distance("0.0")


def test_a_negative_weight_ends_in_one_line(tmp_path, tiny_command, capsys):
    assert main(tiny_command(tmp_path / "run", "TRAINER.KGCOOP.W", "-1.0", **KGCOOP)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "TRAINER.KGCOOP.W is -1.0; it must not be negative" in error

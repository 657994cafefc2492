"""Batch norm in training, at batches with and without statistics of their own."""

import pytest
import torch
from torch import nn

from dassl_vr.engine.batch_norm import survive_single_images
from dassl_vr.engine.parallel import synchronize_batch_norms
from dassl_vr.utils.distributed import StepShare

PREPARED = {
    "survive_single_images": lambda model: survive_single_images([model]),
    "synchronize_batch_norms": lambda model: synchronize_batch_norms(model, StepShare()),
}


@pytest.mark.parametrize("prepare", PREPARED.values(), ids=PREPARED)
def test_one_value_per_channel_takes_the_running_statistics(prepare, capsys):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU())
    plain = nn.Sequential(*model)
    many, one = torch.randn(8, 4), torch.randn(1, 4)
    expected = plain.eval()(one)
    prepare(model.train())
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        assert torch.allclose(model(one), expected) and torch.allclose(model(one), expected)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model[1].training
    model(one).sum().backward()
    assert model[0].weight.grad is not None
    assert capsys.readouterr().out.count("NOTE") <= 1
    y = model(many)  # and batches with statistics are what they were
    reference = nn.functional.batch_norm(model[0](many), None, None, model[1].weight, model[1].bias, True).relu()
    assert torch.allclose(y, reference, atol=1e-5) and not torch.equal(model[1].running_mean, state["1.running_mean"])


def test_a_convolution_of_one_large_image_has_statistics_of_its_own():
    model = nn.Sequential(nn.BatchNorm2d(3)).train()
    survive_single_images([model])
    model(torch.randn(1, 3, 4, 4))
    assert int(model[0].num_batches_tracked) == 1


@pytest.mark.parametrize(("last_of_one", "steps"), [("merge", 3), ("drop", 3), ("keep", 4)])
def test_the_generator_meets_no_batch_of_one_unless_that_is_asked_for(trainer_of, tiny_command, tmp_path, last_of_one, steps):
    command = tiny_command(tmp_path / "run", "DATASET.NUM_SHOTS", "1", "DATALOADER.TRAIN_X.BATCH_SIZE", "3")
    trainer = trainer_of([*command, "DATALOADER.TRAIN_X.LAST_OF_ONE", last_of_one])  # ten images
    loader = trainer.train_loader_x
    assert len(loader) == steps and min(len(batch["label"]) for batch in loader) == (1 if last_of_one == "keep" else 3)
    assert loader.num_samples == (9 if last_of_one == "drop" else 10)

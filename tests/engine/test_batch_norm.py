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

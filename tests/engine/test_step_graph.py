"""Recorded steps by themselves: optimizers, learning rates, shapes. Whole trainers: tests/test_graph_walk.py."""

import sys

import pytest
import torch
from on_graph import RecorderOnCpu
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from walk import built, without_files

from dassl_vr.config import get_cfg_default
from dassl_vr.engine.models import RegisteredModels
from dassl_vr.engine.resume import load_resume_file, save_resume_file
from dassl_vr.engine.step_graph import WARM_UP, RecordedSteps, make_capturable
from dassl_vr.optim import build_optimizer
from dassl_vr.utils import devices
from dassl_vr.utils.errors import ConfigError

SIZES = [5, 5, 5, 3] * 5  # of batches


def trained(name, wrap):
    """Losses and weights of a small network over batches of `SIZES`; `wrap(step, optimizer)` is what takes a step."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 1))
    cfg = get_cfg_default().OPTIM
    cfg.NAME, cfg.LR, cfg.MOMENTUM = name, 0.01, 0.9
    optimizer = build_optimizer(net, cfg)
    schedule = CosineAnnealingLR(optimizer, len(SIZES))

    def step(batch):
        loss = net(batch["x"]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach()}

    take, losses = wrap(step, optimizer), []
    for number, size in enumerate(SIZES):
        x = torch.randn(size, 4, generator=torch.Generator().manual_seed(number))
        losses.append(take({"x": x, "path": ["a"] * size})["loss"])
        schedule.step()
    return torch.stack(losses), torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize("name", ["adam", "amsgrad", "adamw", "radam", "rmsprop", "sgd", "normalized_sgd"])
def test_every_optimizer(monkeypatch, name):
    for module in ("rmsprop", "radam"):  # of all that torch can record, the fused ones alone are on the CPU
        monkeypatch.setattr(sys.modules[f"torch.optim.{module}"], "_get_capturable_supported_devices", lambda *_, **__: ["cpu"])
    recorder = RecorderOnCpu(None)

    def recorded(step, optimizer):
        make_capturable(optimizer)
        return RecordedSteps(step, [optimizer], recorder)

    losses, weights = trained(name, recorded)
    assert recorder.recordings == 2 and recorder.replays == len(SIZES) - 2 * WARM_UP
    plain_losses, plain_weights = trained(name, lambda step, optimizer: step)
    # Up to rounding: rates and counts of steps are float32
    assert torch.allclose(losses, plain_losses, rtol=2e-3) and torch.allclose(weights, plain_weights, atol=2e-4)


def test_an_optimizer_that_cannot_be_recorded():
    with pytest.raises(ConfigError, match="TRAIN.GRAPH: torch has no form of the optimizer LBFGS"):
        make_capturable(torch.optim.LBFGS([torch.zeros(1, requires_grad=True)]))


def test_results_are_the_callers_own():
    counter = torch.zeros(())
    steps = RecordedSteps(lambda batch: {"sum": counter.add_(batch["x"].sum())}, [], RecorderOnCpu(None))
    sums = [steps({"x": torch.ones(2)})["sum"] for _ in range(WARM_UP + 4)]
    assert [float(value) for value in sums[WARM_UP:]] == [2.0 * (WARM_UP + number) for number in range(1, 5)]


def test_a_run_is_resumed_with_or_without(monkeypatch, tmp_path):
    """What is saved knows nothing of tensors for rates."""
    monkeypatch.setattr(devices, "has_graphs", lambda device: True)
    monkeypatch.setattr(devices, "Recorder", RecorderOnCpu)
    monkeypatch.setattr(RegisteredModels, "raise_if_anomaly", lambda self: None)  # on the CPU it looks at every loss
    without_files(monkeypatch, 16)

    def make(graph):
        trainer = built("LinearProbe", "vit", {"TRAIN.GRAPH": graph, "DATALOADER.TRAIN_X.BATCH_SIZE": 8})
        trainer.epoch, trainer.num_batches, trainer.batch_idx = 0, 1000, 0
        trainer.set_model_mode("train")
        return trainer

    def losses(trainer):
        return [float(trainer.forward_backward(batch)["loss"]) for batch in batches]

    first = make(True)
    batches = [batch for _ in range(WARM_UP) for batch in first.train_loader_x]
    losses(first)
    save_resume_file(first, tmp_path)
    groups = torch.load(tmp_path / "resume.pt", weights_only=True)["optims"]["head"]["param_groups"]
    assert all(type(group["lr"]) is float for group in groups)
    expected = losses(first)
    for graph in (True, False):
        other = make(graph)
        assert load_resume_file(other, tmp_path)
        other.set_model_mode("train")
        assert losses(other) == (expected if graph else pytest.approx(expected, rel=1e-3))

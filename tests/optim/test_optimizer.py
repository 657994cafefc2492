"""Optimizers: the right class with the right arguments over the right parameters."""

import copy
import math

import pytest
import torch
from torch import nn

from dassl_vr.config import get_cfg_default
from dassl_vr.optim import build_optimizer
from dassl_vr.utils.errors import ConfigError
from dassl_vr.utils.training_state import optimizer_problem


def optim_cfg(**keys):
    cfg = get_cfg_default().OPTIM
    for key, value in keys.items():
        cfg[key] = value
    return cfg


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(2, 3), nn.Linear(3, 2)
        self.token = nn.Parameter(torch.zeros(3))


def parameters(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


@pytest.mark.parametrize(
    "name, cls, expected",
    [
        ("adam", torch.optim.Adam, {"betas": (0.8, 0.9), "amsgrad": False}),
        ("amsgrad", torch.optim.Adam, {"betas": (0.8, 0.9), "amsgrad": True}),
        ("adamw", torch.optim.AdamW, {"betas": (0.8, 0.9), "eps": 1e-3}),
        ("radam", torch.optim.RAdam, {"betas": (0.8, 0.9)}),
        ("sgd", torch.optim.SGD, {"momentum": 0.7, "dampening": 0.0, "nesterov": True}),
        ("rmsprop", torch.optim.RMSprop, {"momentum": 0.7, "alpha": 0.6}),
    ],
)
def test_every_optimizer_gets_its_arguments(name, cls, expected):
    keys = {"MOMENTUM": 0.7, "ADAM_BETA1": 0.8, "ADAM_BETA2": 0.9, "ADAM_EPS": 1e-3, "RMSPROP_ALPHA": 0.6, "SGD_NESTEROV": True}
    net = Net()
    optimizer = build_optimizer(net, optim_cfg(NAME=name, LR=0.25, WEIGHT_DECAY=0.125, **keys))
    assert type(optimizer) is cls
    assert {key: optimizer.defaults[key] for key in expected} == expected
    assert optimizer.defaults["lr"] == 0.25 and optimizer.defaults["weight_decay"] == 0.125
    assert {id(p) for p in parameters(optimizer)} == {id(p) for p in net.parameters()}


def test_radam_decays_the_weights_and_not_the_gradient():
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = build_optimizer([weight], optim_cfg(NAME="radam", LR=0.1, WEIGHT_DECAY=0.5))
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert math.isclose(weight.item(), 2.0 * (1 - 0.1 * 0.5), rel_tol=1e-6)


def test_only_trainable_parameters_are_taken():
    net = Net()
    net.body.requires_grad_(False)
    assert {id(p) for p in parameters(build_optimizer(net, optim_cfg()))} == {
        id(net.head.weight),
        id(net.head.bias),
        id(net.token),
    }
    assert len(parameters(build_optimizer(net.parameters(), optim_cfg()))) == 3
    assert parameters(build_optimizer(net.token, optim_cfg())) == [net.token]


def test_staged_learning_rates():
    net = Net()
    cfg = optim_cfg(LR=0.5, STAGED_LR=True, NEW_LAYERS=("head",), BASE_LR_MULT=0.1)
    base, new = build_optimizer(net, cfg).param_groups
    assert (base["lr"], new["lr"]) == (0.05, 0.5)
    assert [id(p) for p in new["params"]] == [id(net.head.weight), id(net.head.bias)]
    assert {id(p) for p in base["params"]} == {id(net.body.weight), id(net.body.bias), id(net.token)}
    with pytest.warns(UserWarning, match="has no layer heads"):
        build_optimizer(net, optim_cfg(STAGED_LR=True, NEW_LAYERS=("heads",)))
    with pytest.raises(ConfigError, match="STAGED_LR needs a module"):
        build_optimizer(list(net.parameters()), cfg)


def test_parameter_groups_are_used_as_they_are():
    net = Net()
    groups = [{"params": net.body.parameters(), "lr": 3.0}, {"params": [net.token]}]
    optimizer = build_optimizer(None, optim_cfg(LR=1.0), groups)
    assert [group["lr"] for group in optimizer.param_groups] == [3.0, 1.0]
    assert len(parameters(optimizer)) == 3
    with pytest.warns(UserWarning, match="STAGED_LR has no effect"):
        assert len(parameters(build_optimizer(None, optim_cfg(STAGED_LR=True), net.parameters()))) == 5


def test_nothing_to_train_is_an_error():
    net = Net().requires_grad_(False)
    for model in (net, list(net.parameters()), []):
        with pytest.raises(ConfigError, match="nothing to train"):
            build_optimizer(model, optim_cfg())


def test_unknown_optimizer_gets_the_nearest_name():
    with pytest.raises(ConfigError, match=r"OPTIM.NAME.*'adamz'.*did you mean 'adam'"):
        build_optimizer(Net(), optim_cfg(NAME="adamz"))


# ----------------------------------------------------------------------------------------------- one kernel for the whole step
def stepped(optimizer, model, steps):
    for number in range(steps):
        optimizer.zero_grad()
        (model(torch.linspace(-1, 1, 12).view(4, 3)).square() * (number + 1)).sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.fixture
def make(monkeypatch):
    """make(name, fused): (a small model, its optimizer), fused as on an accelerator. The CPU has such a kernel too."""

    def build(name, fused):
        monkeypatch.setattr("dassl_vr.optim.optimizer.steps_fused", lambda device: fused)
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        return model, build_optimizer(model, optim_cfg(NAME=name, LR=0.1))

    return build


@pytest.mark.parametrize("name", ["adam", "amsgrad", "adamw"])
def test_a_fused_step_is_the_same_step(make, name):
    model, optimizer = make(name, fused=True)
    assert optimizer.param_groups[0]["fused"] is True
    plain_model, plain = make(name, fused=False)
    assert not plain.param_groups[0]["fused"]
    for one, other in zip(stepped(optimizer, model, 3), stepped(plain, plain_model, 3)):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


def test_only_adam_is_fused_and_only_where_torch_has_it(make):
    on_cpu = build_optimizer(nn.Linear(3, 2), optim_cfg(NAME="adam")).param_groups[0]["fused"]
    assert not on_cpu, "on the CPU the bits would be others"
    assert not make("sgd", fused=True)[1].param_groups[0].get("fused")
    without = nn.Linear(3, 2, dtype=torch.complex64)  # torch has no such kernel for these numbers
    assert not build_optimizer(without, optim_cfg(NAME="adam")).param_groups[0]["fused"]


@pytest.mark.parametrize("before, after", [(True, False), (False, True)])
def test_a_run_continues_on_a_device_with_other_kernels(make, before, after):
    model, optimizer = make("adam", before)
    stepped(optimizer, model, 2)
    state = copy.deepcopy(optimizer.state_dict())  # as from a file
    resumed_model, resumed = make("adam", after)
    assert optimizer_problem(resumed, state, "optims.model") == ""
    resumed_model.load_state_dict(model.state_dict())
    resumed.load_state_dict(state)
    assert bool(resumed.param_groups[0]["fused"]) is after
    for one, other in zip(stepped(resumed, resumed_model, 2), stepped(optimizer, model, 2)):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


def test_another_number_of_groups_is_told_by_torch(make):
    _, optimizer = make("adam", fused=True)
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict({**state, "param_groups": state["param_groups"] * 2})

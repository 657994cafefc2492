"""Optimizers: the right class with the right arguments over the right parameters."""

import math

import pytest
import torch
from torch import nn

from dassl_vr.config import get_cfg_default
from dassl_vr.optim import build_optimizer
from dassl_vr.utils.errors import ConfigError


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

"""Learning rates, epoch by epoch, against sequences worked out manually."""

import io
import math
import warnings

import pytest
import torch
from torch import nn

from dassl_vr.config import get_cfg_default
from dassl_vr.optim import build_lr_scheduler
from dassl_vr.utils.errors import ConfigError


def make(lr=1.0, **keys):
    cfg = get_cfg_default().OPTIM
    for key, value in keys.items():
        cfg[key] = value
    weights = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    optimizer = torch.optim.SGD([{"params": weights[:1]}, {"params": weights[1:], "lr": 2 * lr}], lr=lr)
    return optimizer, build_lr_scheduler(optimizer, cfg)


def sequence(optimizer, scheduler, epochs):
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        scheduler.step()
    return rates


def cosine(epoch, max_epoch):
    return (1 + math.cos(math.pi * epoch / max_epoch)) / 2


CASES = {
    "single step": ({"STEPSIZE": (2,)}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
    "single step takes the last entry": ({"STEPSIZE": (1, 3), "GAMMA": 0.5}, [1, 1, 1, 0.5, 0.5, 0.5]),
    "single step as a share": ({"STEPSIZE": (0.5,)}, [1, 1, 1, 0.1, 0.1, 0.1]),
    "never": ({}, [1] * 6),
    "zero is never": ({"STEPSIZE": (0,)}, [1] * 6),
    "never with warm-up": ({"WARMUP_EPOCH": 1, "WARMUP_RECOUNT": False}, [1e-5] + [1] * 19),
    "multi step": ({"LR_SCHEDULER": "multi_step", "STEPSIZE": (2, 4)}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
    "multi step in any order": ({"LR_SCHEDULER": "multi_step", "STEPSIZE": (4, 2)}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
    "multi step as shares": (
        {"LR_SCHEDULER": "multi_step", "STEPSIZE": (0.5, 0.72), "MAX_EPOCH": 25},
        [1] * 12 + [0.1] * 6 + [0.01] * 7,
    ),
    "multi step never": ({"LR_SCHEDULER": "multi_step"}, [1] * 6),
    "share of a single epoch": ({"LR_SCHEDULER": "multi_step", "STEPSIZE": (0.5,), "MAX_EPOCH": 1}, [1]),
    "cosine": ({"LR_SCHEDULER": "cosine"}, [cosine(e, 6) for e in range(6)]),
    "cosine to another rate": ({"LR_SCHEDULER": "cosine", "COSINE_MIN_LR": 0.2}, [0.2 + 0.8 * cosine(e, 6) for e in range(6)]),
    "linear warm-up": (
        {"STEPSIZE": (2,), "WARMUP_EPOCH": 4, "WARMUP_MIN_LR": 0.03},
        [0.03, 0.25, 0.5, 0.75, 1, 1, 0.1, 0.1],
    ),
    "constant warm-up": (
        {"LR_SCHEDULER": "cosine", "WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant", "WARMUP_CONS_LR": 1e-5},
        [1e-5] + [cosine(e, 6) for e in range(5)],
    ),
    "ramp": ({"WARMUP_EPOCH": 4, "WARMUP_TYPE": "ramp"}, [0.25, 0.5, 0.75, 1, 1, 1]),
    "cosine over what the warm-up leaves": (  # VPT
        {"LR_SCHEDULER": "cosine", "WARMUP_EPOCH": 2, "WARMUP_MIN_LR": 0.0, "COSINE_AFTER_WARMUP": True},
        [0, 0.5] + [cosine(e, 4) for e in range(4)],
    ),
    "nothing left for a cosine": (
        {"LR_SCHEDULER": "cosine", "WARMUP_EPOCH": 6, "WARMUP_TYPE": "ramp", "COSINE_AFTER_WARMUP": True},
        [n / 6 for n in range(1, 7)],
    ),
    "cosine after warm-up has no meaning without one": (
        {"LR_SCHEDULER": "cosine", "COSINE_AFTER_WARMUP": True},
        [cosine(e, 6) for e in range(6)],
    ),
    "constant warm-up without recount": (
        {
            "LR_SCHEDULER": "cosine",
            "WARMUP_EPOCH": 2,
            "WARMUP_TYPE": "constant",
            "WARMUP_CONS_LR": 0.5,
            "WARMUP_RECOUNT": False,
        },
        # starts from the full rate at epoch 2 and keeps the cosine's proportions
        [0.5, 0.5] + [cosine(e, 6) / cosine(2, 6) for e in range(2, 6)],
    ),
    "linear warm-up without recount": (
        # the milestone at 2 falls into the warm-up and is skipped
        {
            "LR_SCHEDULER": "multi_step",
            "STEPSIZE": (2, 5),
            "WARMUP_EPOCH": 4,
            "WARMUP_MIN_LR": 0.03,
            "WARMUP_RECOUNT": False,
        },
        [0.03, 0.25, 0.5, 0.75, 1, 0.1, 0.1],
    ),
}


def build_case(name):
    keys, expected = CASES[name]
    return make(**{"MAX_EPOCH": 6, **keys}), expected


@pytest.mark.parametrize("name", CASES)
def test_rates_worked_out_manually(name):
    (optimizer, scheduler), expected = build_case(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sequence(optimizer, scheduler, len(expected)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_shares_are_rounded_down_but_not_by_floating_point_noise():
    optimizer, scheduler = make(LR_SCHEDULER="multi_step", STEPSIZE=(0.29, 0.729), MAX_EPOCH=100)
    rates = sequence(optimizer, scheduler, 100)
    assert rates.index(pytest.approx(0.1)) == 29 and rates.index(pytest.approx(0.01)) == 72


def test_groups_keep_their_ratio():
    optimizer, scheduler = make(STEPSIZE=(2,), MAX_EPOCH=6, WARMUP_EPOCH=2)
    rates = []
    for _ in range(6):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert rates[1:] == [pytest.approx([r, 2 * r]) for r in (0.5, 1, 1, 0.1, 0.1)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 5])
def test_a_resumed_schedule_continues_bit_for_bit(name, stop):
    (optimizer, scheduler), expected = build_case(name)
    sequence(optimizer, scheduler, stop)
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)
    rest = sequence(optimizer, scheduler, len(expected))
    file.seek(0)
    state = torch.load(file, weights_only=True)
    (optimizer, scheduler), _ = build_case(name)
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    assert sequence(optimizer, scheduler, len(expected)) == rest


@pytest.mark.parametrize(
    "keys, words",
    [
        ({"LR_SCHEDULER": "cosin"}, "OPTIM.LR_SCHEDULER.*'cosin'.*did you mean 'cosine'"),
        ({"WARMUP_EPOCH": 1, "WARMUP_TYPE": "lin"}, "OPTIM.WARMUP_TYPE.*'lin'.*did you mean 'linear'"),
        ({"STEPSIZE": (2.5,)}, "OPTIM.STEPSIZE holds 2.5"),
    ],
)
def test_wrong_keys_are_named(keys, words):
    with pytest.raises(ConfigError, match=words):
        make(**keys)

import os
import sys

import pytest
import torch
from torch import nn

from dassl_vr.utils import (
    check_availability,
    collect_env_info,
    count_num_param,
    open_all_layers,
    open_specified_layers,
    setup_logger,
    tolist_if_not,
)
from dassl_vr.utils.environment import library_versions, peak_memory_bytes
from dassl_vr.utils.errors import ConfigError
from dassl_vr.utils.logger import Logger


def test_counting():
    net = nn.Linear(3, 2)
    assert count_num_param(net) == count_num_param(params=net.parameters()) == 8
    assert count_num_param(params=[{"params": [net.bias]}]) == 2
    with pytest.raises(ValueError):
        count_num_param()


def test_opening_layers():
    net = nn.Sequential()
    net.add_module("a", nn.Dropout())
    net.add_module("b", nn.Linear(1, 1))
    open_specified_layers(net, "b")
    assert net.b.training and not net.a.training and net.b.weight.requires_grad
    open_specified_layers(net, ["a"])
    assert not net.b.weight.requires_grad
    open_all_layers(net)
    assert net.a.training and net.b.weight.requires_grad
    with pytest.raises(ConfigError, match="did you mean"):
        open_specified_layers(net, "A1")


def test_lists_and_names():
    assert tolist_if_not(1) == [1] and tolist_if_not([1]) == [1]
    check_availability("a", ["a", "b"])
    with pytest.raises(ConfigError, match="did you mean 'resnet'"):
        check_availability("resnt", ["resnet", "vit"])


def test_environment():
    assert library_versions()["torch"].startswith(torch.__version__.split("+")[0])
    assert "torch:" in collect_env_info()
    before = peak_memory_bytes(torch.device("cpu"))
    block = torch.ones(60_000_000)  # 240 MB
    assert peak_memory_bytes(torch.device("cpu")) - before > 50e6 or before > 5e8
    del block


def test_logger_keeps_what_came_before_its_file(tmp_path, capsys):
    with Logger() as log:
        print("early")
        log.open(tmp_path / "run" / "log.txt")
        print("late")
    print("after")
    assert (tmp_path / "run" / "log.txt").read_text() == "early\nlate\n"
    assert capsys.readouterr().out == "early\nlate\nafter\n"


def test_setup_logger_never_overwrites(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    (tmp_path / "log.txt").write_text("old")
    setup_logger(str(tmp_path))
    print("new")
    sys.stdout.close()
    assert (tmp_path / "log.txt").read_text() == "old"
    other = next(name for name in os.listdir(tmp_path) if name != "log.txt")
    assert (tmp_path / other).read_text() == "new\n"

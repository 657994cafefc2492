import os
import sys

import pytest
from torch import nn

from dassl_vr.family.utils import (
    check_isfile,
    count_num_param,
    listdir_nohidden,
    open_all_layers,
    open_specified_layers,
    setup_logger,
)
from dassl_vr.utils.errors import ConfigError


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


def test_files_and_folders(tmp_path):
    (tmp_path / ".hidden").touch()
    (tmp_path / "b").touch()
    (tmp_path / "a").touch()
    assert listdir_nohidden(tmp_path, sort=True) == ["a", "b"]
    assert check_isfile(tmp_path / "a")
    with pytest.warns(UserWarning, match="none"):
        assert not check_isfile(tmp_path / "none")


def test_setup_logger_never_overwrites(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    (tmp_path / "log.txt").write_text("old")
    setup_logger(str(tmp_path))
    print("new")
    sys.stdout.close()
    assert (tmp_path / "log.txt").read_text() == "old"
    other = next(name for name in os.listdir(tmp_path) if name != "log.txt")
    assert (tmp_path / other).read_text() == "new\n"

import pickle

import pytest
import torch
from torch import nn

from dassl_vr.utils import load_checkpoint, load_pretrained_weights, resume_from_checkpoint, save_checkpoint
from dassl_vr.utils.checkpoint import load_trained_state, trained_state
from dassl_vr.utils.errors import WeightsError


def model():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    net[0].requires_grad_(False)
    return net


def test_only_what_is_trained_is_saved():
    keys = set(trained_state(model()))
    assert not any(key.startswith("0.") for key in keys)
    assert {"1.weight", "1.running_mean", "2.weight"} <= keys


def test_loading_names_what_does_not_fit():
    state = trained_state(model())
    state["2.weight"] = torch.zeros(5, 5)
    state["other"] = state.pop("2.bias")
    with pytest.raises(WeightsError, match=r"a.pt does not fit.*'2.bias' is missing.*'other' is unknown.*\(5, 5\)"):
        load_trained_state(model(), state, "a.pt")


def test_the_familys_files(tmp_path):
    net = model()
    optim = torch.optim.Adam(net[2].parameters(), lr=0.1)
    net(torch.randn(4, 2)).sum().backward()
    optim.step()
    state = {"state_dict": trained_state(net), "epoch": 5, "optimizer": optim.state_dict(), "scheduler": None}
    save_checkpoint({**state, "val_result": None}, tmp_path, is_best=True)
    assert (tmp_path / "checkpoint").read_text().strip() == "model.pth.tar-5"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "model-best.pth.tar", "model.pth.tar-5"]
    assert set(load_checkpoint(tmp_path / "model.pth.tar-5")) == {
        "state_dict", "epoch", "optimizer", "scheduler", "val_result",
    }  # fmt: skip
    fresh = model()
    fresh_optim = torch.optim.Adam(fresh[2].parameters(), lr=0.1)
    assert resume_from_checkpoint(tmp_path, fresh, fresh_optim) == 5
    assert torch.equal(fresh[2].weight, net[2].weight)
    assert torch.equal(fresh_optim.state_dict()["state"][0]["exp_avg"], optim.state_dict()["state"][0]["exp_avg"])


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_files_that_are_not_loaded(tmp_path, capsys):
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "half.pt").write_bytes((tmp_path / "evil.pt").read_bytes()[:100])
    for name in ("evil.pt", "pickle.pt", "half.pt", "none.pt"):
        with pytest.raises(WeightsError, match=name):
            load_checkpoint(tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


def test_pretrained_weights_load_what_fits(tmp_path, capsys):
    torch.save({"state_dict": {"module.2.bias": torch.ones(2), "2.weight": torch.ones(9)}}, tmp_path / "w.pt")
    net = model()
    load_pretrained_weights(net, tmp_path / "w.pt")
    assert torch.equal(net[2].bias, torch.ones(2))
    assert "2.weight" in capsys.readouterr().out
    torch.save({"x": torch.ones(2)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="no tensor"):
        load_pretrained_weights(net, tmp_path / "w.pt")

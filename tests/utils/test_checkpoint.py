import pickle

import pytest
import torch
from torch import nn

from dassl_vr.utils.checkpoint import (
    CHECKPOINT,
    load_checkpoint,
    load_pretrained_weights,
    load_trained_state,
    newest_checkpoint,
    resume_from_checkpoint,
    save_checkpoint,
    trained_state,
)
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


def test_a_changed_byte_is_noticed_also_in_files_of_others(tmp_path):
    """The checksums are torch's own: files of the original family have them as well."""
    file = tmp_path / "a.pt"
    weight = torch.arange(40.0) + 0.5
    torch.save({"state_dict": {"w": weight}, "epoch": 1}, file)
    good = file.read_bytes()
    place = good.find(weight.numpy().tobytes()) + 5
    file.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
    with pytest.raises(WeightsError, match=r"a\.pt: damaged .*checksum of its record 'a/data/0' differs"):
        load_checkpoint(file)
    torch.save({"w": weight}, file, _use_new_zipfile_serialization=False)  # as before torch 1.6, without checksums
    assert torch.equal(load_checkpoint(file)["w"], weight)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("2.weight", "x", "is a str where"),
        ("2.weight", torch.ones(2, 3).to_sparse(), "sparse"),
        ("2.weight", torch.ones(2, 3, device="meta"), "on meta"),
        ("2.weight", torch.ones(2, 3, dtype=torch.int64), "int64 where the model has torch.float32"),
        ("2.weight", torch.ones(2, 3, dtype=torch.bool), "bool"),
        ("2.weight", torch.ones(2, 3, dtype=torch.complex64), "complex"),
        ("2.weight", torch.full((2, 3), float("nan")), "NaN or infinity"),
        ("2.weight", torch.full((2, 3), 1e300, dtype=torch.float64), "NaN or infinity"),
        ("1.running_var", torch.full((3,), float("inf")), "NaN or infinity"),
        ("1.num_batches_tracked", torch.tensor(0.5), "float32 where the model has torch.int64"),
        (1, torch.ones(1), "1 is unknown"),
        ("\ud800", torch.ones(1), r"'\\ud800' is unknown"),
    ],
)
def test_a_state_of_another_kind_changes_nothing(name, value, words):
    net = model()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with pytest.raises(WeightsError, match=words):
        load_trained_state(net, {**{k: v + 1 for k, v in trained_state(net).items()}, name: value}, "a.pt")
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())


def test_halves_are_taken_as_numbers():
    net = model()
    load_trained_state(net, {**trained_state(net), "2.bias": torch.ones(2, dtype=torch.float16)}, "a.pt")
    assert torch.equal(net[2].bias, torch.ones(2))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 1}, "'state_dict' is missing"),
        ({"state_dict": {}}, "'epoch' is missing"),
        ({"state_dict": 5, "epoch": 1}, "'state_dict' is 5"),
        ({"state_dict": [torch.ones(1)], "epoch": 1}, "'state_dict' is a list"),
        ({"state_dict": {1: torch.ones(1)}, "epoch": 1}, "has the name 1; expected a text"),
        ({"state_dict": {}, "epoch": "1"}, "'epoch' is '1'"),
        ({"state_dict": {}, "epoch": -1}, "'epoch' is -1"),
        ({"state_dict": {}, "epoch": 1, "val_result": "good"}, "'val_result' is 'good'"),
        ({"state_dict": {}, "epoch": 1, "optimizer": [1]}, "'optimizer' is a list"),
        ([1], "a list; expected named entries"),
    ],
)
def test_a_checkpoint_of_another_kind(tmp_path, content, words):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=words):
        load_checkpoint(tmp_path / "a.pt", CHECKPOINT)


def test_an_optimizer_that_does_not_fit_leaves_the_model_as_it_was(tmp_path):
    net = model()
    optim = torch.optim.SGD(net[2].parameters(), lr=0.1, momentum=0.9)
    state = {"state_dict": trained_state(net), "epoch": 1, "optimizer": torch.optim.SGD(net.parameters(), lr=0.1).state_dict()}
    save_checkpoint({**state, "scheduler": None}, tmp_path)
    fresh = model()
    before = fresh[2].weight.clone()
    with pytest.raises(WeightsError, match="optimizer"):
        resume_from_checkpoint(tmp_path, fresh, optim)
    assert torch.equal(fresh[2].weight, before)


@pytest.mark.parametrize(
    "note", [b"\xff\n", b"", b"../model.pth.tar-1\n", b"/etc/passwd\n", b"a/b\n", b"..\n", b"a\0b\n", b"\x1b[2J\n"]
)
def test_a_note_without_an_existing_file_is_refused(tmp_path, note):
    (tmp_path / "checkpoint").write_bytes(note)
    with pytest.raises(WeightsError, match=r"checkpoint: names no checkpoint file") as caught:
        newest_checkpoint(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "state", [{1: torch.ones(1)}, {"state_dict": 5}, {"2.bias": torch.ones(2).to("meta")}, {"2.bias": torch.ones(2).long()}]
)
def test_pretrained_weights_of_another_kind(tmp_path, state):
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"w\.pt"):
        load_pretrained_weights(model(), tmp_path / "w.pt")

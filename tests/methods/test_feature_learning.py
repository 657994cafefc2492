"""Trainers on the features of training images: each version is computed once, resumed bit for bit, shared between processes and
runs; images that cannot be read are left out."""

import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from dassl_vr.backbones.clip import ClipBackbone
from dassl_vr.cli.train import main
from dassl_vr.engine import TrainerX
from dassl_vr.plugins import load_plugins
from dassl_vr.utils import distributed

load_plugins()
PARTS = {"TipAdapterF": ("cache",), "TaskRes": ("residual",), "LPPP": ("classifier", "blend")}
AUGMENTED = ("INPUT.TRANSFORMS", "['random_resized_crop', 'normalize']")
SHORT = (*AUGMENTED, "TEST.NO_TEST", "True")


def trained(directory):
    """{part.tensor: value} after the third epoch."""
    name = next(name for name in PARTS if (directory / PARTS[name][0]).is_dir())
    states = {part: torch.load(directory / part / "model.pth.tar-3", weights_only=True)["state_dict"] for part in PARTS[name]}
    return {f"{part}.{key}": value for part, state in states.items() for key, value in state.items()}


def assert_equal(one, other):
    assert one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.fixture
def computed(monkeypatch):
    """A list of the numbers of images that go through the image tower, batch by batch; not those that FLOPs are counted with."""
    seen, original = [], ClipBackbone.features

    def features(self, x):
        if not x.is_meta and x.any():
            seen.append(len(x))
        return original(self, x)

    monkeypatch.setattr(ClipBackbone, "features", features)
    return seen


@pytest.mark.parametrize("name", PARTS)
def test_a_run_is_resumed_bit_for_bit(tmp_path, tiny_command, monkeypatch, name):
    """Within the first epoch, whose start computes what is trained from the features, and within the second."""
    kind = {"trainer": name, "backbone": "tiny_clip"}
    assert main(tiny_command(tmp_path / "whole", *SHORT, **kind)) == 0
    out = tmp_path / "stopped"
    command = tiny_command(out, "--resume", out, *SHORT, **kind)
    step = TrainerX.detect_anomaly

    for epoch in (0, 1):

        def stop(trainer, loss, epoch=epoch):
            step(trainer, loss)
            if (trainer.epoch, trainer.batch_idx) == (epoch, 0):
                signal.raise_signal(signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(TrainerX, "detect_anomaly", stop)
            assert main(command) == 75
    assert main(command) == 0
    assert_equal(trained(tmp_path / "whole"), trained(out))


@pytest.mark.parametrize(("views", "versions"), [(0, [0, 1, 2]), (2, [0, 1])])
def test_an_epoch_trains_on_its_version_of_the_images(tmp_path, tiny_command, trainer_of, computed, views, versions):
    settings = (*SHORT, "TRAINER.TASKRES.VIEWS", views, "DATALOADER.TRAIN_X.DROP_LAST", "False")
    trainer = trainer_of(tiny_command(tmp_path, *settings, trainer="TaskRes", backbone="tiny_clip"))
    computed.clear()
    seen, forward = [], trainer.forward_backward
    trainer.forward_backward = lambda batch: seen.append((trainer.epoch, batch)) or forward(batch)
    trainer.train()
    assert sum(computed) == 30 * len(versions)
    for number in versions:
        trainer.dm.train_loader_all.set_epoch(number)
        images = torch.cat([batch["img"] for batch in trainer.dm.train_loader_all])
        with torch.no_grad():
            expected = torch.stack([trainer.model.backbone.features(image[None])[0] for image in images])
        labels = torch.tensor([item.label for item in trainer.dm.dataset.train_x])
        for epoch in (epoch for epoch in range(3) if epoch % (views or 3) == number):
            batches = [batch for at, batch in seen if at == epoch]
            index = torch.cat([batch["index"] for batch in batches])
            assert sorted(index.tolist()) == list(range(30))
            assert torch.allclose(torch.cat([batch["features"] for batch in batches]), expected[index], atol=1e-4)
            assert torch.equal(torch.cat([batch["label"] for batch in batches]), labels[index])


def test_runs_share_features_on_the_disk(tmp_path, tiny_command, monkeypatch, computed, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(out, *more, name="LPPP"):
        computed.clear()
        settings = (*SHORT, "INPUT.RRCROP_SCALE", "(0.5, 1.0)", f"TRAINER.{name.upper()}.FEATURES", "disk", *more)
        assert main(tiny_command(tmp_path / out, *settings, trainer=name, backbone="tiny_clip")) == 0
        return trained(tmp_path / out), sum(computed)

    first, images = run("first")
    (file,) = (tmp_path / "cache/dassl_vr/features").iterdir()
    assert images == 30
    again, images = run("again")
    assert images == 0
    assert_equal(first, again)
    assert run("other", name="TaskRes")[1] == 60, "the first of its three versions is there"
    assert run("sentences", "DATASET.TEMPLATE", "a {}.")[1] == 0 and run("scale", "INPUT.RRCROP_SCALE", "(0.6, 1.0)")[1] == 30
    assert run("images", "DATASET.NUM_SHOTS", 2)[1] == 20 and run("precision", "TRAIN.PRECISION", "bf16")[1] == 30
    file.write_bytes(file.read_bytes()[:-100])
    capsys.readouterr()
    again, images = run("damaged")
    assert images == 30 and "computed again" in capsys.readouterr().out
    assert_equal(first, again)
    assert run("mended")[1] == 0


def test_features_on_the_disk_are_those_of_their_weights_seed_and_pixels(tmp_path, tiny_command, monkeypatch, trainer_of, computed):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = (*SHORT, "TRAINER.TASKRES.FEATURES", "disk")

    def images(*, weights=None, seed=1, pixels=None):
        trainer = trainer_of(tiny_command(tmp_path / "run", *settings, trainer="TaskRes", backbone="tiny_clip"))
        trainer.weights_sha256 = weights or trainer.weights_sha256
        trainer.cfg.defrost()
        trainer.cfg.SEED = seed
        if pixels is not None:
            monkeypatch.setattr(trainer.dm.dataset.train_x[0], "read", lambda: pixels)
        computed.clear()
        trainer.features.version(0)
        return sum(computed)

    assert (images(), images(), images(weights="a" * 64), images(seed=2)) == (30, 0, 30, 30)
    assert images(pixels=Image.new("RGB", (8, 8), "red")) == 30


@pytest.mark.parametrize("name", PARTS)
def test_two_processes_train_as_one_does(processes, tiny_command, tmp_path, name):
    def run():
        settings = (*SHORT, "OPTIM.NAME", "sgd", "OPTIM.LR", "0.1")
        return main(tiny_command(tmp_path / str(distributed.world_size()), *settings, trainer=name, backbone="tiny_clip"))

    assert run() == 0 and processes(2, run) == [(0, 0)] * 2
    one, two = trained(tmp_path / "1"), trained(tmp_path / "2")
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", PARTS)
def test_an_image_that_cannot_be_read_is_left_out(tmp_path, tiny_command, trainer_of, name, capsys):
    draws = np.random.default_rng(0)
    for split, number in (("train", 5), ("test", 2)):
        for label in ("cat", "dog"):
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for image in range(number):
                pixels = draws.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / label / f"{image}.png")
    (tmp_path / "data/train/cat/1.png").write_bytes(b"no image")
    data = ("DATASET.NAME", "folder", "DATASET.ROOT", tmp_path / "data", "DATASET.NUM_SHOTS", "-1", "DATASET.VAL_PERCENT", "0.0")
    command = (*AUGMENTED, *data, "DATALOADER.NUM_WORKERS", "0")
    kind = {"trainer": name, "backbone": "tiny_clip"}
    assert main(tiny_command(tmp_path / "error", *command, **kind)) == 2
    assert "cat/1.png" in capsys.readouterr().err
    assert main(tiny_command(tmp_path / "skip", *command, "DATASET.ON_BAD_IMAGE", "skip", **kind)) == 0
    assert json.loads((tmp_path / "skip/results.json").read_text())["skipped_images"] == 1
    if name == "TipAdapterF":
        assert main(tiny_command(tmp_path / "search", *command, "TRAINER.TIPADAPTERF.SEARCH", "val", **kind)) == 2
        assert "folder has no validation split, and the test split selects nothing" in capsys.readouterr().err.casefold()
        state = trained(tmp_path / "skip")
        assert state["cache.filled"].sum() == 9 and state["cache.filled"][:5].tolist() == [1, 1, 1, 1, 0]
    if name == "LPPP":
        trainer = trainer_of(tiny_command(tmp_path / "again", *command, "DATASET.ON_BAD_IMAGE", "skip", **kind))
        features = F.normalize(trainer.features.version(0), dim=-1).double()  # of the image left out all zeros
        expected = 4 * 9 / torch.linalg.eigvalsh(features.T @ features)[-1]
        assert trained(tmp_path / "skip")["classifier.step"] == pytest.approx(float(expected))


def test_a_head_may_start_from_a_checkpoint(tmp_path, tiny_command, trainer_of):
    start = tmp_path / "start.pth"
    torch.save({"state_dict": {"keys": F.normalize(torch.randn(30, 64), dim=-1)}}, start)
    settings = ("MODEL.INIT_WEIGHTS", start)
    trainer = trainer_of(tiny_command(tmp_path / "run", *settings, trainer="TipAdapterF", backbone="tiny_clip"))
    trainer.before_train()
    trainer.close_writer()
    assert torch.equal(trainer.model.head.keys, torch.load(start, weights_only=True)["state_dict"]["keys"])
    assert trainer.model.head.filled.all()

"""The script that trains the small models, for a few iterations on a few real images."""

import gzip
import struct

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from dassl_vr.backbones.tiny import create_tiny_clip, create_tiny_vit
from dassl_vr.backbones.tiny.images import Grey, paint
from dassl_vr.backbones.weights import WeightsFile, load_state
from dassl_vr.cli.train_tiny import main


@pytest.fixture
def root(tmp_path):
    """Files of the form of Fashion-MNIST; there are handwritten digits in them, which need no download."""
    digits, folder = load_digits(), tmp_path / "fashion-mnist"
    folder.mkdir()
    images = np.pad(np.kron(digits.images * 15, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    for prefix, part in (("train", slice(0, 300)), ("t10k", slice(300, 400))):
        for name, array in (("images-idx3", images[part]), ("labels-idx1", digits.target[part].astype(np.uint8))):
            header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return tmp_path


@pytest.mark.parametrize("kind, create", [("vit", create_tiny_vit), ("clip", create_tiny_clip)])
def test_it_writes_a_file_that_loads_and_repeats_itself(root, tmp_path, capsys, kind, create):
    states = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = tmp_path / f"{name}.safetensors"
        assert not main([kind, "--root", str(root), "--out", str(out), "--iterations", "3", "--seed", str(seed)])
        model = create()
        states.append(WeightsFile(out).read(model))
        load_state(model, states[-1], kind, str(out))
    assert "Fashion-MNIST test images" in capsys.readouterr().out
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert not all(torch.equal(tensor, states[2][name]) for name, tensor in states[0].items())
    trained = [name for name, tensor in states[0].items() if name.endswith("weight") and tensor.float().std() > 0]
    assert len(trained) > 10


def test_what_a_user_gets_wrong_ends_in_one_line(tmp_path, capsys):
    for arguments, words in (
        (["vit", "--root", str(tmp_path / "none")], "--root"),
        (["clip"], "expected --root DIR"),
        (["vit", "--root", str(tmp_path), "--iterations", "0"], "above 0"),
        (["gan", "--root", str(tmp_path)], "'gan'"),
    ):
        assert main([*arguments, "--out", str(tmp_path / "out.safetensors")]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    assert not [*tmp_path.iterdir()]


def test_painting_puts_a_light_object_on_dark_ground():
    images = torch.zeros(200, 1, 8, 8, dtype=torch.uint8)
    images[:, :, 3:5, 3:5] = 255
    for jitter in (False, True):
        painted = paint(Grey(images, torch.arange(200)), torch.Generator().manual_seed(0), jitter)
        assert painted.images.shape == (200, 3, 64, 64) and painted.images.min() >= 0 and painted.images.max() <= 1
        assert (painted.images.amax((1, 2, 3)) > 0.9).all() and (painted.images[:, :, 0, 0].amax(1) <= 0.41).all()
        assert len({*zip(painted.object_colours.tolist(), painted.ground_colours.tolist())}) == 16
    assert torch.equal(painted.labels, torch.arange(200))

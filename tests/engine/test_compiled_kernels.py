"""TRAIN.KERNELS: whose loops run, the same training, and what a user reads who asks for what is not there."""

import sys

import pytest
import torch
from torch import nn

from dassl_vr.engine.compiled_kernels import use_kernels
from dassl_vr.reprogramming import MaskGenerator, SampleSpecificMask
from dassl_vr.utils.errors import ConfigError

CPU = torch.device("cpu")


def test_only_modules_that_have_compiled_loops_are_told():
    model = nn.Sequential(SampleSpecificMask(32), nn.Linear(3, 3))
    for choice, expected in (("torch", False), ("auto", True), ("numba", True)):
        model[0].generator.compiled_kernels = False
        use_kernels(choice, [model], CPU)
        assert model[0].generator.compiled_kernels is expected, choice
    assert not SampleSpecificMask(32).generator.compiled_kernels, "outside of training it takes a call"


def test_another_device_takes_torch():
    generator = MaskGenerator()
    use_kernels("auto", [generator], torch.device("cuda"))
    assert not generator.compiled_kernels
    with pytest.raises(ConfigError, match=r"^TRAIN.KERNELS is numba, which is for CPUs, and the device is cuda; use auto or "):
        use_kernels("numba", [generator], torch.device("cuda"))
    generator.compiled_kernels = True  # trained on a CPU, then moved
    assert generator.to("meta")(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 3, 4, 4)


def test_a_numba_that_cannot_be_imported(monkeypatch, capsys):
    generator = MaskGenerator()
    monkeypatch.setitem(sys.modules, "dassl_vr.reprogramming.compiled_passes", None)
    monkeypatch.delattr("dassl_vr.reprogramming.compiled_passes", raising=False)
    use_kernels("auto", [generator], CPU)
    assert not generator.compiled_kernels
    assert capsys.readouterr().out.startswith("NOTE: TRAIN.KERNELS: the mask generator runs without Numba (")
    with pytest.raises(ConfigError, match=r"install it with: pip install 'dassl_vr\[numba\]'$"):
        use_kernels("numba", [generator], CPU)
    with monkeypatch.context() as without:
        without.setattr("importlib.util.find_spec", lambda name: None)
        use_kernels("auto", [generator], CPU)
        assert capsys.readouterr().out == "", "the extra is optional"


def test_training_is_the_same_up_to_rounding(trainer_of, tiny_command, tmp_path):
    """Three steps of SMM on the tiny vision transformer, with either."""
    masks = {}
    for kernels in ("torch", "numba"):
        trainer = trainer_of(tiny_command(tmp_path / kernels, "TRAIN.KERNELS", kernels, "VERBOSE", False))
        trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 1000
        trainer.before_epoch()
        trainer.set_model_mode("train")
        images = next(iter(trainer.train_loader_x))
        for _ in range(3):
            trainer.forward_backward(images)
        generator = trainer.model.f_in.generator
        assert generator.compiled_kernels == (kernels == "numba")
        with torch.no_grad():
            masks[kernels] = generator(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(masks["numba"], masks["torch"], rtol=1e-3, atol=1e-4)
    assert not torch.equal(masks["numba"], masks["torch"]), "both took the same way"

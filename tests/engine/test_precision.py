"""Half precision by the CPU's autocast: what computes in it, what stays float32, and how small gradients are kept."""

import contextlib

import pytest
import torch
from torch import nn

from dassl_vr.engine.resume import load_resume_file, save_resume_file

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
BACKBONES = {"cnn": "timm:test_resnet", "vit": "tiny_vit", "clip": "tiny_clip"}


@pytest.fixture
def make(trainer_of, tiny_command, tmp_path):
    """make(precision, kind, trainer, KEY, value, ...): a trainer before its first step, its label mapping computed."""

    def build(precision, kind="vit", trainer="SMM", *more):
        words = ["MODEL.BACKBONE.NAME", BACKBONES[kind], "MODEL.BACKBONE.PRETRAINED", kind != "cnn", "VERBOSE", False]
        words += ["INPUT.SIZE", "(64, 64)"] if kind == "clip" else []
        recipe = {"backbone": "tiny_clip" if kind == "clip" else "tiny_vit", "trainer": trainer}
        built = trainer_of(tiny_command(tmp_path / precision, "TRAIN.PRECISION", precision, *words, *more, **recipe))
        built.epoch, built.batch_idx, built.num_batches = 0, 0, 1000
        built.before_epoch()
        built.set_model_mode("train")
        return built

    return build


@contextlib.contextmanager
def types_seen(module):
    """The types that convolutions and linear layers of `module` give inside the block."""
    found = set()
    layers = [part for part in module.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    hooks = [part.register_forward_hook(lambda part, inputs, output: found.add(output.dtype)) for part in layers]
    yield found
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("kind", BACKBONES)
def test_the_backbone_alone_computes_in_half_precision(make, kind):
    losses = {}
    for precision in ("fp32", "bf16", "fp16"):
        trainer = make(precision, kind, "SMM", "TRAINER.SMM.MAPPING", "rlm")
        with types_seen(trainer.model.backbone) as of_backbone, types_seen(trainer.model.f_in) as of_prompt:
            losses[precision] = float(trainer.forward_backward(next(iter(trainer.train_loader_x)))["loss"])
        assert of_backbone == {DTYPES.get(precision, torch.float32)}
        # The blocks of the mask generator are one operation each, but for the last convolution
        assert of_prompt == {torch.float32}
        parameters = [p for model in trainer._models.values() for p in model.parameters() if p.requires_grad]
        assert all(p.dtype == p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in parameters)
        assert trainer.loss_scaler.is_enabled() is (precision == "fp16")
        if kind == "cnn":  # folded, in channels_last order
            parts = list(trainer.model.backbone.model.modules())
            kernels = [part.weight for part in parts if isinstance(part, nn.Conv2d)]
            assert not [part for part in parts if isinstance(part, nn.BatchNorm2d)]
            assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    for precision in DTYPES:
        assert losses[precision] != losses["fp32"] and losses[precision] == pytest.approx(losses["fp32"], rel=0.02)


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name, kind", [("CoOp", "clip"), ("LoRA", "vit")])
def test_what_is_learned_inside_of_a_tower(make, name, kind, precision):
    trainer = make(precision, kind, name)
    if name == "CoOp":
        trainer._features = None  # as where images are augmented: both towers are passed in each step
    with types_seen(trainer.model) as found:
        trainer.forward_backward(next(iter(trainer.train_loader_x)))
    assert DTYPES[precision] in found
    parameters = [p for model in trainer._models.values() for p in model.parameters() if p.requires_grad]
    assert all(p.dtype == p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in parameters)
    assert any(p.grad.any() for p in parameters)


def trained(trainer):
    return [p.detach().clone() for model in trainer._models.values() for p in model.parameters() if p.requires_grad]


def test_a_step_that_overflows_is_left_out_and_the_scale_falls(make):
    trainer = make("fp16")
    batch = next(iter(trainer.train_loader_x))
    trainer.loss_scaler._init_scale = 2.0**60  # no gradient in float16 is as large
    before = trained(trainer)
    trainer.forward_backward(batch)
    assert trainer.loss_scaler.get_scale() == 2.0**59
    assert all(torch.equal(p, q) for p, q in zip(before, trained(trainer)))
    trainer.raise_if_anomaly()  # the loss itself was finite
    trainer.loss_scaler.update(2.0**10)
    trainer.forward_backward(batch)
    assert trainer.loss_scaler.get_scale() == 2.0**10
    assert any(not torch.equal(p, q) for p, q in zip(before, trained(trainer)))


def test_gradients_are_those_of_the_loss_itself(make):
    """Whatever the scale, a step of the optimizer is that of the unscaled gradient."""
    steps = []
    for scale in (2.0**4, 2.0**10):
        trainer = make("fp16", "vit", "VR", "OPTIM.NAME", "sgd", "OPTIM.WEIGHT_DECAY", 0.0, "OPTIM.LR", 1.0)
        trainer.loss_scaler._init_scale = scale
        before = trained(trainer)
        trainer.forward_backward(next(iter(trainer.train_loader_x)))
        steps.append([q - p for p, q in zip(before, trained(trainer))])
    for one, other in zip(*steps):
        assert one.any() and torch.allclose(one, other, rtol=0.05, atol=0.02 * float(one.abs().max()))


def test_the_scale_is_part_of_the_resume_file(make, tmp_path):
    first, second = make("fp16"), make("fp16")
    first.loss_scaler._init_scale = 2.0**60
    first.forward_backward(next(iter(first.train_loader_x)))
    save_resume_file(first, tmp_path)
    assert load_resume_file(second, tmp_path)
    batch = next(iter(second.train_loader_x))
    second.num_batches = 1000
    second.set_model_mode("train")
    assert second.loss_scaler.state_dict()["scale"] == 2.0**59
    second.forward_backward(batch)  # overflows again
    assert second.loss_scaler.get_scale() == 2.0**58

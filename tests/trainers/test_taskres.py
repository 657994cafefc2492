"""TaskRes: its formula, on text features as the tower gives them, and zero-shot CLIP before training."""

import torch
from dassl_vr.trainers.taskres import ResidualHead


def test_logits_are_those_of_the_formula():
    generator = torch.Generator().manual_seed(0)
    text, residual, images = (torch.randn(n, 5, generator=generator) for n in (3, 3, 4))
    images = images / images.norm(dim=1, keepdim=True)
    head = ResidualHead(text * 9, 0.5, 20.0)
    head.residual.data.copy_(residual)
    for image, logits in zip(images, head(images)):
        for label, logit in enumerate(logits):
            weight = [9 * float(t) + 0.5 * float(r) for t, r in zip(text[label], residual[label])]
            length = sum(w * w for w in weight) ** 0.5
            assert abs(float(logit) - 20.0 * sum(w * float(v) for w, v in zip(weight, image)) / length) < 1e-4


def test_it_starts_as_zero_shot_clip(tmp_path, tiny_command, trainer_of):
    ours, zero_shot = (
        trainer_of(tiny_command(tmp_path / name, trainer=name, backbone="tiny_clip")) for name in ("TaskRes", "ZeroshotCLIP")
    )
    images = next(iter(ours.test_loader))["img"]
    with torch.no_grad():
        assert torch.allclose(ours.model.eval()(images), zero_shot.model.eval()(images), atol=1e-4)
    lengths = ours.model.head.text.norm(dim=1)
    assert (lengths - 1).abs().min() > 0.1, "not of unit length: that is the scale of the residual"

"""LP++: start, step sizes and rounds of steps, against the published formulas written out."""

import pytest
import torch
from dassl_vr.trainers.lppp import BlendedHead
from torch.nn import functional as F

LPPP = {"trainer": "LPPP", "backbone": "tiny_clip"}


def setting():
    """(features, labels, text features) in double precision; class 3 has no image."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 2, 1, 0, 2, 2])
    features, text = (torch.randn(n, 6, generator=generator, dtype=torch.float64) + 0.5 for n in (7, 4))
    return F.normalize(features, dim=-1), labels, F.normalize(text, dim=-1)


def started(features, labels, text):
    head = BlendedHead(text).double()
    head.classifier.start(features, labels)
    head.blend.start(features, labels)
    return head


def test_start_and_step_sizes_follow_from_the_features():
    features, labels, text = setting()
    head = started(features, labels, text)
    for label in range(4):
        expected = sum((v for v, y in zip(features, labels) if y == label), torch.zeros(6, dtype=torch.float64))
        assert torch.allclose(head.classifier.linear.weight[label], expected)
    own = [torch.stack([v @ text[c] for v, y in zip(features, labels) if y == c]).mean() for c in range(3)]
    assert torch.allclose(head.blend.alpha, 250 * torch.stack(own).mean().expand(4))
    assert float(head.classifier.step) == pytest.approx(4 * 7 / float(torch.linalg.svdvals(features)[0]) ** 2)
    assert float(head.blend.step) == pytest.approx(7 / (4 * max(float(((features @ t) ** 2).sum()) for t in text)))


def test_rounds_of_a_run_are_the_published_loop(tmp_path, tiny_command, trainer_of):
    """Ten steps of w and b with momentum, one of alpha by the sum of its gradients since the beginning; three rounds."""
    trainer = trainer_of(tiny_command(tmp_path, "TEST.NO_TEST", "True", **LPPP))
    start = trainer.model.head.classifier.linear.bias.detach().double().clone()
    trainer.train()
    features, labels = F.normalize(trainer.features.version(0), dim=-1).double(), trainer.training_labels()
    head, text = trainer.model.head, trainer.model.head.blend.text.double()
    reference = started(features, labels, text)
    weight, bias, alpha = reference.classifier.linear.weight.detach(), start, reference.blend.alpha.detach()
    truth, momentum, summed = F.one_hot(labels, 10).double(), [torch.zeros_like(weight), torch.zeros_like(bias)], 0
    for iteration in range(1, 31):
        logits = features @ weight.T + bias + alpha * (features @ text.T)
        error = (logits.softmax(dim=1) - truth) / len(features)
        summed = summed + (error * (features @ text.T)).sum(dim=0)
        for values, gradient, velocity in zip((weight, bias), (error.T @ features, error.sum(dim=0)), momentum):
            velocity.mul_(0.9).add_(gradient)
            values -= reference.classifier.step * velocity
        if iteration % 10 == 0:
            alpha = alpha - reference.blend.step * summed
    assert len(trainer.train_loader_x) == 1, "all images at once, whatever BATCH_SIZE says"
    for got, expected in ((head.classifier.linear.weight, weight), (head.classifier.linear.bias, bias), (head.blend.alpha, alpha)):
        torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(alpha, reference.blend.alpha, rtol=1e-3)

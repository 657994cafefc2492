"""Accuracy of a batch, counted manually."""

import torch

from dassl_vr.evaluation import compute_accuracy


def test_accuracy_of_the_best_one_two_and_all():
    scores = torch.tensor([[9.0, 5, 1], [1, 9, 5], [5, 1, 9], [9, 5, 1]])
    labels = torch.tensor([0, 2, 1, 1])
    top1, top2, top5 = compute_accuracy(scores, labels, topk=(1, 2, 5))
    assert (top1.item(), top2.item(), top5.item()) == (25.0, 75.0, 100.0)
    assert compute_accuracy((scores, None), labels)[0].shape == (1,)

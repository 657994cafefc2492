"""Accuracy and distances against loops."""

import pytest
import torch

from dassl_vr.metrics import compute_accuracy, compute_distance_matrix, cosine_distance


def test_accuracy_by_hand():
    scores = torch.tensor([[9.0, 5, 1], [1, 9, 5], [5, 1, 9], [9, 5, 1]])
    labels = torch.tensor([0, 2, 1, 1])
    top1, top2, top5 = compute_accuracy(scores, labels, topk=(1, 2, 5))
    assert (top1.item(), top2.item(), top5.item()) == (25.0, 75.0, 100.0)
    assert compute_accuracy((scores, None), labels)[0].shape == (1,)


def test_distances_by_loops():
    a, b = torch.randn(4, 6), torch.randn(5, 6)
    b[0] = a[0]
    euclidean, cosine = compute_distance_matrix(a, b), compute_distance_matrix(a, b, "cosine")
    for i in range(4):
        for j in range(5):
            squared = sum((x - y) ** 2 for x, y in zip(a[i].tolist(), b[j].tolist()))
            assert euclidean[i, j] == pytest.approx(squared, abs=1e-4)
            cos = (a[i] @ b[j] / a[i].norm() / b[j].norm()).item()
            assert cosine[i, j] == pytest.approx(1 - cos, abs=1e-5)
    assert euclidean.min() >= 0
    assert torch.equal(cosine, cosine_distance(a, b))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="metric is 'manhattan'"):
        compute_distance_matrix(torch.zeros(2, 3), torch.zeros(2, 3), "manhattan")
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\)"):
        compute_distance_matrix(torch.zeros(2, 3), torch.zeros(2, 4))

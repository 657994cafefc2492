"""Distances against loops."""

import pytest
import torch

from dassl_vr.family.distance import compute_distance_matrix, cosine_distance


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

"""Distances between two sets of vectors: (M, D) and (N, D) -> (M, N)."""

import torch
import torch.nn.functional as F

_METRICS = ("euclidean", "cosine")


def euclidean_squared_distance(input1: torch.Tensor, input2: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distance of every row of `input1` to every row of `input2`: (M, N)."""
    squares = input1.square().sum(dim=1, keepdim=True) + input2.square().sum(dim=1)  # (M, N)
    # Rounding may leave a little below zero where two rows are the same
    return torch.addmm(squares, input1, input2.T, alpha=-2).clamp_(min=0)


def cosine_distance(input1: torch.Tensor, input2: torch.Tensor) -> torch.Tensor:
    """1 - cosine of the angle between every row of `input1` and every row of `input2`: (M, N)."""
    return 1 - F.normalize(input1, dim=1) @ F.normalize(input2, dim=1).T


def compute_distance_matrix(input1: torch.Tensor, input2: torch.Tensor, metric: str = "euclidean") -> torch.Tensor:
    """(M, N) distances by `metric`: "euclidean" (squared, as in the family) or "cosine". Else a `ValueError`."""
    if input1.dim() != 2 or input2.dim() != 2 or input1.shape[1] != input2.shape[1]:
        raise ValueError(f"inputs are {tuple(input1.shape)} and {tuple(input2.shape)}, expected (M, D) and (N, D)")
    if metric not in _METRICS:
        raise ValueError(f"metric is '{metric}', expected one of {', '.join(_METRICS)}")
    return euclidean_squared_distance(input1, input2) if metric == "euclidean" else cosine_distance(input1, input2)

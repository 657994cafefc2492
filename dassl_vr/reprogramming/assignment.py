"""From counts of samples, (source, target), to who belongs to whom: the rules behind the label mappings that look at data."""

import numpy as np
import torch

from ..utils.devices import in_double


def greedy_assignment(counts: torch.Tensor) -> torch.Tensor:
    """One source class per target class, none twice: take the largest count, delete its row and column, repeat.

    Equal counts are taken in row-major order, (source, target); a target class without samples gets a source all the
    same. The greedy rule of frequent and iterative label mapping (ILM-VP, Chen et al. 2023).

    Args:
        counts: (source, target), not negative, at least as many rows as columns.

    Returns:
        (target,) source indices as int64, on the device of `counts`.

    Raises:
        ValueError: for other numbers of classes, or negative counts.
    """
    return greedy_sets(counts, 1)[:, 0]


def greedy_sets(counts: torch.Tensor, each: int) -> torch.Tensor:
    """As `greedy_assignment`, with `each` source classes per target class (frequency map of AutoVP, Tsao et al. 2024).

    Returns:
        (target, each) source indices, in the order in which they were taken.
    """
    num_source, num_target = counts.shape
    check_classes(num_source, num_target, each)
    table = counts.detach().cpu().numpy()
    if table.size and table.min() < 0:
        raise ValueError("counts has negative entries, expected numbers of samples")
    assigned = np.full((num_target, each), -1, dtype=np.int64)
    taken = np.zeros(num_target, dtype=np.int64)
    row_free = np.ones(num_source, dtype=bool)
    # A stable sort of the entries above zero, taken row by row, is the order in which the rule looks at them
    entries = np.flatnonzero(table)
    entries = entries[np.argsort(-table.ravel()[entries], kind="stable")]
    left = num_target * each
    chunk = 4 * left + 64
    for begin in range(0, len(entries), chunk):
        rows, columns = np.divmod(entries[begin : begin + chunk], num_target)
        open_ = row_free[rows] & (taken[columns] < each)
        for row, column in zip(rows[open_].tolist(), columns[open_].tolist()):
            if row_free[row] and taken[column] < each:
                row_free[row] = False
                assigned[column, taken[column]] = row
                taken[column] += 1
                left -= 1
        if not left:
            break
    # Where only zeros are left, the first free row goes to the first free column, the second to the second, and so on.
    assigned[assigned < 0] = np.flatnonzero(row_free)[:left]
    return torch.from_numpy(assigned).to(counts.device)


def most_similar_sets(similarity: torch.Tensor, each: int) -> torch.Tensor:
    """`each` source classes per target class, none twice: the target classes take turns, each with the most similar source class
    that is left (semantic map of AutoVP, Tsao et al. 2024).

    Args:
        similarity: (target, source).

    Returns:
        (target, each) source indices as int64, on the CPU.

    Raises:
        ValueError: for too few source classes.
    """
    num_target, num_source = similarity.shape
    check_classes(num_source, num_target, each)
    table = similarity.detach().cpu().double().clone()
    assigned = torch.empty(num_target, each, dtype=torch.int64)
    for turn in range(each):
        for target in range(num_target):
            assigned[target, turn] = source = table[target].argmax()
            table[:, source] = -torch.inf
    return assigned


def bayesian_weights(counts: torch.Tensor, smoothing: float = 1.0) -> torch.Tensor:
    """Weights of the Bayesian-guided label mapping: `counts / (row sum + smoothing)`, then each column divided by its
    sum ("Bayesian-guided Label Mapping for Visual Reprogramming", Cai et al. 2024).

    Args:
        counts: (source, target), not negative.
        smoothing: the lambda of the paper, added to each row sum.

    Returns:
        (source, target) float32, each column sums to 1; the column of a class without samples is uniform.
    """
    counts = in_double(counts)
    row_sums = counts.sum(dim=1, keepdim=True) + smoothing  # (source, 1)
    weights = torch.where(row_sums > 0, counts / row_sums, 0.0)  # smoothing 0: a source class never seen has no weight
    column_sums = weights.sum(dim=0, keepdim=True)  # (1, target)
    return torch.where(column_sums > 0, weights / column_sums, 1.0 / counts.shape[0]).float()


def check_classes(num_source: int, num_target: int, each: int = 1) -> None:
    """Raise `ValueError` unless each target class can have `each` source classes of its own."""
    if each < 1 or num_target * each > num_source >= num_target:
        raise ValueError(
            f"{each} source classes for each of {num_target} target classes: expected 1 to {num_source // num_target} of the"
            f" {num_source} there are; change SOURCES_EACH"
        )
    if not 1 <= num_target <= num_source:
        raise ValueError(
            f"{num_target} target classes for {num_source} source classes: expected at least one target class and at "
            "least as many source classes as target classes; choose a backbone with more classes, fewer target "
            "classes, or the mapping 'linear'"
        )

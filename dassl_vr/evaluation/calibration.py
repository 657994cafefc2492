"""Whether a model is as often right as it is sure."""

import numpy as np

BINS = 15


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """ECE in percent: the gap between confidence and accuracy, averaged over bins of equal width, weighed by their images ("On
    Calibration of Modern Neural Networks", Guo et al. 2017, section 2).

    It belongs to a set of images as a whole: the mean over its batches is another number, and a larger one.

    Args:
        confidence: (N,) probability of the predicted class; a bin takes its upper bound, not its lower one.
        right: (N,) bool, whether it is the true one.
    """
    edges = np.linspace(0, 1, bins + 1)
    number = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    gaps = np.bincount(number, weights=right.astype(np.float64) - confidence, minlength=bins)
    return float(100 * np.abs(gaps).sum() / len(confidence))

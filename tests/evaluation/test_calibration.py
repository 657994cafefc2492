"""ECE against the definition, bin by bin."""

import numpy as np
import pytest

from dassl_vr.evaluation.calibration import expected_calibration_error


def by_definition(confidence, right, bins=15):
    total = 0.0
    for low, high in zip(np.linspace(0, 1, bins + 1)[:-1], np.linspace(0, 1, bins + 1)[1:]):
        inside = [(c, r) for c, r in zip(confidence, right) if low < c <= high]
        if inside:
            accuracy = sum(bool(r) for _, r in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - sum(float(c) for c, _ in inside) / len(inside))
    return 100 * total


def test_the_whole_set_bin_by_bin():
    rng = np.random.default_rng(0)
    confidence, right = rng.uniform(0.1, 1, 400).astype(np.float32), rng.random(400) < 0.6
    confidence[:3] = 1.0, 1 / 3, 0.2  # edges of bins
    assert expected_calibration_error(confidence, right) == pytest.approx(by_definition(confidence, right))
    halves = [expected_calibration_error(confidence[part], right[part]) for part in (slice(200), slice(200, 400))]
    assert np.mean(halves) > expected_calibration_error(confidence, right), "no mean over batches"


def test_a_bin_takes_its_upper_bound():
    edge = np.linspace(0, 1, 16)[5]
    confidence, right = np.array([edge, edge - 0.01, edge + 0.01]), np.array([True, False, False])
    assert expected_calibration_error(confidence, right) == pytest.approx(by_definition(confidence, right))


def test_of_known_gaps():
    sure_and_right, sure_and_wrong = np.ones(10), np.zeros(10, bool)
    assert expected_calibration_error(sure_and_right, ~sure_and_wrong) == 0
    assert expected_calibration_error(sure_and_right, sure_and_wrong) == 100
    assert expected_calibration_error(np.full(10, 0.7), np.arange(10) < 5) == pytest.approx(20)

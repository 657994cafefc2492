"""Work is shared out whole, whatever the number of threads, and its errors come back."""

import threading

import numpy as np
import pytest
import torch

from dassl_vr.utils import threads


@pytest.fixture(params=["torch's", "own"])
def team(request, monkeypatch):
    if request.param == "own":
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_each_part_is_done_once(team):
    def count(numbers, first, last):
        numbers[first:last] += np.arange(first, last)

    for number in (1, 2, 3, 8):
        torch.set_num_threads(number)
        numbers = np.zeros(5)
        threads.share_out(count, 5, numbers)
        assert numbers.tolist() == [0, 1, 2, 3, 4], number
        threads.share_out(count, 0, numbers)
        assert numbers.tolist() == [0, 1, 2, 3, 4], number


@pytest.mark.parametrize("number", [1, 2])
def test_an_error_in_a_part_is_raised(number, team):
    def broken(first, last):
        raise KeyError(first)

    torch.set_num_threads(number)
    with pytest.raises(KeyError):
        threads.share_out(broken, 4)


def test_the_parts_run_at_the_same_time(team):
    torch.set_num_threads(2)
    meeting = threading.Barrier(2, timeout=20)
    threads.share_out(lambda first, last: meeting.wait(), 2)

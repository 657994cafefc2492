import pytest

from dassl_vr.runs import pace as module
from dassl_vr.runs.pace import Pace
from dassl_vr.runs.plan import CANNOT, IS_FINISHED


class Run:
    problem = ""

    def __init__(self, name):
        self.output_dir = name


@pytest.fixture
def clock(monkeypatch):
    """clock[0] is the time."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "accuracy_of", lambda run: "50.0 %")
    return now


def test_the_estimate_counts_what_is_left_and_how_many_work_at_a_time(clock):
    runs = [Run(name) for name in "abcde"]
    pace = Pace(["train", IS_FINISHED, CANNOT, *4 * ["train"]], jobs=2)
    assert pace.left == 5 and pace.estimate() == "", "nothing is known before the first has ended"
    pace.begin(runs[0])
    pace.begin(runs[1])
    clock[0] = 60.0
    assert pace.end(runs[0]) == "50.0 % after 0:01:00; 4 left, about 0:01:30", "240 s of work, 60 of them done, by two"
    pace.begin(runs[2])
    clock[0] = 3660.0
    runs[1].problem = "no memory"
    assert pace.end(runs[1]).startswith("failed after 1:01:00; 3 left, about ")
    for run in runs[2:4]:
        assert "; " in pace.end(run)
    assert pace.end(runs[4]) == "50.0 % after 0:00:00", "nothing is left"

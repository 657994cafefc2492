"""How long many runs take: what each came to, and an estimate of what is left."""

import threading
import time
from collections.abc import Sequence

from ..engine.results import read_results
from ..utils.errors import UserError
from ..utils.text import in_time
from .plan import CANNOT, IS_FINISHED, Run


def accuracy_of(run: Run) -> str:
    """`93.2 %` of a finished run; "no test" where there was none."""
    try:
        accuracy = read_results(str(run.output_dir))["accuracy"]
    except UserError:
        return "no results"
    return "no test" if accuracy is None else f"{accuracy:.1f} %"


class Pace:
    """Counts the runs that are worked on, from several threads.

    Args:
        tasks: what is to be done of each run (`Run.task`).
        jobs: runs at a time.
    """

    def __init__(self, tasks: Sequence[str], jobs: int = 1) -> None:
        self.left = sum(task not in (IS_FINISHED, CANNOT) for task in tasks)
        self.jobs = jobs
        self._began, self._took = {}, []
        self._lock = threading.Lock()

    def begin(self, run: Run) -> None:
        """`run` is started; again, if it was tried before."""
        with self._lock:
            self._began[run.output_dir] = time.monotonic()

    def end(self, run: Run) -> str:
        """`run` has ended: a line on its accuracy, its time and what is left."""
        with self._lock:
            seconds = time.monotonic() - self._began.pop(run.output_dir, time.monotonic())
            self._took.append(seconds)
            self.left -= 1
            left = f"; {self.estimate()}" if self.left > 0 else ""
        return f"{'failed' if run.problem else accuracy_of(run)} after {in_time(seconds)}{left}"

    def estimate(self) -> str:
        """`3 left, about 0:12:00`, by the mean time of those that have ended; "" before the first."""
        if not self._took or self.left <= 0:
            return ""
        mean, now = sum(self._took) / len(self._took), time.monotonic()
        spent = sum(min(now - began, mean) for began in self._began.values())
        seconds = (mean * self.left - spent) / min(self.jobs, self.left)
        return f"{self.left} left, about {in_time(seconds)}"

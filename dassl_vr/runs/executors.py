"""Who executes runs: each in a process of its own, restartable; here, some side by side, or on Ray (`on_ray`)."""

import concurrent.futures
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ..engine.run_directory import FINISHED, clear_evaluation
from ..utils.arguments import AGAIN, same_command
from ..utils.errors import UserError
from ..utils.signals import interrupt_on_signals, passing_signals
from .pace import Pace
from .plan import CANNOT, IS_FINISHED, Run

CONSOLE_FILE = "console.txt"
LOCK_SECONDS = 0.2  # between looks at a lock
STOP_SECONDS = 20  # for a process to end by itself
TRAIN = "dassl_vr.cli.train"


class Executor(Protocol):
    """Who does what is left to do of runs."""

    def execute(self, runs: Sequence[Run]) -> None:
        """Do it; a run that cannot be done or does not succeed gets a `problem`."""


def command_of(run: Run) -> list[str]:
    """The command of its process."""
    return [sys.executable, "-m", TRAIN, *run.argv]


def environment_of_children(**more: str) -> dict[str, str]:
    """The variables of processes that find this package wherever they are started, and no module of the user's by accident."""
    package = str(Path(__file__).resolve().parents[2])
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join(filter(None, [package, *(entry for entry in before if entry != package)]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", **more}


def execute(run: Run, children: "Children", environment: Mapping[str, str] | None = None) -> None:
    """Execute a run to its end, with what it prints in its console file; sets its `code`, and its `problem` if it fails.

    The console file is also the lock of the run. The child inherits it, so that even if this process is killed
    outright and started again, no second process writes beside a child that lives on.

    Args:
        children: among which the process is counted.
        environment: further variables for it.
    """
    run.output_dir.mkdir(parents=True, exist_ok=True)
    with open(run.output_dir / CONSOLE_FILE, "a+", encoding="utf-8", errors="replace") as console:
        if not _lock(console, children) or run.state() == FINISHED:  # by the process that was waited for
            return
        if run.model_dir is not None:  # of a model that is no more, or of a test that was cut off
            clear_evaluation(run.output_dir)
        console.seek(0, os.SEEK_END)
        begin = console.tell()
        streams = {"stdin": subprocess.DEVNULL, "stdout": console, "stderr": subprocess.STDOUT}
        run.code = children.run(command_of(run), env=environment_of_children(**(environment or {})), **streams)
        if run.code:
            console.seek(begin)
            lines = console.read().split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "it printed nothing")
            died = f"killed by signal {-run.code}" if run.code < 0 else last.removeprefix("error: ")
            run.problem = f"{died} (see {console.name})"


def _lock(console, children):
    """Whether the lock was got; it is not if the work is stopped meanwhile."""
    waits = False
    while not children.stopped:
        try:
            fcntl.flock(console, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not waits:
                _say("  waiting for another process that works on this run ...")
            waits = True
            time.sleep(LOCK_SECONDS)
    return False


def _say(line):
    print(f"{line}\n", end="", flush=True)  # in one piece, for several threads print


class Children:
    """The processes at work; once they were stopped, no new ones."""

    def __init__(self):
        self._lock = threading.Lock()
        self._alive = set()
        self._sent = []
        self.stopped = False

    def run(self, command: Sequence[str], **options) -> int:
        """Run a command to its end; returns its exit code, as `subprocess.call`."""
        with self._lock:
            if self.stopped:
                return -signal.SIGTERM
            child = subprocess.Popen(command, **options)
            self._alive.add(child)
        for number in self._sent:  # while it was started
            child.send_signal(number)
        code = self._end_of(child)
        with self._lock:
            self._alive.discard(child)
        return code

    def _end_of(self, child):
        return child.wait()

    def send(self, number: int) -> None:
        """Send a signal to all, and to each that is still to come."""
        self._sent.append(number)
        for child in list(self._alive):
            child.send_signal(number)

    def stop(self) -> None:
        """End all, politely at first. What they have saved stays good: files are written atomically."""
        with self._lock:
            self.stopped = True
            alive = list(self._alive)
        for child in alive:
            child.terminate()
        for child in alive:
            try:
                child.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


class Processes:
    """Executes runs here, each in a process of its own whose output goes to `console.txt`; one that fails does not stop the others.

    Several at a time have one thread each, where `OMP_NUM_THREADS` does not say otherwise: on small models two processes of
    one thread get more done than one process of two.

    Args:
        jobs: processes at a time.
    """

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        self._environment = {} if jobs == 1 else {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}

    def execute(self, runs: Sequence[Run]) -> None:
        """Do what is left to do of `runs`; one that cannot be done or fails gets a `problem`."""
        children, pace = Children(), Pace([run.task() for run in runs], self.jobs)

        def work(number, run):
            if not children.stopped:
                self._work(run, f"[{number}/{len(runs)}]", children, pace)

        with interrupt_on_signals(), concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            try:
                futures = [pool.submit(work, number, run) for number, run in enumerate(runs, start=1)]
                for future in concurrent.futures.as_completed(futures):
                    future.result()
            except BaseException:
                children.stop()
                pool.shutdown(cancel_futures=True)
                raise

    def _work(self, run, place, children, pace):
        task = run.task()
        _say(f"{place} {task:<9} {run.output_dir}")
        if task not in (IS_FINISHED, CANNOT):
            pace.begin(run)
            try:
                execute(run, children, self._environment)
            except (UserError, OSError) as error:
                run.problem = str(error)
            if not children.stopped:
                _say(f"{place} {pace.end(run)}")
        if run.problem and not children.stopped:
            _say(f"  failed{f' {place}' if self.jobs > 1 else ''}: {run.problem}")


class Here:
    """Executes runs here, one after the other, each in a process of its own that prints and is stopped like this one."""

    def execute(self, runs: Sequence[Run]) -> None:
        """Do `runs` up to the first that fails, whose `code` is not 0 then."""
        for run in runs:
            children = Children()
            with passing_signals(children.send):
                run.code = children.run(command_of(run), env=environment_of_children(**{AGAIN: same_command()}))
            if run.code:
                run.problem = f"exit code {run.code}"
                return

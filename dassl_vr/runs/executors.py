"""Many runs of train.py: each in a process of its own, restartable, some side by side; one that fails does not stop the others."""

import concurrent.futures
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..cli.errors import EXIT_PREEMPTED
from ..cli.train import build_parser, setup_cfg
from ..config import validate_cfg
from ..engine import resolve_cfg
from ..engine.run_directory import FINISHED, NEW, RESULTS_FILE, RESUMED, claim_run_directory, clear_evaluation
from ..utils.errors import ConfigError, UserError
from ..utils.signals import interrupt_on_sigterm
from ..utils.text import say

CONSOLE_FILE = "console.txt"
CANNOT = "cannot"
LOCK_SECONDS = 0.2  # between looks at a lock
STOP_SECONDS = 20  # for a process to end by itself
WILL = {NEW: "train", RESUMED: "resume", FINISHED: "finished"}


@dataclass
class Run:
    """One process of train.py that trains, or with `--eval-only` tests what another has trained.

    Attributes:
        name: for people.
        argv: arguments of train.py.
        output_dir: where they send the run's files; what it prints goes to `console.txt` there.
        problem: why it failed, "" while it did not.
        preempted: whether what it failed of was a signal at which it saved itself.
        cfg: the configuration that follows from `argv`.

    Raises:
        ConfigError: for arguments that no run could have, so that a wrong key or name ends the command before the first run.
    """

    name: str
    argv: list
    output_dir: Path
    problem: str = field(default="", init=False)
    preempted: bool = field(default=False, init=False)

    def __post_init__(self):
        self.output_dir = Path(self.output_dir)
        args = build_parser().parse_args(self.argv)
        self._model_dir = Path(args.model_dir) if args.eval_only else None
        self.cfg = setup_cfg(args)
        validate_cfg(self.cfg)
        resolve_cfg(self.cfg)

    def task(self):
        """What is to be done, as a word; sets `problem` if it cannot be done."""
        try:
            state = self.state()
        except UserError as error:
            self.problem = str(error)
            return CANNOT
        return "test" if self._model_dir and state != FINISHED else WILL[state]

    def state(self):
        """NEW, RESUMED or FINISHED, by what lies in the directory. Raises `UserError` if this run cannot be there."""
        if self._model_dir:
            return FINISHED if self._is_tested() else NEW
        try:
            return claim_run_directory(self.cfg)
        except ConfigError as error:
            raise ConfigError(str(error).replace("another --output-dir", "another --tag")) from error

    def _is_tested(self):
        """Whether there are results that are not older than the model."""
        results, trained = (directory / RESULTS_FILE for directory in (self.output_dir, self._model_dir))
        return results.is_file() and trained.is_file() and results.stat().st_mtime_ns >= trained.stat().st_mtime_ns

    def execute(self, environment=None, children=None):
        """Run train.py to its end; sets `problem` if it fails, and `preempted`.

        The console file is also the lock of the run. The child inherits it, so that even if this process is killed
        outright and started again, no second process writes beside a child that lives on.

        Args:
            environment: further variables for the process.
            children: the `Children` to count the process among.
        """
        children = Children() if children is None else children
        self.output_dir.mkdir(parents=True, exist_ok=True)
        with open(self.output_dir / CONSOLE_FILE, "a+", encoding="utf-8", errors="replace") as console:
            if not self._lock(console, children) or self.state() == FINISHED:  # by the process that was waited for
                return
            if self._model_dir:  # of a model that is no more, or of a test that was cut off
                clear_evaluation(self.output_dir)
            console.seek(0, os.SEEK_END)
            begin = console.tell()
            command = [sys.executable, "train.py", *self.argv]
            environment = {**os.environ, **(environment or {})}
            code = children.run(command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, env=environment)
            self.preempted = code == EXIT_PREEMPTED
            if code:
                console.seek(begin)
                lines = console.read().split("\n")
                last = next((line for line in reversed(lines) if line.strip()), "it printed nothing")
                died = f"killed by signal {-code}" if code < 0 else last.removeprefix("error: ")
                self.problem = f"{died} (see {console.name})"

    @staticmethod
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


class Children:
    """The processes at work; once they were stopped, no new ones."""

    def __init__(self):
        self._lock = threading.Lock()
        self._alive = set()
        self.stopped = False

    def run(self, command, **options):
        """Run a command to its end; returns its exit code, as `subprocess.call`."""
        with self._lock:
            if self.stopped:
                return -signal.SIGTERM
            child = subprocess.Popen(command, **options)
            self._alive.add(child)
        code = self._end_of(child)
        with self._lock:
            self._alive.discard(child)
        return code

    def _end_of(self, child):
        return child.wait()

    def stop(self):
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


def _say(line):
    print(f"{line}\n", end="", flush=True)  # in one piece, for several threads print


def run_grid(runs, jobs=1, on_ray=None):
    """Do what is left to do of `runs`, `jobs` at a time; a run that cannot or does not succeed gets a `problem`.

    Several at a time have one thread each, where `OMP_NUM_THREADS` does not say otherwise: on small models two processes of
    one thread get more done than one process of two.

    Args:
        runs: a list of `Run` that do not depend on each other.
        jobs: processes at a time.
        on_ray: a `ray_runs.OnRay`, to have a Ray cluster do it in place of `jobs` processes here.
    """
    if on_ray is not None:
        with interrupt_on_sigterm():
            on_ray.run_all(runs)
        return
    environment = {} if jobs == 1 else {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    children = Children()

    def work(number, run):
        if children.stopped:
            return
        task = run.task()
        place = f"[{number}/{len(runs)}]"
        _say(f"{place} {task:<9} {run.output_dir}")
        if task not in (WILL[FINISHED], CANNOT):
            try:
                run.execute(environment, children)
            except (UserError, OSError) as error:
                run.problem = str(error)
        if run.problem and not children.stopped:
            _say(f"  failed{f' {place}' if jobs > 1 else ''}: {run.problem}")

    with interrupt_on_sigterm(), concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            futures = [pool.submit(work, number, run) for number, run in enumerate(runs, start=1)]
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:
            children.stop()
            pool.shutdown(cancel_futures=True)
            raise


def describe(runs):
    """Print what would be done."""
    tasks = [run.task() for run in runs]
    for run, task in zip(runs, tasks, strict=True):
        print(f"{task:<9} {run.output_dir}")
    print(", ".join(f"{number} {task}" for task, number in Counter(tasks).items()))


def name_failed(runs):
    """Name the failed ones on standard error; returns the exit code."""
    failed = [run for run in runs if run.problem]
    if failed:
        say(f"\n{len(failed)} of {len(runs)} runs failed:")
        for run in failed:
            say(f"  {run.output_dir}: {run.problem}")
    return 1 if failed else 0

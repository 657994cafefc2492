"""An executor of runs: as tasks on Ray, on this machine or on a cluster whose machines all see this directory."""

import contextlib
import os
import platform
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..utils.cores import cpu_cores
from ..utils.errors import EXIT_PREEMPTED, ConfigError, UserError
from ..utils.signals import ending_with_parent, hear_interrupts, interrupt_on_signals, keeping_sigterm
from .executors import STOP_SECONDS, Children, environment_of_children, execute
from .live_table import DONE, FAILED, WAITS, WORKS, LiveTable
from .pace import Pace
from .plan import CANNOT, IS_FINISHED, Run

LOOK_SECONDS = 1.0
POLL_SECONDS = 0.05
DEATHS = 5  # of machines under a run, from which on the run may be what they die of
RAY_ADDRESS_FILE = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray/ray_current_cluster"


class OnRay:
    """Where runs are executed.

    Args:
        address: of a cluster, "" = one of its own on this machine.
        cpus, gpus: of a run; `gpus` may be a fraction, None = 1 if the cluster has any.
        retries: how often a run that fails is tried again.

    Raises:
        ConfigError: Ray is not installed.
    """

    def __init__(self, address: str = "", cpus: int = 1, gpus: float | None = None, retries: int = 1) -> None:
        try:
            import ray
        except ImportError as error:
            raise ConfigError("this needs Ray; install it with: pip install 'dassl_vr[sweep]'") from error
        self.ray = ray
        self.address, self.cpus, self.gpus, self.retries = address, cpus, gpus, retries

    @contextlib.contextmanager
    def cluster(self) -> Iterator[dict]:
        """Connected inside the block; yields the resources of a run, as options of a Ray task."""
        with keeping_sigterm(), self._connected(), interrupt_on_signals():  # Ray's handler leaves at once and without a word
            yield self._resources()

    @contextlib.contextmanager
    def _connected(self):
        variables = {name: environment_of_children()[name] for name in ("PYTHONPATH", "PYTHONSAFEPATH")}
        variables["OMP_NUM_THREADS"] = str(self.cpus)
        options = {"address": self.address} if self.address else {"address": "local", "num_cpus": max(cpu_cores(), self.cpus)}
        if not self.address:
            options["include_dashboard"] = False
        try:
            self._knock()
            self.ray.init(log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": variables}, **options)
        except (OSError, RuntimeError, ValueError) as error:
            where = self.address or "on this machine"
            # Who answers may want a token: Ray makes one on a machine at some time, and asks for it from then on
            there = not isinstance(error, OSError)
            hint = "set RAY_AUTH_MODE=token if it has a token" if there else "start one with `ray start --head`"
            raise ConfigError(f"no Ray cluster {where}: {error}; {hint}, or leave --address out") from error
        try:
            yield
        finally:
            self.ray.shutdown()

    def _knock(self):
        """Raises `OSError` if nobody answers at the address: Ray tries for minutes."""
        address = os.environ.get("RAY_ADDRESS", "auto") if self.address == "auto" else self.address
        if address == "auto" and RAY_ADDRESS_FILE.is_file():  # it stays when a cluster is killed
            address = RAY_ADDRESS_FILE.read_text().strip()
        host, _, port = address.rpartition(":")
        if host and port.isdecimal() and "/" not in host:
            socket.create_connection((host, int(port)), timeout=5).close()

    def _resources(self):
        machines = [machine["Resources"] for machine in self.ray.nodes() if machine["Alive"]]
        gpus = self.gpus if self.gpus is not None else min(1, max(machine.get("GPU", 0) for machine in machines))
        if not any(machine.get("CPU", 0) >= self.cpus and machine.get("GPU", 0) >= gpus for machine in machines):
            there = "; ".join(sorted({f"{machine.get('CPU', 0):g} cores, {machine.get('GPU', 0):g} GPUs" for machine in machines}))
            raise ConfigError(
                f"no machine of the Ray cluster has the {self.cpus} cores and {gpus:g} GPUs of a run (there are: {there}); lower"
                " --cpus-per-run or --gpus-per-run"
            )
        return {"num_cpus": self.cpus, "num_gpus": gpus}

    def execute(self, runs: Sequence[Run]) -> None:
        """Do what is left to do of `runs`; one that cannot be done or fails to the end gets a `problem`.

        A run whose machine was taken away continues elsewhere, from what it has saved, and that counts as no attempt.
        """
        with LiveTable(runs) as table, interrupt_on_signals(), self.cluster() as resources:
            task = self.ray.remote(max_retries=0, **resources)(run_task)
            pending, attempts, deaths = {}, Counter(), Counter()
            tasks = [run.task() for run in runs]
            pace = Pace(tasks)

            def submit(run):
                attempts[run.name, run.output_dir] += 1
                pending[task.remote(os.getcwd(), run.parts())] = run

            for run, what in zip(runs, tasks, strict=True):
                table.states[run.output_dir] = {IS_FINISHED: DONE, CANNOT: FAILED}.get(what, WAITS)
                if what not in (IS_FINISHED, CANNOT):
                    submit(run)
            table.show()
            with self._cancelled_when_interrupted(pending):
                while pending:
                    ready, _ = self.ray.wait(list(pending), timeout=LOOK_SECONDS)
                    for reference in ready:
                        run = pending.pop(reference)
                        run.problem, excused = self._outcome(reference, run, deaths)
                        attempts[run.name, run.output_dir] -= excused
                        if run.problem and attempts[run.name, run.output_dir] <= self.retries:
                            table.note(f"again: {run.output_dir}: {run.problem}")
                            run.problem = ""
                            submit(run)
                            continue
                        table.states[run.output_dir] = FAILED if run.problem else DONE
                        table.outcomes[run.output_dir] = pace.end(run)
                    for run in pending.values():
                        if table.epoch(run) and table.states[run.output_dir] != WORKS:
                            pace.begin(run)
                        table.states[run.output_dir] = WORKS if table.epoch(run) else WAITS
                    pace.jobs = max(1, Counter(table.states.values())[WORKS])
                    table.show()
        table.end()

    @contextlib.contextmanager
    def _cancelled_when_interrupted(self, pending):
        """Ctrl-C cancels the tasks of `pending`, and waits until their runs have saved themselves."""
        try:
            yield
        except KeyboardInterrupt:
            for reference in pending:
                self.ray.cancel(reference)
            self.ray.wait(list(pending), num_returns=len(pending), timeout=STOP_SECONDS + LOOK_SECONDS)
            raise

    def _outcome(self, reference, run, deaths):
        """(why the run failed, "" if it did not; whether that counts as no attempt); machines that died under it are counted."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.NodeDiedError:
            deaths[run.output_dir] += 1
            return "its machine died", deaths[run.output_dir] <= DEATHS
        except self.ray.exceptions.RayError as error:
            *_, last = str(error).strip().split("\n")
            return f"its Ray task died ({type(error).__name__}: {last[:200]})", False


def run_task(directory: str, parts: dict) -> tuple[str, bool]:
    """A Ray task: the run of `parts`, with `directory` as the current one; returns its problem, and whether it was pre-empted."""
    if not os.path.isdir(directory):
        return f"{platform.node()} does not see {directory}; every machine of the cluster has to, under the same path", False
    os.chdir(directory)
    hear_interrupts()  # how a task is cancelled
    children = _ChildrenOfATask()
    try:
        run = Run(**parts)
        execute(run, children)
    except (UserError, OSError) as error:
        return str(error), False
    except KeyboardInterrupt:  # cancelled
        children.stop()
        raise
    return run.problem, run.code == EXIT_PREEMPTED


class _ChildrenOfATask(Children):
    """Runs that get SIGTERM, at which they save themselves, when this process ends: Ray does not always end them."""

    def run(self, command, **options):
        return super().run(command, preexec_fn=ending_with_parent(), **options)

    def _end_of(self, child):
        while child.poll() is None:  # that the task is cancelled is not noticed inside of a system call
            time.sleep(POLL_SECONDS)
        return child.returncode

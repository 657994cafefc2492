"""A grid of short runs on a Ray cluster of simulated machines that come and go, beside the same runs undisturbed.

    python benchmarks/cluster_simulation.py [--runs 300] [--machines 2] [--every 20] [--seed 0] [--output DIR]

Four trainers on digits in front of tiny_vit, as many seeds as RUNS asks for, executed as `sweep.py` does it. A machine is a Ray
node of one core in processes of its own. At random times, EVERY seconds apart on average, one of them goes: half of them at once,
with all of their processes, half of them after a notice (SIGTERM) to the runs on them. Another one comes later. Then all runs are
made once more, one after the other in this process, and compared: results, what was said of each test image, and each tensor of
each checkpoint. The exit code is 1 if one differs. Linux only.

The processes of runs are forks of one that has the libraries, which each machine starts once: to import them takes ten times as
long as such a run.
"""

from checkout import REPOSITORY

# isort: split
import _thread
import argparse
import contextlib
import io
import json
import math
import os
import random
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

import dassl_vr
from dassl_vr.plugins import load_plugins
from dassl_vr.runs import executors, on_ray
from dassl_vr.runs.cells import Cell
from dassl_vr.runs.executors import CONSOLE_FILE
from dassl_vr.utils.checkpoint import load_checkpoint
from dassl_vr.utils.environment import collect_env_info

CELLS = [
    Cell(trainer, method, "digits", "tiny_vit")
    for trainer, method in (("SMM", ""), ("VR", "full"), ("VPT", ""), ("LinearProbe", ""))
]
EPOCHS = 3
SETTINGS = ["INPUT.SIZE", "(32, 32)", "DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", str(EPOCHS), "DATALOADER.STORE", "off"]
SETTINGS += ["TRAIN.END_FIGURES", "False", "DEVICE", "cpu"]
SAME = ("accuracy", "macro_f1", "ece", "nll", "accuracy_train", "split_sha256", "params_trainable")  # of results.json
HELPERS = REPOSITORY / "tests" / "helpers"
SERVER = b"multiprocessing.forkserver"
NONE_LEFT = 5  # seconds at most without any machine
TRIES = 20  # machines that may fail to start
TICK = os.sysconf("SC_CLK_TCK")


def grid(number, output):
    """`number` runs."""
    seeds = range(math.ceil(number / len(CELLS)))
    return [cell.run(seed, str(output), "default", "data", SETTINGS) for seed in seeds for cell in CELLS][:number]


def run_task(directory, parts):
    """That of `on_ray`, with forks for the processes of runs."""
    import served

    served.preload("sklearn.datasets", "timm.models.vision_transformer", "torch.utils.tensorboard", "dassl_vr.runs")
    vars(sys.modules["__main__"]).pop("__file__", None)  # of Ray, which each fork would import
    executors.subprocess = served
    return RUN_TASK(directory, parts)


RUN_TASK = on_ray.run_task


# -------------------------------------------------------------------------------------------------------- the machines
def processes():
    """{process id: (that of its parent, seconds since it began, its command line)} of all that can be read."""
    found, now = {}, float(Path("/proc/uptime").read_text().split()[0])
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            found[int(place.name)] = int(fields[1]), now - int(fields[19]) / TICK, (place / "cmdline").read_bytes()
    return found


def below(top, table):
    """All processes that `top` has started, directly or not."""
    children = [process for process, (parent, *_) in table.items() if parent == top]
    return [*children, *(process for child in children for process in below(child, table))]


def agent_ports():
    """Free ports for the helpers of a node; given none, Ray waits for theirs, and beside other work not long enough."""
    names = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port", "dashboard_agent_listen_port")
    with contextlib.ExitStack() as held:
        places = [held.enter_context(socket.socket()) for _ in names]
        for place in places:
            place.bind(("127.0.0.1", 0))
        return {name: place.getsockname()[1] for name, place in zip(names, places, strict=True)}


class Machines:
    """A cluster whose machines come and go until somebody at the other end of `told` says so, or is gone.

    Ray starts a node in the main thread of a process only, so this has a process of its own; see `Simulated`.

    Attributes:
        cut: (seconds since it began, whether it had notice) of each process of a run that was at work when its machine went.
        failed: why machines did not start.
    """

    def __init__(self, told, number, every, seed):
        from ray.cluster_utils import Cluster

        self.told, self.number, self.every, self.rng = told, number, every, random.Random(seed)
        self.options = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        self.there, self.came, self.failed, self.went, self.cut = [], 0, [], Counter(), []
        self.cluster = Cluster(initialize_head=True, head_node_args={**self.options, **agent_ports(), "num_cpus": 0})

    def live(self):
        try:
            while len(self.there) < self.number:
                self._bring()
            self.told.send(self.cluster.address)
            while self._next_event():
                if not self.there:
                    self._bring()
                elif len(self.there) == self.number or self.rng.random() < 0.5:
                    self._take(self.there.pop(self.rng.randrange(len(self.there))), notice=self.rng.random() < 0.5)
                if len(self.there) < self.number and self.rng.random() < 0.7:
                    self._bring()
        finally:
            self.cluster.shutdown()

    def _next_event(self):
        """Wait for it, or until no machine has been there for a while; False at the end."""
        until = time.monotonic() + self.rng.expovariate(1 / self.every)
        while not self.told.poll(max(min(NONE_LEFT, until - time.monotonic()), 0)):
            self._drop_dead()
            if not self.there or time.monotonic() >= until:
                return True
        return False

    def _drop_dead(self):
        """Machines that Ray gave up, because beside other work they were too slow to answer, end themselves."""
        alive = [machine for machine in self.there if machine.all_processes["raylet"][0].process.poll() is None]
        self.went["given up by Ray"] += len(self.there) - len(alive)
        self.there = alive

    def _bring(self):
        try:
            self.there.append(self.cluster.add_node(wait=False, **self.options, **agent_ports()))  # it joins when it is ready
            self.came += 1
        except Exception as error:  # Ray gives it a time to start, which beside other work may not be enough
            self.failed.append(f"{type(error).__name__}: {error}")
            if len(self.failed) > TRIES:
                raise

    def _take(self, machine, notice):
        raylet = machine.all_processes["raylet"][0].process.pid
        table = processes()
        tree = below(raylet, table)
        runs = [process for process in tree if SERVER in table[process][2] and SERVER in table[table[process][0]][2]]
        self.cut += [(table[process][1], notice) for process in runs]
        for process in runs if notice else [raylet, *tree]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM if notice else signal.SIGKILL)
        self.went["notice" if notice else "at once"] += 1
        self.cluster.remove_node(machine, allow_graceful=False)


def live(told, *arguments):
    """The process of the machines: sends the address of the cluster, and at the end what became of them, or why they ended."""
    try:
        machines = Machines(told, *arguments)
        machines.live()
        told.send({name: getattr(machines, name) for name in ("came", "went", "cut", "failed")})
    except Exception as error:
        told.send(error)


class Simulated(threading.Thread):
    """The machines, seen from the process that uses them. If theirs fails, the main thread here is interrupted.

    Attributes:
        address: of the cluster.
        ended: what became of the machines, once it was left.
    """

    def __init__(self, number, every, seed):
        super().__init__(daemon=True)
        self.here, self.there = get_context("spawn").Pipe()
        self.process = get_context("spawn").Process(target=live, args=(self.there, number, every, seed))
        self.ended, self.leaving = None, False

    def __enter__(self):
        self.process.start()
        self.there.close()
        self.address = self._hear()
        if isinstance(self.address, Exception):
            raise self.address
        self.start()
        return self

    def _hear(self):
        try:
            return self.here.recv()
        except EOFError:
            return RuntimeError("the process of the machines was killed")

    def run(self):
        self.ended = self._hear()
        if not self.leaving:
            _thread.interrupt_main()

    def __exit__(self, *reason):
        self.leaving = True
        if self.process.is_alive():
            self.here.send("the end")
        self.process.join()
        self.join()
        if isinstance(self.ended, Exception):
            raise self.ended


def disturbed(runs, number, every, seed, retries, said):
    """Execute `runs` on machines that come and go, with what the executor says in the file `said`; returns (what became of the
    machines, seconds)."""
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - it is read so; else what else is at work comes first
    os.environ["RAY_raylet_start_wait_time_s"] = "180"  # noqa: SIM112 - likewise
    os.environ["RAY_AUTH_MODE"] = "disabled"  # where Ray has made a token before, it would ask for it
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HELPERS), *filter(None, [os.environ.get("PYTHONPATH")])])
    on_ray.run_task = run_task
    with Simulated(number, every, seed) as machines:
        executor = on_ray.OnRay(machines.address, retries=retries)
        begin = time.monotonic()
        with open(said, "w", buffering=1) as file, contextlib.redirect_stdout(file):
            executor.execute(runs)
        seconds = time.monotonic() - begin
    return machines.ended, seconds


# ------------------------------------------------------------------------------------------------------ the comparison
def undisturbed(runs):
    """Each run in this process; returns the seconds of all."""
    begin = time.monotonic()
    for run in runs:
        with contextlib.redirect_stdout(io.StringIO()):
            dassl_vr.run(run.cfg)
    return time.monotonic() - begin


def differences(one, other):
    """What differs between the directories of two runs, in words."""
    results = [json.loads((place / "results.json").read_text()) for place in (one, other)]
    found = [key for key in SAME if results[0].get(key) != results[1].get(key)]
    losses = [
        [{key: value for key, value in epoch.items() if "loss" in key or "acc" in key} for epoch in r["history"]] for r in results
    ]
    if losses[0] != losses[1]:
        found.append("history")
    predictions = [np.load(place / "predictions.npz") for place in (one, other)]
    if set(predictions[0]) != set(predictions[1]) or any(
        (predictions[0][key] != predictions[1][key]).any() for key in predictions[0]
    ):
        found.append("predictions")
    files = [sorted(path.relative_to(place) for path in place.glob("*/model*.pth.tar*")) for place in (one, other)]
    if files[0] != files[1] or not files[0]:
        return [*found, "files"]
    for name in files[0]:
        states = [load_checkpoint(place / name)["state_dict"] for place in (one, other)]
        if states[0].keys() != states[1].keys() or not all(torch.equal(states[0][key], states[1][key]) for key in states[0]):
            found.append(str(name))
    return found


def epochs_of(run):
    """(epochs trained, those that were left to be trained) in all processes of a run."""
    said = (run.output_dir / CONSOLE_FILE).read_text(errors="replace")
    return len(re.findall(rf"^epoch \[\d+/{EPOCHS}\]", said, re.MULTILINE)), said.count("Resumed from")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--machines", type=int, default=2)
    parser.add_argument("--every", type=float, default=20, help="mean seconds between two events")
    parser.add_argument("--seed", type=int, default=0, help="of the events")
    parser.add_argument("--retries", type=int, default=1, help="of the executor")
    parser.add_argument("--output", help="an empty directory for the runs, which stay there")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # as the runs on Ray have
    os.chdir(REPOSITORY)
    load_plugins()
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(args.output or temporary).resolve()
        runs = grid(args.runs, output / "cluster")
        output.mkdir(parents=True, exist_ok=True)
        said = output / "executor.txt"
        machines, seconds = disturbed(runs, args.machines, args.every, args.seed, args.retries, said)
        again = said.read_text().count("again: ")
        references = grid(args.runs, output / "undisturbed")
        seconds_alone = undisturbed(references)
        failed = {run.name: run.problem for run in runs if run.problem}
        different = {
            run.name: found
            for run, reference in zip(runs, references, strict=True)
            if not run.problem and (found := differences(run.output_dir, reference.output_dir))
        }
        trained, resumed = map(sum, zip(*map(epochs_of, runs)))
    at_once = [age for age, notice in machines["cut"] if not notice]
    rows = [
        ("runs", f"{len(runs)}, {len(failed)} failed"),
        ("different from the undisturbed", len(different)),
        ("machines that came", machines["came"]),
        ("machines that did not start", f"{len(machines['failed'])}{''.join(f' ({why})' for why in machines['failed'][-1:])}"),
        ("machines that went", ", ".join(f"{number} {how}" for how, number in sorted(machines["went"].items()) if number) or 0),
        ("processes of runs that were ended", f"{len(machines['cut'])}, {len(at_once)} of them at once"),
        ("seconds since these began, at most lost", f"{sum(at_once):.0f}"),
        ("runs that continued", resumed),
        ("epochs, needed", f"{trained}, {EPOCHS * len(runs)}"),
        ("tried again", again),
        ("minutes on the cluster", f"{seconds / 60:.1f}"),
        ("minutes undisturbed, in one process", f"{seconds_alone / 60:.1f}"),
    ]
    print(tabulate(rows))
    for name, what in (*failed.items(), *((name, ", ".join(found)) for name, found in different.items())):
        print(f"{name}: {what}")
    print(collect_env_info())
    return 1 if failed or different else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Processes are killed at random moments; whatever it was, the run ends with the figures of one that nobody disturbed."""

import contextlib
import dataclasses
import importlib.util
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from dassl_vr.cli import sweep
from dassl_vr.cli.train import main
from dassl_vr.runs.cells import Cell
from dassl_vr.utils import distributed

WORDS = ["INPUT.SIZE", "(32, 32)", "DATASET.NUM_SHOTS", "6", "DATALOADER.TRAIN_X.BATCH_SIZE", "2", "OPTIM.MAX_EPOCH", "2"]
WORDS += ["VERBOSE", "False", "TRAIN.END_FIGURES", "False", "TRAIN.RESUME_BATCHES", "1"]
SWEEP = ["--trainers", "SMM", "--datasets", "digits", "--backbones", "tiny_vit", "--seeds", "1"]
WORKERS = ["DATALOADER.NUM_WORKERS", "1", "DATALOADER.STORE", "off"]
KINDS = ["trainer", "worker", "rank", "Ray task"]
if importlib.util.find_spec("ray") is None:
    KINDS.remove("Ray task")


def figures(directory):
    """All that a run computed, and the sums of all bits that it trained."""
    results = json.loads((directory / "results.json").read_text())
    history = [{k: v for k, v in epoch.items() if "second" not in k} for epoch in results["history"]]
    sums = []
    for name in ("prompt", "mask_generator"):
        state = torch.load(directory / name / "model.pth.tar-2", weights_only=True)["state_dict"]
        sums += [float(value.double().sum()) for value in state.values()]
    return results["metrics"], history, sums


def command(directory, *more):
    run = Cell("SMM", "", "digits", "tiny_vit").run(1, "output", "default", "data", [*WORDS, *more])
    return dataclasses.replace(run, output_dir=directory).argv


def kill_later(delay, kind):
    """Have SIGKILL come over this process, or one of its workers, after `delay` seconds."""

    def kill():
        while kind == "rank" and not torch.distributed.is_initialized():
            time.sleep(0.01)  # before that the others wait for it, until torchrun, which is not there, ends them
        if kind != "worker":
            os.kill(os.getpid(), signal.SIGKILL)
        while not (own := [child.pid for child in multiprocessing.active_children() if child._parent_pid == os.getpid()]):
            time.sleep(0.005)  # a short run has none most of the time
        os.kill(own[-1], signal.SIGKILL)

    timer = threading.Timer(delay, kill)
    timer.daemon = True
    timer.start()


def kill_a_ray_task(delay):
    """Have SIGKILL come over the Ray worker under this process that trains, `delay` seconds after it began."""

    def kill():
        while not (found := [pid for pid in below(os.getpid()) if b"ray::run_task" in cmdline(pid)]):
            time.sleep(0.02)
        time.sleep(delay)
        os.kill(found[0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()


def cmdline(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def below(ancestor):
    """Ids of all processes that descend from `ancestor`."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return found - {ancestor}


def disturb(processes, place, kind, chance, seconds):
    """Run with kills until it is finished; returns its directory and how many times it was started.

    Where no kill came before the end there is another run, with kills that come sooner.
    """
    number = 2 if kind == "rank" else 1
    victim = chance.randrange(number)
    delays = [chance.uniform(0, seconds) for _ in range(chance.randint(1, 2))]
    for attempt in range(10):
        out = place / str(attempt)
        starts = start_until_finished(processes, out, kind, number, victim, delays)
        if starts > 1:
            return out, starts
        delays = [delay / 2 for delay in delays]
    raise AssertionError(f"{place}: no kill comes in time")


def start_until_finished(processes, out, kind, number, victim, delays):
    for start in range(20):
        delay = delays[start] if start < len(delays) else None

        def work(delay=delay):
            if delay is not None and distributed.rank() == victim:
                kill_later(delay, kind)
            return main(command(out, *(WORKERS if kind == "worker" else [])))

        if processes(number, work) == [(0, 0)] * number:
            return start + 1
    raise AssertionError(f"{out} does not come to an end")


def disturb_ray(processes, place, chance):
    """The same for a sweep of one run; here the starts are those of the Ray task."""
    delay = chance.uniform(0, 8)  # it takes about 5 seconds to import, and then a few to train
    for attempt in range(10):
        output = place / str(attempt)

        def work(output=output, delay=delay):
            os.environ["OUTPUT"] = str(output)
            kill_a_ray_task(delay)
            with open(f"{output}.txt", "w") as printed, contextlib.redirect_stdout(printed):
                return sweep.main([*SWEEP, "--retries", "2", "--", *WORDS])

        place.mkdir(exist_ok=True)
        assert processes(1, work) == [(0, 0)]
        again = Path(f"{output}.txt").read_text().count("again: ")
        if again:
            return output / "digits/SMM/tiny_vit/default/seed1", again + 1
        delay /= 2
    raise AssertionError(f"{place}: no kill comes in time")


def check_rounds(seeds, processes, tmp_path, monkeypatch, repository, capfd):
    monkeypatch.chdir(repository)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    expected, seconds = {}, {}
    for number in (1, 2):
        begin = time.monotonic()
        out = tmp_path / f"undisturbed{number}"
        assert processes(number, lambda out=out: main(command(out))) == [(0, 0)] * number
        expected[number], seconds[number] = figures(out), time.monotonic() - begin
    lines = []  # every one of at least one kill that came in time
    for seed in seeds:
        kind, chance = KINDS[seed % len(KINDS)], random.Random(seed)
        number, place = 2 if kind == "rank" else 1, tmp_path / f"round{seed}"
        if kind == "Ray task":
            out, starts = disturb_ray(processes, place, chance)
        else:
            out, starts = disturb(processes, place, kind, chance, seconds[number])
        assert figures(out) == expected[number], f"seed {seed}: {kind}"
        lines.append(f"{seed}: {kind}, {starts} starts")
    with capfd.disabled():
        print(f"\n{len(lines)} runs with random kills end as undisturbed ones; seeds {'; '.join(lines)}")


def test_three_random_kills(processes, tmp_path, monkeypatch, repository, capfd):
    """One of each kind, but for the tasks of Ray, whose starts take long."""
    check_rounds(range(3), processes, tmp_path, monkeypatch, repository, capfd)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_random_kills(processes, tmp_path, monkeypatch, repository, capfd):
    check_rounds(range(100, 150), processes, tmp_path, monkeypatch, repository, capfd)

"""A run that is stopped, killed, or out of disk continues from where it was, bit for bit."""

import errno
import json
import multiprocessing
import os
import resource
import shlex
import signal
import tempfile

import pytest
import torch

from dassl_vr.cli.train import main
from dassl_vr.engine import TrainerX
from dassl_vr.evaluation.evaluator import Classification
from dassl_vr.reprogramming import Ilm
from dassl_vr.utils.arguments import program

SETTINGS = ["TEST.FINAL_MODEL", "best_val", "VERBOSE", "False", "TRAIN.CHECKPOINT_FREQ", "1"]
SETTINGS += ["DATALOADER.TEST.BATCH_SIZE", "16"]  # two batches of validation images
UPDATE, PROCESS, OBSERVE = TrainerX.model_update, Classification.process, Ilm.observe


def outcome(directory):
    """Everything that a run computed: figures and tensors."""
    results = json.loads((directory / "results.json").read_text())
    figures = {"metrics": results["metrics"]}
    figures["history"] = [{k: v for k, v in epoch.items() if "second" not in k} for epoch in results["history"]]
    tensors = {}
    for name in ("prompt", "mask_generator"):
        for file in ("model-best.pth.tar", "model.pth.tar-2", "model.pth.tar-3"):
            state = torch.load(directory / name / file, weights_only=True)["state_dict"]
            tensors |= {f"{name} {file} {key}": value for key, value in state.items()}
    return figures, tensors


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """{settings: outcome of a run that nobody disturbs}, made when asked for."""
    made = {}

    def of(command):
        if not made:
            assert main(command(tmp_path_factory.mktemp("whole") / "run", *SETTINGS)) == 0
            made["outcome"] = outcome(next(tmp_path_factory.getbasetemp().glob("whole*/run")))
        return made["outcome"]

    return of


@pytest.fixture
def ends_like_the_whole(whole, tiny_command):
    """ends_like_the_whole(directory, *more): continue the run there and compare all of it."""

    def check(directory, *more):
        assert main(tiny_command(directory, "--resume", directory, *SETTINGS, *more)) == 0
        (figures, tensors), expected = outcome(directory), whole(tiny_command)
        assert figures == expected[0]
        assert tensors.keys() == expected[1].keys()
        assert all(torch.equal(value, expected[1][key]) for key, value in tensors.items())

    return check


def after_step(epoch, batch, act):
    """A `model_update` that calls `act()` at the end of the step of that number (both from 0)."""

    def update(self, names=None):
        UPDATE(self, names)
        if (self.epoch, self.batch_idx) == (epoch, batch) and names in (None, "mask_generator"):
            act()

    return update


def command_to_continue(directory):
    return f"{program('train')} --config-file {directory}/config.yaml --output-dir {directory} --resume {directory}"


def send(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("mapping_pass, call, epoch", [("exact", 3, 2), ("reuse", 1, 1)])  # a pass has two batches
def test_a_signal_in_the_mapping_pass(monkeypatch, tmp_path, tiny_command, capsys, mapping_pass, call, epoch):
    command = [*SETTINGS, "TRAINER.SMM.MAPPING_PASS", mapping_pass]
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert main(tiny_command(whole, *command)) == 0
    calls = []

    def observe_and_be_asked(self, *arguments):
        OBSERVE(self, *arguments)
        calls.append(self)
        if len(calls) == call:
            send(signal.SIGTERM)()

    monkeypatch.setattr(Ilm, "observe", observe_and_be_asked)
    assert main(tiny_command(out, "--resume", out, *command)) == 75 and len(calls) == call, "no step was taken after it"
    assert f"stopped by SIGTERM after epoch {epoch}, batch 0;" in capsys.readouterr().err
    monkeypatch.setattr(Ilm, "observe", OBSERVE)
    assert main(tiny_command(out, "--resume", out, *command)) == 0
    (figures, tensors), expected = outcome(out), outcome(whole)
    assert figures == expected[0] and all(torch.equal(value, expected[1][key]) for key, value in tensors.items())


def test_a_signal_before_training(monkeypatch, tmp_path, tiny_command, capsys):
    monkeypatch.setattr("dassl_vr.runs.training.build_trainer", lambda cfg: send(signal.SIGUSR1)())
    assert main(tiny_command(tmp_path / "run")) == 75
    said = "stopped by SIGUSR1 before training began; nothing was saved yet; start the same command again\n"
    assert capsys.readouterr().err == said
    assert not (tmp_path / "run").exists() and signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_signals_in_any_place_of_an_epoch(monkeypatch, tmp_path, tiny_command, ends_like_the_whole, capsys):
    out = tmp_path / "run"
    command = tiny_command(out, "--resume", out, *SETTINGS)
    # After the first batch, after a batch in the middle of the next epoch, after the last batch of the last
    for name, epoch, batch in (("SIGTERM", 0, 0), ("SIGUSR1", 1, 2), ("SIGTERM", 2, 3)):
        monkeypatch.setattr(TrainerX, "model_update", after_step(epoch, batch, send(getattr(signal, name))))
        assert main(command) == 75
        said = f"stopped by {name} after epoch {epoch + 1}, batch {batch + 1}; to continue: {command_to_continue(out)}\n"
        assert capsys.readouterr().err == said and said.strip() in (out / "log.txt").read_text()
        monkeypatch.setattr(TrainerX, "model_update", UPDATE)
        # In the validation that ends an epoch, before its result counts
        if epoch == 1:
            monkeypatch.setattr(Classification, "process", lambda self, *args: (PROCESS(self, *args), send(signal.SIGTERM)()))
            assert main(command) == 75
            assert "after epoch 2, batch 4;" in capsys.readouterr().err
            monkeypatch.setattr(Classification, "process", PROCESS)
        assert not (out / "results.json").exists() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    ends_like_the_whole(out)
    log = (out / "log.txt").read_text()
    for place in ("epoch 1, batch 2", "epoch 2, batch 4", "epoch 2, batch 5", "epoch 3, batch 5"):
        assert f"{place} is next" in log


def test_ctrl_c_says_how_to_continue(monkeypatch, tmp_path, tiny_command, ends_like_the_whole, capsys):
    out = tmp_path / "run"

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainerX, "model_update", after_step(1, 2, interrupt))
    assert main(tiny_command(out, *SETTINGS)) == 130
    said = f"interrupted in epoch 2 of 3; to continue: {command_to_continue(out)}\n"
    assert capsys.readouterr().err == said and said in (out / "log.txt").read_text()
    monkeypatch.setattr(TrainerX, "model_update", UPDATE)
    assert main(shlex.split(said.partition("train.py ")[2])) == 0, "the command works as it is printed"
    ends_like_the_whole(out)


def test_after_sigkill_it_continues_from_the_last_periodic_file(
    monkeypatch, processes, tmp_path, tiny_command, ends_like_the_whole
):
    out, often = tmp_path / "run", ["TRAIN.RESUME_BATCHES", "2"]

    def killed():
        TrainerX.model_update = after_step(1, 2, send(signal.SIGKILL))
        main(tiny_command(out, *SETTINGS, *often))

    assert processes(1, killed) == [(-signal.SIGKILL, None)]
    ends_like_the_whole(out, *often)
    assert "epoch 2, batch 3 is next" in (out / "log.txt").read_text()


def test_signals_to_the_whole_group_leave_the_workers_alone(monkeypatch, tmp_path, tiny_command, ends_like_the_whole, capsys):
    """As a batch system sends them: the workers, which the trainer still needs, do not heed them, nor do they stay behind."""
    out, workers = tmp_path / "run", ["DATALOADER.NUM_WORKERS", "2", "DATALOADER.STORE", "off"]

    def everybody():
        children = multiprocessing.active_children()
        assert len(children) >= 2
        for child in children:
            os.kill(child.pid, signal.SIGTERM)
            os.kill(child.pid, signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TrainerX, "model_update", after_step(1, 0, everybody))
    assert main(tiny_command(out, *SETTINGS, *workers)) == 75
    assert "epoch 2, batch 1;" in capsys.readouterr().err
    monkeypatch.setattr(TrainerX, "model_update", UPDATE)
    ends_like_the_whole(out, *workers)


def test_a_dead_worker_is_reported_in_one_line(processes, tmp_path, tiny_command, ends_like_the_whole, capfd):
    out, workers = tmp_path / "run", ["DATALOADER.NUM_WORKERS", "1", "DATALOADER.STORE", "off"]

    def kill_workers():
        for child in multiprocessing.active_children():
            if child._parent_pid == os.getpid():  # the list is inherited
                child.kill()

    def run():  # in a process of its own: the death of a child is reported again and again
        TrainerX.model_update = after_step(1, 0, kill_workers)
        return main(tiny_command(out, *SETTINGS, *workers))

    assert processes(1, run) == [(0, 2)]
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "a worker that reads images has died" in error and f"--resume {out}" in error
    ends_like_the_whole(out)


def test_a_disk_that_fills(processes, tmp_path, tiny_command, ends_like_the_whole, capfd):
    """A limit on the size of files stands for it: writing fails halfway, in whichever file comes first."""
    out = tmp_path / "run"

    def fill():
        TrainerX.model_update = after_step(1, 1, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)))
        return main(tiny_command(out, *SETTINGS))

    assert processes(1, fill) == [(0, 2)]
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "File too large" in error and f"--resume {out}" in error
    assert not [name for _, _, names in os.walk(out) for name in names if name.startswith(".model")], "nothing half-written"
    ends_like_the_whole(out)


def test_a_directory_that_turns_read_only(monkeypatch, tmp_path, tiny_command, ends_like_the_whole, capsys):
    out = tmp_path / "run"
    make = tempfile.mkstemp

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), kwargs["dir"])

    monkeypatch.setattr(TrainerX, "model_update", after_step(1, 1, lambda: monkeypatch.setattr(tempfile, "mkstemp", refuse)))
    assert main(tiny_command(out, *SETTINGS)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Read-only file system" in error and f"--resume {out}" in error
    monkeypatch.setattr(TrainerX, "model_update", UPDATE)
    monkeypatch.setattr(tempfile, "mkstemp", make)
    ends_like_the_whole(out)


def test_deterministic_runs_are_equal_with_any_number_of_workers(tmp_path, tiny_command, ends_like_the_whole):
    settings = ["TRAIN.DETERMINISTIC", "True", "DATALOADER.NUM_WORKERS", "3", "DATALOADER.STORE", "off"]
    try:
        ends_like_the_whole(tmp_path / "run", *settings)  # on a CPU the choice of algorithms does not change the bits
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)

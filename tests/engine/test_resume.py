"""A run that is killed and resumed ends as one that was not, bit for bit."""

import json
import os
import random
import shutil
import signal
import sys
import time

import served
import torch

from dassl_vr.cli.train import main
from dassl_vr.engine.charts import FINAL, PROMPT

from ..conftest import TINY


def outcome(directory):
    """(accuracy, all trained tensors) of a finished run."""
    accuracy = json.loads((directory / "results.json").read_text())["accuracy"]
    tensors = {}
    for name in ("prompt", "mask_generator"):
        state = torch.load(directory / name / "model.pth.tar-3", weights_only=True)["state_dict"]
        tensors.update({f"{name}.{key}": value for key, value in state.items()})
    return accuracy, tensors


def assert_equal(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for key, value in one[1].items():
        assert torch.equal(value, other[1][key]), key


def test_killed_at_random_moments_and_resumed(tmp_path, tiny_command, repository):
    assert main(tiny_command(tmp_path / "whole")) == 0
    out = tmp_path / "killed"
    command = [sys.executable, str(repository / "train.py"), *tiny_command(out, "--resume", out)]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    chance = random.Random(20240501)
    kills = 0
    while kills < 2:
        process = served.Popen(command, env=environment, stdout=served.DEVNULL, stderr=served.DEVNULL)
        while not (out / "log.txt").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            kills += 1
        else:
            shutil.rmtree(out)  # it had ended before: another one
    finished = served.run(command, env=environment, capture_output=True, timeout=200)
    assert finished.returncode == 0, finished.stderr
    assert_equal(outcome(tmp_path / "whole"), outcome(out))


def test_stopped_after_each_epoch(tmp_path, tiny_command, stopped_once_saved):
    """Interruptions right after the resume file is written, so that every epoch begins in a fresh trainer."""
    best = ("TEST.FINAL_MODEL", "best_val")
    assert main(tiny_command(tmp_path / "whole", *best)) == 0
    out = tmp_path / "stopped"
    with stopped_once_saved():
        for _ in range(3):
            torch.manual_seed(int(time.time()))  # whatever a new process starts with
            assert main(tiny_command(out, "--resume", out, *best)) == 130
            assert not (out / "results.json").exists()
    assert main(tiny_command(out, "--resume", out, *best)) == 0
    assert_equal(outcome(tmp_path / "whole"), outcome(out))
    whole, stopped = (json.loads((directory / "results.json").read_text()) for directory in (tmp_path / "whole", out))
    assert [epoch["epoch"] for epoch in stopped["history"]] == [1, 2, 3]
    assert stopped.keys() == whole.keys() and stopped["metrics"] == whole["metrics"], "the validation of before the stop included"


def test_resume_into_another_directory(tmp_path, tiny_command):
    assert main(tiny_command(tmp_path / "first")) == 0
    (tmp_path / "first" / "results.json").unlink()
    assert main(tiny_command(tmp_path / "second", "--resume", tmp_path / "first")) == 0
    assert (tmp_path / "second" / "results.json").is_file()


def test_a_damaged_resume_file_is_named(tmp_path, tiny_command, capsys):
    assert main(tiny_command(tmp_path / "run")) == 0
    (tmp_path / "run" / "results.json").unlink()
    file = tmp_path / "run" / "resume.pt"
    file.write_bytes(file.read_bytes()[:1000])
    assert main(tiny_command(tmp_path / "run", "--resume", tmp_path / "run")) == 2
    assert "resume.pt: damaged" in capsys.readouterr().err


def test_curves_do_not_double_after_an_interruption(tmp_path, tiny_command, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from dassl_vr.engine import trainer as module

    out = tmp_path / "run"
    run_epoch = module.TrainerX.run_epoch

    def stop_in_the_last_epoch(trainer):
        run_epoch(trainer)
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    for stopper in (stop_in_the_last_epoch, run_epoch):
        monkeypatch.setattr(module.TrainerX, "run_epoch", stopper)
        code = main(tiny_command(out, "--resume", out, "TRAIN.PRINT_FREQ", "1", "TRAIN.PICTURE_FREQ", "1"))
    assert code == 0
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 13)), "three epochs of four batches"
    assert [event.step for event in events.Images(f"{PROMPT}/2 mask red")] == [0, 4, 8, 12]
    assert [event.step for event in events.Scalars(f"{FINAL}/accuracy")] == [12]


def test_the_best_model_is_copied_into_another_directory(tmp_path, tiny_command):
    best = ["TEST.FINAL_MODEL", "best_val"]
    assert main(tiny_command(tmp_path / "first", *best)) == 0
    (tmp_path / "first" / "results.json").unlink()
    assert main(tiny_command(tmp_path / "second", "--resume", tmp_path / "first", *best)) == 0
    first, second = (torch.load(tmp_path / d / "prompt" / "model-best.pth.tar", weights_only=True) for d in ("first", "second"))
    assert torch.equal(first["state_dict"]["delta"], second["state_dict"]["delta"])


OWN_LOADERS = """
from torch import nn, optim

from dassl_vr.data import DataManager
from dassl_vr.engine import TRAINER_REGISTRY, TrainerX


@TRAINER_REGISTRY.register()
class OwnLoaders(TrainerX):
    def build_data_loader(self):
        data = DataManager(self.cfg)
        self.train_loader_x, self.train_loader_u = data.train_loader_x, None
        self.val_loader, self.test_loader = None, data.test_loader
        self.num_classes, self.num_source_domains, self.lab2cname = data.num_classes, 0, data.lab2cname

    def build_model(self):
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, self.num_classes))
        self.optim = optim.SGD(self.model.parameters(), lr=0.1)
        self.register_model("model", self.model, self.optim, None)

    def forward_backward(self, batch):
        loss = nn.functional.cross_entropy(self.model(batch["img"]), batch["label"])
        self.model_backward_and_update(loss)
        return {"loss": loss.item()}
"""


def test_a_trainer_with_loaders_of_its_own_is_saved_and_resumed(processes, repository, tmp_path, stopped_once_saved):
    (tmp_path / "own.py").write_text(OWN_LOADERS)
    out = tmp_path / "run"
    command = ["--plugin", str(tmp_path / "own.py"), "--trainer", "OwnLoaders", "--output-dir", str(out), "--resume", str(out)]
    command += ["--dataset-config-file", str(repository / "configs/datasets/digits.yaml"), "--seed", "1", *TINY]
    command += ["OPTIM.LR", "0.1", "TEST.TRAIN_GAP", "False", "TRAIN.END_FIGURES", "False"]

    def train_one_epoch():  # in a fork, so that the trainer is registered there alone
        with stopped_once_saved():
            return main(command)

    assert processes(1, train_one_epoch) == [(0, 130)]
    assert processes(1, lambda: main(command)) == [(0, 0)]
    assert [row["epoch"] for row in json.loads((out / "results.json").read_text())["history"]] == [1, 2, 3]
    assert "epoch 2 is next" in (out / "log.txt").read_text()

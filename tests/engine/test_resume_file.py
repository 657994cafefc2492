"""What a resume file has to hold: anything else is one line, before the trainer is touched."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dassl_vr.config import get_cfg_default
from dassl_vr.engine.epoch_pass import EpochPass
from dassl_vr.engine.resume import load_resume_file, save_resume_file
from dassl_vr.engine.trainer import TrainerBase
from dassl_vr.optim import build_lr_scheduler, build_optimizer
from dassl_vr.utils.errors import WeightsError


class SmallTrainer(TrainerBase):
    """What the resume file needs of a trainer, around a head of six weights."""

    def __init__(self, directory, optimizer="adam", schedule="cosine", warmup=1):
        super().__init__()
        self.cfg = get_cfg_default()
        optim = self.cfg.OPTIM
        optim.NAME, optim.LR_SCHEDULER, optim.WARMUP_EPOCH, optim.MAX_EPOCH, optim.STEPSIZE = optimizer, schedule, warmup, 5, (2,)
        self.output_dir, self.device, self.precision, self.dm = str(directory), torch.device("cpu"), "fp32", None
        self.epoch, self.start_epoch, self.max_epoch, self.best_result, self.history = 1, 0, 5, -float("inf"), []
        self.results, self.progress, self.peak_memory_before = {}, None, 0
        self.train_loader_x = range(4)
        head = nn.Linear(2, 2)
        optimizer = build_optimizer(head, optim)
        self.register_model("head", head, optimizer, build_lr_scheduler(optimizer, optim))

    def begin_progress(self):
        self.progress = EpochPass()
        return self.progress

    def train_two_epochs(self):
        for epoch in (1, 2):
            self._optims["head"].zero_grad()
            self._models["head"](torch.ones(1, 2)).sum().backward()
            self._optims["head"].step()
            self.update_lr()
            self.history.append({"epoch": epoch, "loss": 1.5, "seconds": 2.0})
        self.results = {"val": {"accuracy": 75.0}}
        return self


@pytest.fixture
def saved(tmp_path):
    """(directory with the resume file of a trainer after two of five epochs, what it holds)"""
    save_resume_file(SmallTrainer(tmp_path).train_two_epochs(), tmp_path)
    return tmp_path, torch.load(tmp_path / "resume.pt", weights_only=True)


def change(content, place, value):
    """Put `value` at `place`, such as ("optims", "head", "state"); a function is called with what is there."""
    for key in place[:-1]:
        content = content[key]
    if value is KeyError:
        del content[place[-1]]
    else:
        content[place[-1]] = value(content[place[-1]]) if callable(value) else value


def snapshot(trainer):
    state = trainer._models["head"].state_dict(), trainer._optims["head"].state_dict(), trainer._scheds["head"].state_dict()
    return copy.deepcopy(state)


ADAM = ("optims", "head", "state", 0)
GROUP = ("optims", "head", "param_groups", 0)
SCHEDULE = ("scheds", "head")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("next_epoch",), "x"),
        (("next_epoch",), -1),
        (("next_epoch",), True),
        (("next_epoch",), 6),
        (("next_epoch",), 10**400),
        (("next_epoch",), float("nan")),
        (("models",), 5),
        (("models",), {"head": {"weight": "x", "bias": torch.zeros(2)}}),
        (("models", "head", "weight"), lambda t: t.to_sparse()),
        (("models", "head", "weight"), lambda t: t.to("meta")),
        (("models", "head", "weight"), lambda t: t.long()),
        (("models", "head", "weight"), lambda t: t * float("nan")),
        (("models", "head", "weight"), lambda t: t.double() * 1e300),
        (("models", "head", "weight"), lambda t: t[:1]),
        (("models", "head", 3), None),
        (("optims",), {}),
        (("optims",), []),
        (("optims", "head"), 5),
        (("optims", "head"), {}),
        (("optims", "head", "state"), []),
        (("optims", "head", "state"), {9: {}}),
        (("optims", "head", "state"), {"0": {}}),
        (ADAM, 5),
        ((*ADAM, "exp_avg"), KeyError),
        ((*ADAM, "exp_avg"), torch.zeros(3, 3)),
        ((*ADAM, "exp_avg"), "x"),
        ((*ADAM, "exp_avg"), lambda t: t * float("inf")),
        ((*ADAM, "exp_avg_sq"), lambda t: -t - 1),
        ((*ADAM, "step"), torch.tensor(-1.0)),
        ((*ADAM, "step"), "1"),
        (("optims", "head", "param_groups"), []),
        ((*GROUP, "lr"), float("nan")),
        ((*GROUP, "lr"), -1.0),
        ((*GROUP, "betas"), (0.9,)),
        ((*GROUP, "betas"), (1.0, 1.0)),
        ((*GROUP, "eps"), "small"),
        ((*GROUP, "params"), [0]),
        ((*GROUP, "params"), KeyError),
        (("scheds",), {"head": 5}),
        ((*SCHEDULE, "last_epoch"), "1"),
        ((*SCHEDULE, "last_epoch"), KeyError),
        ((*SCHEDULE, "base_lrs"), [1.0, 2.0]),
        ((*SCHEDULE, "optimizer"), 5),
        ((*SCHEDULE, "successor"), {}),
        ((*SCHEDULE, "successor", "T_max"), 0),
        (("scaler",), {"scale": 0.0}),
        (("scaler",), [1]),
        (("best_result",), float("nan")),
        (("best_result",), None),
        (("history",), 5),
        (("history",), [5]),
        (("history", 0, "seconds"), KeyError),
        (("history", 0, "seconds"), float("nan")),
        (("history", 0, "epoch"), 2),
        (("history", 1, "epoch"), 4),
        (("history", 1, "loss"), "low"),
        (("precision",), 16),
        (("split_sha256",), None),
        (("within_epoch",), {"a": 1}),
        (("within_epoch",), {"batches": -1, "position": 0, "images": 0, "seconds": 0.0, "sums": {}}),
        (("within_epoch",), {"batches": 1, "position": 9, "images": 0, "seconds": 0.0, "sums": {}}),
        (("within_epoch",), {"batches": 1, "position": 1, "images": 0, "seconds": 0.0, "sums": {"loss": 5}}),
        (("results",), {"val": 5}),
        (("random_states",), {}),
        (("random_states", "torch"), torch.zeros(3, dtype=torch.uint8)),
        (("random_states", "torch"), lambda t: t.float()),
        (("random_states", "python"), [3, [0] * 625]),
        (("random_states", "python"), [3, [-1] * 625, None]),
        (("random_states", "numpy"), ["MT19937", [0] * 624, 10**6, 0, 0.0]),
        (("random_states", "numpy"), ["MT19937", [2**32] * 624, 0, 0, 0.0]),
        (("random_states", "accelerator"), 5),
        (("random_states", "accelerator"), {"cuda": [5]}),
        (("random_states", "cuda"), 5),  # the entry of older files
    ],
)
def test_damaged_entries_are_refused(saved, place, value):
    directory, content = saved
    change(content, place, value)
    torch.save(content, directory / "resume.pt")
    trainer = SmallTrainer(directory)
    before = snapshot(trainer)
    with pytest.raises(WeightsError, match=r"resume\.pt") as caught:
        load_resume_file(trainer, directory)
    assert "\n" not in str(caught.value)
    assert str(place[0]) in str(caught.value) or place[0] == "models"
    assert str(before) == str(snapshot(trainer)) and trainer.history == [] and trainer.start_epoch == 0


def test_every_changed_byte_of_a_record_is_noticed(saved):
    directory, content = saved
    file = directory / "resume.pt"
    good = file.read_bytes()
    weights = content["models"]["head"]["weight"].numpy().tobytes()
    for place in (good.find(weights) + 2, good.find(b"next_epoch") + 3, good.find(b"history") + 40):
        file.write_bytes(good[:place] + bytes([good[place] ^ 0x40]) + good[place + 1 :])
        with pytest.raises(WeightsError, match=r"resume\.pt: damaged .*checksum.*; remove it"):
            load_resume_file(SmallTrainer(directory), directory)


@pytest.mark.parametrize("schedule", ["cosine", "single_step", "multi_step"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "amsgrad", "adamw", "radam", "rmsprop"])
def test_every_optimizer_and_schedule_resumes(tmp_path, optimizer, schedule):
    first = SmallTrainer(tmp_path, optimizer, schedule, warmup=2).train_two_epochs()
    save_resume_file(first, tmp_path)
    second = SmallTrainer(tmp_path, optimizer, schedule, warmup=2)
    assert load_resume_file(second, tmp_path)
    assert str(snapshot(first)) == str(snapshot(second))
    assert (second.start_epoch, second.results, len(second.history)) == (2, {"val": {"accuracy": 75.0}}, 2)
    assert second.peak_memory_before > 0
    for trainer in (first, second):
        trainer.train_two_epochs()
    assert str(snapshot(first)) == str(snapshot(second))


def test_a_file_from_before_results_were_stored_in_it(saved):
    directory, content = saved
    for name in ("results", "skipped_images", "peak_memory_bytes", "extra", "processes", "weights_sha256"):
        del content[name]
    torch.save(content, directory / "resume.pt")
    trainer = SmallTrainer(directory)
    assert load_resume_file(trainer, directory) and trainer.results == {} and trainer.start_epoch == 2


def test_images_left_out_before_are_counted_after(tmp_path):
    def with_data(root):
        trainer = SmallTrainer(tmp_path)
        trainer.dm = SimpleNamespace(split_sha256="a", dataset=SimpleNamespace(dataset_dir=str(root)), skipped_images={})
        return trainer

    first = with_data(tmp_path / "old")
    first.dm.skipped_images = {str(tmp_path / "old" / "cat" / "\udcff.png"): "damaged"}
    save_resume_file(first, tmp_path)
    second = with_data(tmp_path / "new")
    assert load_resume_file(second, tmp_path)
    assert list(second.dm.skipped_images) == [str(tmp_path / "new" / "cat" / "\udcff.png")], "wherever the data lie now"


def test_an_optimizer_whose_step_needs_more_is_taken_as_it_is(tmp_path):
    def with_closure(trainer):
        trainer._optims["head"] = torch.optim.LBFGS(trainer._models["head"].parameters())
        trainer._scheds["head"] = None
        return trainer

    first = with_closure(SmallTrainer(tmp_path))
    save_resume_file(first, tmp_path)
    assert load_resume_file(with_closure(SmallTrainer(tmp_path)), tmp_path)

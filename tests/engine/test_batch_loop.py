"""The loop over batches: what it calls, what it counts, where it continues."""

from types import SimpleNamespace

import pytest

from dassl_vr.config import get_cfg_default
from dassl_vr.engine.batch_loop import BatchLoop, _fitted
from dassl_vr.utils.distributed import StepShare
from dassl_vr.utils.errors import RunInterrupted


class Loop(BatchLoop):
    """A trainer reduced to what the loop asks of one, which writes down what it is called for."""

    def __init__(self, batches, done=0):
        self.cfg, self.epoch, self.max_epoch, self.output_dir = get_cfg_default(), 0, 1, "out"
        self.cfg.TRAIN.PRINT_FREQ = 2
        self.step_share, self.calls, self.epoch_record = StepShare(), [], {}
        self.train_loader_x = SimpleNamespace()
        self.begin_progress()
        self.progress.batches = self.progress.position = done
        self.run_batches((({"label": labels},) for labels in batches[done:]), len(batches))

    def set_model_mode(self, mode):
        self.calls.append(mode)

    def forward_backward(self, batch):
        self.calls.append(self.batch_idx)
        return {"loss": float(sum(batch["label"]))}

    def log_batch(self, batch_time, data_time, write=print):
        self.calls.append("log")

    def after_batch(self):
        self.calls.append("after")


def test_the_hooks_and_their_order():
    loop = Loop([[1, 2], [3], [4]])
    assert loop.calls == ["train", 0, "after", 1, "log", "after", 2, "log", "after"]
    assert loop.num_batches == 3 and (loop.progress.batches, loop.progress.position, loop.progress.images) == (3, 3, 4)
    assert loop.epoch_record["loss"] == pytest.approx((2 * 3 + 3 + 4) / 4)


def test_it_continues_where_it_stopped_and_skips_empty_batches():
    loop = Loop([[1], [2], [], [4]], done=1)
    assert [call for call in loop.calls if isinstance(call, int)] == [1, 2] and loop.progress.images == 2


def test_a_signal_ends_the_run_before_the_next_step(monkeypatch):
    monkeypatch.setattr("dassl_vr.engine.batch_loop.asked", lambda: "SIGTERM")
    monkeypatch.setattr("dassl_vr.engine.batch_loop.asked_anywhere", lambda: "SIGTERM")

    def stop(trainer, name):
        raise RunInterrupted(name)

    monkeypatch.setattr("dassl_vr.engine.batch_loop.stop", stop)
    with pytest.raises(RunInterrupted, match="SIGTERM"):
        Loop([[1]])


def test_a_line_fits_the_screen_and_ends_with_the_time_that_is_left():
    place, end = "epoch [100/200] batch [1000/1250]", "eta 34:00:00"
    parts = ["loss 0.1234", "a_loss_with_a_name_that_is_much_too_long 12.34", "acc 98.44", "lr 1.0e-02"]
    line = _fitted(place, parts, end)
    assert line == f"{place} loss 0.1234 acc 98.44 lr 1.0e-02 {end}" and len(line) < 80

"""TensorBoard's event files where the disk or the directory gives in."""

import os
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dassl_vr.engine.events import EventWriter
from dassl_vr.utils.errors import DiskError
from dassl_vr.utils.places import kept_in_place


def test_events_are_written_at_once_and_hide_purged_steps(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    for purge_step, steps in ((None, range(5)), (3, (3, 4)), (0, (0,))):
        writer = EventWriter(str(tmp_path), purge_step)
        for step in steps:
            writer.add_scalar("loss", step + len(steps), step)
        read = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
        expected = {None: [5, 6, 7, 8, 9], 3: [5, 6, 7, 5, 6], 0: [1]}[purge_step]
        assert [event.value for event in read] == expected
        writer.close()
    assert (tmp_path / "mine.txt").read_text() == "precious"
    assert len(list(tmp_path.glob("events*"))) == 3, "none is written over, within one second too"


def test_a_full_disk_is_an_error_where_the_event_is_written(tmp_path, monkeypatch):
    writer = EventWriter(str(tmp_path))
    (path,) = map(str, tmp_path.glob("events*"))
    (descriptor,) = (int(fd.name) for fd in Path("/proc/self/fd").iterdir() if os.path.realpath(fd) == path)
    with open("/dev/full", "wb", buffering=0) as full:
        os.dup2(full.fileno(), descriptor)
        with pytest.raises(OSError, match="No space") as failure:
            writer.add_scalar("loss", 1.0, 1)
    assert failure.value.filename == path


def test_a_directory_that_vanishes_is_not_made_again(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with kept_in_place(run):
        writer = EventWriter(str(run / "tensorboard"))
        run.rename(tmp_path / "moved")
        with pytest.raises(DiskError, match=f"{run} was moved or removed"):
            writer.add_scalar("loss", 1.0, 1)
        with pytest.raises(DiskError, match=f"{run} was moved or removed"):
            writer.add_embedding(torch.zeros(3, 2))
    assert not run.exists()


def test_events_alone_that_vanish(tmp_path):
    writer = EventWriter(str(tmp_path / "run" / "tensorboard"))
    (tmp_path / "run" / "tensorboard").rename(tmp_path / "moved")
    with pytest.raises(DiskError, match=f"add --resume {tmp_path / 'run'}"):
        writer.add_scalar("loss", 1.0, 1)


def test_embeddings_can_be_written_twice(tmp_path, capsys):
    for value in (0.0, 1.0):
        writer = EventWriter(str(tmp_path))
        for tag in ("before", "after"):
            writer.add_embedding(torch.full((2, 1), value), metadata=["a", "b"], tag=tag)
        assert (tmp_path / "00000" / "after" / "tensors.tsv").read_text() == f"{value}\n{value}\n"
    assert (tmp_path / "projector_config.pbtxt").read_text().count("tensor_name") == 2
    assert capsys.readouterr().out == ""

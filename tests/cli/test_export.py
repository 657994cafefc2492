"""`export.py`: what it refuses."""

import errno
import sys
from pathlib import Path

import torch

from dassl_vr.cli.export import main as export
from dassl_vr.deploy.exported import write_program


def refused(capsys, *arguments):
    assert export(list(map(str, arguments))) == 2
    return capsys.readouterr().err


def test_without_onnx(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert "dassl_vr[onnx]" in refused(capsys, run, tmp_path / "out", "--format", "onnx")
    assert not (tmp_path / "out").exists()


def test_a_graph_that_differs_is_not_written(run, tmp_path, monkeypatch, capsys):
    from dassl_vr.deploy import exported

    def wrong(file):
        return lambda pixels: torch.full((len(pixels), 10), 0.5)

    monkeypatch.setattr(exported, "_program_runner", wrong)
    assert "differ by" in refused(capsys, run, tmp_path / "out", "--format", "torch")
    assert list(tmp_path.iterdir()) == []


def test_a_program_of_torch_is_not_opened(run, tmp_path, capsys):
    assert export([str(run), str(tmp_path / "program"), "--format", "torch"]) == 0
    assert "torch.export.load" in refused(capsys, tmp_path / "program", tmp_path / "again")


def test_out_is_in_use(run, capsys):
    assert "exists already" in refused(capsys, run, run)


def test_a_program_on_a_full_disk(processes):
    """torch's own writer aborts the process."""
    program = torch.export.export(torch.nn.Linear(1, 1), (torch.zeros(2, 1),))

    def work():
        try:
            write_program(program, Path("/dev/full"))
        except OSError as error:
            return error.errno

    assert processes(1, work) == [(0, errno.ENOSPC)]

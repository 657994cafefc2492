"""How commands end when output, memory or a path fails them."""

import subprocess
import sys

import pytest
import torch

from dassl_vr.cli.errors import one_line_errors

MAIN = """
import sys
from dassl_vr.cli.errors import one_line_errors
@one_line_errors
def main(argv=None):
    for number in range({lines}):
        print("x" * 1000)
sys.exit(main())
"""


def ends(tmp_path, lines, redirection):
    (tmp_path / "main.py").write_text(MAIN.format(lines=lines))
    command = f"{sys.executable} {tmp_path}/main.py {redirection}"
    return subprocess.run(["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True)


@pytest.mark.parametrize("lines", [1000, 3])  # more than a pipe holds, and what is first written at the end
def test_a_closed_pipe(tmp_path, lines):
    done = ends(tmp_path, lines, "| true")
    assert (done.returncode, done.stderr) == (141, "") if lines == 1000 else (done.returncode in (0, 141) and not done.stderr)


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-"])
def test_closed_output(tmp_path, redirection):
    done = ends(tmp_path, 10, redirection)
    assert (done.returncode, done.stderr) == (0, "")


def test_full_output(tmp_path):
    done = ends(tmp_path, 10, ">/dev/full")
    assert done.returncode == 2
    assert done.stderr == "error: No space left on device: standard output; make room or choose another directory\n"


def raising(error):
    @one_line_errors
    def main(argv=None):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory (CUDA out of memory)"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "lower DATALOADER.TRAIN_X.BATCH_SIZE"),
        (OSError(36, "File name too long", "a" * 10), "File name too long: aaaaaaaaaa"),
    ],
)
def test_one_line_and_two(capsys, error, words):
    assert raising(error)([]) == 2
    err = capsys.readouterr().err
    assert words in err and err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        *(RuntimeError("a fault of ours"), OSError("without a number"), BrokenPipeError(32, "of a worker")),
        *(ModuleNotFoundError("no module", name=name) for name in ("dassl_vr.nothing", "torch.nothing")),
    ],
)
def test_our_own_faults_are_not_hidden(error):
    with pytest.raises(type(error)):
        raising(error)([])

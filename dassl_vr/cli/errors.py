"""How the commands end."""

import errno
import functools
import importlib.util
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from ..utils.arguments import called_as
from ..utils.errors import (
    DISK_ERRORS,
    EXIT_INTERRUPTED,
    EXIT_PREEMPTED,
    EXIT_READER_GONE,
    EXIT_USER_ERROR,
    RunInterrupted,
    UserError,
)
from ..utils.text import give_up_output, one_line, printable_output, say

# Paths that cannot be
PATH_ERRORS = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.ENXIO}


def one_line_errors(main: Callable) -> Callable:
    """Make `main(argv)` print a `UserError`, a full or unwritable disk, or lack of memory, as one line on
    standard error and return 2; Ctrl-C returns 130, and a run that saved itself because a signal asked it to end 75. Where nobody
    reads the output any more (`| head`), it ends quietly. Of several processes of a run, the first that fails prints its line.

    A command imports what it works with inside of `main`, after its arguments are parsed: `--help` comes at once, and a library
    that is not installed is one line too.

    Whatever is printed within goes through `utils.text.printable_output`."""

    @functools.wraps(main)
    def wrapped(argv=None):
        with printable_output():
            try:
                return _code_of(main, argv)
            except BrokenPipeError as error:
                if not error.filename:  # of a process that died, not of one of our streams
                    raise
                return EXIT_READER_GONE
            finally:
                give_up_output()

    return wrapped


def _code_of(main, argv):
    try:
        code = main(argv) or 0
        sys.stdout.flush()  # here, where an error can still be reported
        return code
    except UserError as error:
        _say(f"error: {error}")
        return EXIT_USER_ERROR
    except ModuleNotFoundError as error:
        if is_ours(error.name):
            raise
        _say(f"error: {how_to_install(error.name)}")
        return EXIT_USER_ERROR
    except RunInterrupted as error:
        _say(str(error))
        return EXIT_PREEMPTED
    except OSError as error:
        if error.errno not in DISK_ERRORS | PATH_ERRORS:
            raise
        remedy = "make room or choose another directory" if error.errno in DISK_ERRORS else "check or change this path"
        _say(f"error: {error.strerror}: {error.filename or 'a file'}; {remedy}")
        return EXIT_USER_ERROR
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _say(f"error: out of memory ({error}); lower DATALOADER.TRAIN_X.BATCH_SIZE, DATALOADER.TEST.BATCH_SIZE or INPUT.SIZE")
        return EXIT_USER_ERROR
    except KeyboardInterrupt as error:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # ends the line with the terminal's ^C in it
        _say(str(error) or "interrupted")
        return EXIT_INTERRUPTED


def end_script_in_one_line() -> None:
    """Make an error that ends this process, whatever raised it, end as `one_line_errors` would: for a script that imports
    libraries at its top, any of which may be missing."""

    def hook(kind, error, trace):
        def again(argv):
            raise error

        try:
            code = _code_of(again, None)
        except BaseException:  # a fault, not something that a user can mend
            return sys.__excepthook__(kind, error, trace)
        raise SystemExit(code)

    sys.excepthook = hook


def is_out_of_memory(error: BaseException) -> bool:
    """Whether python, torch on a CPU or torch on a GPU could not get the memory that it asked for."""
    torch = sys.modules.get("torch")  # which raises nothing before it is imported
    kinds = (MemoryError, torch.OutOfMemoryError) if torch else MemoryError
    return isinstance(error, kinds) or "DefaultCPUAllocator: " in str(error)


def is_ours(module: str | None) -> bool:
    """Whether a module that was not found is part of this package, or of one that is installed: then a fault is ours."""
    top = (module or "dassl_vr").partition(".")[0]
    return top == "dassl_vr" or importlib.util.find_spec(top) is not None


def how_to_install(module: str) -> str:
    """One line for a library that is missing: which one, and the command that installs or finds it."""
    checkout = Path(__file__).resolve().parents[2]
    line = f"the library '{module.partition('.')[0]}' is not installed for {sys.executable}"
    python = checkout / ".venv" / "bin" / "python"
    if python.is_file() and python.parent.parent != Path(sys.prefix):
        command = called_as().partition(" ")[2]
        return f"{line}; the checkout has an environment: {os.path.relpath(python)} {command}"
    what = shlex.quote(str(checkout)) if (checkout / "setup.py").is_file() else "--force-reinstall dassl_vr"
    return f"{line}; install it with: {shlex.quote(sys.executable)} -m pip install {'-e ' if '/' in what else ''}{what}"


def _say(line):
    if "RANK" in os.environ:  # one of several processes
        from ..utils.distributed import is_first_to_report

        if not is_first_to_report():
            return
    say(one_line(line))

"""`Popen` and `run` as in `subprocess`, for Python programs that start in a moment.

Starting Python with torch and torchvision costs six seconds of a core. Here a server imports the libraries once, and each program
is a fork of it: nothing of this process, and nothing of ours, is in it but what it imports itself. Environment variables that
a library reads when it is imported have no effect; a test that is about these, or about the interpreter, starts a real process.
"""

import contextlib
import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from functools import partial
from multiprocessing import connection, reduction
from pathlib import Path

PIPE, DEVNULL, STDOUT, TimeoutExpired = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT, subprocess.TimeoutExpired
LIBRARIES = ["torch", "torch.optim", "torch._dynamo", "torchvision.transforms.v2", "yacs.config", "tabulate", "safetensors.torch"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(LIBRARIES)


def preload(*modules):
    """Have the server import further modules, if it is not there yet."""
    _context.set_forkserver_preload([*LIBRARIES, *modules])


_lock = threading.Lock()  # whoever starts a process asks all others for their exit codes, each of which can be read once


_file = partial(tempfile.TemporaryFile, "w+")


class Popen:
    """A program `[sys.executable, FILE or -m MODULE or -c CODE, argument, ...]`, as `subprocess.Popen` starts it."""

    def __init__(self, command, cwd=None, env=None, stdin=None, stdout=None, stderr=None, text=True, preexec_fn=None):
        executable, *words = map(str, command)
        assert executable == sys.executable and text
        self.args, self.returncode = command, None
        self._captured = [_file() if stream == subprocess.PIPE else None for stream in (stdout, stderr)]
        with open(os.devnull, "r+") as null:
            out = self._captured[0] or {None: sys.__stdout__, subprocess.DEVNULL: null}.get(stdout, stdout)
            err = self._captured[1] or {None: sys.__stderr__, subprocess.DEVNULL: null, subprocess.STDOUT: out}.get(stderr, stderr)
            streams = [_Descriptor(file.fileno()) for file in (null, out, err)]
            environment = dict(os.environ if env is None else env)
            options = (words, str(cwd or os.getcwd()), environment, streams, preexec_fn is not None)
            self._process = _context.Process(target=_program, args=options)
            with _lock:
                self._process.start()
        self.pid = self._process.pid

    def poll(self):
        with _lock:
            self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout=None):
        connection.wait([self._process.sentinel], timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout=None):
        self.wait(timeout)
        return tuple(file and (file.seek(0), file.read())[1] for file in self._captured)

    def send_signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def run(command, timeout=None, capture_output=False, **options):
    """As `subprocess.run`."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = Popen(command, **options)
    out, err = process.communicate(timeout)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


class _Descriptor:
    """A file descriptor that arrives in the program as another number for the same open file, locks included."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return _detach, (reduction.DupFd(self.number),)


def _detach(duplicate):
    return duplicate.detach()


def _program(words, cwd, environment, streams, ends_with_parent):
    if ends_with_parent:  # all that ours are started with: that is the server, which ends with the process that uses it
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    multiprocessing.set_start_method(None, force=True)  # the default, in place of that by which this process was started
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    libraries = [entry for entry in sys.path if entry.startswith((sys.prefix, sys.base_prefix))]
    kind, arguments = words[0], words[1:]
    first = {"-m": cwd, "-c": ""}.get(kind, str(Path(kind).resolve().parent))
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*([] if environment.get("PYTHONSAFEPATH") else [first]), *filter(None, paths), *libraries]
    sys.stdin = os.fdopen(0, closefd=False)
    if kind == "-m":
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *arguments[1:]]
        exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(kind, run_name="__main__")

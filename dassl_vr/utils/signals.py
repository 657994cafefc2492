"""Signals: those that ask a run to end soon, as a cluster sends to a job that has to make room, and what each process does then."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping

from . import distributed
from .errors import RunInterrupted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

_asked = None  # the first signal that came
_PR_SET_PDEATHSIG = 1  # of Linux's prctl


@contextlib.contextmanager
def _with_handlers(handlers: Mapping[int, Callable]):
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handled_by(handler):
    """Inside the block `handler` is called at SIGTERM and SIGUSR1, if this is the main thread."""
    return _with_handlers(dict.fromkeys(SIGNALS if _in_main_thread() else (), handler))


def _in_main_thread():
    """Only there may handlers be set."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def noticing_signals() -> Iterator[None]:
    """Inside the block SIGTERM and SIGUSR1 only make `asked()` true."""
    global _asked
    _asked = None
    try:
        with _handled_by(_notice):
            yield
    finally:
        _asked = None


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Inside the block SIGTERM and SIGUSR1 end the run at once, because there is nothing new to save yet.

    Raises:
        RunInterrupted: one of them came.
    """

    def end(number, frame):
        raise RunInterrupted(f"stopped by {signal.Signals(number).name} before training began")

    with _handled_by(end):
        yield


def _notice(number, frame):
    global _asked
    _asked = _asked or signal.Signals(number).name


def asked() -> str | None:
    """The name of the signal that asked this process to end; None while there is none."""
    return _asked


def asked_anywhere() -> str | None:
    """The same for any process of the run, with the same answer on all of them."""
    return next(filter(None, distributed.gather_values(_asked)), None)


def interrupt_on_signals() -> contextlib.AbstractContextManager[None]:
    """Inside the block SIGTERM, and SIGHUP of a terminal that is closed, end this process as Ctrl-C does: what it has started is
    ended too. A process that was started to ignore SIGHUP (`nohup`) goes on doing so. Outside of the main thread nothing
    changes."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    heard = [signal.SIGTERM, *([hangup] if hangup and signal.getsignal(hangup) is not signal.SIG_IGN else [])]
    return _with_handlers(dict.fromkeys(heard if _in_main_thread() else (), interrupt))


def passing_signals(send: Callable[[int], None]) -> contextlib.AbstractContextManager[None]:
    """Inside the block SIGTERM and SIGUSR1 go to `send`; Ctrl-C, which reaches all processes of a terminal, does nothing here."""
    handlers = {number: lambda number, frame: send(number) for number in SIGNALS}
    return _with_handlers({signal.SIGINT: lambda number, frame: None, **handlers})


@contextlib.contextmanager
def keeping_sigterm() -> Iterator[None]:
    """After the block SIGTERM is handled as before it, whatever a library has set inside."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def hear_interrupts() -> None:
    """SIGINT raises `KeyboardInterrupt`, also where a shell has started this process with `&`, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def ignore_ends_of_children() -> None:
    """Take back torch's handler, which raises an error anywhere in the code when a worker has died."""
    if _in_main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def ending_with_parent() -> Callable[[], object] | None:
    """A `preexec_fn` by which a process gets SIGTERM when the one that started it ends; None where only Linux can."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # loaded before the fork
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def shield_worker(worker: int) -> None:
    """Make a worker that reads images deaf to signals that a whole group of processes gets: they mean the trainer, which still
    needs its batch. The parent's own SIGTERM ends the worker as before."""
    if not hasattr(signal, "sigwaitinfo"):
        return
    heard = {signal.SIGTERM, signal.SIGUSR1}
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    parent = os.getppid()

    def listen():
        while True:
            news = signal.sigwaitinfo(heard)
            if news.si_signo == signal.SIGTERM and news.si_pid == parent:
                os._exit(0)

    threading.Thread(target=listen, daemon=True).start()

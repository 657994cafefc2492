"""Signals that ask a run to end soon, as a cluster sends to a job that has to make room, and what each process does then."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from . import distributed
from .errors import RunInterrupted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

_asked = None  # the first signal that came


@contextlib.contextmanager
def _handled_by(handler):
    """Inside the block `handler` is called at SIGTERM and SIGUSR1, if this is the main thread: only there may handlers be set."""
    numbers = SIGNALS if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def noticing_signals() -> Iterator[None]:
    """Inside the block SIGTERM and SIGUSR1 do nothing but to make `asked()` true."""
    global _asked
    _asked = None
    try:
        with _handled_by(_notice):
            yield
    finally:
        _asked = None


@contextlib.contextmanager
def ended_by_signals(directory: str) -> Iterator[None]:
    """Inside the block SIGTERM and SIGUSR1 end the run in `directory` at once, because there is nothing new to save yet.

    Raises:
        RunInterrupted: one of them came.
    """

    def end(number, frame):
        name = signal.Signals(number).name
        raise RunInterrupted(f"stopped by {name} before training began; add --resume {directory} to continue")

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


@contextlib.contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """SIGTERM ends this process as Ctrl-C does: the runs in progress are stopped too."""

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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

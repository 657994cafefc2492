"""Signals that ask a run to end soon: what a cluster sends to a job that has to make room."""

import contextlib
import signal
import threading

from ..utils import distributed
from ..utils.errors import RunInterrupted

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
def noticing_signals():
    """Inside the block SIGTERM and SIGUSR1 do nothing but to make `asked()` true."""
    global _asked
    _asked = None
    try:
        with _handled_by(_notice):
            yield
    finally:
        _asked = None


@contextlib.contextmanager
def ended_by_signals(directory):
    """Inside the block SIGTERM and SIGUSR1 end the run in `directory` at once, because there is nothing new to save yet.

    Raises:
        RunInterrupted: one of them came.
    """

    def end(number, frame):
        name = signal.Signals(number).name
        raise RunInterrupted(f"stopped by {name} before training began; add --resume {directory} to go on")

    with _handled_by(end):
        yield


def _notice(number, frame):
    global _asked
    _asked = _asked or signal.Signals(number).name


def asked():
    """The name of the signal that asked this process to end; None while there is none."""
    return _asked


def asked_anywhere():
    """The same for any process of the run, with the same answer on all of them."""
    return next(filter(None, distributed.gather_values(_asked)), None)

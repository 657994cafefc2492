"""Copying what is printed to a file."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from .places import naming_file
from .text import printable


class Logger:
    """Replaces `sys.stdout` and also writes to a file; what is printed before the file is opened is kept for it.

    Texts in the file are `printable`. Use as a context manager, or assign to `sys.stdout`.

    Args:
        fpath: the file; None = `open` will name it later, or never.
        mode: "w" to overwrite it, "a" to continue writing at its end.
    """

    def __init__(self, fpath=None, mode="w"):
        self.console = sys.stdout
        self.file = None
        self._held = []
        self._screen_only = False
        if fpath is not None:
            self.open(fpath, mode)

    def open(self, fpath: str | os.PathLike, mode: str = "w") -> None:
        """Write everything so far, and from now on, to `fpath`."""
        os.makedirs(os.path.dirname(os.path.abspath(fpath)), exist_ok=True)
        # Line by line, so that a killed run keeps its log
        self.file = open(fpath, mode, encoding="utf-8", buffering=1)  # noqa: SIM115
        self._to_file("".join(self._held))
        self._held.clear()

    def __getattr__(self, name):
        return getattr(self.console, name)  # isatty, encoding, ...

    def __enter__(self):
        sys.stdout = self
        return self

    def __exit__(self, kind, *args):
        sys.stdout = self.console
        # What a full disk has not taken is tried once more: not news if the block ended by that
        with contextlib.suppress(OSError) if kind else contextlib.nullcontext():
            self.close()

    def write(self, msg: str) -> int:
        shown = printable(msg)
        if not self._screen_only:
            self._to_file(shown)
        self.console.write(shown)
        return len(msg)

    def note(self, msg: str) -> None:
        """Write a line to the file alone."""
        self._to_file(f"{printable(msg)}\n")

    @contextlib.contextmanager
    def screen_only(self) -> Iterator[None]:
        """In the block, what is printed does not go to the file."""
        self._screen_only = True
        try:
            yield
        finally:
            self._screen_only = False

    def _to_file(self, text):
        if self.file is None:
            self._held.append(text)
            return
        with naming_file(self.file.name):
            self.file.write(text)

    def flush(self) -> None:
        self.console.flush()
        if self.file is not None:
            with naming_file(self.file.name):
                self.file.flush()

    def close(self) -> None:
        file, self.file = self.file, None
        if file is not None:
            with naming_file(file.name):
                file.close()


def print_brief(short: str, full: str, write: Callable[[str], object] = print) -> None:
    """Print `short`, if it is not empty; the log file, if there is one, gets `full` in its place.

    Args:
        write: prints; with a progress bar on the screen, tqdm's.
    """
    log = sys.stdout
    logs = isinstance(log, Logger)
    if logs:
        log.note(full)
    if short:
        with log.screen_only() if logs else contextlib.nullcontext():
            write(short)

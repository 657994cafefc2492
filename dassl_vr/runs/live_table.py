"""How far many runs are: a table that is redrawn in place on a terminal, elsewhere a line for each change."""

import re
import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..utils.text import inner_output, one_line
from .executors import CONSOLE_FILE
from .plan import Run

WAITS, WORKS, FAILED, DONE = "waits", "works", "failed", "finished"
EPOCH = re.compile(rb"epoch \[(\d+/\d+)\]")
TALLER = 3  # lines of a table that are no run: its head, and what is below it


class LiveTable:
    """What becomes of many runs; inside a `with`, which gives the terminal back.

    Attributes:
        states: {output directory: WAITS, WORKS, FAILED or DONE}.
        outcomes: {output directory: a line on what the run came to}; its owner adds them.
    """

    def __init__(self, runs: Sequence[Run]):
        self.runs, self.states = runs, {run.output_dir: WAITS for run in runs}
        self._begin = time.monotonic()
        self.outcomes = {}
        self._shown = {}
        self._sizes = {run.output_dir: self._size(run) for run in runs}
        # Below what makes control characters visible, as rich moves the cursor with them; so every text here is made `one_line`
        output = inner_output()
        self._console = Console(file=output, force_terminal=output.isatty(), force_jupyter=False)
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._redraws = self._console.is_terminal and not self._console.is_dumb_terminal

    def __enter__(self) -> "LiveTable":
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    @staticmethod
    def _size(run):
        path = run.output_dir / CONSOLE_FILE
        return path.stat().st_size if path.is_file() else 0

    def epoch(self, run: Run) -> str:
        """`3/200`, by what the run has printed since the sweep began; "" before it printed anything, "0" before its first epoch."""
        begin, size = self._sizes[run.output_dir], self._size(run)
        if size <= begin:
            return ""
        with open(run.output_dir / CONSOLE_FILE, "rb") as console:
            console.seek(max(begin, size - 4096))
            found = EPOCH.findall(console.read())
        return found[-1].decode() if found else "0"

    def note(self, line: str) -> None:
        """Print a line that stays."""
        if self._live.is_started:
            self._console.print(Text(one_line(line)), soft_wrap=True)
        else:
            print(line, flush=True)

    def show(self) -> None:
        """Print what has changed: on a terminal the table, and a line that stays for each run that has ended."""
        if self._redraws:
            self._live.start()
        for run in self.runs:
            state, outcome = self.states[run.output_dir], self.outcomes.get(run.output_dir)
            if state != self._shown.get(run.output_dir) and (outcome or not self._redraws):
                self._shown[run.output_dir] = state
                said = ": ".join(filter(None, (str(run.output_dir), run.problem, outcome)))
                self.note(f"{state:<9} {said}")
        if self._redraws:
            self._live.update(self._drawn(), refresh=True)

    def _drawn(self):
        states = Counter(self.states.values())
        working = [run for run in self.runs if self.states[run.output_dir] == WORKS]
        working = working[: max(0, self._console.height - TALLER)]  # what scrolls away cannot be redrawn
        table = Table(box=None, pad_edge=False)
        for name in ("run", "epoch", "directory"):
            table.add_column(name, no_wrap=name != "directory")  # the one that gives way where there is no room
        for run in working:
            cells = (run.name, self.epoch(run), run.output_dir)
            table.add_row(*(Text(one_line(cell), no_wrap=True, overflow="ellipsis") for cell in cells))
        counts = ", ".join(f"{states[state]} {state}" for state in (DONE, WORKS, WAITS, FAILED))
        last = f"{counts} of {len(self.runs)} after {(time.monotonic() - self._begin) / 60:.1f} min"
        return Group(table, Text(last, no_wrap=True, overflow="ellipsis"))

    def end(self) -> None:
        """The last line: how many there are of each kind."""
        states = Counter(self.states.values())
        self.note(", ".join(f"{number} {state}" for state, number in states.items()) or "nothing to do")

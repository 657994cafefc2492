"""What is shown of runs on Ray, and what a task of Ray says."""

import io
import os
import re

import pytest

from dassl_vr.plugins import load_plugins
from dassl_vr.runs.cells import Cell
from dassl_vr.runs.executors import Run
from dassl_vr.runs.on_ray import DONE, FAILED, WORKS, LiveTable, _execute


@pytest.fixture
def runs(monkeypatch, repository, tmp_path):
    """Three of them, of which the first has printed something on an earlier day."""
    monkeypatch.chdir(repository)
    load_plugins()
    cell = Cell("LinearProbe", "", "digits", "tiny_vit")
    places = [tmp_path / f"seed{seed}" for seed in range(3)]
    runs = [Run(f"LinearProbe seed {seed}", cell.arguments(path, seed, "data", []), path) for seed, path in enumerate(places)]
    says(runs[0], "epoch [9/9] batch [1/2]")
    return runs


def says(run, line):
    run.output_dir.mkdir(exist_ok=True)
    with open(run.output_dir / "console.txt", "a") as console:
        console.write(f"{line}\n")


def test_the_epoch_is_of_this_sweep(runs):
    table = LiveTable(runs)
    assert [table.epoch(run) for run in runs] == ["", "", ""], "what an earlier sweep printed does not count"
    says(runs[0], "Environment:")
    assert table.epoch(runs[0]) == "0"
    for epoch in (1, 2):
        says(runs[0], f"epoch [{epoch}/9] batch [1/2] " + 5000 * "." * (epoch == 1))
    assert table.epoch(runs[0]) == "2/9" and table.epoch(runs[1]) == ""


def test_elsewhere_than_on_a_terminal_each_change_is_a_line(runs, capsys):
    table = LiveTable(runs)
    table.show()
    first, second, third = (run.output_dir for run in runs)
    assert capsys.readouterr().out == f"waits     {first}\nwaits     {second}\nwaits     {third}\n"
    table.show()
    assert capsys.readouterr().out == "", "nothing has changed"
    table.states[first], table.states[second], table.states[third] = WORKS, DONE, FAILED
    runs[2].problem = "no memory"
    table.show()
    table.end()
    printed = f"works     {first}\nfinished  {second}\nfailed    {third}: no memory\n1 works, 1 finished, 1 failed\n"
    assert capsys.readouterr().out == printed
    LiveTable([]).end()
    assert capsys.readouterr().out == "nothing to do\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def screen(self):
        """The lines that stand there, after what went up and erased."""
        lines = [""]
        for part in re.split(r"(\033\[\d+A\033\[J|\n)", self.getvalue()):
            if part == "\n":
                lines.append("")
            elif part.startswith("\033"):
                del lines[-1 - int(part[2:-4]) :]
                lines.append("")
            else:
                lines[-1] += part
        return lines


@pytest.mark.parametrize(("columns", "height"), [(200, 40), (50, 40), (200, 4)])
def test_on_a_terminal_the_table_is_drawn_anew_in_its_place(runs, monkeypatch, columns, height):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(height))
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    table = LiveTable(runs)
    table.show()
    assert (
        len(terminal.screen()) == 4
        and terminal.screen()[-2] == "0 finished, 0 works, 3 waits, 0 failed of 3 after 0.0 min"[: columns - 1]
    )
    for run in runs:
        table.states[run.output_dir] = WORKS
        says(run, "epoch [3/9]")
    table.show()
    screen = terminal.screen()
    assert len(screen) == min(7, height) and all(len(line) < columns for line in screen), "wider or higher it could not be erased"
    assert ("LinearProbe seed 0  3/9" in screen[2]) == (height == 40)
    table.note("again: this one")
    table.states[runs[0].output_dir] = DONE
    table.show()
    assert "again: this one" in terminal.screen(), "notes stay"
    table.show()
    screen = terminal.screen()
    assert screen.count("again: this one") == 1 and screen[-2].startswith("1 finished, 2 works, 0 waits, 0 failed")


def test_a_machine_that_does_not_see_the_checkout(tmp_path):
    problem, preempted = _execute(str(tmp_path), "SMM seed 1", [], str(tmp_path / "out"))
    assert f"does not see {tmp_path}" in problem and not preempted and not os.listdir(tmp_path)

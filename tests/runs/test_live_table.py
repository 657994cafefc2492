"""What is shown of many runs while they run."""

import io
import re
from dataclasses import replace

import pytest

from dassl_vr.plugins import load_plugins
from dassl_vr.runs.cells import Cell
from dassl_vr.runs.live_table import DONE, FAILED, WORKS, LiveTable
from dassl_vr.utils.text import printable_output


@pytest.fixture
def runs(tmp_path):
    """Three of them, of which the first has printed something on an earlier day."""
    load_plugins()
    cell = Cell("LinearProbe", "", "digits", "tiny_vit")
    runs = [replace(cell.run(seed, "output", "default", "data"), output_dir=tmp_path / f"seed{seed}") for seed in range(3)]
    says(runs[0], "epoch [9/9] batch [1/2]")
    return runs


def says(run, line):
    run.output_dir.mkdir(exist_ok=True)
    with open(run.output_dir / "console.txt", "a") as console:
        console.write(f"{line}\n")


def test_the_epoch_ignores_earlier_sweeps(runs):
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
    """What is written, as a screen shows it; knows no other control sequences than those that the table needs."""

    def isatty(self):
        return True

    def screen(self):
        lines, row = [""], 0
        for sequence, text in re.findall(r"(\033\[[?\d;]*[A-Za-z]|\r|\n)|([^\033\r\n]+)", self.getvalue()):
            if sequence == "\n":
                row += 1
                lines += [""] * (row == len(lines))
            elif sequence.endswith("A"):
                row -= int(sequence[2:-1])
                assert row >= 0, "above the first line"
            elif sequence == "\033[2K":
                lines[row] = ""
            elif text:
                lines[row] += text
            else:
                assert sequence == "\r" or sequence.endswith(("h", "l", "m")), sequence
        return "\n".join(line.rstrip() for line in lines).rstrip("\n").split("\n")


@pytest.fixture
def terminal(monkeypatch):
    """terminal(columns, height): standard output is one from now on."""

    def begin(columns=200, height=40):
        for name, value in (("TERM", "xterm"), ("COLUMNS", columns), ("LINES", height)):
            monkeypatch.setenv(name, str(value))
        terminal = Terminal()
        monkeypatch.setattr("sys.stdout", terminal)  # not in the fixture: pytest puts its own there before the test
        return terminal

    return begin


@pytest.mark.parametrize(("columns", "height"), [(200, 40), (50, 40), (200, 4)])
def test_on_a_terminal_the_table_is_drawn_anew_in_its_place(runs, terminal, columns, height):
    terminal = terminal(columns, height)
    with LiveTable(runs) as table:
        table.show()
        assert terminal.screen()[-1].startswith("0 finished, 0 works, 3 waits, 0 failed of 3 after 0.0 min"[: columns - 1])
        for run in runs:
            table.states[run.output_dir] = WORKS
            says(run, "epoch [3/9]")
        table.show()
        screen = terminal.screen()
        assert len(screen) == min(5, height - 1) and all(len(line) <= columns for line in screen), "else it could not be redrawn"
        shown = [line for line in screen if line.startswith("LinearProbe seed")]
        assert len(shown) == len(screen) - 2 and all("  3/9  " in line for line in shown), "rather than whole directories"
        table.note("again: this one")
        table.states[runs[0].output_dir] = DONE
        table.show()
        table.show()
        screen = terminal.screen()
        assert screen.count("again: this one") == 1, "notes stay"
        assert screen[-1].startswith("1 finished, 2 works, 0 waits, 0 failed")
    table.end()
    assert terminal.screen()[-1] == "1 finished, 2 works" and terminal.screen().count("again: this one") == 1


def test_names_do_not_steer_the_terminal(runs, terminal):
    terminal = terminal()
    runs[0].name = "a[red]\033[2J\n:smile:"
    with printable_output(), LiveTable(runs) as table:
        table.states[runs[0].output_dir] = WORKS
        table.show()
        table.note("again: \033[2J")
    assert "a[red]\\u001b[2J :smile:" in "\n".join(terminal.screen()) and "again: \\u001b[2J" in terminal.screen()
    assert terminal.getvalue().count("\033[?25l") == terminal.getvalue().count("\033[?25h") == 1, "the cursor is shown again"


def test_an_interrupted_sweep_gives_the_terminal_back(runs, terminal):
    terminal = terminal()
    with pytest.raises(KeyboardInterrupt), LiveTable(runs) as table:
        table.show()
        raise KeyboardInterrupt
    assert terminal.getvalue().rstrip().endswith("\033[?25h")

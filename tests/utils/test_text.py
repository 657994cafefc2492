import csv
import io
import json
import sys

import pytest

from dassl_vr.utils.logger import Logger
from dassl_vr.utils.text import (
    PrintableStream,
    markdown_cell,
    natural_key,
    one_line,
    printable,
    printable_output,
    say,
    shorten,
    spreadsheet_cell,
)

ODD = "a\x1b[2Jb\x07c\rd\x7fe\x9bf\u202eg\u2028h\udce9i"
SHOWN = r"a\u001b[2Jb\u0007c\u000dd\u007fe\u009bf\u202eg\u2028h\udce9i"


def test_control_characters_are_escaped():
    assert printable(ODD) == SHOWN
    assert printable("Größe\t猫\n👩‍🚀 c:\\dir $x") == "Größe\t猫\n👩‍🚀 c:\\dir $x"
    assert json.loads(printable(json.dumps({"name": ODD}, ensure_ascii=False))) == {"name": ODD}


def test_one_line():
    assert one_line(" two\nlines\x00 ") == r"two lines\u0000"


def test_numbers_in_texts_are_sorted_as_numbers():
    names = ["patch16", "patch2", "patch10-a", "patch", "10", "9", "patch2-b", "Ⅷ", "seed007", "seed7", "9" * 400, ""]
    expected = ["", "9", "10", "9" * 400, "patch", "patch2", "patch2-b", "patch10-a", "patch16", "seed007", "seed7", "Ⅷ"]
    assert sorted(names, key=natural_key) == expected


def test_shorten():
    assert shorten("x" * 300) == "x" * 199 + "…"
    assert "digits" in shorten([10**5000])


@pytest.mark.parametrize("text", ["=1+1", "+cmd|x", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1+1"])
def test_formulas_become_texts(text):
    out = io.StringIO()
    csv.writer(out).writerow([spreadsheet_cell(text)])
    assert next(csv.reader(io.StringIO(out.getvalue(), newline=""))) == ["'" + text]


@pytest.mark.parametrize("text", ["-1.5", "+2.3", "-0.4 ± 0.2", "-1e-05", "1,234", "a=b", "x-y", "", "12 %"])
def test_numbers_and_names_stay(text):
    assert spreadsheet_cell(text) == text


def test_markdown_cells():
    assert markdown_cell("a|b <i> _c_ d_e") == "a&#124;b &#60;i&#62; &#95;c&#95; d_e"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("cp1252", r"caf" + "é" + r" \u732b \udce9"), ("ascii", r"caf\u00e9 \u732b \udce9"), ("utf-8", r"café 猫 \udce9")],
)
def test_streams_show_what_their_encoding_lacks(encoding, shown):
    raw = io.BytesIO()
    stream = PrintableStream(io.TextIOWrapper(raw, encoding=encoding), "standard output")
    print("café 猫 \udce9", end="", file=stream, flush=True)
    assert raw.getvalue().decode(encoding) == shown


def test_output_and_log_are_printable(tmp_path, capsys):
    with printable_output(), Logger(tmp_path / "log.txt"):
        print(ODD)
        say(ODD)
        print("50%\r60%\x1b[A" + "\x1b[2J", end="", file=sys.stderr)  # a progress bar, and what is none
    out, err = capsys.readouterr()
    assert out == SHOWN + "\n"
    assert err == SHOWN + "\n" + "50%\r60%\x1b[A" + r"\u001b[2J"
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == SHOWN + "\n"


def test_closed_streams_take_everything(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with printable_output():
        print("nobody reads this")
        print("nor this", file=sys.stderr)
        sys.stdout.flush()
    assert sys.stdout is None

"""Figures of names as people have them, in surroundings as people have them."""

import os
import warnings

import pytest

from dassl_vr.report import fonts
from dassl_vr.report.canvas import figure_text, new_figure, pixels, save

NAMES = ["$1_$5", "_hidden", r"\frac{1}{0}", "{}%", "two\nlines", "x" * 500, "猫", "bad\udce9", "\x1b[31m", r"\$x", "$", "^_^"]


def test_every_name_is_drawn_as_it_is(tmp_path):
    figure = new_figure(4, 4)
    axes = figure.add_subplot()
    for name in NAMES:
        axes.plot([0, 1], label=figure_text(name, 30))
    axes.set_title(figure_text(NAMES[0]))
    legend = figure.legend(loc="outside right upper")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, tmp_path / "figure.png")
        image = pixels(figure)
    assert image.shape == (480, 480, 3) and image.dtype == "uint8" and image.std() > 0
    assert (tmp_path / "figure.png").stat().st_size > 0
    texts = [text.get_text().replace(r"\$", "$") for text in legend.get_texts()]
    assert texts[:6] == ["$1_$5", " _hidden", r"\frac{1}{0}", "{}%", "two lines", "x" * 29 + "…"]
    assert texts[6:] == ["猫", r"bad\udce9", r"\u001b[31m", r"\$x", "$", "^_^"]


@pytest.mark.parametrize("backend", ["module://not_there.backend", "no_such_backend"])
def test_no_backend_is_asked_for(tmp_path, run_python, backend):
    code = f"from dassl_vr.report.canvas import *; f = new_figure(1, 1); pixels(f); save(f, {str(tmp_path / 'a.png')!r})"
    done = run_python("-c", code, env={**os.environ, "MPLBACKEND": backend})
    assert (done.returncode, done.stderr) == (0, "")


ONLY_IN_MONO = "⍟"  # of matplotlib's own fonts DejaVu Sans, the usual one, lacks it


@pytest.fixture
def installed(monkeypatch):
    """installed("DejaVu Sans Mono"): these fonts and no others are there, and nothing was noted yet."""

    def only(*families):
        monkeypatch.setattr(fonts, "_noted", set())
        monkeypatch.setattr(fonts, "_candidates", lambda: [fonts._path_of(family) for family in families])

    return only


def drawn_with(*texts):
    """The families of each text, on an axis, as it is drawn."""
    figure = new_figure(2, 1)
    axes = figure.add_subplot()
    axes.set_yticks(range(len(texts)), texts)
    pixels(figure)
    return [label.get_fontfamily() for label in axes.get_yticklabels()]


def test_another_font_is_taken_for_characters_that_the_usual_one_lacks(installed, capsys):
    installed("DejaVu Sans Mono")
    plain, arabic, other = drawn_with("cat é Ω", "قطة", f"cat {ONLY_IN_MONO}")
    assert plain == arabic == ["sans-serif"] and other == ["DejaVu Sans", "DejaVu Sans Mono"]
    assert capsys.readouterr().err == ""


def test_characters_of_no_font_are_named_once(installed, capsys):
    installed("DejaVu Sans")
    for _ in range(2):
        drawn_with(f"{ONLY_IN_MONO}猫", "猫\u200b")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: no installed font has ⍟猫: figures show boxes; install a font")


def test_letters_that_an_older_matplotlib_does_not_join_are_named(installed, capsys, monkeypatch):
    installed("DejaVu Sans")
    monkeypatch.setattr(fonts, "_shapes_text", lambda: False)
    drawn_with("قطة", "cat")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: ةطق: this matplotlib draws them from left to right, unjoined")


def test_files_that_are_no_fonts_are_passed_over(tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    assert fonts._font(str(tmp_path / "broken.ttf")) is None

"""Figures of names as people have them, in surroundings as people have them."""

import os
import warnings

import pytest

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

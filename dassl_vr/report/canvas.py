"""Matplotlib without pyplot: window system, notebook and MPLBACKEND have no influence on a figure."""

from __future__ import annotations

import contextlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..utils.errors import ConfigError
from ..utils.files import atomic_write
from ..utils.text import one_line, shorten
from .fonts import use_fonts_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


TITLE = 48  # characters that fit on a line above a single chart with a legend beside it


@dataclass(frozen=True)
class Drawn:
    """A figure in a PNG file.

    Attributes:
        caption: what it is; `seen`: what is seen on it, for those who do not see it.
    """

    path: Path
    caption: str
    seen: str


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, sized in inches, with constrained layout. Raises `ConfigError` without matplotlib."""
    backend = os.environ.pop("MPLBACKEND", None)  # read at the first import, which fails if there is no such backend
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("figures need matplotlib; install it with: pip install 'dassl_vr[report]'") from error
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    return figure


def figure_text(text: object, length: int = 100) -> str:
    """A name as text of a figure: on one line, at most `length` characters, without matplotlib's special characters.

    `$` would start a formula, and a leading `_` would keep a name out of the legend.
    """
    text = shorten(one_line(text), length).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def colours(number: int) -> list:
    """`number` colours, distinct up to 20."""
    import matplotlib

    palette = matplotlib.colormaps["tab10" if number <= 10 else "tab20"]
    return [palette(index % palette.N) for index in range(number)]


def without_ticks(axes: Axes) -> None:
    """Remove the ticks of a picture."""
    axes.set_xticks([])
    axes.set_yticks([])


def described(figure: Figure) -> str:
    """What a figure shows, in the words that stand on it: titles, what its axes are, the entries of its legends."""
    suptitle = figure.get_suptitle()
    titles = [axes.get_title() for axes in figure.axes]
    labels = [f"{axes.get_ylabel()} by {axes.get_xlabel()}" for axes in figure.axes if axes.get_xlabel() and axes.get_ylabel()]
    legends = [*figure.legends, *filter(None, (axes.get_legend() for axes in figure.axes))]
    entries = [text.get_text() for legend in legends for text in legend.get_texts()]
    parts = [suptitle, "; ".join(dict.fromkeys(filter(None, titles))), "; ".join(dict.fromkeys(labels)), ", ".join(entries)]
    lines = [part.replace(":\n", ": ").replace("\n", ", ") for part in parts if part]
    return ". ".join(one_line(line).replace(r"\$", "$") for line in lines)


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG file, whole or not at all."""
    with atomic_write(path, "wb") as file:
        save_to(figure, file)


def save_to(figure: Figure, file: BinaryIO) -> None:
    """Write a figure as a PNG file to an open one."""
    use_fonts_for(figure)
    with _without_glyph_warnings():
        figure.savefig(file, format="png")


def pixels(figure: Figure) -> np.ndarray:
    """(H, W, 3) uint8: a figure as an image."""
    use_fonts_for(figure)
    with _without_glyph_warnings():
        figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


@contextlib.contextmanager
def _without_glyph_warnings():
    """A character that all fonts lack is drawn as a box; `use_fonts_for` names it once, where matplotlib warns each time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield

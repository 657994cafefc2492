"""What the HTML pages share: one file each, without scripts or pictures from elsewhere, for light and dark, wide and narrow."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jinja2
import torch
from markupsafe import Markup, escape
from PIL import Image

from ..utils.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONG = 60  # rows from which a table scrolls by itself
_NUMBER = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?( ±.*| to .*| %|s)?")


@dataclass
class Table:
    """Columns of numbers (`71.2`, `71.2 ± 0.4`, `1,234`, `12 %`) are aligned to the right. One with a `head` can be sorted."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]

    @property
    def numeric(self) -> list[bool]:
        """Of each column."""
        columns = zip(*self.rows)
        return [any(map(str, column)) and all(not str(c) or _NUMBER.fullmatch(str(c)) for c in column) for column in columns]

    @property
    def is_long(self) -> bool:
        return len(self.rows) > LONG


@dataclass
class Picture:
    """A picture in the page itself.

    Attributes:
        png: the content of a PNG file.
        alt: what is seen on it, for those who do not see it.
        caption: the text below it.
        file: its name beside the page, if it lies there.
        pixels: it is an image rather than a chart: shown enlarged, each pixel a square.
    """

    png: bytes
    alt: str
    caption: str = ""
    file: str = ""
    pixels: bool = False

    @property
    def aspect(self) -> float:
        """Width by height, of a panorama no more than 3."""
        with Image.open(io.BytesIO(self.png)) as image:
            return min(3.0, image.width / image.height)

    @property
    def source(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


@dataclass
class Bars:
    """[(name, probability, whether it is the true class)] under a heading."""

    heading: str
    rows: Sequence[tuple[str, float, bool]]


@dataclass
class Row:
    """Small pictures of one thing side by side, and bars behind them."""

    heading: str
    pictures: Sequence[Picture]
    bars: Sequence[Bars] = ()


@dataclass
class Section:
    """A part of a page; all but the heading may be left out.

    Attributes:
        texts: a paragraph each.
        terms: [(name, what it is)].
        scale: the magnitude at both ends of the scale of masks; None = there are none.
        rows, pictures, tables: in this order.
        commands: [(what was run, its command lines)].
    """

    heading: str
    texts: Sequence[str] = ()
    terms: Sequence[tuple[str, str]] = ()
    scale: float | None = None
    rows: Sequence[Row] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    commands: Sequence[tuple[str, Sequence[str]]] = ()


def page(title: str, lead: Sequence[str], facts: Table | None, sections: Sequence[Section], files: Sequence[str] = ()) -> str:
    """A page as HTML in ASCII, which is the same in every encoding.

    Args:
        lead: paragraphs below the title.
        facts: a table without a head.
        files: names of the files beside the page that belong to it.
    """
    parts = {"title": title, "lead": lead, "facts": facts, "sections": sections, "files": files}
    return _PAGES.get_template("page.html").render(parts).encode("ascii", "xmlcharrefreplace").decode("ascii")


def png_of(picture: torch.Tensor | Image.Image | Figure) -> bytes:
    """(3, H, W) RGB from 0 to 1, a PIL image or a figure as the content of a PNG file."""
    file = io.BytesIO()
    if isinstance(picture, torch.Tensor):
        picture = Image.fromarray((picture * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())
    if isinstance(picture, Image.Image):
        picture.save(file, "png")
    else:
        from .canvas import save_to  # here: a table of a page needs no matplotlib

        save_to(picture, file)
    return file.getvalue()


def with_names(text: str, *names: object) -> Markup:
    """`text` with a name at each `{}`, in a direction of writing of its own: an Arabic one leaves the words around it in place."""
    return Markup(escape(text)).format(*(Markup("<bdi>{}</bdi>").format(printable(str(name))) for name in names))


def _prose(text):
    """Text in which `code` in backticks is set as such."""
    parts = re.split(r"`([^`]+)`", printable(str(text)))
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else escape(part) for n, part in enumerate(parts))


def _shown(value):
    """A value for a template, without control characters; what is HTML already stays."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_PAGES = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=_shown,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_PAGES.filters["prose"] = _prose

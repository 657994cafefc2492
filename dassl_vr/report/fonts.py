"""Fonts for names in any script: figures take an installed font that has the characters which matplotlib's own lacks."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..utils.text import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BESIDE_LETTERS = ("Cc", "Cf", "Cn", "Co", "Cs", "Zs", "Zl", "Zp")  # Unicode categories of what is no visible character
_noted = set()


def use_fonts_for(figure: Figure) -> None:
    """Give every text of a figure the fonts that its characters need.

    A line on standard error names characters that no installed font has, once each; they are drawn as boxes.
    """
    from matplotlib.text import Text

    for axes in figure.axes:  # tick labels are made when they are asked for
        axes.get_xticklabels(), axes.get_yticklabels()
    lacking = {text: found for text in figure.findobj(Text) if (found := _lacking(text.get_text(), text.get_fontname()))}
    if not lacking:
        return
    families, missing = fonts_with(frozenset().union(*lacking.values()))
    for text in lacking:
        text.set_fontfamily([text.get_fontname(), *families])
    _note("missing", missing, "no installed font has {}: figures show boxes; install a font for this script, such as Noto Sans")


def _lacking(text, family):
    """The characters of a text that a font lacks."""
    visible = {c for c in text if ord(c) > 127 and unicodedata.category(c) not in BESIDE_LETTERS}
    if not visible:
        return frozenset()
    if not _shapes_text():
        joined = {c for c in visible if unicodedata.bidirectional(c) in ("R", "AL")}
        _note(
            "joined", joined, "{}: this matplotlib draws them from left to right, unjoined; matplotlib 3.11 draws them as written"
        )
    font = _font(_path_of(family))
    return frozenset(c for c in visible if not font.get_char_index(ord(c)))


def fonts_with(characters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """(families of installed fonts that have these characters, as few as possible; characters that none has)."""
    left, families = characters, []
    for path in _candidates():
        font = _font(path)
        found = frozenset(c for c in left if font.get_char_index(ord(c))) if font else frozenset()
        if found:
            families.append((found, path))
    chosen = []
    while left and families:
        found, path = max(families, key=lambda entry: len(entry[0] & left))
        if not found & left:
            break
        chosen.append(_family(path))
        left -= found
    return list(dict.fromkeys(chosen)), left


@functools.cache
def _candidates():
    """Files of installed fonts, upright ones of usual weight first."""
    from matplotlib import font_manager

    paths = {*font_manager.findSystemFonts(), *(entry.fname for entry in font_manager.fontManager.ttflist)}
    paths = sorted(path for path in paths if "LastResort" not in path)  # which has a box for every character
    return sorted(paths, key=lambda path: any(word in path.lower() for word in ("bold", "italic", "oblique", "light", "black")))


@functools.cache
def _font(path):
    """The font in a file; None for what is none, or has pictures in place of outlines."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return font if font.scalable else None
    except (OSError, RuntimeError, ValueError):
        return None


@functools.cache
def _path_of(family):
    from matplotlib import font_manager

    return font_manager.findfont(font_manager.FontProperties(family=family))


def _family(path):
    """The name under which matplotlib finds a font; one that was installed after it had made its list is added."""
    from matplotlib import font_manager

    if all(entry.fname != path for entry in font_manager.fontManager.ttflist):
        font_manager.fontManager.addfont(path)
    return font_manager.FontProperties(fname=path).get_name()


@functools.cache
def _shapes_text():
    """Whether this matplotlib joins the letters of Arabic and writes from right to left."""
    from matplotlib import ft2font

    return hasattr(ft2font, "__libraqm_version__")


def _note(kind, characters: Iterable[str], line):
    new = sorted(set(characters) - {c for what, c in _noted if what == kind})
    if new:
        _noted.update((kind, c) for c in new)
        shown = "".join(new[:20]) + ("…" if len(new) > 20 else "")
        say(f"note: {line.format(shown)}")

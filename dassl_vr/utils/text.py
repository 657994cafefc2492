"""Escape text of users, data and servers for the place where it is shown."""

import codecs
import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TextIO

from .places import naming_file

# What a terminal interprets instead of showing: control characters, marks that reverse the writing direction, further line
# separators, invisible characters. Also bytes of file names that are not UTF-8 (lone surrogates)
_UNSHOWN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
# The same without what a progress bar needs
_UNSHOWN_BESIDE_BARS = re.compile(rf"(?!\r|\x1b\[A){_UNSHOWN.pattern}")
_NUMBER = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?( ± [\d.]+)?( ?%)?", re.IGNORECASE)


def _escape(character):
    r"""`\u001b` for an escape character; the same as in JSON, so that JSON stays JSON."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


codecs.register_error("dassl_vr.escape", lambda error: ("".join(map(_escape, error.object[error.start : error.end])), error.end))


def printable(text: str, unshown: re.Pattern[str] = _UNSHOWN) -> str:
    r"""`text` with an escape such as `\u001b` in place of each control character; newlines and tabs stay."""
    return unshown.sub(lambda match: _escape(match[0]), text)


def one_line(text: object) -> str:
    """`printable` text without line breaks and repeated spaces."""
    return printable(" ".join(str(text).split()))


def shorten(value: object, length: int = 200) -> str:
    """The `repr` of a value (a text as it is), cut off at `length` characters."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= length else text[: length - 1] + "…"


def excerpt(text: object, limit: int = 200) -> str:
    """`text` of unknown origin as a part of a message: one line of at most `limit` characters."""
    return shorten(one_line(str(text)[: 10 * limit]), limit)


def natural_key(text: str) -> list:
    """Key for sorting texts with numbers as people do: `patch2` comes before `patch16`."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d{1,18})", text))]


def markdown_cell(value: object) -> str:
    """A cell of a Markdown table in which no character is markup."""
    return re.sub(r"[|<>&*`\[\]\\~]|(?<!\w)_|_(?!\w)", lambda match: f"&#{ord(match[0])};", one_line(value))


def spreadsheet_cell(value: object) -> str:
    """A CSV cell that no spreadsheet reads as a formula: a text like one gets an apostrophe in front, numbers stay."""
    text = str(value)
    # NFKC: full-width signs begin a formula too
    risky = unicodedata.normalize("NFKC", text).lstrip().startswith(("=", "+", "-", "@")) or text.startswith(("\t", "\r", "\n"))
    return f"'{text}" if risky and not _NUMBER.fullmatch(text) else text


class PrintableStream:
    """A text stream that accepts any text and writes it `printable`, with escapes for what its encoding lacks."""

    def __init__(self, stream, name, unshown=_UNSHOWN):
        self._stream, self._name, self._unshown = stream, name, unshown

    def __getattr__(self, name):
        return getattr(self._stream, name)  # isatty, fileno, encoding, ...

    def write(self, text: str) -> int:
        shown = printable(text, self._unshown)
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        with naming_file(self._name):
            self._stream.write(shown.encode(encoding, "dassl_vr.escape").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with naming_file(self._name):
            self._stream.flush()


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """In the block, standard output and error are `PrintableStream`s; output to a closed stream is discarded."""
    before = sys.stdout, sys.stderr
    sys.stdout = PrintableStream(before[0] or _nowhere(), "standard output")
    sys.stderr = PrintableStream(before[1] or _nowhere(), "standard error", _UNSHOWN_BESIDE_BARS)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _nowhere():
    return open(os.devnull, "w", encoding="utf-8")


def give_up_output() -> None:
    """Discard what standard output and error still buffer, so that the interpreter does not complain at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no file behind it
            try:
                stream.flush()
            except OSError:
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def say(line: str) -> None:
    """Print a line with foreign text (a warning, an error) on standard error, escaped."""
    print(printable(line), file=sys.stderr)


def inner_output() -> TextIO:
    """Standard output without `PrintableStream` around it, for a library that moves the cursor; foreign text has to be made
    `printable` before it is written there."""
    stream = sys.stdout
    while isinstance(stream, PrintableStream):
        stream = stream._stream
    return stream


def in_bytes(count: int) -> str:
    """A number of bytes in MB, from 1 GB on in GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def in_time(seconds: float) -> str:
    """A length of time as hours, minutes and seconds: `0:01:05`, `34:00:00`."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"

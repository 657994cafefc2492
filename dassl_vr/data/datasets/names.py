"""Names of classes and of splits as people write them: what is the same, what only looks it, and how to show the difference."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

SPLIT_NAMES = ("train", "val", "test")
_OTHER_NAMES = {
    "train": ("training", "trn"),
    "val": ("valid", "validation", "validate", "dev", "development"),
    "test": ("testing", "tst"),
}
_SPLIT_OF = {name: split for split in SPLIT_NAMES for name in (split, *_OTHER_NAMES[split])}
_SHOWN = 3  # names in a message


def printable_name(name: str) -> str:
    """The name with escapes for what no text file can hold: bytes of folder names that are not UTF-8, lone surrogates."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


def split_of(name: str) -> str | None:
    """Which of train, val and test a folder or a key of that name means (`Training`, `valid`, `test_set`), or None."""
    word = re.sub(r"[\s_.-]", "", name.casefold())
    return _SPLIT_OF.get(word) or _SPLIT_OF.get(re.sub(r"(set|data|images|split|folder)$", "", word))


def same_name(name: str) -> str:
    """The common form of spellings of the same text: accents may be separate characters or not (NFC, NFD)."""
    return unicodedata.normalize("NFC", name)


def look_of(name: str) -> str:
    """What two names have in common that are easily taken for each other: case, spaces, separators, width, invisible characters."""
    text = unicodedata.normalize("NFKC", name).casefold()
    return " ".join("".join(" " if c in "_-" else c for c in text if c.isspace() or unicodedata.category(c)[0] != "C").split())


def shown(name: str) -> str:
    """The name in quotes, with the numbers of its characters where these are not plain ASCII."""
    return repr(name) if name.isascii() else f"{name!r} (that is {name!a})"


def difference(names: Iterable[str], others: Collection[str]) -> str:
    """Those of `names` that `others` lack, as text; lookalikes among the others are shown beside them. "" if nothing."""
    lacking = [name for name in dict.fromkeys(names) if name not in set(others)]
    looks = defaultdict(list)
    for other in others:
        looks[look_of(other)].append(other)
    listed = []
    for name in lacking[:_SHOWN]:
        alike = looks.get(look_of(name))
        listed.append(f"{shown(name)}, which is not {shown(alike[0])}" if alike else shown(name))
    more = len(lacking) - len(listed)
    return "; ".join(listed) + (f"; and {more} more" if more else "")


def differing_classes(now: Sequence[str], before: Sequence[str], then: str = "then", here: str = "now") -> str:
    """How the classes `now` differ from those `before`, both in the order of their labels, in words; "" if they do not."""
    parts = [f"only {place}: {text}" for place, text in ((here, difference(now, before)), (then, difference(before, now))) if text]
    if not parts and list(now) != list(before):
        label = next((n for n, (a, b) in enumerate(zip(now, before)) if a != b), min(len(now), len(before)))
        pair = [names[label] if label < len(names) else None for names in (before, now)]
        parts = [f"the same names under other labels: {label} is {pair[0]!r} {then} and {pair[1]!r} {here}"]
    return "; ".join(parts)

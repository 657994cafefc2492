"""What a value that was read from a file has to be, checked as a whole before any of it is used.

A kind is a function `(value, place) -> str`: "" if the value is of that kind, else what is wrong, naming the place in the file.

>>> history = list_of(record({"epoch": COUNT, "loss": NUMBER}))
>>> history([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": "low"}], "history")
"entry 'history[1].loss' is 'low'; expected a finite number"
"""

import math
from collections.abc import Callable

Kind = Callable[[object, str], str]

LARGEST = 2**63 - 1  # of whole numbers: those of 64 bits
HUGE = 1e300  # of other numbers: sums and means of them are numbers still


def kind(expected: str, fits: Callable[[object], bool]) -> Kind:
    """The kind of the values for which `fits` is true; `expected` says in words what these are."""

    def check(value, place=""):
        return "" if fits(value) else f"{_entry(place)} is {_shown(value)}; expected {expected}"

    return check


def record(needed: dict[str, Kind], others: dict[str, Kind] | None = None, rest: Kind | None = None) -> Kind:
    """A dictionary with these entries.

    Args:
        needed, others: {name: kind} of entries that must be there, and of those that may be.
        rest: kind of any further ones; None = whatever they are.
    """
    others = others or {}

    def check(value, place=""):
        if not isinstance(value, dict):
            return f"{_entry(place)} is {_shown(value)}; expected named entries"
        for name, of_entry in {**needed, **others}.items():
            inner = _below(place, name)
            if name not in value:
                if name in needed:
                    return f"{_entry(inner)} is missing"
            elif problem := of_entry(value[name], inner):
                return problem
        further = (
            {} if rest is None else {name: entry for name, entry in value.items() if name not in needed and name not in others}
        )
        return dict_of(rest)(further, place) if further else ""

    return check


def dict_of(of_values: Kind, of_keys: Kind | None = None) -> Kind:
    """A dictionary whose values are of one kind; its keys are texts, if no other kind is given."""
    of_keys = of_keys or TEXT

    def check(value, place=""):
        if not isinstance(value, dict):
            return f"{_entry(place)} is {_shown(value)}; expected named entries"
        for key, entry in value.items():
            if problem := of_keys(key, ""):
                return f"{_entry(place)} has the name {_shown(key)}; {problem.partition('; ')[2]}"
            if problem := of_values(entry, _below(place, key)):
                return problem
        return ""

    return check


def list_of(of_entries: Kind, length: int | None = None) -> Kind:
    """A list, or a tuple, with entries of one kind."""

    def check(value, place=""):
        if not isinstance(value, (list, tuple)):
            return f"{_entry(place)} is {_shown(value)}; expected a list"
        if length is not None and len(value) != length:
            return f"{_entry(place)} has {len(value)} entries; expected {length}"
        return next(filter(None, (of_entries(entry, f"{place}[{index}]") for index, entry in enumerate(value))), "")

    return check


def tuple_of(*kinds: Kind) -> Kind:
    """A list, or a tuple, with one entry of each of `kinds`."""

    def check(value, place=""):
        if not isinstance(value, (list, tuple)) or len(value) != len(kinds):
            return f"{_entry(place)} is {_shown(value)}; expected {len(kinds)} entries"
        return next(filter(None, (of(entry, f"{place}[{index}]") for index, (of, entry) in enumerate(zip(kinds, value)))), "")

    return check


def optional(of_value: Kind) -> Kind:
    """None, or a value of that kind."""
    return lambda value, place="": "" if value is None else of_value(value, place)


def one_of(*values: str) -> Kind:
    return kind(f"one of {', '.join(map(str, values))}", lambda value: isinstance(value, str) and value in values)


def whole(lowest: int, highest: int) -> Kind:
    """A whole number between these two, which are included."""
    expected = f"a whole number from {lowest} on" if highest >= LARGEST else f"a whole number from {lowest} to {highest}"
    return kind(expected, lambda value: type(value) is int and lowest <= value <= highest)


def is_number(value: object) -> bool:
    """Whether `value` is a number to compute with: no NaN, not infinite, not huge."""
    return type(value) in (int, float) and -HUGE <= value <= HUGE


def is_text(value: object, errors: str = "strict") -> bool:
    """Whether `value` is a text that can be written as UTF-8."""
    try:
        return isinstance(value, str) and value.encode(errors=errors) is not None
    except UnicodeEncodeError:
        return False


NOTHING = kind("no such entry", lambda value: False)
ANYTHING = kind("anything", lambda value: True)
TEXT = kind("a text", is_text)
NAME = kind("a text", lambda value: is_text(value, "surrogateescape"))  # also of a file whose name is not UTF-8
COUNT = whole(0, LARGEST)
INTEGER = kind("a whole number", lambda value: type(value) is int and -LARGEST <= value <= LARGEST)
NUMBER = kind("a finite number", is_number)
PERCENT = kind("a number from 0 to 100", lambda value: is_number(value) and 0 <= value <= 100)
AMOUNT = kind("a finite number from 0 on", lambda value: is_number(value) and value >= 0)
ANY_NUMBER = kind("a number", lambda value: is_number(value) or (type(value) is float and not math.isfinite(value)))
SHA256 = kind("64 digits 0-9 and a-f", lambda value: is_text(value) and len(value) == 64 and set(value) <= set("0123456789abcdef"))


def _below(place, name):
    return f"{place}.{name}" if place else str(name)


def _entry(place):
    return f"entry {place!a}" if place else "its content"


def _shown(value):
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"
    if value is None or isinstance(value, (bool, int, float)):
        return str(value)
    if isinstance(value, str):
        return ascii(value if len(value) <= 40 else f"{value[:37]}...")
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" + ("" if shape is None else f" {tuple(shape)}")

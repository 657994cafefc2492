"""Name -> object tables with aliases, case-insensitive look-up and helpful errors."""

import contextlib
import difflib
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from .errors import ConfigError

_replaced = None  # a list within `plugins_win()`


@contextlib.contextmanager
def plugins_win() -> Iterator[list[str]]:
    """In the block, what is registered replaces what was registered outside under the same name.

    Yields the list that the replaced names are added to.
    """
    global _replaced
    before, _replaced = _replaced, []
    try:
        yield _replaced
    finally:
        _replaced = before


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The entry of `names` most like `name` (case ignored), or None."""
    if len(name) > 100:  # slow to compare, and like nothing
        return None
    by_lower = {n.lower(): n for n in names}
    match = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[match[0]] if match else None


def unknown_name_message(kind: str, name: str, names: Iterable[str]) -> str:
    """One line for an unknown name: the nearest known one first, then all of them."""
    names = sorted(names, key=str.lower)
    hint = nearest(name, names)
    did_you_mean = f"; did you mean '{hint}'?" if hint else ""
    return f"unknown {kind} '{name}'{did_you_mean} (known: {', '.join(names) or 'none'})"


class Registry:
    """A table of classes or functions by name.

    Look-up ignores case and knows aliases. Registering a taken name raises `KeyError`, as in the Dassl family, except within
    `plugins_win()`, for names that were registered outside of it.

    Args:
        kind: what the entries are, for messages ("trainer", "data set", ...).
    """

    def __init__(self, kind):
        self.kind = kind
        self._objects = {}  # public name -> object
        self._canonical = {}  # lower-case name or alias -> public name
        self._of_plugins = set()  # public names registered within `plugins_win()`

    def register(self, obj: Any = None, force: bool = False, *, name: str | None = None, aliases: Collection[str] = ()) -> Any:
        """Add `obj`, or use as a decorator: `@REGISTRY.register()`. `force` replaces an entry of the same name."""
        if obj is None:
            return lambda o: self.register(o, force=force, name=name, aliases=aliases)
        public = name or obj.__name__
        for key in (public, *aliases):
            owner = self._canonical.get(key.lower())
            if owner is None or force:
                continue
            if _replaced is None or owner in self._of_plugins:
                raise KeyError(f"'{key}' is already registered as a {self.kind}")
            self.remove(owner)
            _replaced.append(f"{self.kind} {owner}")
        for key in (public, *aliases):
            self._canonical[key.lower()] = public
        self._objects[public] = obj
        if _replaced is not None:
            self._of_plugins.add(public)
        return obj

    def remove(self, name: str) -> None:
        """Forget the object called `name`, with its aliases. Raises `ConfigError` if there is none."""
        public = self.canonical_name(name)
        del self._objects[public]
        self._canonical = {key: owner for key, owner in self._canonical.items() if owner != public}

    def get(self, name: str) -> Any:
        """The object called `name`. Raises `ConfigError` naming the nearest and all known names."""
        return self._objects[self.canonical_name(name)]

    def canonical_name(self, name: str) -> str:
        """The public name behind a name or alias written in any case."""
        if str(name).lower() not in self._canonical:
            raise ConfigError(unknown_name_message(self.kind, str(name), self.registered_names()))
        return self._canonical[str(name).lower()]

    def __contains__(self, name):
        return str(name).lower() in self._canonical

    def aliases(self, name: str) -> list[str]:
        """The other names of the object called `name`, in lower case."""
        public = self.canonical_name(name)
        return sorted(key for key, value in self._canonical.items() if value == public and key != public.lower())

    def registered_names(self) -> list[str]:
        return list(self._objects)

"""Name -> object tables with aliases, case-insensitive look-up and helpful errors."""

import difflib

from .errors import ConfigError


def nearest(name, names):
    """The entry of `names` most like `name` (case ignored), or None."""
    by_lower = {n.lower(): n for n in names}
    match = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[match[0]] if match else None


def unknown_name_message(kind, name, names):
    """One line for an unknown name: the nearest known one first, then all of them."""
    names = sorted(names, key=str.lower)
    hint = nearest(name, names)
    did_you_mean = f"; did you mean '{hint}'?" if hint else ""
    return f"unknown {kind} '{name}'{did_you_mean} (known: {', '.join(names) or 'none'})"


class Registry:
    """A table of classes or functions by name.

    Look-up ignores case and knows aliases. Registering a taken name raises `KeyError`, as in the Dassl family.

    Args:
        kind: what the entries are, for messages ("trainer", "data set", ...).
    """

    def __init__(self, kind):
        self.kind = kind
        self._objects = {}  # public name -> object
        self._canonical = {}  # lower-case name or alias -> public name

    def register(self, obj=None, force=False, *, name=None, aliases=()):
        """Add `obj`, or use as a decorator: `@REGISTRY.register()`. `force` replaces an entry of the same name."""
        if obj is None:
            return lambda o: self.register(o, force=force, name=name, aliases=aliases)
        public = name or obj.__name__
        for key in (public, *aliases):
            if key.lower() in self._canonical and not force:
                raise KeyError(f"'{key}' is already registered as a {self.kind}")
        for key in (public, *aliases):
            self._canonical[key.lower()] = public
        self._objects[public] = obj
        return obj

    def get(self, name):
        """The object called `name`. Raises `ConfigError` naming the nearest and all known names."""
        return self._objects[self.canonical_name(name)]

    def canonical_name(self, name):
        """The public name behind a name or alias written in any case."""
        if str(name).lower() not in self._canonical:
            raise ConfigError(unknown_name_message(self.kind, str(name), self.registered_names()))
        return self._canonical[str(name).lower()]

    def __contains__(self, name):
        return str(name).lower() in self._canonical

    def aliases(self, name):
        """The other names of the object called `name`, in lower case."""
        public = self.canonical_name(name)
        return sorted(key for key, value in self._canonical.items() if value == public and key != public.lower())

    def registered_names(self):
        return list(self._objects)

"""Packages in which a new file is enough."""

import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType


def modules_in(package: str, path: Iterable[str]) -> list[ModuleType]:
    """Import every module of `package` (its `__name__` and `__path__`) but those whose names start with `_`, by name."""
    names = sorted(info.name for info in pkgutil.iter_modules(path) if not info.name.startswith("_"))
    return [importlib.import_module(f"{package}.{name}") for name in names]

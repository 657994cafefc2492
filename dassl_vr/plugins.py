"""Imports the plug-in folders, so that a new file in `trainers/` or `datasets/` is enough to add a method or a data set."""

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path

from .config import add_defaults
from .utils.errors import ConfigError, UserError

PLUGIN_PACKAGES = ("dassl_vr.trainers", "dassl_vr.datasets")


def load_plugins(paths=()):
    """Import every module of the plug-in packages, then the files in `paths`.

    A module may define `extend_cfg(cfg)`, which adds the module's own config keys with their defaults.

    Args:
        paths: `.py` files, or folders whose `.py` files are taken (names starting with `_` are not).

    Raises:
        ConfigError: a path does not exist, is no Python file, or fails to import.
    """
    for package_name in PLUGIN_PACKAGES:
        package = importlib.import_module(package_name)
        for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda i: i.name):
            if not info.name.startswith("_"):
                _add(importlib.import_module(f"{package_name}.{info.name}"))
    for path in paths:
        path = Path(path).expanduser().resolve()
        if path.is_dir():
            files = sorted(p for p in path.glob("*.py") if not p.name.startswith("_"))
        elif path.is_file() and path.suffix == ".py":
            files = [path]
        else:
            raise ConfigError(f"--plugin {path}: no such Python file or folder; give a .py file or a folder of them")
        for file in files:
            _add(_import_file(file))


def _import_file(file):
    name = f"dassl_vr_plugin_{file.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None:
        if Path(loaded.__file__) == file:
            return loaded
        raise ConfigError(f"--plugin {file}: a plug-in called '{file.stem}' is loaded already ({loaded.__file__}); rename one")
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before execution: classes defined in it must find their module (pickling in workers)
    try:
        spec.loader.exec_module(module)
    except (UserError, KeyboardInterrupt):
        del sys.modules[name]
        raise
    except BaseException as error:  # a plug-in that calls sys.exit() too
        del sys.modules[name]
        raise ConfigError(f"--plugin {file}: importing it failed with {type(error).__name__}: {error}") from error
    return module


def _add(module):
    if hasattr(module, "extend_cfg"):
        add_defaults(module.extend_cfg)

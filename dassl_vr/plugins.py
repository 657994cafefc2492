"""Imports the plug-in folders, so that a new file in `trainers/` or `datasets/` is enough to add a method or a data set."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from .config import add_defaults
from .family import dassl
from .home import expand_home
from .utils.errors import ConfigError, UserError
from .utils.modules import modules_in
from .utils.registry import plugins_win

PLUGIN_PACKAGES = ("dassl_vr.trainers", "dassl_vr.datasets")

_loaded = {}  # files of `--plugin`, in order


def load_plugins(paths: Iterable[str | Path] = ()) -> None:
    """Import every module of the plug-in packages, then the files in `paths`.

    A module may define `extend_cfg(cfg)`, which adds the module's own config keys with their defaults.

    Files in `paths` were asked for by name, so what they register replaces what is registered here under the same name.
    They may import the other modules of their repository, and `dassl`, which `dassl_vr.family.dassl` then serves from here.

    Args:
        paths: `.py` files, or folders whose `.py` files are taken (names starting with `_` are not).

    Raises:
        ConfigError: a path does not exist, is no Python file, or fails to import.
    """
    for package_name in PLUGIN_PACKAGES:
        package = importlib.import_module(package_name)
        for module in modules_in(package_name, package.__path__):
            _add(module)
    for path in paths:
        path = expand_home(path).resolve()
        if path.is_dir():
            files = sorted(p for p in path.glob("*.py") if not p.name.startswith("_"))
        elif path.is_file() and path.suffix == ".py":
            files = [path]
        else:
            raise ConfigError(f"--plugin {path}: no such Python file or folder; give a .py file or a folder of them")
        for file in files:
            with plugins_win() as replaced:
                module = _import_file(file)
            if replaced:
                print(f"{file} replaces these of dassl_vr in this process: {', '.join(replaced)}")
            _add(module)
            _loaded[str(file)] = None


def loaded_files() -> list[str]:
    """The files that `load_plugins` has brought into this process, besides the package's own."""
    return list(_loaded)


def _import_file(file):
    root, name = _place(file)
    loaded = sys.modules.get(name)
    if loaded is not None:
        if Path(loaded.__file__) == file:
            return loaded
        raise ConfigError(f"--plugin {file}: a module called '{name}' is loaded already ({loaded.__file__}); rename one")
    _check_package(file, root, name)
    _open_door(file)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))  # first, as where the family's train.py is started
    try:
        return importlib.import_module(name) if "." in name else _execute(name, file)
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a plug-in that calls sys.exit() too
        raise ConfigError(f"--plugin {file}: importing it failed with {type(error).__name__}: {error}") from error


def _place(file):
    """(directory that the file's imports start from, the file's name as a module).

    A file in a package is a module of that package, so that its relative imports work, and so that it is the same module as the
    one that others of its repository import.
    """
    root, parts = file.parent, [file.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    return root, ".".join(parts) if len(parts) > 1 else f"dassl_vr_plugin_{file.stem}"


def _check_package(file, root, name):
    """Python knows one package of a name: `trainers` of one repository hides that of another."""
    package = sys.modules.get(name.partition(".")[0])
    if package is not None and str(root / package.__name__) not in package.__path__:
        raise ConfigError(
            f"--plugin {file}: another package '{package.__name__}' is loaded already ({', '.join(package.__path__)});"
            " take the plug-ins of one repository at a time"
        )


def _open_door(file):
    other = dassl.original()
    if other is None:
        dassl.open_door()
    elif re.search(r"^\s*(from|import)\s+dassl\b", file.read_text(encoding="utf-8"), re.MULTILINE):
        raise ConfigError(
            f"--plugin {file}: it imports 'dassl', and this process has loaded the original ({other}); use a process of its own"
        )


def _execute(name, file):
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before execution: classes defined in it must find their module (pickling in workers)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _add(module):
    if hasattr(module, "extend_cfg"):
        add_defaults(module.extend_cfg)

"""A Dassl-style toolbox for visual reprogramming and prompt learning on frozen backbones."""

import importlib
import importlib.util
import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - a checkout that nothing has installed
    sys.stderr.write(f"error: dassl_vr needs Python 3.10 or newer; {sys.executable} is {sys.version.split()[0]}\n")
    sys.exit(2)

from .home import set_cache_variables

__version__ = "0.1.0"

# Folders at the top of the repository that are sub-packages of dassl_vr: `setup.py` maps them into a wheel under these
# names, so that nothing called `trainers` or `datasets` lands at the top level of anybody's environment.
MAPPED_FOLDERS = ("trainers", "datasets", "configs")


def _map_checkout_folders():
    """In a checkout the mapped folders are beside this package, not inside it: bind each to its name in `dassl_vr`."""
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / "setup.py").is_file():
        return
    for folder in MAPPED_FOLDERS:
        name = f"{__name__}.{folder}"
        init = checkout / folder / "__init__.py"
        if name in sys.modules or not init.is_file():
            continue
        spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(init.parent)])
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        setattr(sys.modules[__name__], folder, module)


_map_checkout_folders()
set_cache_variables()  # before any of them is imported


# Imported when they are asked for: they bring much along
_LATE = {"build_cfg": "runs", "evaluate": "runs", "load_prompted": "deploy", "run": "runs"}


def __getattr__(name):
    if name in _LATE:
        return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

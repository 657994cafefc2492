"""List what a run can be made of: trainers, data sets, backbones, recipes, label mappings (f_out) and inputs (f_in)."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from ..names import LISTS
from ..utils.arguments import OneLineParser, add_plugin_flag
from ..utils.text import one_line
from .errors import one_line_errors

EPILOG = """examples:
  %(prog)s trainers
  %(prog)s recipes | grep clip_vit_b16
  %(prog)s inputs --plugin my_method.py
"""


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = OneLineParser(description=__doc__, epilog=EPILOG)
    parser.add_argument("kind", choices=LISTS, metavar="KIND", help=f"one of {', '.join(LISTS)}")
    add_plugin_flag(parser, "more of them")
    args = parser.parse_args(argv)
    print_list(args.kind, args.plugin)


def print_list(kind: str, plugins: Sequence[str] = ()) -> None:
    """Print a line for each of a kind: its name, and what it is.

    Args:
        kind: one of `LISTS`.
        plugins: files (or folders of them) that bring in more.
    """
    from tabulate import tabulate

    from ..plugins import load_plugins

    load_plugins(plugins)
    rows = {
        "trainers": _trainers,
        "datasets": _datasets,
        "backbones": _backbones,
        "recipes": _recipes,
        "mappings": _mappings,
        "inputs": _inputs,
    }[kind]()
    print(tabulate(rows, tablefmt="plain", disable_numparse=True))


def _described(registry):
    return [(name, _summary(registry.get(name))) for name in registry.registered_names()]


def _summary(thing):
    """The first sentence of the docstring of a class or function, "" where it has none of its own."""
    text = vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__
    return re.split(r"(?<! al)\. ", one_line((text or "").split("\n\n")[0]))[0].rstrip(".")


def _trainers():
    from ..engine import TRAINER_REGISTRY

    return [(name, _summary(TRAINER_REGISTRY.declared(name))) for name in TRAINER_REGISTRY.registered_names()]


def _datasets():
    from .prepare import list_rows

    return [tuple(row.values()) for row in list_rows()]


def _backbones():
    from ..backbones import ALIASES, BACKBONE_REGISTRY
    from ..backbones.adapters import adapters

    libraries = [(f"{name}:MODEL", f"models: {len(adapter.names())}") for name, adapter in adapters().items()]
    return [*ALIASES.items(), *_described(BACKBONE_REGISTRY), *libraries]


def _recipes():
    from ..config.recipes import recipe_path, recipes_of
    from ..engine import TRAINER_REGISTRY

    return [(recipe_path(trainer, name),) for trainer in TRAINER_REGISTRY.registered_names() for name in recipes_of(trainer)]


def _mappings():
    from ..reprogramming.mappings import MAPPING_REGISTRY

    return _described(MAPPING_REGISTRY)


def _inputs():
    from ..reprogramming.inputs import INPUT_REGISTRY

    return _described(INPUT_REGISTRY)


if __name__ == "__main__":
    sys.exit(main())

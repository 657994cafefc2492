"""Fetch data sets and check that they are complete."""

import sys
from pathlib import Path

from ..home import expand_home
from ..utils.arguments import OneLineParser
from ..utils.errors import ConfigError, DataError
from .errors import one_line_errors

EPILOG = """examples:
  %(prog)s --list
  %(prog)s eurosat dtd flowers102 --root data     # fetches what is absent, then checks
  %(prog)s eurosat --root data --check            # fetches nothing
"""


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = OneLineParser(description=__doc__, epilog=EPILOG)
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets, in any case and by any alias")
    parser.add_argument("--root", default="", metavar="DIR", help="directory that holds the data sets")
    parser.add_argument("--check", action="store_true", help="fetch nothing; say what is missing, incomplete or stale")
    parser.add_argument("--descriptions", action="store_true", help="fetch sentences about the classes too, where there are any")
    parser.add_argument("--list", action="store_true", help="list the data sets")
    parser.add_argument("--store-dir", default="", metavar="DIR", help="DATALOADER.STORE_DIR of the runs, for --check")
    args = parser.parse_args(argv)
    from tabulate import tabulate

    from ..data.datasets import DATASET_REGISTRY
    from ..plugins import load_plugins

    load_plugins()
    if args.list:
        return print(tabulate(list_rows(args.root), "keys"))
    if not args.names:
        raise ConfigError("name one or more data sets; --list shows them")
    names = [DATASET_REGISTRY.canonical_name(name) for name in args.names]  # all of them, before anything is fetched
    failures = [name for name in names if not prepare_one(name, args.root, args.check, args.store_dir, args.descriptions)]
    if failures:
        raise DataError(f"{len(failures)} of {len(names)} data set(s) not complete: {', '.join(failures)}; see above")


def prepare_one(name: str, root: str, check: bool = False, store_dir: str = "", descriptions: bool = False) -> bool:
    """Fetch (unless `check`) and load a data set, and print what is there and what is wrong. Returns whether all is well.

    Args:
        descriptions: the published sentences about its classes too, if there are any.
    """
    from ..config import get_cfg_default, merge_mapping
    from ..data.datasets import DATASET_REGISTRY
    from ..data.descriptions import fetch_descriptions, published_parts, read_bank

    cls = DATASET_REGISTRY.get(name)
    cfg = get_cfg_default()
    merge_mapping(cfg, {"DATASET": getattr(cls, "facts", {})}, f"facts of {name}")
    cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.DATASET.DOWNLOAD, cfg.SEED = name, root, not check, 0
    problems = []
    try:
        dataset = cls(cfg)
        counts = "/".join(str(len(items or ())) for items in (dataset.train_x, dataset.val, dataset.test))
        print(f"{name}: {counts} images for training/validation/test, {dataset.num_classes} classes")
        if descriptions and published_parts(name):
            for path in fetch_descriptions(name, dataset.dataset_dir, not check):
                read_bank(path, dataset.classnames)
                print(f"{name}: sentences about its classes are in {path}")
    except DataError as error:
        problems.append(str(error))
    if check:
        problems += leftovers(cls, name, root, store_dir)
    for problem in dict.fromkeys(problems):
        print(f"{name}: {problem.removeprefix(f'{name}: ')}")
    return not problems


def leftovers(cls: type, name: str, root: str, store_dir: str = "") -> list[str]:
    """One line for each required part that is absent, each download that was broken off, each useless image store."""
    from ..data.download import missing_message
    from ..data.store import store_directories
    from ..data.store_file import check_stores

    directory = expand_home(Path(root, cls.dataset_dir)).absolute() if getattr(cls, "needs_root", True) else Path()
    absent = [part for part in getattr(cls, "parts", ()) if part.required and not (directory / part.provides).exists()]
    problems = [missing_message(name, part, directory) for part in absent]
    if directory.is_absolute():
        problems += [
            f"{path}: a download that was broken off; it is continued when the data set is prepared"
            for path in sorted(directory.glob("*.part"))
        ]
    return problems + check_stores(store_directories(str(directory), cls.__name__, store_dir))


def list_rows(root: str = "") -> list[dict]:
    """A row for each registered data set."""
    from ..data.datasets import DATASET_REGISTRY

    rows = []
    for name in sorted(DATASET_REGISTRY.registered_names(), key=str.lower):
        cls = DATASET_REGISTRY.get(name)
        parts, needs_root = getattr(cls, "parts", ()), getattr(cls, "needs_root", True)
        required = [part for part in parts if part.required]
        if not needs_root:
            comes = "with a library"
        elif not parts:
            comes = "your own"
        else:
            comes = "fetched" if all(source.addresses for part in required for source in part.sources) else "manually"
        row = {
            "name": name,
            "also called": ", ".join(DATASET_REGISTRY.aliases(name)),
            "directory": cls.dataset_dir,
            "train/val/test": "/".join(map(str, getattr(cls, "official_counts", None) or ())),
            "comes": comes,
        }
        if root:
            row["there"] = "yes" if all(Path(root, cls.dataset_dir, part.provides).exists() for part in required) else "no"
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())

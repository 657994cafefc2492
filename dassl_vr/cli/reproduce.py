"""`scripts/reproduce.sh`: the runs behind a table of the SMM paper, each in a process of its own, and the table."""

import argparse
import sys

from ..config.recipes import recipes_of
from ..plugins import load_plugins
from ..reprogramming.mappings import LABELS, MAPPING_REGISTRY
from ..runs.cells import Cell, check_settings, recipe_cfg
from ..runs.plan import Run, describe, unique
from ..utils.arguments import OneLineParser
from ..utils.errors import ConfigError
from .errors import one_line_errors
from .report import print_table
from .tables import ENVIRONMENT, add_table_flags, data_and_output, executor_of, name_failed, seeds_of, split_settings

TABLES = {
    "methods": "the shared masks pad, narrow, medium, full, and SMM (tables 1 and 2)",
    "ablation": "only the pattern, only the mask, one channel, and SMM (table 3)",
    "patch_size": "SMM with patches of 1 to 32 pixels per side",
    "mapping": "SMM and the full watermark with every label mapping",
}
PATCH_SIZES = (1, 2, 4, 8, 16, 32)
# Of the paper, by the names of their files in configs/datasets
DATASETS = (
    *("cifar10", "cifar100", "svhn", "gtsrb", "oxford_flowers", "dtd"),
    *("ucf101", "food101", "sun397", "eurosat", "oxford_pets"),
)

EPILOG = """tables:
{tables}

examples:
  %(prog)s methods --backbone rn18 --datasets eurosat dtd
  %(prog)s patch_size --datasets svhn --seeds 0 --dry-run
  %(prog)s methods --backbone lite0 --datasets digits --tag short -- OPTIM.MAX_EPOCH 2
{environment}
"""


def cells_of(table: str, dataset: str, backbone: str) -> list[Cell]:
    """The cells of `table` for one data set and backbone, in the order of its rows."""
    if table == "methods":
        shared = [Cell("VR", method, dataset, backbone) for method in ("pad", "narrow", "medium", "full")]
        return [*shared, Cell("SMM", "", dataset, backbone)]
    if table == "ablation":  # `x + delta` without a mask is the full watermark
        full = Cell("VR", "full", dataset, backbone)
        return [full, *(Cell("SMM", method, dataset, backbone) for method in ("only_mask", "single_channel", ""))]
    if table == "patch_size":
        return [_patch_cell(Cell("SMM", "", dataset, backbone), patch) for patch in PATCH_SIZES]
    cells = [Cell("VR", "full", dataset, backbone), Cell("SMM", "", dataset, backbone)]
    mappings = [name for name in MAPPING_REGISTRY.registered_names() if MAPPING_REGISTRY.get(name).reads == LABELS]
    return [_mapping_cell(cell, mapping) for cell in cells for mapping in mappings]


def _recipe_options(cell):
    """The trainer's section of the configuration that the recipe of `cell` gives."""
    return recipe_cfg(cell).TRAINER[cell.trainer]


def _patch_cell(cell, patch):
    options = _recipe_options(cell)
    settings = ["TRAINER.SMM.PATCH_SIZE", str(patch)] if patch != options.PATCH_SIZE else []
    if patch == 32 and options.LAYERS < 6:  # five layers have four pools
        settings += ["TRAINER.SMM.LAYERS", "6"]
    return _variant(cell, f"patch{patch}", settings)


def _mapping_cell(cell, mapping):
    same = mapping == _recipe_options(cell).MAPPING
    return _variant(cell, f"mapping-{mapping}", [] if same else [f"TRAINER.{cell.trainer}.MAPPING", mapping])


def _variant(cell, name, settings):
    """`cell` with `settings`; where there are none, it is the recipe's own run, which other tables share."""
    return Cell(cell.trainer, cell.method, cell.dataset, cell.backbone, name, tuple(settings)) if settings else cell


def build_reproduce_parser() -> OneLineParser:
    epilog = EPILOG.format(environment=ENVIRONMENT, tables="\n".join(f"  {name:<11} {what}" for name, what in TABLES.items()))
    parser = OneLineParser(
        usage="%(prog)s TABLE [options] [-- KEY VALUE ...]",
        description="Run what is missing of a table of the paper, resume what was cut off, and print the table.",
        epilog=epilog,
    )
    parser.add_argument("table", choices=TABLES, metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--backbone", nargs="+", default=["rn18"], help="those with a recipe in configs/trainers (default: rn18)")
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), help="default: the eleven of the paper")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    add_table_flags(parser)
    return parser


def plan(args: argparse.Namespace, settings: list[str]) -> list[Run]:
    """All runs that the table needs, in order. Raises `ConfigError` for what no run could do."""
    root, output = data_and_output()
    cells = [
        c for backbone in args.backbone for dataset in args.datasets for c in _cells_with_recipe(args.table, dataset, backbone)
    ]
    check_settings(settings, {key for cell in cells for key in (*cell.settings[::2], f"TRAINER.{cell.trainer}.METHOD")})
    return unique([cell.run(seed, output, args.tag, root, settings, args.plugin) for cell in cells for seed in args.seeds])


def _cells_with_recipe(table, dataset, backbone):
    known = recipes_of("SMM")
    if backbone not in known:
        raise ConfigError(f"--backbone {backbone}: no recipe configs/trainers/SMM/{backbone}.yaml (there are: {', '.join(known)})")
    return cells_of(table, dataset, backbone)


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    words, settings = split_settings(argv)
    args = build_reproduce_parser().parse_args(words)
    args.seeds = seeds_of(args.seeds)
    load_plugins(args.plugin)
    runs = plan(args, settings)
    if args.dry_run:
        describe(runs)
    else:
        executor_of(args).execute(runs)
        print_table(runs, args.format)
    return name_failed(runs)


if __name__ == "__main__":
    sys.exit(main())

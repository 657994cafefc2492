"""`scripts/reproduce.sh`: the runs behind a table of the SMM paper, each in a process of its own, and the table."""

import argparse
import os
import sys

from ..plugins import load_plugins
from ..report.tables import FORMATS
from ..reprogramming.mappings import LABELS, MAPPING_REGISTRY
from ..runs.cells import Cell, add_plugin_flag, check_checkout, check_settings, plugin_arguments, recipe_cfg, recipes_of
from ..runs.executors import Run, describe, name_failed, run_grid
from ..runs.on_ray import add_ray_arguments, on_ray_of
from ..utils.errors import ConfigError
from .errors import OneLineParser, one_line_errors, positive
from .report import main as report

TABLES = {
    "methods": "the shared masks pad, narrow, medium, full, and SMM (tables 1 and 2)",
    "ablation": "only the pattern, only the mask, one channel, and SMM (table 3)",
    "patch_size": "SMM with patches of 1 to 32 pixels a side",
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
  bash scripts/reproduce.sh methods --backbone rn18 --datasets eurosat dtd
  bash scripts/reproduce.sh patch_size --datasets svhn --seeds 0 --dry-run
  bash scripts/reproduce.sh methods --backbone lite0 --datasets digits --tag short -- OPTIM.MAX_EPOCH 2
environment: DATA (directory of the data sets, ./data), OUTPUT (./output)
"""


def cells_of(table, dataset, backbone):
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


def build_reproduce_parser():
    epilog = EPILOG.format(tables="\n".join(f"  {name:<11} {what}" for name, what in TABLES.items()))
    parser = OneLineParser(
        prog="scripts/reproduce.sh",
        usage="%(prog)s TABLE [options] [-- KEY VALUE ...]",
        description="Run what is missing of a table of the paper, resume what was cut off, and print the table.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", choices=TABLES, metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--backbone", nargs="+", default=["rn18"], help="those with a recipe in configs/trainers (default: rn18)")
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), help="default: the eleven of the paper")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--tag", default="default", help="part of the runs' directories, to keep apart runs with other settings")
    parser.add_argument("--format", choices=FORMATS, default="plain", help="of the table (default: plain)")
    parser.add_argument("--jobs", type=positive, default=1, help="runs at a time, with one thread each if several (default: 1)")
    add_ray_arguments(parser, optional=True)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    add_plugin_flag(parser)
    return parser


def plan(args, settings):
    """All runs that the table needs, in order. Raises `ConfigError` for what no run could do."""
    root, output = os.environ.get("DATA", "data"), os.environ.get("OUTPUT", "output")
    cells = [
        c for backbone in args.backbone for dataset in args.datasets for c in _cells_with_recipe(args.table, dataset, backbone)
    ]
    check_settings(settings, {key for cell in cells for key in (*cell.settings[::2], f"TRAINER.{cell.trainer}.METHOD")})
    runs = {}
    for cell in cells:
        for seed in args.seeds:
            directory = cell.directory(output, args.tag) / f"seed{seed}"
            words = [*plugin_arguments(args.plugin), *cell.arguments(directory, seed, root, settings)]
            runs[directory] = Run(f"{cell.name} seed {seed}", words, directory)
    return list(runs.values())


def _cells_with_recipe(table, dataset, backbone):
    known = recipes_of("SMM")
    if backbone not in known:
        raise ConfigError(f"--backbone {backbone}: no recipe configs/trainers/SMM/{backbone}.yaml (there are: {', '.join(known)})")
    return cells_of(table, dataset, backbone)


@one_line_errors
def main(argv=None):
    argv = sys.argv[1:] if argv is None else list(argv)
    split = argv.index("--") if "--" in argv else len(argv)
    args, settings = build_reproduce_parser().parse_args(argv[:split]), argv[split + 1 :]
    check_checkout()
    if min(args.seeds) < 0:
        raise ConfigError(f"--seeds {min(args.seeds)}: expected 0 or more")
    load_plugins(args.plugin)
    runs = plan(args, settings)
    if args.dry_run:
        describe(runs)
    else:
        run_grid(runs, args.jobs, on_ray_of(args))
        print_table(runs, args.format)
    return name_failed(runs)


def print_table(runs, style):
    """Print the table of those that did not fail."""
    good = [str(run.output_dir) for run in runs if not run.problem]
    if good:
        print()
        report([*good, "--format", style])


if __name__ == "__main__":
    sys.exit(main())

"""`scripts/reproduce.sh`: the runs behind a table of the SMM paper, each in a process of its own, and the table."""

from __future__ import annotations

import argparse
import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.arguments import OneLineParser
from ..utils.text import say
from .errors import one_line_errors
from .tables import ENVIRONMENT, add_table_flags, data_and_output, executor_of, name_failed, resumable, seeds_of, split_settings

if TYPE_CHECKING:
    from ..paper import PaperTable, Variant
    from ..runs.cells import Cell
    from ..runs.plan import Run

ALL = "all"
EPILOG = """tables:
{tables}

examples:
  %(prog)s methods --backbone rn18 --datasets eurosat dtd
  %(prog)s patch_size --datasets svhn --seeds 0 --dry-run
  %(prog)s methods --backbone lite0 --datasets digits --tag short -- OPTIM.MAX_EPOCH 2
  %(prog)s all --quick --jobs 2

By default each table has the paper's backbones, data sets and seeds.
{environment}
"""


@dataclass
class Work:
    """A table and the runs that it needs.

    Attributes:
        datasets: what they are called in the runs' directories.
        cells: a row of the table, what is trained for it, and its runs by seed.
    """

    table: PaperTable
    name: str
    backbones: list[str]
    datasets: list[str]
    seeds: list[int]
    cells: list[tuple[Variant, Cell, dict[int, Run]]]

    @property
    def runs(self) -> list[Run]:
        from ..runs.plan import unique

        return unique([run for _, _, runs in self.cells for run in runs.values()])


def shipped_tables() -> dict[str, str]:
    """{name: what it is} of the tables in `dassl_vr.paper.tables`, each a file of its name, read without being imported."""
    folder = Path(__file__).parent.parent / "paper" / "tables"
    files = [file for file in sorted(folder.glob("*.py")) if file.stem != "__init__"]
    return {file.stem: _title(ast.parse(file.read_text(encoding="utf-8"))) for file in files}


def _title(tree):
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "title")
    return next(ast.literal_eval(node.value) for node in found)


def build_reproduce_parser() -> OneLineParser:
    names = shipped_tables()
    titles = [f"  {name:<15} {title}" for name, title in names.items()]
    titles.append(f"  {ALL:<15} all of these, one after the other")
    parser = OneLineParser(
        usage="%(prog)s TABLE [options] [-- KEY VALUE ...]",
        description="Train the missing runs of a table of the paper, resume interrupted ones, and print the table.",
        epilog=EPILOG.format(environment=ENVIRONMENT, tables="\n".join(titles)),
    )
    parser.add_argument("table", metavar="TABLE", help=", ".join([*names, ALL]) + ", or one of a plug-in")
    parser.add_argument("--backbone", nargs="+", help="those with a recipe in configs/trainers (default: the table's)")
    parser.add_argument("--datasets", nargs="+", help="default: the table's")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: 0 1 2")
    parser.add_argument("--quick", action="store_true", help="try the whole pipeline in minutes, on digits and small backbones")
    add_table_flags(parser)
    return parser


def plan(args: argparse.Namespace, settings: list[str]) -> list[Work]:
    """The `Work` for each table, in order. Raises `ConfigError` for settings that no run could have."""
    from ..paper import PAPER_REGISTRY

    names = PAPER_REGISTRY.registered_names() if args.table == ALL else [args.table]
    return [_work(name, args, settings) for name in names]


def _work(name, args, settings):
    from ..paper import paper_table
    from ..runs.cells import check_settings, data_called, join_tags

    table = paper_table(name)
    default = table.quick if args.quick else table
    backbones, datasets = list(args.backbone or default.backbones), list(args.datasets or default.datasets)
    seeds = seeds_of(args.seeds or default.seeds)
    cells = [found for backbone in backbones for dataset in datasets for found in table.cells(dataset, backbone)]
    check_settings(settings, {key for _, cell in cells for key in (*cell.settings[::2], f"TRAINER.{cell.trainer.upper()}.METHOD")})
    tag, more = args.tag, list(settings)
    if args.quick:
        tag, more = join_tags("quick", tag), [*(str(w) for pair in table.quick.settings.items() for w in pair), *settings]
    root, output = data_and_output()
    runs = [{seed: cell.run(seed, output, tag, root, more, args.plugin) for seed in seeds} for _, cell in cells]
    called = [data_called(dataset, root, settings) for dataset in datasets]
    return Work(table, name, backbones, called, seeds, [(*found, by_seed) for found, by_seed in zip(cells, runs)])


def print_work(work: Work, style: str) -> None:
    """Print the table of the runs that did not fail; warnings and notes go to standard error."""
    from ..report.paper import own_text, paper_notes, paper_text
    from ..report.runs import group_runs, warnings_about
    from ..report.tables import render

    done = []
    for variant, _, runs in work.cells:
        directories = [str(run.output_dir) for run in runs.values() if not run.problem]
        if directories:
            done += [(variant, group) for group in group_runs(directories)]
    headers, rows = paper_text(work.table, done, work.datasets, work.seeds) if work.cells else own_text(work.table, work.backbones)
    if not rows:
        return
    print("\n" + render(headers, rows, style), flush=True)
    groups = list({id(group): group for _, group in done}.values())
    for line in warnings_about(groups):
        say(f"warning: {line}")
    for line in paper_notes(groups):
        say(f"note: {line}")


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    words, settings = split_settings(argv)
    args = build_reproduce_parser().parse_args(words)
    from ..plugins import load_plugins
    from ..runs.plan import describe, unique

    load_plugins(args.plugin)
    works = plan(args, settings)
    executor = executor_of(args)
    runs = unique([run for work in works for run in work.runs])
    if runs and not args.dry_run:
        with resumable():
            executor.execute(runs)
    failed = {run.output_dir: run.problem for run in runs if run.problem}
    for work in works:
        if args.table == ALL:
            print(f"\n{work.name}: {work.table.title}")
        for run in work.runs:  # tables share runs
            run.problem = failed.get(run.output_dir, "")
        if not args.dry_run:
            print_work(work, args.format)
        elif work.runs:
            describe(work.runs)
        else:
            print("nothing to train")
    return name_failed(runs, args.dry_run)


if __name__ == "__main__":
    sys.exit(main())

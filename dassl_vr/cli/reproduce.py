"""`scripts/reproduce.sh`: the runs behind a table of the SMM paper, each in a process of its own, and the table."""

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..config import validate_cfg
from ..engine import resolve_cfg
from ..engine.run_directory import FINISHED, NEW, RESUMED, claim_run_directory
from ..plugins import load_plugins
from ..report.__main__ import main as report
from ..report.tables import FORMATS
from ..utils.errors import ConfigError, UserError
from .errors import OneLineParser, one_line_errors
from .train import build_parser, find_config, setup_cfg

TABLES = {
    "methods": "the shared masks pad, narrow, medium, full, and SMM (tables 1 and 2)",
    "ablation": "only the pattern, only the mask, one channel, and SMM (table 3)",
    "patch_size": "SMM with patches of 1 to 32 pixels a side",
    "mapping": "SMM and the full watermark with every label mapping",
}
PATCH_SIZES = (1, 2, 4, 8, 16, 32)
MAPPINGS = ("rlm", "flm", "ilm", "blm", "blm+", "linear")
# Of the paper, by the names of their files in configs/datasets
DATASETS = (
    *("cifar10", "cifar100", "svhn", "gtsrb", "oxford_flowers", "dtd"),
    *("ucf101", "food101", "sun397", "eurosat", "oxford_pets"),
)

# Keys that tell the runs of a table apart: not for the command line's end
RUN_KEYS = {"SEED", "OUTPUT_DIR", "RESUME", "DATASET.NAME", "TRAINER.NAME", "MODEL.BACKBONE.NAME"}
CONSOLE_FILE = "console.txt"
WILL = {NEW: "train", RESUMED: "resume", FINISHED: "finished"}
EPILOG = """tables:
{tables}

examples:
  bash scripts/reproduce.sh methods --backbone rn18 --datasets eurosat dtd
  bash scripts/reproduce.sh patch_size --datasets svhn --seeds 0 --dry-run
  bash scripts/reproduce.sh methods --backbone lite0 --datasets digits --tag short -- OPTIM.MAX_EPOCH 2
environment: DATA (directory of the data sets, ./data), OUTPUT (./output)
"""


@dataclass(frozen=True)
class Cell:
    """A cell of a table, to be trained with several seeds.

    Attributes:
        variant: what `settings` make of the recipe, "" where they leave it as it is; part of the directory's tag.
        settings: KEY, VALUE, ... on top of the recipe.
    """

    trainer: str
    method: str  # "" = the trainer's default
    dataset: str
    backbone: str
    variant: str = ""
    settings: tuple = ()

    @property
    def recipe(self):
        """A method with a recipe of its own (Pad) has it in `<backbone>_<method>.yaml`."""
        paths = [f"configs/trainers/{self.trainer}/{self.backbone}{suffix}.yaml" for suffix in (f"_{self.method}", "")]
        return next((path for path in paths if os.path.isfile(find_config(path))), paths[-1])

    def directory(self, output, tag):
        """Where scripts/smm.sh and scripts/vr.sh put the same run; the seed is yet to come."""
        name = f"{self.trainer}-{self.method}" if self.method else self.trainer
        tags = [part for part in (tag, self.variant) if part]
        if len(tags) > 1 and tag == "default":
            tags = tags[1:]
        return Path(output, self.dataset, name, self.backbone, "-".join(tags))

    def arguments(self, directory, seed, root, more):
        """Arguments of train.py, as scripts/_run.sh gives them."""
        data_file = f"configs/datasets/{self.dataset}.yaml"
        known = os.path.isfile(find_config(data_file))
        method = [f"TRAINER.{self.trainer.upper()}.METHOD", self.method] if self.method else []
        return [
            *("--trainer", self.trainer, "--config-file", self.recipe),
            *(("--dataset-config-file", data_file) if known else ()),
            *("--root", root, "--seed", str(seed), "--output-dir", str(directory), "--resume", str(directory)),
            *("DATASET.DOWNLOAD", "True"),
            *(() if known else ("DATASET.NAME", self.dataset)),
            *method,
            *self.settings,
            *more,
        ]


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
    return [_mapping_cell(cell, mapping) for cell in cells for mapping in MAPPINGS]


def _recipe_options(cell):
    """The trainer's section of the configuration that the recipe of `cell` gives."""
    return setup_cfg(build_parser().parse_args(["--config-file", cell.recipe])).TRAINER[cell.trainer]


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


@dataclass
class Run:
    """One process of train.py: what is known of it before and after."""

    directory: Path
    arguments: list
    problem: str = field(default="", init=False)

    def __post_init__(self):
        # Checked here, so that a wrong key or name ends the command before the first run and not each run by itself
        self._cfg = setup_cfg(build_parser().parse_args(self.arguments))
        validate_cfg(self._cfg)
        resolve_cfg(self._cfg)

    def state(self):
        """NEW, RESUMED or FINISHED, by what lies in the directory. Raises `UserError` if this run cannot be there."""
        try:
            return claim_run_directory(self._cfg)
        except ConfigError as error:
            raise ConfigError(str(error).replace("another --output-dir", "another --tag")) from error

    def train(self):
        """Run train.py to its end, its console output in the run's directory; sets `problem` if it fails.

        The console file is also the lock of the run. The child inherits it, so that even if this process is killed
        outright and started again, no second process writes beside a child that lives on.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(self.directory / CONSOLE_FILE, "a+", encoding="utf-8", errors="replace") as console:
            self._lock(console)
            if self.state() == FINISHED:  # by the process that was waited for
                return
            console.seek(0, os.SEEK_END)
            begin = console.tell()
            command = [sys.executable, "train.py", *self.arguments]
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT)
            try:
                code = child.wait()
            except KeyboardInterrupt:
                _stop(child)
                raise
            if code:
                console.seek(begin)
                lines = console.read().split("\n")
                last = next((line for line in reversed(lines) if line.strip()), "it printed nothing")
                died = f"killed by signal {-code}" if code < 0 else last.removeprefix("error: ")
                self.problem = f"{died} (see {console.name})"

    def _lock(self, console):
        try:
            fcntl.flock(console, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("  waiting for another process that works on this run ...", flush=True)
            fcntl.flock(console, fcntl.LOCK_EX)


def _stop(child):
    """End `child`, politely at first. What it has saved stays good: its files are written atomically."""
    child.terminate()
    try:
        child.wait(timeout=20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


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
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    return parser


def plan(args, settings):
    """All runs that the table needs, in order. Raises `ConfigError` for what no run could do."""
    root, output = os.environ.get("DATA", "data"), os.environ.get("OUTPUT", "output")
    cells = [
        c for backbone in args.backbone for dataset in args.datasets for c in _cells_with_recipe(args.table, dataset, backbone)
    ]
    own = {key for cell in cells for key in (*cell.settings[::2], f"TRAINER.{cell.trainer}.METHOD")}
    taken = sorted((own | RUN_KEYS) & set(settings[::2]))
    if taken:
        raise ConfigError(f"the table {args.table} sets {', '.join(taken)} itself; leave it out after --")
    runs = {}
    for cell in cells:
        for seed in args.seeds:
            directory = cell.directory(output, args.tag) / f"seed{seed}"
            runs[directory] = Run(directory, cell.arguments(directory, seed, root, settings))
    return list(runs.values())


def _cells_with_recipe(table, dataset, backbone):
    known = sorted(path.stem for path in Path(find_config("configs/trainers/SMM")).glob("*.yaml"))
    if backbone not in known:
        raise ConfigError(f"--backbone {backbone}: no recipe configs/trainers/SMM/{backbone}.yaml (there are: {', '.join(known)})")
    return cells_of(table, dataset, backbone)


@one_line_errors
def main(argv=None):
    argv = sys.argv[1:] if argv is None else list(argv)
    split = argv.index("--") if "--" in argv else len(argv)
    args, settings = build_reproduce_parser().parse_args(argv[:split]), argv[split + 1 :]
    if not os.path.isfile("train.py"):
        raise ConfigError("no train.py here; reproduce works in the checkout of the repository (bash scripts/reproduce.sh)")
    if min(args.seeds) < 0:
        raise ConfigError(f"--seeds {min(args.seeds)}: expected 0 or more")
    load_plugins()
    runs = plan(args, settings)
    with _interrupt_on_sigterm():
        states = [_describe(run) for run in runs]
        if args.dry_run:
            for run, state in zip(runs, states, strict=True):
                print(f"{state:<9} {run.directory}")
            print(", ".join(f"{number} {state}" for state, number in Counter(states).items()))
        else:
            _train_all(runs, states)
            _print_table(runs, args.format)
    return _name_failed(runs)


def _describe(run):
    """What is to be done about `run`, as a word; sets its `problem` if it cannot be done."""
    try:
        return WILL[run.state()]
    except UserError as error:
        run.problem = str(error)
        return "cannot"


def _train_all(runs, states):
    for number, (run, state) in enumerate(zip(runs, states, strict=True), start=1):
        print(f"[{number}/{len(runs)}] {state:<9} {run.directory}", flush=True)
        if state in (WILL[NEW], WILL[RESUMED]):
            try:
                run.train()
            except (UserError, OSError) as error:
                run.problem = str(error)
        if run.problem:
            print(f"  failed: {run.problem}", flush=True)


def _print_table(runs, style):
    good = [str(run.directory) for run in runs if not run.problem]
    if good:
        print()
        report([*good, "--format", style])


def _name_failed(runs):
    failed = [run for run in runs if run.problem]
    if failed:
        print(f"\n{len(failed)} of {len(runs)} runs failed:", file=sys.stderr)
        for run in failed:
            print(f"  {run.directory}: {run.problem}", file=sys.stderr)
    return 1 if failed else 0


@contextlib.contextmanager
def _interrupt_on_sigterm():
    """SIGTERM ends this process as Ctrl-C does: the run in progress is stopped too."""

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())

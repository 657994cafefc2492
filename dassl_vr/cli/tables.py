"""What the commands that train the runs of a table share: flags, the executor, the list of failed runs at the end."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..names import TABLE_FORMATS
from ..utils.arguments import add_plugin_flag, positive, same_command
from ..utils.errors import ConfigError, Interrupted
from ..utils.text import say

if TYPE_CHECKING:
    from ..runs.executors import Executor
    from ..runs.plan import Run

ENVIRONMENT = "environment: DATA (directory of the data sets, ./data), OUTPUT (./output)"


def data_and_output() -> tuple[str, str]:
    """(directory of the data sets, directory of the runs)."""
    return os.environ.get("DATA") or "data", os.environ.get("OUTPUT") or "output"


def split_settings(argv: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """(arguments, KEY VALUE pairs after `--`) of a command line; None = of this process."""
    argv = sys.argv[1:] if argv is None else list(argv)
    split = argv.index("--") if "--" in argv else len(argv)
    return argv[:split], argv[split + 1 :]


def seeds_of(numbers: Sequence[int]) -> list[int]:
    """The seeds without duplicates. Raises `ConfigError` for a negative one."""
    if min(numbers) < 0:
        raise ConfigError(f"--seeds {min(numbers)}: expected 0 or more")
    return list(dict.fromkeys(numbers))


def add_table_flags(parser: argparse.ArgumentParser, ray_only: bool = False) -> None:
    """The flags of a command whose runs make a table.

    Args:
        ray_only: the runs are always executed on Ray, without `--sweep` and `--jobs`.
    """
    parser.add_argument("--tag", default="default", help="part of the run directories, keeps different settings apart")
    parser.add_argument(
        "--format",
        choices=TABLE_FORMATS,
        default="plain",
        help="format of the table (default: plain); `python -m dassl_vr.report` makes a page of the same runs",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, without doing it")
    add_plugin_flag(parser, "more trainers, f_in, f_out, data sets or backbones")
    if not ray_only:
        parser.add_argument(
            "--jobs", type=positive, default=1, metavar="N", help="parallel runs; with several, each uses one thread (default: 1)"
        )
    group = parser.add_argument_group("Ray (pip install 'dassl_vr[sweep]')")
    if not ray_only:
        group.add_argument("--sweep", action="store_true", help="train on Ray, as many runs in parallel as resources allow")
    group.add_argument(
        "--address", default="", help="Ray cluster to use; auto = the one this machine belongs to (default: start one here)"
    )
    group.add_argument("--cpus-per-run", type=positive, default=1, metavar="N", help="cores, and threads, per run (default: 1)")
    group.add_argument(
        "--gpus-per-run", type=float, metavar="F", help="share of a GPU per run, 0 to 1 (default: 1 where there are GPUs)"
    )
    group.add_argument("--retries", type=int, default=1, metavar="N", help="times a failed run is tried again (default: 1)")


def executor_of(args: argparse.Namespace) -> Executor:
    """The executor that the flags select."""
    from ..runs.executors import Processes
    from ..runs.on_ray import OnRay

    if not getattr(args, "sweep", True):
        for name, default in (("address", ""), ("cpus_per_run", 1), ("gpus_per_run", None), ("retries", 1)):
            if getattr(args, name) != default:
                raise ConfigError(f"--{name.replace('_', '-')} applies to runs on Ray; add --sweep")
        return Processes(args.jobs)
    if getattr(args, "jobs", 1) != 1:
        raise ConfigError(f"--jobs {args.jobs}: Ray runs as many in parallel as resources allow; leave it out, or --sweep")
    if args.retries < 0:
        raise ConfigError(f"--retries {args.retries}: expected 0 or more")
    gpus = args.gpus_per_run or 0.0
    if not 0 <= gpus <= 1:
        raise ConfigError(f"--gpus-per-run {gpus:g}: expected 0 to 1, because a run is one process, which computes on one GPU")
    return OnRay(args.address, args.cpus_per_run, args.gpus_per_run, args.retries)


@contextlib.contextmanager
def resumable(what: str = "to continue") -> Iterator[None]:
    """Say how to go on where Ctrl-C or SIGTERM ends the block: by the same command.

    Args:
        what: that command does.

    Raises:
        Interrupted: in place of `KeyboardInterrupt`.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted; {what}: {same_command()}") from error


def name_failed(runs: Sequence[Run], dry_run: bool = False) -> int:
    """List the failed runs on standard error (those of a dry run were named) and return the exit code."""
    failed = [run for run in runs if run.problem]
    if failed and not dry_run:
        say(f"\n{len(failed)} of {len(runs)} runs failed:")
        for run in failed:
            say(f"  {run.output_dir}: {run.problem}")
    return 1 if failed else 0

"""What is left to do of a run: whether it is to be trained, resumed, tested, or is finished."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from yacs.config import CfgNode

from ..engine.results import RESULTS_FILE
from ..engine.run_directory import FINISHED, NEW, RESUMED, claim_run_directory
from ..utils.errors import ConfigError, UserError
from .settings import cfg_of_flags, settle

CANNOT, TEST, IS_FINISHED = "cannot", "test", "finished"
WILL = {NEW: "train", RESUMED: "resume", FINISHED: IS_FINISHED}


@dataclass
class Run:
    """One process of train.py that trains, or with a `model_dir` tests what another has trained.

    Attributes:
        name: for people.
        output_dir: where its files go.
        flags: those of train.py without `--`, as `cfg_of_flags` takes them; not those that say where the files go.
        settings: KEY, VALUE, ...
        plugins: files that bring in more.
        model_dir: directory of the run to be tested.
        problem: why it failed, "" while it did not.
        code: exit code of its process; None while there was none.
        cfg: the configuration that follows.

    Raises:
        ConfigError: for what no run could have, so that a wrong key or name ends the command before the first run.
    """

    name: str
    output_dir: Path
    flags: dict
    settings: Sequence
    plugins: Sequence = ()
    model_dir: Path | None = None
    problem: str = field(default="", init=False)
    code: int | None = field(default=None, init=False)
    cfg: CfgNode = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.output_dir = Path(self.output_dir)
        self.plugins = [os.path.abspath(path) for path in self.plugins]
        flags = {**self.flags, "output_dir": str(self.output_dir)}
        if self.model_dir is None:
            flags["resume"] = str(self.output_dir)
        self._flags = flags
        self.cfg = cfg_of_flags(flags, self.settings, self.plugins, "" if self.model_dir is None else str(self.model_dir))
        settle(self.cfg)
        self.output_dir = Path(self.cfg.OUTPUT_DIR)  # without `~`

    def parts(self) -> dict:
        """What the same run is made of in another process: `Run(**parts)`."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.init}

    @property
    def argv(self) -> list[str]:
        """The arguments of train.py."""
        words = [word for path in self.plugins for word in ("--plugin", path)]
        if self.model_dir is not None:
            words += ["--eval-only", "--model-dir", str(self.model_dir)]
        for flag, value in self._flags.items():
            words += [f"--{flag.replace('_', '-')}", str(value)]
        return [*words, *map(str, self.settings)]

    def task(self) -> str:
        """What is to be done, as a word; sets `problem` if it cannot be done."""
        try:
            state = self.state()
        except UserError as error:
            self.problem = str(error)
            return CANNOT
        return TEST if self.model_dir is not None and state != FINISHED else WILL[state]

    def state(self) -> str:
        """NEW, RESUMED or FINISHED, by what is in the directory. Raises `UserError` if this run cannot be there."""
        if self.model_dir is not None:
            return FINISHED if self._is_tested() else NEW
        try:
            return claim_run_directory(self.cfg)
        except ConfigError as error:
            raise ConfigError(str(error).replace("another --output-dir", "another --tag")) from error

    def _is_tested(self):
        """Whether there are results that are not older than the model."""
        results, trained = (Path(directory, RESULTS_FILE) for directory in (self.output_dir, self.model_dir))
        return results.is_file() and trained.is_file() and results.stat().st_mtime_ns >= trained.stat().st_mtime_ns


def unique(runs: Sequence[Run]) -> list[Run]:
    """In order, each directory once. Raises `ConfigError` if two that differ would go to the same one."""
    found = {}
    for run in runs:
        if found.setdefault(run.output_dir, run).cfg != run.cfg:
            raise ConfigError(f"two different runs would go to {run.output_dir}; rename one, or start them with a --tag each")
    return list(found.values())


def describe(runs: Sequence[Run]) -> None:
    """Print what would be done, and why something cannot be."""
    tasks = [run.task() for run in runs]
    for run, task in zip(runs, tasks, strict=True):
        print(f"{task:<9} {run.output_dir}" + (f": {run.problem}" if task == CANNOT else ""))
    print(", ".join(f"{number} {task}" for task, number in Counter(tasks).items()))

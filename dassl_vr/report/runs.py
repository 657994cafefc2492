"""Finding finished runs and grouping them by what was compared."""

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from ..engine.run_directory import CONFIG_FILE, RESULTS_FILE
from ..utils.errors import DataError


@dataclass
class Group:
    """Runs that differ in their seed only."""

    trainer: str
    method: str
    dataset: str
    backbone: str
    mapping: str
    tag: str
    runs: dict = field(default_factory=dict)  # seed -> results
    folders: set = field(default_factory=set)  # that the runs' directories lie in
    unfinished: list = field(default_factory=list)  # names of directories beside the runs'

    def values(self, key):
        """The values of `key` over the seeds, without missing ones."""
        return [run[key] for _, run in sorted(self.runs.items()) if run.get(key) is not None]

    def mean(self, key):
        values = self.values(key)
        return statistics.fmean(values) if values else None

    def std(self, key):
        """Sample standard deviation; None below two runs."""
        values = self.values(key)
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def gap(self):
        """Training minus test accuracy in points, averaged over the runs that measured both."""
        gaps = [r["accuracy_train"] - r["accuracy"] for r in self.runs.values() if r.get("accuracy_train") is not None]
        return statistics.fmean(gaps) if gaps else None


def find_runs(directories):
    """{directory: results} of all finished runs below `directories`, in order of their paths.

    Raises:
        DataError: a directory does not exist, holds no run, or a results file is damaged.
    """
    found = {}
    for directory in map(Path, directories):
        if not directory.is_dir():
            raise DataError(f"{directory}: no such directory; expected one with runs in it")
        for path in sorted(directory.rglob(RESULTS_FILE)):
            try:
                results = json.loads(path.read_text(encoding="utf-8"))
                results["trainer"], results["accuracy"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise DataError(f"{path}: not the results of a run ({error}); remove it and run again") from error
            found[path.parent] = results
    if not found:
        raise DataError(f"no {RESULTS_FILE} below {', '.join(map(str, directories))}: no run there has finished")
    return found


def find_unfinished(directories):
    """Directories below `directories` of runs that began and did not finish."""
    begun = (path.parent for directory in directories for path in sorted(Path(directory).rglob(CONFIG_FILE)))
    return [directory for directory in begun if not (directory / RESULTS_FILE).exists()]


def tag_of(directory):
    """What tells a run's recipe from others of the same trainer: `<tag>` in the scripts' `.../<tag>/seed<N>`."""
    return directory.parent.name if directory.name.startswith("seed") else directory.name


def group_runs(directories):
    """Groups of the runs below `directories`, in order of first appearance."""
    groups = {}
    for directory, run in find_runs(directories).items():
        key = (run["trainer"], run["method"], run["dataset"], run["backbone"], run["mapping"], tag_of(directory))
        group = groups.setdefault(key, Group(*key))
        group.runs[run["seed"]] = run
        group.folders.add(directory.parent)
    for directory in find_unfinished(directories):
        for group in groups.values():
            if directory.parent in group.folders:
                group.unfinished.append(directory.name)
    return list(groups.values())

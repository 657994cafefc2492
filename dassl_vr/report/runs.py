"""Finding finished runs and grouping those that differ only in their seed."""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scipy.special import stdtrit

from ..config import read_yaml
from ..engine.results import RESULTS_FILE, read_results
from ..engine.run_directory import CONFIG_FILE
from ..utils import kinds
from ..utils.errors import DataError
from ..utils.text import natural_key

# What must agree for runs to be averaged over seeds -> its name in a warning
COMPARABLE = {"shots": "shots", "epochs": "epochs", "precision": "precision", "versions": "library versions"}

SECTION = kinds.dict_of(kinds.ANYTHING)
# What tables and figures read from a run's configuration
CONFIG = kinds.record({}, {
    "TRAINER": kinds.record({}, {"NAME": kinds.NAME, "SMM": kinds.record({}, {"PATCH_SIZE": kinds.whole(1, 2**20)})}, rest=SECTION),
    "MODEL": kinds.record({}, {"BACKBONE": kinds.record({}, {"WEIGHTS": kinds.NAME})}),
})  # fmt: skip


def mean_interval(values: Sequence[float], share: float = 0.95) -> tuple[float, float] | None:
    """The interval that covers the mean of what `values` are drawn from with probability `share`; None below two values.

    Student's t with n - 1 degrees of freedom: mean +- t s / sqrt(n). With three seeds t is 4.3, so it is 2.5 s wide on each side.
    """
    if len(values) < 2:
        return None
    mean, freedom = statistics.fmean(values), len(values) - 1
    half = float(stdtrit(freedom, (1 + share) / 2)) * statistics.stdev(values) / len(values) ** 0.5
    return mean - half, mean + half


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
    directories: dict = field(default_factory=dict)  # seed -> the run's directory
    unfinished: list = field(default_factory=list)  # names of directories beside the runs'
    published: tuple | None = None  # what `published_for` said when a card was written; None = to be asked
    label: str = ""  # what a comparison calls it

    @property
    def name(self) -> str:
        """`SMM`, `SMM single_channel`, `VR full`; the label where there is one."""
        if self.label:
            return self.label
        return self.trainer if self.method == self.trainer.lower() else f"{self.trainer} {self.method}"

    @functools.cached_property
    def config(self) -> dict:
        """The resolved configuration of one of the runs; empty where it was not kept.

        Raises:
            DataError: the file is not the configuration of a run.
        """
        path = next(iter(self.directories.values())) / CONFIG_FILE
        config = read_yaml(path) if path.is_file() else {}
        if problem := CONFIG(config):
            raise DataError(f"{path}: not the configuration of a run: {problem}; restore or remove it")
        return config

    @property
    def options(self) -> dict:
        """The keys `TRAINER.<NAME>` of that configuration."""
        return self.config.get("TRAINER", {}).get(self.trainer.upper(), {})

    def values(self, key: str) -> list:
        """The values of `key` over the seeds, without missing ones."""
        return [run[key] for _, run in sorted(self.runs.items()) if run.get(key) is not None]

    def mean(self, key: str) -> float | None:
        values = self.values(key)
        return statistics.fmean(values) if values else None

    def std(self, key: str) -> float | None:
        """Sample standard deviation; None below two runs."""
        values = self.values(key)
        return statistics.stdev(values) if len(values) > 1 else None

    def interval(self, key: str) -> tuple[float, float] | None:
        """`mean_interval` of the values of `key`."""
        return mean_interval(self.values(key))

    @property
    def gap(self) -> float | None:
        """Training minus test accuracy in points, averaged over the runs that measured both."""
        both = [(run.get("accuracy_train"), run["accuracy"]) for run in self.runs.values()]
        gaps = [train - test for train, test in both if None not in (train, test)]
        return statistics.fmean(gaps) if gaps else None


def find_runs(directories: Iterable[str | Path]) -> dict[Path, dict]:
    """{directory: results} of all finished runs below `directories`, in order of their paths, `patch2` before `patch16`.

    Raises:
        DataError: a directory does not exist, holds no run, or a results file is damaged.
    """
    found = {}
    for directory in map(Path, directories):
        if not directory.is_dir():
            raise DataError(f"{directory}: no such directory; expected one with runs in it")
        for path in _sorted(directory.rglob(RESULTS_FILE)):
            found[path.parent] = read_results(path.parent)
    if not found:
        raise DataError(f"no {RESULTS_FILE} below {', '.join(map(str, directories))}: no run there has finished")
    return found


def _sorted(paths):
    return sorted(paths, key=lambda path: [natural_key(part) for part in path.parts])


def find_unfinished(directories: Iterable[str | Path]) -> list[Path]:
    """Directories below `directories` of runs that began and did not finish."""
    begun = (path.parent for directory in directories for path in _sorted(Path(directory).rglob(CONFIG_FILE)))
    return [directory for directory in begun if not (directory / RESULTS_FILE).exists()]


def tag_of(directory: Path, run: Mapping) -> str:
    """What distinguishes a run's recipe from others of the same method: `<tag>` in the scripts' `.../<recipe>/<tag>/seed<N>`, after
    `best` where the recipe is `<backbone>_best`. (`<backbone>_pad` is the recipe of a method, or of a mapping.)"""
    if not directory.name.startswith("seed"):
        return directory.name
    tag, recipe, start = directory.parent.name, directory.parent.parent.name, f"{run['backbone']}_"
    further = recipe.removeprefix(start) if recipe.startswith(start) else ""
    if further in ("", run["method"], run["mapping"]):
        return tag
    return further if tag == "default" else f"{further}-{tag}"


def group_of(directory: str | Path) -> Group:
    """The `Group` of a single finished run. Raises `DataError` where there is none, or its results are damaged."""
    run = read_results(directory)
    return Group(*_key(Path(directory), run), {run["seed"]: run}, {run["seed"]: Path(directory)})


def _key(directory, run):
    return run["trainer"], run["method"], run["dataset"], run["backbone"], run["mapping"], tag_of(directory, run)


def group_runs(directories: Sequence[str | Path]) -> list[Group]:
    """Groups of the runs below `directories`, in order of first appearance.

    Raises:
        DataError: as for `find_runs`, or two runs have the same place in a group.
    """
    groups = {}
    for directory, run in find_runs(directories).items():
        key = _key(directory, run)
        group = groups.setdefault(key, Group(*key))
        other = group.directories.get(run["seed"])
        if other is not None and other.resolve() != directory.resolve():
            raise DataError(
                f"{other} and {directory} are of the same method, data, recipe and seed; name the directory of one of them"
            )
        group.runs[run["seed"]] = run
        group.directories[run["seed"]] = directory
    for directory in find_unfinished(directories):
        for group in groups.values():
            if directory.parent in {finished.parent for finished in group.directories.values()}:
                group.unfinished.append(directory.name)
    return list(groups.values())


def distinct_names(groups: Sequence[Group]) -> list[str]:
    """A short name for each of `groups`: the method, and as much of tag, mapping, data set and backbone as tells them apart."""
    shown = ["name"]
    for part in (None, "tag", "mapping", "dataset", "backbone"):
        if part and len({getattr(group, part) for group in groups}) > 1:
            shown.append(part)
        values = [[getattr(group, part) for part in shown] for group in groups]
        names = [", ".join(value for value in row if value and value != "default") for row in values]
        if len(set(names)) == len(names):
            break
    return names


def names_within_tasks(groups: Sequence[Group]) -> list[str]:
    """`distinct_names` of each of `groups` among those with its data set and backbone, where these are said besides."""
    tasks = {}
    for group in groups:
        tasks.setdefault((group.dataset, group.backbone), []).append(group)
    names = {id(group): name for members in tasks.values() for group, name in zip(members, distinct_names(members))}
    return [names[id(group)] for group in groups]


def warnings_about(groups: Sequence[Group]) -> list[str]:
    """One line for each reason to doubt a comparison between the runs of `groups`."""
    lines = []
    for group in groups:
        for key, what in COMPARABLE.items():
            if len({json.dumps(run.get(key), sort_keys=True) for run in group.runs.values()}) > 1:
                lines.append(f"{_where(group)}: the runs of different seeds differ in their {what}")
    # With few shots the seed draws the images: then only runs of the same seed share a split
    splits = {}
    for group in groups:
        for seed, run in group.runs.items():
            key = (group.dataset, run.get("shots"), run.get("subsample_classes"), seed if run.get("shots", -1) >= 1 else None)
            splits.setdefault(key, {}).setdefault(run.get("split_sha256"), []).append(f"{_where(group)} seed {seed}")
    for found in splits.values():
        if len(found) > 1:
            shown = " / ".join(runs[0] for runs in found.values())
            lines.append(f"the runs were not made on the same images and labels (split_sha256 differs): {shown}")
    return lines


def _where(group):
    return f"{group.dataset} {group.backbone} {group.name} {group.tag}"

"""Tables of a comparison of methods, over several numbers of shots, halves of the classes, or data sets."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..names import CLIP_16SHOT
from ..paper import published_for
from ..paper.setting import key_names
from .runs import Group, tag_of
from .tables import mean_std

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Compared:
    """A method and its results.

    Attributes:
        name: `SMM`, `VR full`.
        results: {column: {seed: content of results.json}}; the first column is what was trained on.
        directories: {column: {seed: directory}}.
    """

    name: str
    results: dict
    directories: dict

    @property
    def trained(self) -> dict:
        """{seed: results} of the runs that trained, of the first column that has some."""
        return next((runs for runs in self.results.values() if runs), {})

    def accuracies(self, column: object) -> list[float]:
        """Test accuracies in percent over the seeds, without missing ones."""
        found = (run["accuracy"] for _, run in sorted(self.results.get(column, {}).items()))
        return [accuracy for accuracy in found if accuracy is not None]

    def group(self, column: object) -> Group:
        """The runs of one column as a `Group`, for the tables of runs."""
        runs, directories = self.results[column], self.directories[column]
        first = next(iter(runs.values()))
        names = [first[key] for key in ("trainer", "method", "dataset", "backbone", "mapping")]
        tag = tag_of(next(iter(directories.values())), first)
        return Group(*names, tag, runs, {seed: directories[seed] for seed in runs}, label=self.name)


def harmonic_mean(numbers: Sequence[float]) -> float:
    """Of accuracies; 0 if one of them is 0."""
    return statistics.harmonic_mean(numbers)


# What sums up a row of a protocol: (header, function of the accuracies that one seed has in the given columns)
SUMMARIES = {
    "base-to-new": ("harmonic mean", harmonic_mean),
    "cross-dataset": ("average of targets", statistics.fmean),
    CLIP_16SHOT: ("average", statistics.fmean),
}


def summary(method: Compared, protocol: str, columns: Sequence) -> list[float]:
    """One number a seed, of the seeds that have all of the columns that it is made of; [] where the protocol has none.

    Of `clip-16shot` the data sets that have results.
    """
    if protocol not in SUMMARIES:
        return []
    used = columns[1:] if protocol == "cross-dataset" else columns
    if protocol == CLIP_16SHOT:
        used = [column for column in columns if method.results.get(column)]
    by_seed = [method.results.get(column, {}) for column in used]
    seeds = sorted(set.intersection(*(set(runs) for runs in by_seed)))
    return [SUMMARIES[protocol][1]([runs[seed]["accuracy"] for runs in by_seed]) for seed in seeds]


def protocol_table(
    methods: Sequence[Compared],
    protocol: str,
    columns: Sequence,
    titles: Sequence[str],
    beside: Mapping[tuple[str, object], str] | None = None,
) -> tuple[list[str], list[list[str]]]:
    """(headers, rows) of text: one row a method, the accuracy in each of `columns` under its title, the protocol's summary, cost.

    The harmonic mean and the averages are taken seed by seed, then averaged.

    Args:
        beside: {(method, column or `average`): what follows the accuracy there}.
    """
    beside = beside or {}
    summed = [SUMMARIES[protocol][0]] if protocol in SUMMARIES else []
    headers = ["method", *titles, *summed, "seeds", "trained", "train s", "memory MiB"]
    rows = []
    for method in methods:
        cells = [_mean_std(method.accuracies(column)) + beside.get((method.name, column), "") for column in columns]
        if summed:
            present = sum(bool(method.results.get(column)) for column in columns)
            part = f", {present} of {len(columns)}" if protocol == CLIP_16SHOT and present < len(columns) else ""
            cells.append(_mean_std(summary(method, protocol, columns)) + part + beside.get((method.name, AVERAGE), ""))
        runs = list(method.trained.values())
        counts = sorted({len(method.results.get(column, {})) for column in columns})
        seconds = [run["seconds_train"] for run in runs if run.get("seconds_train") is not None]
        rows.append([
            *(method.name, *cells),
            " to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))),
            f"{runs[0]['params_trainable']:,}",
            f"{statistics.fmean(seconds):.0f}" if seconds else "",
            f"{max((run.get('peak_memory_bytes') or 0) for run in runs) / 2**20:.0f}",
        ])  # fmt: skip
    return headers, rows


AVERAGE = "average"


def published_beside(methods: Sequence[Compared], columns: Sequence[str]) -> tuple[dict[tuple[str, str], str], list[str]]:
    """(what `protocol_table` shows beside each accuracy, what a reader has to know of it).

    `(78.1)` is a published number, `(~78.1)` one whose setting is not that of the runs. The number beside an average is of as
    many data sets.
    """
    beside, notes = {}, {}
    for method in methods:
        groups = {column: method.group(column) for column in columns if method.results.get(column)}
        found = {column: published_for(group) for column, group in groups.items()}
        numbers = [number for number, _ in found.values()]
        if len(found) == len(columns):
            number, keys = published_for(next(iter(groups.values())), AVERAGE)
            found[AVERAGE] = (number, list(dict.fromkeys([*keys, *(key for _, others in found.values() for key in others)])))
        elif numbers and None not in numbers:
            keys = list(dict.fromkeys(key for _, others in found.values() for key in others))
            found[AVERAGE] = (replace(numbers[0], accuracy=statistics.fmean(n.accuracy for n in numbers), std=None), keys)
        for column, (number, keys) in found.items():
            if number is not None:
                beside[method.name, column] = f" ({'~' if keys else ''}{number.accuracy:.1f})"
                if keys:
                    notes[method.name] = f"~ {method.name}: not as published: {key_names(keys)}"
    if beside:
        return beside, ["in brackets: the published number", *notes.values()]
    return {}, []


def _mean_std(values):
    if not values:
        return ""
    return mean_std(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def by_size(methods: Iterable[Compared]) -> list[Compared]:
    """Sorted by the number of trained parameters, fewest first."""
    return sorted(methods, key=lambda method: next(iter(method.trained.values()))["params_trainable"])


def summarize(methods: Sequence[Compared], protocol: str, columns: Sequence) -> list[dict]:
    """The entry of each method in the file of results."""
    keys = ("accuracy", "macro_f1", "ece", "nll", "params_trainable", "seconds_train", "peak_memory_bytes", "flops")
    keys += ("images_per_second", "epochs", "protocol")
    found = []
    for method in methods:
        row = {"method": method.name, "runs": {}}
        for column in columns:
            row["runs"][str(column)] = [
                {"seed": seed, **{key: run.get(key) for key in keys}, "directory": str(method.directories[column][seed])}
                for seed, run in sorted(method.results.get(column, {}).items())
            ]
        if protocol in SUMMARIES:
            row[SUMMARIES[protocol][0].replace(" ", "_")] = summary(method, protocol, columns)
        found.append(row)
    return found


def shots_figure(methods: Sequence[Compared], shots: Sequence[int], task: str) -> Figure:
    """Accuracy against the number of training images per class, one line per method (mean, bars of a standard deviation)."""
    from .canvas import figure_text, new_figure  # here: a table does not need it

    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    for method in methods:
        values = {number: method.accuracies(number) for number in shots}
        there = [number for number in shots if values[number]]
        means = [statistics.fmean(values[number]) for number in there]
        errors = [statistics.stdev(values[number]) if len(values[number]) > 1 else 0.0 for number in there]
        axes.errorbar(there, means, errors, marker="o", capsize=3, label=figure_text(method.name))
    axes.set_xscale("log", base=2)
    axes.set_xticks(shots, [str(number) for number in shots])
    axes.set_xlabel("training images per class")
    axes.set_ylabel("test accuracy in %")
    axes.set_title(f"{figure_text(task)} (mean ± std over seeds)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    return figure

"""Tables of results."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from tabulate import tabulate

from ..paper import published_for
from ..paper.setting import key_names
from ..utils.text import markdown_cell, one_line, spreadsheet_cell

if TYPE_CHECKING:
    from .loss_change import LossChange
    from .runs import Group


def results_table(groups: Sequence[Group], seeds: Collection[int] = ()) -> tuple[list[str], list[list[str]]]:
    """(headers, rows) of text: one row a group, with the paper's number beside it where there is one.

    Mapping, shots and recipe are left out where they are the same in every row, and columns that are empty.

    Args:
        seeds: that were asked for; those without a finished run are named.
    """
    rows = [_row(group, seeds) for group in groups]
    return with_what_differs(rows, {"data", "backbone", "method", "epochs", "accuracy %"}, ("mapping", "shots", "recipe"))


def with_what_differs(
    rows: Sequence[dict[str, str]], always: Collection[str], settings: Collection[str]
) -> tuple[list[str], list[list[str]]]:
    """(headers, rows) without the columns that are empty, and without those of `settings` that say the same in every row."""

    def tells(header):
        values = {row[header] for row in rows}
        return header in always or (values != {""} and (len(values) > 1 or header not in settings))

    kept = [header for header in rows[0] if tells(header)]
    return kept, [[row[header] for header in kept] for row in rows]


def _row(group, seeds):
    run = next(iter(group.runs.values()))
    published, keys = group.published or published_for(group)
    paper = None if published is None or keys else published
    accuracy, seconds, gap = group.mean("accuracy"), group.mean("seconds_train"), group.gap
    flops, speed = group.mean("flops"), group.mean("images_per_second")
    memory = max(group.values("peak_memory_bytes"), default=0)
    missing = [str(seed) for seed in sorted(set(seeds) - set(group.runs))]
    # Where the backbone itself is trained, the frozen rest says nothing
    share = 100 * run["params_trainable"] / run["params_backbone"] if run["params_backbone"] else None
    return {
        "data": group.dataset,
        "backbone": group.backbone,
        "method": group.name,
        "mapping": group.mapping or "",
        "recipe": group.tag,
        "shots": "all" if run["shots"] < 1 else str(run["shots"]),
        "epochs": str(run["epochs"]),
        "accuracy %": mean_std(accuracy, group.std("accuracy")),
        "95 % interval": interval_text(group.interval("accuracy")),
        "macro-F1 %": mean_std(group.mean("macro_f1"), group.std("macro_f1")),
        "ECE %": mean_std(group.mean("ece"), group.std("ece")),
        "NLL": mean_std(group.mean("nll"), group.std("nll"), digits=3),
        "paper": mean_std(paper.accuracy, paper.std) if paper else "",
        "difference": signed(accuracy - paper.accuracy) if paper and accuracy is not None else "",
        "not as in the paper": key_names(keys),
        "train - test": signed(gap),
        "seeds": str(len(group.runs)),
        "missing seeds": ", ".join([*missing, *(f"{name} unfinished" for name in group.unfinished)]),
        "trained": f"{run['params_trainable']:,}",
        "% of backbone": "" if share is None or share > 100 else f"{share:.2f}",
        "train s": "" if seconds is None else f"{seconds:.0f}",
        "memory MiB": f"{memory / 2**20:.0f}",
        "GFLOP/image": "" if flops is None else f"{flops / 1e9:.3g}",
        "images/s": "" if speed is None else f"{speed:.0f}",
    }


def loss_change_table(groups: Sequence[Group], changes: Sequence[Sequence[LossChange]]) -> tuple[list[str], list[list[str]]]:
    """(headers, rows): for how many training samples the loss is higher than that of the unprompted model.

    Args:
        changes: one list a group, of the `LossChange` of its runs.
    """
    headers = ["data", "backbone", "method", "recipe", "seeds", "training samples", "loss rises for", "% of samples", "mean change"]
    rows = []
    for group, runs in zip(groups, changes):
        if not runs:
            continue
        shares = [100 * run.rises / len(run.change) for run in runs]
        rows.append([
            *(group.dataset, group.backbone, group.name, group.tag, str(len(runs)), f"{len(runs[0].change):,}"),
            ", ".join(f"{run.rises:,}" for run in runs),
            mean_std(statistics.fmean(shares), statistics.stdev(shares) if len(shares) > 1 else None),
            f"{statistics.fmean(float(run.change.mean()) for run in runs):+.3f}",
        ])  # fmt: skip
    return headers, rows


def mean_std(mean: float | None, std: float | None = None, digits: int = 1) -> str:
    """`71.2`, or `71.2 ± 0.4` where there is a deviation; empty without a mean."""
    if mean is None:
        return ""
    return f"{mean:.{digits}f}" if std is None else f"{mean:.{digits}f} ± {std:.{digits}f}"


def interval_text(interval: tuple[float, float] | None) -> str:
    """`70.2 to 72.2`, of percentages; empty without an interval."""
    return "" if interval is None else f"{max(0.0, interval[0]):.1f} to {min(100.0, interval[1]):.1f}"


def signed(number: float | None) -> str:
    """`+1.5`; empty without a number."""
    return "" if number is None else f"{number:+.1f}"


def render(headers: Sequence[str], rows: Sequence[Sequence[str]], style: str = "plain") -> str:
    """A table as text in one of `TABLE_FORMATS`."""
    cell = {"csv": spreadsheet_cell, "github": markdown_cell}.get(style, str)  # the other styles escape for themselves
    headers, *rows = [[cell(one_line(entry)) for entry in row] for row in (headers, *rows)]
    if style == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([headers, *rows])
        return text.getvalue().rstrip("\n")
    style = {"plain": "simple", "latex": "latex_booktabs"}.get(style, style)
    return tabulate(rows, headers, tablefmt=style, disable_numparse=True)

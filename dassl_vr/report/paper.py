"""A table of the paper as text: its rows beside the published numbers, averages over data sets, and notes for the reader."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..paper import PaperTable, Published, Variant, published_for, published_of
from ..paper.setting import key_names, short_name
from .tables import mean_std, signed

if TYPE_CHECKING:
    from .runs import Group


@dataclass(frozen=True)
class Entry:
    """One accuracy of a table.

    Attributes:
        data: name of a data set, or of an average with how many data sets are in it.
        group: the runs; None in an average.
        accuracy, std: of the runs, in percent.
        published: the paper's number; None where there is none.
        keys: in which the runs differ from the published setting.
    """

    variant: Variant
    data: str
    backbone: str
    group: Group | None
    accuracy: float | None
    std: float | None
    published: Published | None
    keys: Sequence[str] = ()

    @property
    def paper(self) -> float | None:
        """The paper's number in percent, if the runs have its setting."""
        return None if self.published is None or self.keys else self.published.accuracy

    @property
    def improvement(self) -> float | None:
        """Over the paper."""
        return _minus(self.accuracy, self.paper)


def paper_text(
    table: PaperTable, done: Sequence[tuple[Variant, Group]], datasets: Sequence[str], seeds: Sequence[int]
) -> tuple[list[str], list[list[str]]]:
    """(headers, rows) of text: the rows of `table`, then averages over data sets. Empty columns are left out.

    Args:
        done: finished runs of its cells.
        datasets, seeds: what was asked for.
    """
    entries = [_entry(table, variant, group) for variant, group in done]
    entries += _averages(table, entries, datasets)
    rows = _paired(table, entries) if table.pair else [_row(table, entry, seeds) for entry in entries]
    return _filled(rows)


def own_text(table: PaperTable, backbones: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The same for a table that needs no training."""
    return _filled(table.own_rows(backbones))


def _filled(rows):
    headers = [name for name in (rows[0] if rows else ()) if any(row[name] for row in rows)]
    return headers, [[row[name] for name in headers] for row in rows]


def _entry(table, variant, group):
    published = published_of(table, variant, group.backbone, group.dataset)
    keys = published.unlike(group.config) if published else ()
    return Entry(variant, group.dataset, group.backbone, group, group.mean("accuracy"), group.std("accuracy"), published, keys)


def _averages(table, entries, datasets):
    """One entry for each row, backbone and average that has a data set."""
    others = {short_name(name) for name in datasets} - {short_name(name) for name in table.datasets}
    averages = {"average": datasets} if others else table.averages or {"average": table.datasets}
    found = []
    for name, members in averages.items():
        places = dict.fromkeys((entry.variant, entry.backbone) for entry in entries if len(members) > 1)
        for variant, backbone in places:
            wanted = {short_name(member) for member in members}
            present = [e for e in entries if (e.variant, e.backbone) == (variant, backbone) and short_name(e.data) in wanted]
            if present := [entry for entry in present if entry.accuracy is not None]:
                found.append(_average(table, name, present, len(members)))
    return found


def _average(table, name, present, number):
    first = present[0]
    published = None
    if all(entry.published and not entry.keys for entry in present):
        numbers = [entry.published.accuracy for entry in present]
        published = published_of(table, first.variant, first.backbone, name) if len(present) == number else None
        if published is None and None not in numbers:  # over the same data sets
            published = Published(statistics.fmean(numbers), None, None, {})
    accuracy = statistics.fmean(entry.accuracy for entry in present)
    data = f"{name}, {len(present)} of {number}"
    return replace(first, data=data, group=None, accuracy=accuracy, std=None, published=published)


def _row(table, entry, seeds):
    group = entry.group
    missing = [] if group is None else [str(seed) for seed in seeds if seed not in group.runs]
    columns: dict[str, Callable] = table.columns
    return {
        "data": entry.data,
        "backbone": entry.backbone,
        table.rows: entry.variant.label,
        "epochs": "" if group is None else str(next(iter(group.runs.values()))["epochs"]),
        "accuracy %": mean_std(entry.accuracy, entry.std),
        "paper": "" if entry.paper is None else mean_std(entry.paper, entry.published.std),
        "difference": signed(entry.improvement),
        **{name: "" if group is None else column(group, entry.published) for name, column in columns.items()},
        "seeds": "" if group is None else str(len(group.runs)),
        "missing seeds": ", ".join(missing),
        "not as in the paper": key_names(entry.keys),
    }


def _paired(table, entries):
    """One row for the two variants with the same label."""
    places = {}
    for entry in entries:
        places.setdefault((entry.data, entry.backbone, entry.variant.label), {})[entry.variant.column] = entry
    return [_pair(table, *place, found) for place, found in places.items()]


def _pair(table, data, backbone, label, found):
    before, after = table.pair
    ours = [found[name].accuracy if name in found else None for name in (before, after)]
    paper = [found[name].paper if name in found else None for name in (before, after)]
    keys = dict.fromkeys(key for entry in found.values() for key in entry.keys)
    shown = {name: mean_std(found[name].accuracy, found[name].std) if name in found else "" for name in (before, after)}
    gain, published_gain = _minus(*reversed(ours)), _minus(*reversed(paper))
    return {
        "data": data,
        "backbone": backbone,
        table.rows: label,
        **shown,
        "improvement": signed(gain),
        f"paper: {before}": mean_std(paper[0]),
        f"paper: {after}": mean_std(paper[1]),
        "paper: improvement": signed(published_gain),
        "difference": signed(_minus(gain, published_gain)),
        "not as in the paper": key_names(list(keys)),
    }


def _minus(one, other):
    return None if one is None or other is None else one - other


def paper_notes(groups: Iterable[Group]) -> list[str]:
    """Notes on the column with the paper's numbers, one line each."""
    weights = {
        group.config.get("MODEL", {}).get("BACKBONE", {}).get("WEIGHTS") or "timm's vit_base_patch32_384.augreg_in21k_ft_in1k"
        for group in groups
        if group.backbone == "vit_b32" and published_for(group)[0]
    }
    if not weights:
        return []
    return [
        "the paper's ViT-B/32 is the original checkpoint (pytorch_pretrained_vit, B_32_imagenet1k); the runs here took "
        + ", ".join(sorted(weights))
    ]

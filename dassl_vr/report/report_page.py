"""`report --format html`: tables that sort, figures and commands as one page."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .. import __version__
from ..utils.arguments import command_line
from .page import Picture, Section, Table, page
from .runs import names_within_tasks

if TYPE_CHECKING:
    from .canvas import Drawn
    from .runs import Group

NAMED = 3  # data sets or backbones in the title


@dataclass
class ReportPage:
    """What a report says, gathered while it is made.

    Attributes:
        notes: warnings and notes on the first table.
        tables: [(heading, headers, rows)].
        figures: [(heading, drawn)].
    """

    groups: Sequence[Group]
    notes: list[str] = field(default_factory=list)
    tables: list[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = field(default_factory=list)
    figures: list[tuple[str, Sequence[Drawn]]] = field(default_factory=list)

    def html(self) -> str:
        """The page."""
        sections = [
            Section(heading, self.notes if number == 0 else (), tables=[Table(headers, rows)])
            for number, (heading, headers, rows) in enumerate(self.tables)
        ]
        for heading, drawn in self.figures:
            pictures = [Picture(one.path.read_bytes(), one.seen, one.caption, os.path.relpath(one.path)) for one in drawn]
            sections.append(Section(heading, pictures=pictures))
        sections.append(Section("Commands", commands=[("This page:", [command_line()]), *_commands(self.groups)]))
        runs = sum(len(group.runs) for group in self.groups)
        made = f"{runs} finished run{'s' if runs > 1 else ''}; made on {datetime.date.today()} with dassl_vr {__version__}."
        return page(
            _title(self.groups), [made, "A click on a column's name sorts by it, a second one the other way."], None, sections
        )


def _title(groups):
    data, backbones = ({getattr(group, name): None for group in groups} for name in ("dataset", "backbone"))
    return f"Results on {_some(list(data), 'data sets')}, {_some(list(backbones), 'backbones')}"


def _some(names, what):
    if len(names) > NAMED:
        return f"{len(names)} {what}"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _commands(groups):
    """[(a group, the command of each of its runs)]"""
    for group, name in zip(groups, names_within_tasks(groups)):
        what = f"{name}: {group.dataset}, {group.backbone}"
        lines = [
            run.get("command") or f"seed {seed}: not known, as of an older version" for seed, run in sorted(group.runs.items())
        ]
        yield what, lines

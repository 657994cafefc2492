"""Links with readable names to the runs under a directory, for TensorBoard."""

import os
from collections import Counter
from pathlib import Path

from ..engine.events import EVENTS
from ..utils.errors import ConfigError


def run_names(root: Path | str) -> dict[Path, str]:
    """{directory of a run's events: name of the run} for all runs under `root`.

    A name is the path below `root`, without `default` where runs can be distinguished without it. No name is a prefix of another's
    path, so that each can be a link.
    """
    root = Path(root)
    found = []
    for parent, folders, _ in os.walk(root):
        if EVENTS in folders:
            found.append(Path(parent))
            folders.clear()
    short = {run: tuple(part for part in run.relative_to(root).parts if part != "default") for run in found}
    taken = Counter(name[:length] for name in short.values() for length in range(len(name) + 1))
    complete = Counter(short.values())

    def name_of(run):
        name = short[run]
        above = sum(complete[name[:length]] for length in range(len(name)))
        told_apart = taken[name] == 1 and not above
        return "/".join(name if told_apart else run.relative_to(root).parts) or root.resolve().name or "run"

    return {run / EVENTS: name_of(run) for run in found}


def link_runs(root: Path | str, links: Path | str) -> int:
    """Fill the directory `links` with a link for each run under `root`, called by its name; returns the number of runs.

    Only links to runs under `root` are moved or removed there.

    Raises:
        ConfigError: something else is in the way.
    """
    root, links = Path(root), Path(links)
    wanted = {links / name: events.resolve() for events, name in run_names(root).items()}
    for parent, folders, files in os.walk(links):
        for link in (Path(parent, name) for name in (*folders, *files)):
            events = Path(os.path.realpath(link))
            ours = link.is_symlink() and (events in wanted.values() or events.is_relative_to(root.resolve()))
            if ours and wanted.get(link) != events:
                link.unlink()  # the run is gone, or newer runs beside it changed its name
                _remove_empty(link.parent, links)
    for link, events in wanted.items():
        if link.is_symlink() and Path(os.path.realpath(link)) == events:
            continue
        between = [path for path in link.parents if path.is_relative_to(links) and path != links]
        if os.path.lexists(link) or any(path.is_symlink() or path.is_file() for path in between):
            raise ConfigError(f"{link}: something other than a link to a run is there; name an empty directory for the links")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(events)
    return len(wanted)


def _remove_empty(directory, top):
    while directory != top and not any(directory.iterdir()):
        directory.rmdir()
        directory = directory.parent

"""Listing the images below a directory, as people's directories are."""

import os
from collections.abc import Iterable
from pathlib import Path

from ...utils.errors import DataError
from ...utils.images import image_suffixes

# What network drives, file managers and archivers put beside photographs (thumbnails, deleted files, remarks), in lower case
COMPANIONS = frozenset(
    (
        "@eadir",
        "@__thumb",
        "@recycle",
        "@recently-snapshot",
        "@sharebin",
        "@tmp",
        "@transcode",
        "#recycle",
        "#snapshot",
        "#eadir",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",
        "__macosx",
        "network trash folder",
        "temporary items",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
    )
)


def is_companion(name: str) -> bool:
    """Whether a file or folder of that name is hidden (`.AppleDouble`, `.thumbnails`, `._1.png`) or a companion of photographs."""
    return name.startswith(".") or name.casefold() in COMPANIONS


def folders_in(directory: str | os.PathLike) -> list[Path]:
    """Sorted paths of the folders in a directory, without companions and without links that lead up.

    Raises:
        DataError: it cannot be listed.
    """
    real = os.path.realpath(directory)
    entries = [entry for entry in _listed(directory) if not is_companion(entry.name) and _is_folder(entry)]
    return sorted(Path(entry.path) for entry in entries if not (entry.is_symlink() and _is_above(entry.path, real)))


def image_files(
    directory: str | os.PathLike, others: list[str] | None = None, suffixes: tuple[str, ...] | None = None
) -> list[str]:
    """Sorted paths of all image files (by their names' `suffixes`) below a directory, without companions, each real file once.

    A list `others` takes the paths of other files.

    Links to folders are followed, but into each folder once, and never to one that holds the link itself. Where an image
    has several names, that without a link counts.

    Raises:
        DataError: a folder cannot be listed.
    """
    suffixes = image_suffixes() if suffixes is None else suffixes
    found, linked_files, entered = [], [], set()
    tops, real_top = [os.fspath(directory)], os.path.realpath(directory)
    while tops:
        pending, tops = sorted(tops, reverse=True), []
        while pending:
            folder = pending.pop()
            real = os.path.realpath(folder)
            if real in entered:
                continue
            entered.add(real)
            for entry in _listed(folder):
                if is_companion(entry.name):
                    continue
                if not _is_folder(entry):
                    if entry.name.lower().endswith(suffixes):
                        (linked_files if entry.is_symlink() else found).append(entry.path)
                    elif others is not None:
                        others.append(entry.path)
                elif not entry.is_symlink():
                    pending.append(entry.path)
                elif not _is_above(entry.path, real, real_top):
                    tops.append(entry.path)  # after all folders that are here without a link
    return sorted(found + _not_there(linked_files, found))


def _listed(directory):
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"{directory}: cannot be listed ({error.strerror}); repair it, or move it out of the data") from error


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself; whoever reads it says what is wrong
        return False


def _is_above(link, *directories):
    """Whether `link` leads to one of the resolved `directories`, or to one that holds it."""
    target = os.path.realpath(link)
    return any(real == target or real.startswith(os.path.join(target, "")) for real in directories)


def _not_there(links, files):
    """Those of `links` whose files are neither among `files` nor what another of them leads to."""
    seen = set(real_paths(files)) if links else set()
    kept = []
    for link in sorted(links):
        target = os.path.realpath(link)
        if target not in seen:
            seen.add(target)
            kept.append(link)
    return kept


def real_paths(paths: Iterable[str]) -> list[str]:
    """`paths` with the links in their folders resolved, but not what the files themselves may link to: quick for many files."""
    folders, real = {}, []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        real.append(os.path.join(folders[folder], name))
    return real

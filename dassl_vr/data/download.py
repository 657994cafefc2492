"""What a data set is made of, and having it in place: fetched and unpacked where it is absent."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..utils.errors import DataError
from .archive import extract, is_archive
from .fetch import Source, fetch


@dataclass(frozen=True)
class Part:
    """A file or directory that a data set is made of.

    Args:
        provides: its path below the data set's directory.
        source: the file that it is, or the archive that holds it, at any depth.
        required: False if the data set can be used without.
        fallbacks: other files or archives to take it from when `source` fails.
    """

    provides: str
    source: Source
    required: bool = True
    fallbacks: tuple = ()

    @property
    def sources(self) -> tuple:
        return (self.source, *self.fallbacks)


def family_mirror(filename: str) -> Source:
    """An archive of one data set of CoOp's, images and split, from the copies that a group of the family keeps."""
    url = f"https://huggingface.co/zhengli97/prompt_learning_dataset/resolve/main/{filename}"
    return Source(f"mirror-{filename}", urls=(url,))


def prepare(name: str, parts: Sequence[Part], directory: str | Path, download: bool) -> None:
    """Make sure that all parts of a data set are there: fetch and unpack those that are not, if `download`.

    Args:
        name: the data set's name, for messages.
        parts: what `directory` should hold.

    Raises:
        DataError: a required part is absent and cannot or may not be fetched. Says where it comes from and goes to.
    """
    for part in parts:
        target = Path(directory, part.provides)
        if target.exists():
            continue
        if download:
            try:
                _obtain(part, Path(directory))
            except DataError as error:
                if part.required:
                    raise
                print(f"{name}: WARNING: continuing without {target} ({error})")
        elif part.required:
            raise DataError(missing_message(name, part, directory))


def missing_message(name: str, part: Part, directory: str | Path) -> str:
    """One line: which part is absent, where it comes from and where it goes."""
    target = Path(directory, part.provides)
    known = " or ".join(address for source in part.sources for address in source.addresses)
    unpack = f", unpack {part.source.filename}" if is_archive(part.source.filename) else ""
    if not known:
        page = part.source.page
        return f"{name}: {target} is missing; get it manually from {page} and put it there (or choose another --root)"
    return (
        f"{name}: {target} is missing; it comes from {known}{unpack} so that it is there (or choose another --root), "
        "or set DATASET.DOWNLOAD True to have it fetched"
    )


def _obtain(part, directory):
    """Get `part` into `directory` from the first of its sources that works."""
    failures = []
    for source in part.sources:
        try:
            path = fetch(source, directory)
            if not is_archive(path):
                return
            extract(path, directory, provides=part.provides, inside=source.inside)
            print(f"{directory / part.provides} is in place; the archive {path} is not needed any more")
            return
        except DataError as error:
            failures.append(str(error))
    raise DataError("; ".join(failures))

"""Read the members of an untrusted tar archive from a stream; `data/archive.py` says why not with `tarfile`."""

import tarfile
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from ..utils.text import excerpt

BLOCK = 512
MAX_HEADER = 1 << 20  # bytes of a header with a long name or attributes
MAX_TAIL = 16 << 20  # bytes behind the end of a tar, which are padding
PIECE = 1 << 20

EXTENSIONS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class HostileArchive(Exception):
    """An archive with content that no data set needs, such as a path to the outside."""


class Budget(Protocol):
    """How much an archive may still unpack to."""

    def take_bytes(self, number: int, name: str) -> None:
        """Count bytes of the member `name`. Raises `HostileArchive` if there are too many."""


def tar_members(stream: BinaryIO, budget: Budget) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar under their full names; the caller reads a regular file's bytes before it requests the next."""
    extended, empty = {}, True
    while block := stream.read(BLOCK):
        if not any(block):
            break
        empty = False
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if member.type in EXTENSIONS:
            if not 0 <= member.size <= MAX_HEADER:
                raise HostileArchive(f"it has a header of {member.size} bytes")
            budget.take_bytes(BLOCK + member.size, "a header")
            extended |= _extensions(member.type, _read(stream, member.size))
            _read(stream, -member.size % BLOCK)
            continue
        member.name = extended.get("path", member.name)
        member.linkname = extended.get("linkpath", member.linkname)
        member.size = int(extended.get("size", member.size))
        if member.size < 0 or member.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in extended):
            raise HostileArchive(f"'{excerpt(member.name, 80)}' is a sparse file")
        extended = {}
        yield member
        if member.isreg():
            _read(stream, -member.size % BLOCK)
    if empty and not block:
        raise EOFError("an empty file")
    for _ in range(MAX_TAIL // PIECE):  # a compressed file has its checksum at its end
        if not stream.read(PIECE):
            return
    raise HostileArchive(f"it continues for {MAX_TAIL >> 20} MiB after its end")


def _read(stream, size):
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("it ends in the middle of a header")
    return data


def _extensions(kind, body):
    """The attributes that an extended tar header gives to the next member."""
    if kind in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        key = "path" if kind == tarfile.GNUTYPE_LONGNAME else "linkpath"
        return {key: body.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
    records, position = {}, 0
    while position < len(body) and body[position]:  # `13 path=a/b.c\n`, with the length of all that
        digits = body[position : position + 8].partition(b" ")[0]
        length = int(digits)
        key, _, value = body[position + len(digits) + 1 : position + length - 1].partition(b"=")
        if not len(digits) + 1 < length <= len(body) - position:
            raise ValueError("a header of another length than it says")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        position += length
    return {} if kind == tarfile.XGLTYPE else records  # what holds for all members is never a name or a size

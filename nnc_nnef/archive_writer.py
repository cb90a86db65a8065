"""Writing NNEF containers, byte for byte the same for the same members.

Times are zero, owner is 0, mode is 0644, order is the caller's. The result appears under its name only when it is
complete.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from nnc_codec.errors import InvalidArgumentError
from nnc_codec.files import (
    FileAccessError,
    OutputExistsError,
    access_error,
    atomic_writer,
    require_writable,
    sync_directory,
)

from .container import DEFAULT_LIMITS, GRAPH, Archive, Kind, TarArchive
from .errors import ArchiveError
from .labels import check_member

_SUFFIXES: tuple[tuple[str, Kind], ...] = ((".tgz", "tgz"), (".tar.gz", "tgz"), (".tar", "tar"), (".zip", "zip"))
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class Member(msgspec.Struct, frozen=True):
    """A file to write.

    Attributes:
        name: path inside the container.
        size: bytes that `chunks` yields.
        chunks: gives the content, in pieces; called once per write.
    """

    name: str
    size: int
    chunks: Callable[[], Iterator[bytes]]


def from_bytes(name: str, data: bytes) -> Member:
    """A member with this content."""
    return Member(name, len(data), lambda: iter((data,)))


def copy_of(archive: Archive, name: str, new_name: str | None = None) -> Member:
    """A member copied from `archive`, read when it is written."""
    return Member(new_name or name, archive[name], lambda: archive.chunks(name))


def kind_for(path: Path) -> Kind:
    """Container kind that a file name asks for; a name without a known suffix means a folder."""
    text = path.name.lower()
    return next((kind for suffix, kind in _SUFFIXES if text.endswith(suffix)), "directory")


def write_archive(path: Path, members: Iterable[Member], *, kind: Kind | None = None, force: bool = False) -> int:
    """Writes a container and returns its size in bytes.

    Args:
        path: file, or folder for kind "directory".
        members: in the order they are to be written; names are checked.
        kind: by the suffix of `path` when None.
        force: replace an existing file, or an existing folder that holds a ``graph.nnef``.

    Raises:
        OutputExistsError: `path` exists and `force` is false.
        FileAccessError: the operating system refused.
        ArchiveError: a name is unsafe or appears twice, or a size is wrong.
    """
    checked = _checked(members)
    chosen = kind or kind_for(path)
    if chosen == "directory":
        return _write_folder(path, checked, force=force)
    with atomic_writer(path, force=force) as stream:
        if chosen == "zip":
            _write_zip(stream, checked)
        elif chosen == "tgz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=6, mtime=0) as deflated:
                _write_tar(cast(BinaryIO, deflated), checked)
        else:
            _write_tar(stream, checked)
        return stream.tell()


def append_to_tar(source: Path, output: Path, members: Iterable[Member], *, force: bool = False) -> int:
    """Writes `source`, a plain tar, with `members` after its own; returns the new size.

    The bytes of the existing members are copied as they are. `output` may be `source` with `force`.
    """
    added = list(_checked(members))
    with source.open("rb") as stream:
        archive = TarArchive(stream, DEFAULT_LIMITS, "tar")
        for member in added:
            if member.name in archive:
                raise ArchiveError(f"member {member.name!r} is in the archive already")
        names = list(archive)
        last = names[-1] if names else None
        end = 0 if last is None else -(-(archive.offset(last) + archive[last]) // 512) * 512
        stream.seek(0)
        with atomic_writer(output, force=force) as target:
            remaining = end
            while remaining:
                chunk = stream.read(min(remaining, 1 << 20))
                target.write(chunk)
                remaining -= len(chunk)
            _write_tar(target, added)
            return target.tell()


def _checked(members: Iterable[Member]) -> Iterator[Member]:
    seen: set[str] = set()
    for member in members:
        if check_member(member.name) != member.name:
            raise ArchiveError(f"member name {member.name[:80]!r} is not canonical")
        if member.name.casefold() in seen:
            raise ArchiveError(f"member {member.name[:80]!r} would be written twice")
        seen.add(member.name.casefold())
        yield member


class _Chunks(io.RawIOBase):
    """File-like view of a member's chunks, checked against its size."""

    def __init__(self, member: Member) -> None:
        self._chunks = member.chunks()
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest += chunk
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _write_tar(stream: BinaryIO, members: Iterable[Member]) -> None:
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.size, info.mode, info.mtime = member.size, 0o644, 0
            try:
                tar.addfile(info, cast(BinaryIO, _Chunks(member)))
            except OSError as error:
                if "unexpected end of data" in str(error):
                    raise ArchiveError(f"member {member.name!r} is shorter than announced") from error
                raise


def _write_zip(stream: BinaryIO, members: Iterable[Member]) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for member in members:
            info = zipfile.ZipInfo(member.name, _ZIP_EPOCH)
            info.external_attr = 0o100644 << 16
            with archive.open(info, "w", force_zip64=member.size >= 1 << 31) as target:
                for chunk in member.chunks():
                    target.write(chunk)


def _write_folder(path: Path, members: Iterable[Member], *, force: bool) -> int:
    _require_folder(path, force=force)
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{path.name[:200]}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise access_error(error, path, "write") from error
    try:
        size = 0
        for member in members:
            target = part / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as stream:
                for chunk in member.chunks():
                    size += stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
        part.chmod(0o755)
        _swap(part, path)
        sync_directory(path.parent)
        return size
    except OSError as error:
        raise access_error(error, path, "write") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def require_output(path: Path, *, source: Path | None = None, force: bool) -> None:
    """Refuses an output that cannot be written, before any work is done.

    Raises:
        OutputExistsError, FileAccessError, InvalidArgumentError: as :func:`write_archive`, or it is the source.
    """
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise InvalidArgumentError(f"output {path} is the input", hint="models are never changed in place")
    if kind_for(path) == "directory":
        _require_folder(path, force=force)
    else:
        require_writable(path, force=force)


def _require_folder(path: Path, *, force: bool) -> None:
    if path.is_dir():
        if not force:
            raise OutputExistsError(f"{path} already exists; not overwritten", hint="use --force or another -o")
        if path.is_symlink() or (any(path.iterdir()) and not (path / GRAPH).is_file()):
            raise InvalidArgumentError(f"{path} is no NNEF folder; not replaced", hint="choose another -o")
    elif path.exists():
        raise FileAccessError(f"cannot write folder {path}: a file is there", hint="choose another -o")
    elif not path.parent.is_dir():
        raise FileAccessError(f"cannot write {path}: folder {path.parent} does not exist")


def _swap(part: Path, path: Path) -> None:
    if not path.exists():
        part.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name[:200]}.", suffix=".old", dir=path.parent))
    path.rename(old / "model")
    try:
        part.rename(path)
    except OSError:
        (old / "model").rename(path)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)

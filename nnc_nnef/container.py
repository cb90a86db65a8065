"""Reading NNEF containers: a folder, a tar, a gzip-compressed tar, or a zip of stored members.

Nothing is ever extracted: members are read by offset. An archive is refused as a whole when one name is unsafe,
appears twice (without regard to case), or is not a regular file, and when sizes contradict the file. A compressed
tar is inflated once into an anonymous temporary file under a cap.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import tempfile
import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, cast

import msgspec

from nnc_codec.errors import LimitExceededError
from nnc_codec.files import access_error, require_readable

from .errors import ArchiveError
from .labels import check_member

GRAPH = "graph.nnef"
QUANT = "graph.quant"

Kind = Literal["directory", "tar", "tgz", "zip"]
_CHUNK = 1 << 20


class ArchiveLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds for untrusted containers.

    Attributes:
        max_members: files in a container.
        max_inflated_bytes: size of a compressed tar after inflation.
        max_inflation: inflated bytes per compressed byte, once above 64 MiB.
        max_text_bytes: size of ``graph.nnef``, ``graph.quant`` and the index.
    """

    max_members: int = 100_000
    max_inflated_bytes: int = 1 << 36
    max_inflation: int = 100
    max_text_bytes: int = 16 << 20


DEFAULT_LIMITS = ArchiveLimits()


class Archive(ABC, Mapping[str, int]):
    """Members of an NNEF container: name -> size in bytes, in the container's order."""

    kind: Kind

    def __init__(self, limits: ArchiveLimits) -> None:
        self.limits = limits
        self._sizes: dict[str, int] = {}
        self._folded: set[str] = set()
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> int:
        return self._sizes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _admit(self, name: str, size: int) -> str:
        checked = check_member(name)
        if checked.casefold() in self._folded:
            raise ArchiveError(f"member {checked[:80]!r} appears twice")
        if size < 0:
            raise ArchiveError(f"member {checked[:80]!r} has a negative size")
        if len(self._sizes) >= self.limits.max_members:
            raise LimitExceededError(f"more than {self.limits.max_members} members in the archive")
        self._sizes[checked] = size
        self._folded.add(checked.casefold())
        return checked

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """`length` bytes of a member from `offset` on (to its end by default).

        Raises:
            ArchiveError: there is no such member, or the range leaves it.
        """
        size = self._sizes.get(name)
        if size is None:
            raise ArchiveError(f"the archive has no member {name[:80]!r}")
        count = size - offset if length is None else length
        if offset < 0 or count < 0 or offset + count > size:
            raise ArchiveError(f"bytes {offset}..{offset + count} lie outside member {name[:80]!r} of {size} bytes")
        with self._lock:
            data = self._read(name, offset, count)
        if len(data) != count:
            raise ArchiveError(f"member {name[:80]!r} ends early")
        return data

    def read_text(self, name: str) -> str:
        """A member as ASCII text.

        Raises:
            LimitExceededError: above `ArchiveLimits.max_text_bytes`.
            ArchiveError: missing, or not ASCII.
        """
        if self._sizes.get(name, 0) > self.limits.max_text_bytes:
            raise LimitExceededError(f"{name} has {self._sizes[name]} bytes, above {self.limits.max_text_bytes}")
        try:
            return self.read(name).decode("ascii")
        except UnicodeDecodeError as error:
            raise ArchiveError(f"{name} is not ASCII text") from error

    def chunks(self, name: str) -> Iterator[bytes]:
        """A member in pieces of at most 1 MiB."""
        size = self._sizes[name]
        for offset in range(0, size, _CHUNK):
            yield self.read(name, offset, min(_CHUNK, size - offset))

    @abstractmethod
    def _read(self, name: str, offset: int, count: int) -> bytes: ...

    @abstractmethod
    def close(self) -> None:
        """Release the underlying file."""


class FolderArchive(Archive):
    """A model in a folder; symbolic links are refused wherever they appear."""

    kind: Kind = "directory"

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        super().__init__(limits)
        self._path = path
        self._walk(path, "", 0)

    def _walk(self, folder: Path, prefix: str, depth: int) -> None:
        if depth > 64:
            raise ArchiveError(f"folders nested deeper than 64 below {self._path}")
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            name = prefix + entry.name
            if entry.is_symlink():
                raise ArchiveError(f"{name[:80]!r} is a symbolic link", hint="replace it by the file it points to")
            if entry.is_dir(follow_symlinks=False):
                self._walk(Path(entry.path), name + "/", depth + 1)
            elif entry.is_file(follow_symlinks=False):
                self._admit(name, entry.stat(follow_symlinks=False).st_size)
            else:
                raise ArchiveError(f"{name[:80]!r} is not a regular file")

    def _read(self, name: str, offset: int, count: int) -> bytes:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(self._path / name, flags)
        except OSError as error:
            raise access_error(error, self._path / name, "read") from error
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ArchiveError(f"{name[:80]!r} is not a regular file")
            stream.seek(offset)
            return stream.read(count)

    def close(self) -> None:
        """Nothing is held open."""


class _HeaderReader:
    """What tarfile reads headers through: it asks for as much as an extended header claims to hold."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, count: int) -> bytes:
        if count > _CHUNK:
            raise ArchiveError(f"a tar header of {count} bytes")
        return self._stream.read(count)


class TarArchive(Archive):
    """A tar file, or the inflated content of a compressed one."""

    def __init__(self, stream: BinaryIO, limits: ArchiveLimits, kind: Literal["tar", "tgz"]) -> None:
        super().__init__(limits)
        self.kind = kind
        self._stream = stream
        self._offsets: dict[str, int] = {}
        total = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        try:
            with tarfile.open(fileobj=cast(BinaryIO, _HeaderReader(stream)), mode="r:", errorlevel=2) as tar:
                for count, member in enumerate(tar):
                    if count > 2 * limits.max_members:
                        raise LimitExceededError(f"more than {limits.max_members} members in the archive")
                    self._take(member, total)
        except (tarfile.TarError, EOFError, ValueError, OverflowError, UnicodeError, OSError) as error:
            raise ArchiveError(f"not a readable tar archive: {error}") from error

    def _take(self, member: tarfile.TarInfo, total: int) -> None:
        if member.isdir():
            if member.name.strip("./"):
                check_member(member.name.rstrip("/"))
            return
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            raise ArchiveError(f"member {member.name[:80]!r} is a link, device or sparse file")
        name = self._admit(member.name, member.size)
        if member.offset_data + member.size > total:
            raise ArchiveError(f"member {name[:80]!r} of {member.size} bytes leaves the archive")
        self._offsets[name] = member.offset_data

    def offset(self, name: str) -> int:
        """Position of a member's first byte in the tar."""
        return self._offsets[name]

    def _read(self, name: str, offset: int, count: int) -> bytes:
        # One read of an unbuffered file may stop short of what was asked for.
        self._stream.seek(self._offsets[name] + offset)
        pieces = []
        while count and (piece := self._stream.read(count)):
            pieces.append(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class ZipArchive(Archive):
    """A zip whose members are stored without compression."""

    kind: Kind = "zip"

    def __init__(self, stream: BinaryIO, limits: ArchiveLimits) -> None:
        super().__init__(limits)
        self._stream = stream
        total = stream.seek(0, io.SEEK_END)
        try:
            self._zip = zipfile.ZipFile(stream)
            for info in self._zip.infolist():
                self._take(info)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError, UnicodeError) as error:
            raise ArchiveError(f"not a readable zip archive: {error}") from error
        if sum(self.values()) > total:
            raise ArchiveError("zip members overlap")

    def _take(self, info: zipfile.ZipInfo) -> None:
        mode = info.external_attr >> 16
        if info.is_dir():
            return
        if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
            raise ArchiveError(f"member {info.filename[:80]!r} is a link or device")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
            raise ArchiveError(
                f"member {info.filename[:80]!r} is compressed or encrypted", hint="store members (zip -0), or use a tar"
            )
        if self._admit(info.filename, info.file_size) != info.filename:
            raise ArchiveError(f"member {info.filename[:80]!r} starts with './'")

    def _read(self, name: str, offset: int, count: int) -> bytes:
        try:
            with self._zip.open(name) as member:
                member.seek(offset)
                return member.read(count)
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, RuntimeError) as error:
            # Among these: an offset before the file, a local header of another version or with encryption.
            raise ArchiveError(f"member {name[:80]!r} is damaged: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._stream.close()


def sniff(path: Path) -> Kind | None:
    """The kind of container at `path`, judged by its first bytes; None if it is none."""
    if path.is_dir():
        return "directory"
    with path.open("rb") as stream:
        head = stream.read(512)
    if head[:2] == b"\x1f\x8b":
        return "tgz"
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    return None


def open_archive(path: str | os.PathLike[str], limits: ArchiveLimits = DEFAULT_LIMITS) -> Archive:
    """Opens a container for reading; use it as a context manager.

    Raises:
        FileAccessError: the file cannot be read.
        ArchiveError: it is not a container, or breaks a rule.
        LimitExceededError: more members or inflated bytes than `limits` allow.
    """
    checked = require_readable(path)
    try:
        kind = sniff(checked)
        if kind == "directory":
            return FolderArchive(checked, limits)
        if kind is None:
            raise ArchiveError(f"{checked} is neither a folder, tar, gzip-compressed tar nor zip")
        # Unbuffered: listing a tar touches its headers only, not the page around each of them.
        stream = cast(BinaryIO, checked.open("rb", buffering=0) if kind == "tar" else checked.open("rb"))
    except OSError as error:
        raise access_error(error, checked, "read") from error
    try:
        if kind == "zip":
            return ZipArchive(stream, limits)
        if kind == "tar":
            return TarArchive(stream, limits, "tar")
        spooled = _inflate(stream, checked.stat().st_size, limits)
        stream.close()
    except BaseException:
        stream.close()
        raise
    try:
        return TarArchive(spooled, limits, "tgz")
    except BaseException:
        spooled.close()
        raise


def _inflate(stream: BinaryIO, compressed: int, limits: ArchiveLimits) -> BinaryIO:
    cap = min(limits.max_inflated_bytes, max(64 << 20, compressed * limits.max_inflation))
    spooled: BinaryIO = tempfile.TemporaryFile(prefix="onnx-nnc-")
    written = 0
    try:
        with gzip.GzipFile(fileobj=stream) as inflated:
            while chunk := inflated.read(_CHUNK):
                written += len(chunk)
                if written > cap:
                    raise LimitExceededError(
                        f"the archive inflates to more than {cap} bytes", hint="unpack it yourself if you trust it"
                    )
                spooled.write(chunk)
    except (OSError, EOFError, zlib.error) as error:
        spooled.close()
        raise ArchiveError(f"not a readable gzip file: {error}") from error
    except LimitExceededError:
        spooled.close()
        raise
    spooled.seek(0)
    return spooled

"""Reading and replacing files without ever leaving half a file behind."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import InvalidArgumentError

_OVERWRITE_HINT = "use --force or another -o"


class FileAccessError(InvalidArgumentError):
    """A file cannot be read or written: missing, a directory, no permission, disk full."""

    code = "NNC-E201"


class OutputExistsError(InvalidArgumentError):
    """The output is there already and ``force`` was not given."""

    code = "NNC-E202"


def access_error(error: OSError, path: str | os.PathLike[str], what: str) -> FileAccessError:
    """The typed error for an :class:`OSError` met while doing `what` (``"read"``, ``"write"``) to `path`."""
    reason = (error.strerror or str(error)).lower()
    return FileAccessError(f"cannot {what} {os.fspath(path)}: {reason}")


def require_readable(path: str | os.PathLike[str]) -> Path:
    """`path` as a :class:`Path` of an existing, readable file or directory.

    Raises:
        FileAccessError: it is missing or may not be read.
    """
    checked = Path(path)
    try:
        checked.stat()
    except (OSError, ValueError) as error:
        wrapped = error if isinstance(error, OSError) else OSError(str(error))
        raise access_error(wrapped, checked, "read") from error
    if not os.access(checked, os.R_OK):
        raise FileAccessError(f"cannot read {checked}: permission denied")
    return checked


def require_writable(path: str | os.PathLike[str], *, force: bool) -> Path:
    """`path` as a :class:`Path` that may be written: a folder is there, and no file unless `force`.

    Called before the work, so that an hour of coding is not lost to a name that is taken.

    Raises:
        OutputExistsError: the file exists and `force` is false.
        FileAccessError: the folder is missing, not writable, or `path` is a directory.
    """
    checked = Path(path)
    if checked.is_dir():
        raise FileAccessError(f"cannot write {checked}: it is a directory", hint="name a file with -o")
    if checked.exists() and not force:
        raise OutputExistsError(f"{checked} already exists; not overwritten", hint=_OVERWRITE_HINT)
    folder = checked.parent
    if not folder.is_dir():
        raise FileAccessError(f"cannot write {checked}: folder {folder} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileAccessError(f"cannot write {checked}: permission denied in folder {folder}")
    return checked


def sync_directory(folder: Path) -> None:
    """Make renames in `folder` durable where the platform lets a directory be opened (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` only when the block ends without an exception.

    The bytes go to a temporary sibling, which is flushed to disk and renamed; then the folder is flushed.
    On any exception the sibling is removed and `path` is what it was.

    Raises:
        OutputExistsError: `path` exists and `force` is false (checked again at the rename).
        FileAccessError: the operating system refused.
    """
    target = require_writable(path, force=force)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:200]}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise access_error(error, target, "write") from error
    sibling = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _copy_mode(target, sibling)
        _publish(sibling, target, force=force)
        sync_directory(target.parent)
    except OSError as error:
        raise access_error(error, target, "write") from error
    finally:
        with contextlib.suppress(OSError):
            sibling.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike[str], data: bytes | bytearray | memoryview, *, force: bool = False) -> int:
    """Write `data` to `path` as :func:`atomic_writer` does; returns the number of bytes."""
    with atomic_writer(path, force=force) as stream:
        return stream.write(data)


def _copy_mode(target: Path, sibling: Path) -> None:
    # mkstemp makes private files; a model should have the mode that open() would have given it.
    if target.exists():
        mode = target.stat().st_mode & 0o7777
    else:
        mask = os.umask(0)
        os.umask(mask)
        mode = 0o666 & ~mask
    os.chmod(sibling, mode)


def _publish(sibling: Path, target: Path, *, force: bool) -> None:
    if force:
        os.replace(sibling, target)
        return
    try:
        # A hard link fails if the target appeared meanwhile, which a rename would silently replace.
        os.link(sibling, target)
    except FileExistsError as error:
        raise OutputExistsError(f"{target} appeared meanwhile; not overwritten", hint=_OVERWRITE_HINT) from error
    except OSError:
        # The file system has no hard links.
        os.replace(sibling, target)

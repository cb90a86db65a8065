"""Whether a path is an NNEF model, from its content."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from nnc_codec.errors import NNRError
from nnc_codec.files import FileAccessError, access_error
from nnc_codec.formats import Kind

from .container import GRAPH, open_archive, sniff
from .index import weights_number


def recognise_nnef(path: Path) -> Kind | None:
    """``"packed"``, ``"plain"``, or None if `path` is no NNEF model.

    Raises:
        FileAccessError: it cannot be read.
    """
    try:
        kind = sniff(path)
        if kind is None:
            return _by_name(path)
        if kind == "tgz" and not _first_member_fits(path):
            return _by_name(path)
    except OSError as error:
        raise access_error(error, path, "read") from error
    try:
        with open_archive(path) as archive:
            if any(weights_number(name) is not None or name.endswith(".dat.nnr") for name in archive):
                return "packed"
            return "plain" if GRAPH in archive else _by_name(path)
    except FileAccessError:
        raise
    except NNRError:
        # Damaged or unsafe; the operation that follows says how.
        return _by_name(path) or ("plain" if kind != "directory" else None)


def _by_name(path: Path) -> Kind | None:
    name = path.name.lower()
    if ".nnef" not in name or name.endswith(".onnx"):
        return None
    return "packed" if ".nnc." in name else "plain"


def _first_member_fits(path: Path) -> bool:
    """Whether a gzip file starts like a tar, without inflating more than its first block."""
    try:
        with gzip.open(path) as stream:
            return stream.read(512)[257:262] == b"ustar"
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return False

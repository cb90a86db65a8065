"""Writing arrays into an ``.npz`` file: the same bytes every time, and never half a file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from .files import atomic_writer

_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_npz(
    path: str | os.PathLike[str], arrays: Iterable[tuple[str, npt.NDArray[Any]]], *, force: bool = False
) -> None:
    """Write arrays, uncompressed, one after the other as they come.

    Args:
        path: file to write.
        arrays: (name, array); names must be unique.
        force: overwrite the file.

    Raises:
        OutputExistsError, FileAccessError: as :func:`nnc_codec.files.atomic_writer`.
    """
    with atomic_writer(path, force=force) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays:
            entry = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)

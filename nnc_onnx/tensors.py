"""Values of TensorProtos, embedded or in external files, without copies where that is possible."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from .carriage import BY_ONNX_TYPE
from .errors import ExternalDataError, InvalidModelError

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


def element_count(tensor: onnx.TensorProto) -> int:
    """Product of the dimensions.

    Raises:
        InvalidModelError: a dimension is negative.
    """
    count = 1
    for size in tensor.dims:
        if size < 0:
            raise InvalidModelError(f"dimension {size} is negative", tensor=tensor.name)
        count *= size
    return count


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the values lie in another file."""
    from onnx import TensorProto

    return bool(tensor.data_location == TensorProto.EXTERNAL)


def stored_nbytes(tensor: onnx.TensorProto) -> int:
    """Bytes the values take, embedded or external, whatever their type."""
    if is_external(tensor):
        return _external_range(tensor)[2] or _plain_nbytes(tensor)
    return len(tensor.raw_data) if tensor.HasField("raw_data") else _plain_nbytes(tensor)


def _plain_nbytes(tensor: onnx.TensorProto) -> int:
    element = BY_ONNX_TYPE.get(tensor.data_type)
    return element_count(tensor) * (element.dtype.itemsize if element else 1)


def _external_range(tensor: onnx.TensorProto) -> tuple[str, int, int | None]:
    """(location, offset, length or None) of an external tensor."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries["length"]) if entries.get("length") else None
    except ValueError as error:
        raise ExternalDataError("offset or length of external data is no number", tensor=tensor.name) from error
    if offset < 0 or (length is not None and length < 0):
        raise ExternalDataError("offset or length of external data is negative", tensor=tensor.name)
    return location, offset, length


def external_path(location: str, folder: Path, tensor: str | None = None) -> Path:
    """File of an external tensor, which must be a regular file inside `folder`.

    Raises:
        ExternalDataError: the location is absolute, climbs, passes through a link, or the file is missing.
    """
    parts = PurePosixPath(location).parts
    if not parts or location.startswith("/") or ".." in parts or "\\" in location or ":" in parts[0]:
        raise ExternalDataError(f"external data location {location!r} leaves the model's folder", tensor=tensor)
    path = folder
    try:
        for part in parts:
            path = path / part
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise ExternalDataError(f"external data {location!r} is reached through a link", tensor=tensor)
    except (OSError, ValueError) as error:
        raise ExternalDataError(
            f"external data file {location!r} is missing", tensor=tensor, hint="keep it beside the model"
        ) from error
    if not stat.S_ISREG(mode):
        raise ExternalDataError(f"external data {location!r} is no regular file", tensor=tensor)
    return path


def external_files(tensors: list[onnx.TensorProto], folder: Path) -> list[Path]:
    """The distinct external files that `tensors` refer to, in order."""
    found: dict[Path, None] = {}
    for tensor in tensors:
        if is_external(tensor):
            found.setdefault(external_path(_external_range(tensor)[0], folder, tensor.name))
    return list(found)


def read_bytes(tensor: onnx.TensorProto, folder: Path) -> NDArray[np.uint8]:
    """The little-endian bytes of an external tensor (mapped) or of one with ``raw_data``.

    Raises:
        ExternalDataError: as :func:`external_path`, or the file is too short.
        InvalidModelError: an embedded tensor has no ``raw_data``.
    """
    if not is_external(tensor):
        if not tensor.HasField("raw_data"):
            raise InvalidModelError("tensor holds no raw data", tensor=tensor.name)
        return np.frombuffer(tensor.raw_data, np.uint8)
    location, offset, length = _external_range(tensor)
    path = external_path(location, folder, tensor.name)
    # O_NOFOLLOW: the check above must not be undone by a link that appears in between.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as stream:
            available = os.fstat(stream.fileno()).st_size - offset
            wanted = length if length is not None else _plain_nbytes(tensor)
            if wanted > available:
                raise ExternalDataError(
                    f"external data file {location!r} ends {wanted - available} bytes early",
                    tensor=tensor.name,
                )
            if wanted == 0:
                return np.empty(0, np.uint8)
            return np.memmap(stream, np.uint8, "r", offset, (wanted,))
    except OSError as error:
        raise ExternalDataError(f"cannot read external data: {error}", tensor=tensor.name) from error


def to_array(tensor: onnx.TensorProto, folder: Path) -> NDArray[np.generic]:
    """Values of a tensor whose type is in :data:`carriage.ELEMENT_TYPES`; do not write to them.

    Returns:
        Array of the tensor's shape and type, bfloat16 as ``ml_dtypes.bfloat16``.

    Raises:
        InvalidModelError: the stored values do not fill the shape.
        ExternalDataError: as :func:`read_bytes`.
    """
    element = BY_ONNX_TYPE[tensor.data_type]
    expected = element_count(tensor)
    if is_external(tensor) or tensor.HasField("raw_data"):
        raw = read_bytes(tensor, folder)
        if raw.nbytes != expected * element.dtype.itemsize:
            raise InvalidModelError(
                f"tensor holds {raw.nbytes} bytes; its shape needs {expected * element.dtype.itemsize}",
                tensor=tensor.name,
            )
        return raw.view(element.dtype.newbyteorder("<")).reshape(tuple(tensor.dims))
    values = _typed_field(tensor, element.dtype)
    if values.size != expected:
        raise InvalidModelError(f"tensor holds {values.size} values; its shape needs {expected}", tensor=tensor.name)
    return values.reshape(tuple(tensor.dims))


def _typed_field(tensor: onnx.TensorProto, dtype: np.dtype) -> NDArray[np.generic]:
    """Values from the typed repeated fields (``float_data`` ...), one of which serves several types."""
    from onnx import TensorProto

    kind = tensor.data_type
    if kind == TensorProto.FLOAT:
        return np.array(tensor.float_data, np.float32)
    if kind == TensorProto.DOUBLE:
        return np.array(tensor.double_data, np.float64)
    if kind == TensorProto.INT64:
        return np.array(tensor.int64_data, np.int64)
    if kind in (TensorProto.UINT32, TensorProto.UINT64):
        return np.array(tensor.uint64_data, np.uint64).astype(dtype)
    words = np.array(tensor.int32_data, np.int32)
    if kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return words.astype(np.uint16).view(dtype)
    return words.astype(dtype)


def raw_tensor(name: str, onnx_type: int, shape: tuple[int, ...], raw: bytes | None) -> onnx.TensorProto:
    """A TensorProto with `raw` as ``raw_data``, or without values (to be stored externally) for ``None``."""
    from onnx import TensorProto

    tensor = TensorProto(name=name, data_type=onnx_type, dims=list(shape))
    if raw is not None:
        tensor.raw_data = raw
    return tensor

"""Element types: numpy's, the native core's, and the standard's ``nnr_decompressed_data_format``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidArgumentError
from .syntax.enums import DecompressedDataFormat

# Order of nnc::DType.
_NATIVE = (
    "float32", "float64", "float16", "bfloat16",
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
)  # fmt: skip
NATIVE_TYPE: dict[str, int] = {name: code for code, name in enumerate(_NATIVE)}

_FLOATS = frozenset(_NATIVE[:4])
_FORMATS: dict[str, DecompressedDataFormat] = {
    "float16": DecompressedDataFormat.TENSOR_FLOAT16,
    "float64": DecompressedDataFormat.TENSOR_FLOAT64,
    "int8": DecompressedDataFormat.TENSOR_INT8,
    "int16": DecompressedDataFormat.TENSOR_INT16,
    "int64": DecompressedDataFormat.TENSOR_INT64,
}
_DTYPES = {code: name for name, code in _FORMATS.items()} | {
    DecompressedDataFormat.TENSOR_INT32: "int32",
    DecompressedDataFormat.TENSOR_FLOAT32: "float32",
}


@lru_cache(maxsize=64)
def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether values of this type are quantized (bfloat16 of ml_dtypes included)."""
    return dtype.name in _FLOATS


@lru_cache(maxsize=64)
def native_type(dtype: np.dtype[Any]) -> int:
    """Code of a numpy type in the native core.

    Raises:
        InvalidArgumentError: the core has no such type.
    """
    code = NATIVE_TYPE.get(dtype.name)
    if code is None or not dtype.isnative:
        name = dtype.name if dtype.isnative else dtype.str
        raise InvalidArgumentError(f"cannot hand out tensors as {name}", hint=f"use one of {', '.join(_NATIVE)}")
    return code


@lru_cache(maxsize=64)
def format_of(dtype: np.dtype[Any]) -> DecompressedDataFormat | None:
    """``nnr_decompressed_data_format`` for a source type; ``None`` for the types that need no mention or have none."""
    return _FORMATS.get(dtype.name)


@lru_cache(maxsize=64)
def dtype_of(data_format: int | None, *, integers: bool) -> np.dtype[Any]:
    """Type of a decoded tensor: the format if it is stated and fits the payload, else float32 or int32."""
    name = _DTYPES.get(DecompressedDataFormat(data_format)) if data_format in _DTYPES else None
    if name is None or (name in _FLOATS) == integers:
        name = "int32" if integers else "float32"
    return np.dtype(name)


def as_source(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array as the quantizer or the integer coder takes it: C order, float32 or int32.

    Args:
        name: for error messages.
        array: float16, bfloat16, float32, float64 (rounded to float32) or any integer type within int32.

    Raises:
        InvalidArgumentError: other types, no elements or no dimensions, non-finite floats, integers beyond int32.
    """
    if array.ndim == 0 or array.size == 0:
        raise InvalidArgumentError(
            f"shape {array.shape} cannot be coded", tensor=name, hint="give it at least one dimension and one element"
        )
    if is_float(array.dtype):
        with np.errstate(over="ignore"):
            source: npt.NDArray[Any] = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(source).all():
            raise InvalidArgumentError("NaN or infinity cannot be quantized", tensor=name, hint="leave it as it is")
        return source
    if array.dtype.kind in "iu":
        if array.dtype.itemsize >= 4 and array.dtype != np.int32:
            low, high = int(array.min()), int(array.max())
            if low < -(2**31) or high >= 2**31:
                raise InvalidArgumentError("integers beyond 32 bits cannot be coded", tensor=name)
        return np.ascontiguousarray(array, dtype=np.int32)
    raise InvalidArgumentError(f"element type {array.dtype} cannot be coded", tensor=name)


def flat_bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The memory of a C-contiguous array as bytes.

    Raises:
        InvalidArgumentError: the native core has no such element type.
    """
    native_type(array.dtype)
    return array.reshape(-1).view(np.uint8)


def empty(shape: Sequence[int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """An uninitialised array in C order.

    Raises:
        InvalidArgumentError: the native core has no such element type.
    """
    native_type(dtype)
    return np.empty(tuple(shape), dtype=dtype)


if sys.byteorder != "little":
    raise ImportError("nnc_codec needs a little-endian machine")

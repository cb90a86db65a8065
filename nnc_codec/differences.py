"""Differences between two versions of a tensor, and a name for all values of a model."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .elements import is_float

Array = npt.NDArray[Any]

_MODEL_ID_PREFIX = "sha256:"
_DOMAIN = b"onnx_nnc model id 1\0"
_INT32 = np.iinfo(np.int32)


class Uncodable(NamedTuple):
    """Two versions whose difference no data unit can hold.

    Attributes:
        reason: why not.
    """

    reason: str


def difference(base: Array, new: Array) -> Array | Uncodable | None:
    """What must be added to `base` to get `new`.

    Args:
        base, new: arrays of one shape and dtype: any float of numpy or ml_dtypes' bfloat16, or any integer.

    Returns:
        ``None`` if they are equal bit for bit; for floats float32, zero where they are equal bit for bit; for integers
        int32, modulo the size of their type, so that it never overflows.
    """
    same = bits_of(base) == bits_of(new)
    if same.all():
        return None
    if is_float(base.dtype):
        wide = np.float64 if base.dtype.itemsize == 8 else np.float32
        with np.errstate(over="ignore", invalid="ignore"):
            exact = np.where(same, wide(0), new.astype(wide) - base.astype(wide))
            difference = exact.astype(np.float32)
        if not np.isfinite(difference).all():
            return Uncodable("NaN or infinity")
        return difference
    if base.dtype.kind not in "iu":
        return Uncodable(f"element type {base.dtype.name}")
    wrapped = (bits_of(new) - bits_of(base)).view(np.dtype(f"i{base.dtype.itemsize}"))
    if base.dtype.itemsize == 8 and (wrapped.min() < _INT32.min or wrapped.max() > _INT32.max):
        return Uncodable("integers that differ by more than 32 bits")
    return wrapped.astype(np.int32)


def add(base: Array, difference: Array) -> Array:
    """`base` plus a decoded difference: floats in float32 (float64 in float64) rounded to the type of `base`,
    integers modulo its size. Where the difference is zero the result is `base` bit for bit.

    Args:
        base: as in :func:`difference`.
        difference: float32 or int32 array of the same shape.
    """
    if is_float(base.dtype):
        wide = np.float64 if base.dtype.itemsize == 8 else np.float32
        with np.errstate(over="ignore", invalid="ignore"):
            moved = (base.astype(wide) + difference.astype(wide)).astype(base.dtype)
        kept: Array = np.where(difference == 0, base, moved)
        return kept
    bits = bits_of(base)
    summed: Array = (bits + difference.astype(np.int64).astype(bits.dtype)).view(base.dtype)
    return summed


def bits_of(array: Array) -> Array:
    """The array as unsigned integers of its size."""
    return np.ascontiguousarray(array).view(np.dtype(f"u{array.dtype.itemsize}"))


class TensorId(NamedTuple):
    """One tensor's part in the name of a model.

    Attributes:
        name: of the tensor.
        dtype: element type in numpy's words.
        shape: dimensions.
        sha256: digest of its values, little-endian in C order.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: bytes


def tensor_id(name: str, array: Array) -> TensorId:
    """The part of one tensor."""
    values = np.ascontiguousarray(array)
    digest = hashlib.sha256(values.reshape(-1).view(np.uint8).data if values.size else b"").digest()
    return TensorId(name, array.dtype.name, array.shape, digest)


def model_id(tensors: Iterable[TensorId]) -> str:
    """A name for all values of a model: ``sha256:`` and the digest in hexadecimal.

    It depends on names, types, shapes and values of the tensors, and on nothing else: neither on their order nor on
    how a file stores them. Hashed are a fixed prefix and, for the tensors in the order of their names, the UTF-8 name
    and the type each behind its length (``<I``), the number of dimensions (``<I``), the dimensions (``<Q``), and the
    32 bytes of :attr:`TensorId.sha256`.
    """
    whole = hashlib.sha256(_DOMAIN)
    for tensor in sorted(tensors, key=lambda tensor: tensor.name.encode()):
        for text in (tensor.name, tensor.dtype):
            encoded = text.encode()
            whole.update(struct.pack("<I", len(encoded)) + encoded)
        whole.update(struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape))
        whole.update(tensor.sha256)
    return _MODEL_ID_PREFIX + whole.hexdigest()

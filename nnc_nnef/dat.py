"""Reader and writer of NNEF tensor files: a 128-byte header, then the items (NNEF 1.0.5 §5.2).

Everything is checked before anything is allocated. Items of a foreign vendor or of a width without a numpy type
keep their header readable; only :func:`to_array` refuses them.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from nnc_codec.errors import InvalidArgumentError, UnsupportedError

from .errors import TensorFileError

HEADER_BYTES = 128
MAX_RANK = 8
_FLOAT, _UINT, _QUINT, _QINT, _INT, _BOOL = range(6)

_DTYPES: dict[tuple[int, int], str] = {
    **{(_FLOAT, bits): f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{(code, bits): f"<u{bits // 8}" for code in (_UINT, _QUINT) for bits in (8, 16, 32, 64)},
    **{(code, bits): f"<i{bits // 8}" for code in (_INT, _QINT) for bits in (8, 16, 32, 64)},
    (_BOOL, 1): "|b1",
    (_BOOL, 8): "|b1",
}


class TensorHeader(msgspec.Struct, frozen=True):
    """The fields of a tensor file header.

    Attributes:
        shape: extents, at most 8.
        item_type: Khronos item-type code (0 float, 1 uint, 2 quantized uint, 3 quantized int, 4 int, 5 bool).
        bits: bits per item.
        data_length: bytes after the header.
        vendor: vendor code; 0 is Khronos.
        parameters: the deprecated item-type parameters of NNEF 1.0 to 1.0.2, eight words.
    """

    shape: tuple[int, ...]
    item_type: int
    bits: int
    data_length: int
    vendor: int = 0
    parameters: tuple[int, ...] = (0,) * 8

    @property
    def volume(self) -> int:
        """Number of items."""
        return math.prod(self.shape)

    @property
    def quantized(self) -> bool:
        """Whether the items are levels of a quantization given in ``graph.quant``."""
        return self.vendor == 0 and self.item_type in (_QUINT, _QINT)

    @property
    def dtype(self) -> np.dtype[np.generic] | None:
        """numpy type of the items, or None if there is none."""
        if self.vendor:
            return None
        code = self.item_type
        if code == _UINT and self.parameters[0]:
            code = _INT
        text = _DTYPES.get((code, self.bits))
        return np.dtype(text) if text else None


def parse_header(data: bytes, member_size: int, *, name: str = "") -> TensorHeader:
    """Parses the first 128 bytes of a tensor file of `member_size` bytes.

    Raises:
        TensorFileError: too short, wrong magic or version, rank above 8, or sizes that contradict each other.
    """

    def bad(what: str) -> TensorFileError:
        return TensorFileError(what, tensor=name or None)

    if len(data) < HEADER_BYTES or member_size < HEADER_BYTES:
        raise bad(f"tensor file of {member_size} bytes is shorter than its 128-byte header")
    magic, major, minor, length, rank = struct.unpack_from("<2sBBII", data)
    if magic != b"N\xef":
        raise bad("tensor file does not start with the NNEF magic")
    if (major, minor) != (1, 0):
        raise bad(f"tensor file version {major}.{minor}, expected 1.0")
    if rank > MAX_RANK:
        raise bad(f"rank {rank} is above {MAX_RANK}")
    extents = struct.unpack_from("<8I", data, 12)
    bits, code, vendor = struct.unpack_from("<IHH", data, 44)
    parameters = struct.unpack_from("<8I", data, 52)
    header = TensorHeader(extents[:rank], code, bits, length, vendor, parameters)
    if length != member_size - HEADER_BYTES:
        raise bad(f"header announces {length} bytes of data, the file holds {member_size - HEADER_BYTES}")
    if vendor == 0:
        if code > _BOOL or not 1 <= bits <= 64:
            raise bad(f"item type {code} with {bits} bits")
        if (header.volume * bits + 7) // 8 != length:
            raise bad(f"{header.volume} items of {bits} bits do not fill {length} bytes")
    return header


def to_array(header: TensorHeader, data: bytes | memoryview, *, name: str = "") -> NDArray[np.generic]:
    """The items as a read-only little-endian array of `header.shape`.

    Raises:
        UnsupportedError: vendor item type, or a width without a numpy type.
    """
    dtype = header.dtype
    if dtype is None:
        raise UnsupportedError(
            f"item type {header.item_type} of vendor {header.vendor:#06x} with {header.bits} bits", tensor=name or None
        )
    if header.item_type == _BOOL and header.bits == 1:
        packed = np.frombuffer(data, np.uint8)
        items: NDArray[np.generic] = np.unpackbits(packed, count=header.volume).astype(np.bool_)
    else:
        items = np.frombuffer(data, dtype, header.volume)
    return items.reshape(header.shape)


def header_for(shape: tuple[int, ...], item_type: int, bits: int, *, name: str = "") -> TensorHeader:
    """Header of a tensor with these extents and items.

    Raises:
        InvalidArgumentError: rank above 8, an extent above 2**32 - 1, or 4 GiB or more of data.
    """
    length = (math.prod(shape) * bits + 7) // 8
    if len(shape) > MAX_RANK or any(extent >= 1 << 32 for extent in shape) or length >= 1 << 32:
        raise InvalidArgumentError(
            f"shape {shape} with {bits}-bit items does not fit an NNEF tensor file", tensor=name or None
        )
    return TensorHeader(tuple(shape), item_type, bits, length)


def item_of(dtype: np.dtype[Any], *, name: str = "") -> tuple[int, int]:
    """NNEF item type and bits for a numpy type.

    Raises:
        InvalidArgumentError: NNEF has no such item type (complex, bfloat16, strings).
    """
    codes = {"f": _FLOAT, "u": _UINT, "i": _INT, "b": _BOOL}
    code = codes.get(dtype.kind)
    bits = 1 if dtype.kind == "b" else dtype.itemsize * 8
    if code is None or (code, bits) not in _DTYPES:
        raise InvalidArgumentError(f"NNEF has no item type for {dtype}", tensor=name or None)
    return code, bits


def build_header(header: TensorHeader) -> bytes:
    """The 128 bytes of `header`."""
    extents = header.shape + (0,) * (MAX_RANK - len(header.shape))
    return struct.pack(
        "<2sBBII8IIHH8I44x",
        b"N\xef", 1, 0, header.data_length, len(header.shape), *extents,
        header.bits, header.item_type, header.vendor, *header.parameters,
    )  # fmt: skip


def build(array: NDArray[np.generic], *, item: tuple[int, int] | None = None, name: str = "") -> bytes:
    """A complete tensor file for `array`, with the item type and bits given or those of its numpy type.

    Raises:
        InvalidArgumentError: NNEF has no such item type, or the tensor is too large.
    """
    code, bits = item or item_of(array.dtype, name=name)
    header = header_for(array.shape, code, bits, name=name)
    if bits == 1:
        body = np.packbits(array.astype(np.uint8).reshape(-1)).tobytes()
    else:
        kind = np.dtype(_DTYPES[code, bits])
        body = np.ascontiguousarray(array).astype(kind, copy=False).tobytes()
    return build_header(header) + body

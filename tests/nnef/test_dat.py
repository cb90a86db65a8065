"""Tensor files: the same bytes as the Khronos package writes, and no header makes us allocate or crash."""

from __future__ import annotations

import struct
from pathlib import Path

import nnef
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnc_codec.errors import InvalidArgumentError, NNRError, UnsupportedError
from nnc_nnef import dat
from nnc_nnef.errors import TensorFileError

TYPES = [
    "float16",
    "float32",
    "float64",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "bool",
]


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("shape", [(), (1,), (13,), (2, 3, 5), (1, 2, 1, 3, 1, 2, 1, 2)])
def test_same_bytes_as_the_khronos_writer(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(1).integers(0, 2, shape).astype(name)
    data = dat.build(array)
    with (tmp_path / "w.dat").open("wb") as stream:
        nnef.write_tensor(stream, array)
    assert data == (tmp_path / "w.dat").read_bytes()
    header = dat.parse_header(data[:128], len(data))
    assert header.shape == shape
    values = dat.to_array(header, data[128:])
    assert values.dtype == array.dtype
    assert np.array_equal(values, array)


def test_big_endian_arrays_are_written_little_endian() -> None:
    assert dat.build(np.arange(6, dtype=">f4")) == dat.build(np.arange(6, dtype="<f4"))


def patched(offset: int, value: bytes, data: bytes | None = None) -> bytes:
    changed = bytearray(data or dat.build(np.zeros((2, 3), np.float32)))
    changed[offset : offset + len(value)] = value
    return bytes(changed)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0, b"XX"), (2, b"\x02"), (3, b"\x01"), (4, struct.pack("<I", (1 << 32) - 1)), (4, struct.pack("<I", 23)),
        (8, struct.pack("<I", 9)), (8, struct.pack("<I", 1 << 31)), (12, struct.pack("<8I", *[(1 << 32) - 1] * 8)),
        (44, struct.pack("<I", 0)), (44, struct.pack("<I", 3)), (44, struct.pack("<I", 1 << 31)),
        (48, struct.pack("<H", 6)),
    ],
)  # fmt: skip
def test_contradictory_headers_are_refused(offset: int, value: bytes) -> None:
    data = patched(offset, value)
    with pytest.raises(TensorFileError):
        dat.parse_header(data[:128], len(data))


def test_vendor_items_keep_their_header_readable() -> None:
    data = patched(50, struct.pack("<H", 0x5452))
    header = dat.parse_header(data[:128], len(data), name="w")
    assert header.vendor == 0x5452
    with pytest.raises(UnsupportedError):
        dat.to_array(header, data[128:])


def test_trailing_bytes_are_refused() -> None:
    data = dat.build(np.zeros(3, np.float32)) + b"x"
    with pytest.raises(TensorFileError):
        dat.parse_header(data[:128], len(data))


def test_unrepresentable_tensors_are_refused() -> None:
    with pytest.raises(InvalidArgumentError):
        dat.header_for((1,) * 9, 0, 32)
    with pytest.raises(InvalidArgumentError):
        dat.header_for((1 << 20, 1 << 10), 0, 32)
    with pytest.raises(InvalidArgumentError):
        dat.build(np.zeros(3, np.complex64))


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=0, max_size=160), st.integers(0, 1 << 40))
def test_no_header_does_anything_but_parse_or_raise(tail: bytes, size: int) -> None:
    for data in (tail, b"N\xef\x01\x00" + tail):
        try:
            header = dat.parse_header(data[:128], size)
            if header.data_length <= 1000:
                dat.to_array(header, bytes(header.data_length))
        except NNRError:
            pass

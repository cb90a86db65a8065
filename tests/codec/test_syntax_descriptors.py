"""The descriptors: worked values, and every way they can go wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnc_codec.errors import CorruptError, InvalidArgumentError, LimitExceededError, TruncatedError
from nnc_codec.syntax.bit_reader import MAX_PREFIX, BitReader
from nnc_codec.syntax.bit_writer import BitCounter, BitWriter

WORKED = [
    ("ue", 1, 0, "10"),
    ("ue", 1, 1, "11"),
    ("ue", 1, 2, "0100"),
    ("ue", 1, 3, "0101"),
    ("ue", 1, 5, "0111"),
    ("ue", 1, 6, "001000"),
    ("ue", 7, 3, "10000011"),
    ("ue", 7, 130, "0100000010"),
    ("ue", 4, 2, "10010"),
    ("ue", 0, 0, "1"),
    ("ie", 2, 0, "100"),
    ("ie", 2, 1, "101"),
    ("ie", 2, -1, "110"),
    ("u", 7, 5, "0000101"),
    ("i", 13, -1, "1" * 13),
    ("i", 13, -4096, "1" + "0" * 12),
    ("i", 1, -1, "1"),
]


def packed(bits: str) -> bytes:
    return int(bits + "0" * (-len(bits) % 8), 2).to_bytes((len(bits) + 7) // 8, "big")


def written(action: Callable[[BitWriter], object]) -> bytes:
    writer = BitWriter()
    action(writer)
    writer.put(0, -writer.position % 8)
    return writer.finish()


@pytest.mark.parametrize(("kind", "parameter", "value", "bits"), WORKED)
@pytest.mark.parametrize("lead", [0, 1, 5, 7])
def test_worked_values(kind: str, parameter: int, value: int, bits: str, lead: int) -> None:
    data = packed("1" * lead + bits)
    reader = BitReader(data)
    reader.u(lead, "lead")
    assert getattr(reader, kind)(parameter, "x") == value
    assert reader.position == lead + len(bits)

    def write(writer: BitWriter) -> None:
        writer.u(lead, (1 << lead) - 1, "lead")
        getattr(writer, kind)(parameter, value, "x")

    assert written(write) == data
    counter = BitCounter()
    write(counter)
    assert counter.position == lead + len(bits)


@given(st.integers(0, 15), st.integers(0, (1 << 40) - 1), st.integers(0, 7))
def test_exp_golomb_round_trip(order: int, value: int, lead: int) -> None:
    value = min(value, (1 << order) * ((1 << (MAX_PREFIX + 1)) - 1) - 1)

    def write(writer: BitWriter) -> None:
        writer.u(lead, 0, "lead")
        writer.ue(order, value, "x")
        writer.ie(order, -(value // 2), "y")

    reader = BitReader(written(write))
    reader.u(lead, "lead")
    assert reader.ue(order, "x") == value
    assert reader.ie(order, "y") == -(value // 2)


def test_a_float_is_little_endian_at_any_bit() -> None:
    data = written(lambda w: (w.u(3, 5, "lead"), w.flt(-1.5, "x")))
    reader = BitReader(data)
    assert (reader.u(3, "lead"), reader.flt("x")) == (5, -1.5)
    assert int.from_bytes(data, "big") >> 5 & 0xFFFFFFFF == int.from_bytes(struct.pack("<f", -1.5), "big")


def test_only_binary32_numbers_are_written() -> None:
    for value in (0.1, 1e300, "x", None):
        with pytest.raises(InvalidArgumentError, match="x: "):
            BitWriter().flt(value, "x")


def test_alignment_is_never_empty() -> None:
    assert written(lambda w: w.align("a")) == b"\x80"
    assert written(lambda w: (w.u(7, 0, "x"), w.align("a"))) == b"\x01"
    reader = BitReader(b"\x80")
    reader.align("a")
    assert (reader.position, reader.warnings) == (8, [])
    with pytest.raises(TruncatedError):
        reader.align("a")


def test_other_alignment_bits_are_accepted_and_reported() -> None:
    reader = BitReader(b"\xff")
    reader.align("header_end")
    assert reader.warnings == ["bit 0: header_end: alignment bits 11111111"]


def test_strings() -> None:
    data = written(lambda w: (w.st(10, "né", "a"), w.st(10, "", "b")))
    assert data == b"n\xc3\xa9\0\0"
    reader = BitReader(data)
    assert (reader.st(10, "a"), reader.st(10, "b")) == ("né", "")


@pytest.mark.parametrize(
    ("data", "limit", "error", "message"),
    [
        (b"abc", 10, TruncatedError, "ends too early"),
        (b"abcdef\0", 3, LimitExceededError, "longer than 3 bytes"),
        (b"\xff\0", 10, CorruptError, "not UTF-8"),
        (b"\xed\xa0\x80\0", 10, CorruptError, "not UTF-8"),
        (b"\xc0\x80\0", 10, CorruptError, "not UTF-8"),
    ],
)
def test_bad_strings(data: bytes, limit: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        BitReader(data).st(limit, "name")


@pytest.mark.parametrize("value", ["a\0b", "\ud800", 7, None, "longer than ten"])
def test_strings_that_cannot_be_written(value: object) -> None:
    with pytest.raises((InvalidArgumentError, LimitExceededError)):
        BitWriter().st(10, value, "name")


def test_strings_start_on_a_byte() -> None:
    reader = BitReader(b"\0\0")
    reader.u(1, "x")
    with pytest.raises(CorruptError, match="byte boundary"):
        reader.st(10, "name")
    writer = BitWriter()
    writer.u(1, 0, "x")
    with pytest.raises(InvalidArgumentError, match="byte boundary"):
        writer.st(10, "a", "name")


def test_the_exp_golomb_prefix_is_capped() -> None:
    longest = packed("0" * MAX_PREFIX + "1" + "0" * MAX_PREFIX)
    assert BitReader(longest).ue(0, "x") == (1 << MAX_PREFIX) - 1
    with pytest.raises(CorruptError, match="leading zeros"):
        BitReader(packed("0" * (MAX_PREFIX + 1) + "1" + "0" * 40)).ue(0, "x")
    with pytest.raises(InvalidArgumentError, match="outside the Exp-Golomb code"):
        BitWriter().ue(0, (1 << (MAX_PREFIX + 1)) - 1, "x")
    with pytest.raises(InvalidArgumentError):
        BitWriter().ue(0, -1, "x")


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0", b"\x01"])
def test_an_exp_golomb_code_may_not_leave_the_unit(data: bytes) -> None:
    with pytest.raises(TruncatedError):
        BitReader(data + b"\xff" * 20, 0, len(data)).ue(1, "x")


@given(st.binary(max_size=8), st.integers(0, 8), st.integers(0, 90))
def test_reading_never_leaves_the_unit(data: bytes, start: int, width: int) -> None:
    start = min(start, len(data))
    reader = BitReader(data + b"\xff" * 20, start, len(data))
    if width > 8 * (len(data) - start):
        with pytest.raises(TruncatedError) as caught:
            reader.u(width, "x")
        assert caught.value.bit_offset == 8 * start
    else:
        expected = int.from_bytes(data[start:], "big") >> (8 * (len(data) - start) - width)
        assert reader.u(width, "x") == expected


def test_bit_strings() -> None:
    digest = bytes(range(32))
    data = written(lambda w: (w.u(3, 1, "lead"), w.bits(256, digest, "hash"), w.bits(3, b"\xa0", "mask")))
    reader = BitReader(data)
    reader.u(3, "lead")
    assert (reader.bits(256, "hash"), reader.bits(3, "mask")) == (digest, b"\xa0")
    for wrong in (digest[:-1], "text", None):
        with pytest.raises(InvalidArgumentError, match="must be 32 bytes"):
            BitWriter().bits(256, wrong, "hash")
    with pytest.raises(InvalidArgumentError, match="beyond the 3"):
        BitWriter().bits(3, b"\xf0", "mask")


def test_counts_are_checked_before_anything_is_allocated() -> None:
    with pytest.raises(TruncatedError):
        BitReader(b"\xff" * 4).entries(1 << 60, 1, "x")
    with pytest.raises(CorruptError, match="negative"):
        BitReader(b"\xff" * 4).entries(-1, 1, "x")


@given(st.lists(st.tuples(st.integers(0, 70), st.integers(0, (1 << 70) - 1)), max_size=80))
def test_long_writes(fields: list[tuple[int, int]]) -> None:
    fields = [(width, value & ((1 << width) - 1)) for width, value in fields]
    data = written(lambda w: [w.u(width, value, "x") for width, value in fields])
    reader = BitReader(data)
    assert [reader.u(width, "x") for width, _ in fields] == [value for _, value in fields]

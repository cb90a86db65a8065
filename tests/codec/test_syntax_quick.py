"""The quick reader of headers and the careful one agree: on every value, and on everything that is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syntax_streams import DATA

from nnc_codec.errors import NNRError
from nnc_codec.syntax import Context, Unit, scan_units, unit
from nnc_codec.syntax.bit_reader import BitReader
from nnc_codec.syntax.codec import reader

STREAMS = {
    path.stem: path.read_bytes() for path in sorted(DATA.glob("vectors/*.nnr")) + sorted(DATA.glob("examples/*"))
}
Outcome = tuple[list[Unit], tuple[str, ...] | None]


def carefully(data: bytes, context: Context) -> Outcome:
    units: list[Unit] = []
    offset = 0
    try:
        while offset < len(data):
            bits = BitReader(data, offset, unit=len(units))
            units.append(unit._read_unit(bits, offset, context, len(units), reader))
            context = units[-1].context_after(context)
            offset = units[-1].end
    except NNRError as error:
        return units, (error.code, str(error))
    return units, None


def quickly(data: bytes | memoryview, context: Context) -> Outcome:
    units: list[Unit] = []
    try:
        units.extend(unit for unit, _ in scan_units(data, context))
    except NNRError as error:
        return units, (error.code, str(error))
    return units, None


def assert_same(data: bytes, context: Context) -> None:
    expected = carefully(data, context)
    assert quickly(data, context) == expected
    assert quickly(memoryview(bytearray(data)), context) == expected


@pytest.mark.parametrize("name", STREAMS)
def test_whole_streams(name: str) -> None:
    assert_same(STREAMS[name], Context(strict=False))


@pytest.mark.parametrize("name", ["A", "C1", "codebook1_scan2", "qd_qp-20"])
@pytest.mark.parametrize("strict", [True, False])
def test_every_flipped_bit_of_the_headers(name: str, strict: bool) -> None:
    data, context = STREAMS[name], Context(strict=strict)
    header_bytes = max(unit.payload_offset for unit, _ in scan_units(data, context))
    for bit in range(8 * header_bytes):
        damaged = bytearray(data)
        damaged[bit >> 3] ^= 0x80 >> (bit & 7)
        expected = carefully(bytes(damaged), context)
        assert quickly(bytes(damaged), context) == expected


@pytest.mark.parametrize("name", ["A", "C1", "codebook1_scan2"])
def test_every_truncation(name: str) -> None:
    data = STREAMS[name]
    for size in range(1, len(data)):
        assert quickly(data[:size], Context()) == carefully(data[:size], Context())


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(STREAMS)),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from([3, 1 << 16]),
)
def test_random_damage(name: str, changes: list[tuple[int, int]], strict: bool, max_name_bytes: int) -> None:
    damaged = bytearray(STREAMS[name])
    for position, value in changes:
        damaged[position % len(damaged)] = value
    assert_same(bytes(damaged), Context(strict=strict, max_name_bytes=max_name_bytes))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 6), st.booleans())
def test_random_units(body: bytes, unit_type: int, strict: bool) -> None:
    data = (3 + len(body)).to_bytes(2, "big") + bytes([unit_type << 2 | 2]) + body
    assert_same(STREAMS["A"][:18] + data, Context(strict=strict))

"""Damaged bitstreams: a typed error that says where, or a legal reading. Never anything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnc_codec.errors import CorruptError, LimitExceededError, NNRError, TruncatedError, UnsupportedError
from nnc_codec.syntax import Context, scan_units

DATA = Path(__file__).parents[1] / "data"
TYPED = (CorruptError, UnsupportedError, LimitExceededError)
EXAMPLES = {name: (DATA / "examples" / f"{name}.nnc").read_bytes() for name in ("A", "B", "C0", "C1")}


def outcome(data: bytes, *, strict: bool = True) -> NNRError | None:
    try:
        for unit, _ in scan_units(data, Context(strict=strict)):
            assert unit.offset <= unit.payload_offset <= unit.end <= len(data)
    except TYPED as error:
        assert error.bit_offset is None or 0 <= error.bit_offset <= 8 * len(data)
        return error
    return None


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_truncation_is_noticed(name: str) -> None:
    data = EXAMPLES[name]
    edges = {unit.end for unit, _ in scan_units(data)}
    for size in range(len(data)):
        error = outcome(data[:size])
        if size in edges:
            assert error is None
        else:
            assert isinstance(error, TruncatedError if size else CorruptError)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_bit_flip_is_typed(name: str, strict: bool) -> None:
    data = EXAMPLES[name]
    header_bytes = max(unit.payload_offset for unit, _ in scan_units(data))
    for bit in range(8 * header_bytes):
        damaged = bytearray(data)
        damaged[bit >> 3] ^= 0x80 >> (bit & 7)
        outcome(bytes(damaged), strict=strict)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(EXAMPLES)),
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), min_size=1, max_size=6),
    st.booleans(),
)
def test_random_damage_is_typed(name: str, changes: list[tuple[int, int]], strict: bool) -> None:
    damaged = bytearray(EXAMPLES[name])
    for position, value in changes:
        damaged[position % len(damaged)] = value
    outcome(bytes(damaged), strict=strict)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 6), st.booleans())
def test_random_units_are_typed(body: bytes, unit_type: int, strict: bool) -> None:
    unit = (3 + len(body)).to_bytes(2, "big") + bytes([unit_type << 2 | 2]) + body
    outcome(EXAMPLES["A"][:18] + unit, strict=strict)


def bits(text: str) -> bytes:
    text = text.replace(" ", "")
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


@pytest.mark.parametrize(
    ("header", "element"),
    [
        # count_topology_elements_minus2 announces a million names in a unit of a few bytes.
        (f"00011 1 0 1 {'0' * 13}1{'1' * 20}", "count_topology_elements_minus2"),
        (f"00011 1 0 1 {'0' * 10}1{'0' * 17} 10000000", "topology_elem_id_list"),
        # A codebook of 2**19 entries.
        (f"00001 0 0 1 {'0' * 8} 0 1 0000 {'0' * 17}1{'0' * 19} 100 10000000 1", "codebook_delta_left"),
        # Entry points for 2**20 rows.
        (
            f"00001 0 0 1 {'0' * 8} 0 0 0 1 0 0000 0100 {'0' * 12}1{'1' * 19} 10000001 10 0001",
            "entry_points",
        ),
    ],
)
def test_announced_counts_cost_nothing(header: str, element: str) -> None:
    body = bytes([5 << 2 | 2]) + bits(header) + b"\xff" * 8
    data = EXAMPLES["A"][:18] + (2 + len(body)).to_bytes(2, "big") + body
    with pytest.raises(TruncatedError if "minus2" not in element else LimitExceededError, match=element):
        list(scan_units(data))


def test_there_is_a_limit_to_entry_points() -> None:
    header = bits(f"00001 0 0 1 {'0' * 8} 0 0 0 1 0 0000 0100 {'0' * 16}1{'1' * 23} 10000001 10 0001")
    body = bytes([5 << 2 | 2]) + header + b"\xff" * 8
    data = EXAMPLES["A"][:18] + (2 + len(body)).to_bytes(2, "big") + body
    with pytest.raises(LimitExceededError, match="too many entry points"):
        list(scan_units(data))

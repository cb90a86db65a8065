"""Extract, reorder, collect, other topologies and ids: units move, payloads do not change."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnr_vectors import decoded, is_sequence, manifest, same_bytes, stream

import nnc_codec
from nnc_codec import CorruptError, EncodeParams, InvalidArgumentError, LimitExceededError, Limits, UnsupportedError
from nnc_codec.surgery import (
    Topology,
    collect,
    extract,
    model_parameter_set,
    reorder,
    topologies,
    with_base_model_id,
    with_topology,
)
from nnc_codec.syntax.enums import TopologyCompressionFormat as Compression
from nnc_codec.syntax.enums import TopologyStorageFormat as Storage

NAMES = [name for name in manifest() if not is_sequence(name)]
LETTERS = "abcdef"


def coded(*names: str, **options: object) -> bytes:
    generator = np.random.default_rng(9)
    arrays = {name: generator.standard_normal((5, 4)).astype(np.float32) for name in names}
    return nnc_codec.encode(arrays, EncodeParams(**options))


def data_units(data: bytes) -> dict[str, bytes]:
    bitstream = nnc_codec.open(data)
    return {tensor.name: bitstream.unit_bytes(tensor.unit) for tensor in bitstream.values()}


@given(st.lists(st.sampled_from(LETTERS), unique=True))
def test_extracting_keeps_units_and_order(names: list[str]) -> None:
    data = coded(*LETTERS)
    part = extract(nnc_codec.open(data), names)
    assert list(nnc_codec.open(part)) == sorted(names)
    units = data_units(data)
    assert data_units(part) == {name: units[name] for name in sorted(names)}


@given(st.permutations(LETTERS), st.integers(0, len(LETTERS)))
def test_reordering_moves_units_only(names: list[str], count: int) -> None:
    data = coded(*LETTERS)
    moved = reorder(nnc_codec.open(data), names[:count])
    assert list(nnc_codec.open(moved)) == names[:count] + sorted(names[count:])
    assert data_units(moved) == data_units(data)
    assert reorder(nnc_codec.open(moved), LETTERS) == data


@pytest.mark.parametrize("name", NAMES)
def test_extract_and_reorder_on_foreign_streams(name: str) -> None:
    data = stream(name)
    bitstream = nnc_codec.open(data)
    assert extract(bitstream, bitstream) == data
    assert reorder(bitstream, []) == data
    backwards = reorder(bitstream, reversed(list(bitstream)))
    same_bytes(dict(sorted(nnc_codec.decode(backwards).items())), dict(sorted(decoded(name).items())))
    first = next(iter(bitstream))
    members = bitstream[first].unit_members
    part = nnc_codec.decode(extract(bitstream, [first]))
    same_bytes(part, {key: value for key, value in decoded(name).items() if key in members})


@pytest.mark.parametrize("edit", [extract, reorder])
def test_unknown_names_are_refused(edit: object) -> None:
    with pytest.raises(InvalidArgumentError, match="'z'"):
        edit(nnc_codec.open(coded("a")), ["z"])


topology_data = st.binary(max_size=400)
storage_formats = st.sampled_from(list(Storage)[:5])
compressions = st.sampled_from(list(Compression))


@settings(deadline=None)
@given(st.lists(st.tuples(storage_formats, topology_data, compressions), max_size=3))
def test_topologies_come_back(carried: list[tuple[int, bytes, int]]) -> None:
    data = coded("a", "b")
    changed = with_topology(nnc_codec.open(data), *(Topology(*item) for item in carried))
    bitstream = nnc_codec.open(changed)
    assert [tuple(item) for item in topologies(bitstream)] == [tuple(item) for item in carried]
    assert data_units(changed) == data_units(data)
    mps = model_parameter_set(bitstream)
    assert mps is not None and mps.topology_carriage_flag == bool(carried)
    empty = Topology(Storage.NNR_TPL_UNREC, b"\0")
    assert with_topology(bitstream, empty) == data


def test_large_topologies_take_the_long_form() -> None:
    raw = np.random.default_rng(0).bytes(100_000)
    changed = with_topology(nnc_codec.open(coded("a")), Topology(Storage.NNR_TPL_ONNX, raw))
    (found,) = topologies(nnc_codec.open(changed))
    assert found.data == raw


def deflated(data: bytes) -> bytes:
    """A topology unit that says deflate and holds `data` as they are."""
    raw = with_topology(nnc_codec.open(coded("a")), Topology(Storage.NNR_TPL_ONNX, data))
    where = nnc_codec.open(raw).units[2].payload_offset
    return raw[: where - 1] + b"\x01" + raw[where:]


@pytest.mark.parametrize("wbits", [zlib.MAX_WBITS, -zlib.MAX_WBITS])
@pytest.mark.parametrize("tail", [b"", b"\0"])
def test_both_wrappings_of_deflate_are_read(wbits: int, tail: bytes) -> None:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    packed = squeezer.compress(b"graph " * 1000) + squeezer.flush()
    (found,) = topologies(nnc_codec.open(deflated(packed + tail)))
    assert found.data == b"graph " * 1000


@pytest.mark.parametrize(
    "data", [zlib.compress(b"x" * 99)[:-3], zlib.compress(b"x") + b"ab", b"\x78\x9c\xff\xff", b"\xff" * 9]
)
def test_damaged_deflate_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptError):
        list(topologies(nnc_codec.open(deflated(data))))


def test_inflating_stops_at_the_limit() -> None:
    bomb = deflated(zlib.compress(bytes(50_000_000)))
    with pytest.raises(LimitExceededError):
        list(topologies(nnc_codec.open(bomb), limits=Limits(max_unit_bytes=100_000)))


def test_only_known_topology_formats_are_written() -> None:
    bitstream = nnc_codec.open(coded("a"))
    with pytest.raises(InvalidArgumentError, match="describes no model"):
        with_topology(bitstream, Topology(Storage.NNR_TPL_REFLIST, b""))
    with pytest.raises(InvalidArgumentError, match="compression"):
        with_topology(bitstream, Topology(Storage.NNR_TPL_ONNX, b"", 7))


names = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=80)


@given(names)
def test_base_model_id_there_and_back(base: str) -> None:
    data = coded("a", "b")
    named = with_base_model_id(nnc_codec.open(data), base)
    bitstream = nnc_codec.open(named)
    mps = model_parameter_set(bitstream)
    assert mps is not None and mps.base_model_id == base
    assert data_units(named) == data_units(data)
    assert with_base_model_id(bitstream, None) == data


def test_base_model_id_needs_edition_2() -> None:
    data = bytearray(coded("a"))
    data[3] = 0
    with pytest.raises(UnsupportedError):
        with_base_model_id(nnc_codec.open(data[:12]), "x")
    with pytest.raises(InvalidArgumentError):
        with_base_model_id(nnc_codec.open(coded("a")), "a\0b")


def test_collecting_numbers_and_names_the_parts() -> None:
    parts = {f"w{i}": coded("x", topology=False) for i in range(40)}
    bitstream = nnc_codec.open(collect(parts))
    assert list(bitstream) == list(parts)
    headers = [unit.data_unit for unit in bitstream.units if unit.data_unit is not None]
    assert [header.parameter_id for header in headers] == list(range(40))
    expected = nnc_codec.decode(coded("x"))["x"]
    assert all(tensor.decode().tobytes() == expected.tobytes() for tensor in bitstream.values())
    with pytest.raises(InvalidArgumentError, match="2 tensors"):
        collect({"a": coded("a", "b")})
    with pytest.raises(UnsupportedError, match="parameter sets"):
        collect({"a": coded("a"), "b": coded("b", qp_density=3)})

"""Split, merge, relabel: bytes are moved, payloads are not decoded."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnr_vectors import decoded, is_sequence, manifest, same_bytes, stream

import nnc_codec
from nnc_codec import EncodeParams, InvalidArgumentError, UnsupportedError

NAMES = [name for name in manifest() if not is_sequence(name)]


def coded(*names: str, **options: object) -> bytes:
    generator = np.random.default_rng(9)
    arrays = {name: generator.standard_normal((9, 7)).astype(np.float32) for name in names}
    return nnc_codec.encode(arrays, EncodeParams(**options))


@pytest.mark.parametrize("name", NAMES)
def test_split_and_merge_restore_the_stream(name: str) -> None:
    data = stream(name)
    parts = nnc_codec.open(data).split()
    together: dict[str, np.ndarray] = {}
    for first, part in parts.items():
        tensors = nnc_codec.decode(part)
        assert first in tensors
        together |= tensors
    same_bytes(together, decoded(name))
    merged = nnc_codec.merge(list(parts.values()))
    same_bytes(nnc_codec.decode(merged), decoded(name))
    units = [u for u in nnc_codec.open(data).units if u.type_name != "NNR_TPL"]
    assert merged == b"".join(data[u.offset : u.end] for u in units)


@pytest.mark.parametrize("name", NAMES)
def test_relabel_there_and_back(name: str) -> None:
    data = stream(name)
    there = {old: f"layer.{i}.été" for i, old in enumerate(nnc_codec.open(data))}
    renamed = nnc_codec.open(data).relabel(there)
    expected = {there[old]: value for old, value in decoded(name).items()}
    same_bytes(nnc_codec.decode(renamed), expected)
    assert nnc_codec.open(renamed).relabel({new: old for old, new in there.items()}) == data


def test_relabel_nothing_changes_nothing() -> None:
    data = coded("a", "b")
    assert nnc_codec.open(data).relabel({}) == data
    assert nnc_codec.open(data).relabel({"a": "a"}) == data


def test_names_can_be_swapped() -> None:
    data = coded("a", "b")
    before, after = (
        nnc_codec.decode(data),
        nnc_codec.decode(nnc_codec.open(data).relabel({"a": "b", "b": "a"})),
    )
    assert list(after) == ["b", "a"]
    assert after["a"].tobytes() == before["b"].tobytes()


@pytest.mark.parametrize("names", [{"c": "d"}, {"a": "b"}, {"a": ""}, {"a": "x\0y"}])
def test_impossible_names_are_refused(names: dict[str, str]) -> None:
    with pytest.raises(InvalidArgumentError):
        nnc_codec.open(coded("a", "b")).relabel(names)


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1, max_size=3000).filter(lambda s: "\0" not in s))
def test_a_long_name_may_need_the_long_form_of_the_size(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    data = nnc_codec.open(coded("a")).relabel({"a": name * 12})
    assert list(nnc_codec.decode(data)) == [name * 12] if len(data) < 1 << 16 else True


def test_merged_streams_must_agree() -> None:
    with pytest.raises(InvalidArgumentError, match="nothing"):
        nnc_codec.merge([])
    with pytest.raises(InvalidArgumentError, match="'a'"):
        nnc_codec.merge([coded("a"), coded("b", "a")])
    with pytest.raises(UnsupportedError, match="parameter sets"):
        nnc_codec.merge([coded("a"), coded("b", qp_density=3)])


def test_merging_one_tensor_streams_is_encoding_together() -> None:
    options = {"topology": False, "node_id": False}
    together = coded("a", "b", "c", **options)
    assert nnc_codec.merge(list(nnc_codec.open(together).split().values())) == together


@pytest.mark.parametrize("name", [*NAMES, *[n for n in manifest() if is_sequence(n)]])
def test_to_json_is_json_and_counts_every_byte(name: str) -> None:
    bitstream = nnc_codec.open(stream(name))
    listed = json.loads(json.dumps(bitstream.to_json()))
    assert sum(unit["nnr_unit_size"] for unit in listed["units"]) == bitstream.nbytes
    assert [unit["nnr_unit_header"]["nnr_unit_type"] for unit in listed["units"][:2]] == [0, 1]


def test_a_bitstream_is_a_mapping() -> None:
    bitstream = nnc_codec.open(coded("a", "b"))
    assert list(bitstream) == ["a", "b"]
    assert len(bitstream) == 2
    assert "a" in bitstream and "c" not in bitstream
    with pytest.raises(KeyError):
        bitstream["c"]
    assert "'a'" in repr(bitstream["a"]) and "2 tensors" in repr(bitstream)
    assert bitstream["a"].coded_nbytes < bitstream.nbytes
    assert bitstream["a"].size == 63


def test_blocks_say_what_they_hold() -> None:
    bitstream = nnc_codec.open(stream("block_plain_scan0_u"))
    roles = {tensor.name: tensor.role for tensor in bitstream.values()}
    assert roles == {
        "c.weight_scaling": "local_scaling",
        "c.bias": "bias",
        "bn.bias": "bn_beta",
        "bn.weight": "bn_gamma",
        "bn.running_mean": "bn_mean",
        "bn.running_var": "bn_var",
        "c.weight": "weight",
        "f.bias": "bias",
        "f.weight": "weight",
    }
    assert bitstream["c.weight"].unit_members == tuple(roles)[:7]
    assert {bitstream["c.bias"].qp, bitstream["f.bias"].qp} == {-75}
    assert bitstream["c.weight"].shape == (20, 3, 3, 3)

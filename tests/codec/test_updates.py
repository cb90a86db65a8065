"""Sequences of updates: each stream leans on the integers of the ones before it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from nnr_vectors import decoded, encode_params, is_sequence, manifest, same_bytes, source, stream

import nnc_codec
from nnc_codec import CorruptError, EncodeParams, NNRError, UnsupportedError, UpdateState

FIRST = [name for name, entry in manifest().items() if is_sequence(name) and "after" not in entry]


def chain(first: str) -> list[str]:
    """The streams of a sequence in order."""
    names = [first]
    while True:
        following = [n for n, entry in manifest().items() if entry.get("after") == names[-1]]
        if not following:
            return names
        names += following


def state(first: str) -> UpdateState:
    options = manifest()[first]["options"]
    return UpdateState(
        history=options["history"],
        temporal_context=options["tca"],
        compress_differences=options["compress_differences"],
    )


def nodes(state: UpdateState) -> dict[str, Any]:
    return {
        name: (node.parameter_id, node.put_node_depth, node.integers.tobytes(), node.history.tobytes())
        for name, node in state.nodes.items()
    }


def test_all_sequences_are_covered() -> None:
    assert sorted(name for first in FIRST for name in chain(first)) == sorted(filter(is_sequence, manifest()))
    assert {len(chain(first)) for first in FIRST} == {4}


@pytest.mark.parametrize("first", FIRST)
def test_sequence_decodes_bit_exactly(first: str) -> None:
    base = state(first)
    for name in chain(first):
        same_bytes(nnc_codec.decode(stream(name), base=base), decoded(name))


@pytest.mark.parametrize("first", FIRST)
def test_sequence_encodes_to_the_same_bytes(first: str) -> None:
    base, other = state(first), state(first)
    for name in chain(first):
        data = nnc_codec.encode(source(name), encode_params(manifest()[name]["options"]), base=base)
        assert data == stream(name)
        nnc_codec.decode(data, base=other)
        assert nodes(base) == nodes(other)


@pytest.mark.parametrize("first", [name for name in FIRST if manifest()[name]["options"]["tca"]])
def test_a_missing_link_is_an_error(first: str) -> None:
    names = chain(first)
    for skipped in range(1, 3):
        base = state(first)
        for name in names[:skipped]:
            nnc_codec.decode(stream(name), base=base)
        with pytest.raises((CorruptError, UnsupportedError)):
            nnc_codec.decode(stream(names[skipped + 1]), base=base)


@pytest.mark.parametrize("first", FIRST)
def test_a_failed_update_leaves_the_state_alone(first: str) -> None:
    base = state(first)
    names = chain(first)
    nnc_codec.decode(stream(names[0]), base=base)
    before = nodes(copy.deepcopy(base))
    damaged = stream(names[1])[:-1]
    with pytest.raises(NNRError):
        nnc_codec.decode(damaged, base=base)
    with pytest.raises(NNRError):
        # The last unit's codeword does not end where it should; the units before are whole.
        nnc_codec.decode(stream(names[1])[:-1] + b"\0", base=base)
    assert nodes(base) == before
    same_bytes(nnc_codec.decode(stream(names[1]), base=base), decoded(names[1]))


def test_another_device_is_refused() -> None:
    tensors = {"w": np.ones((4, 4), np.float32)}
    encoder, decoder = UpdateState(temporal_context=True), UpdateState(temporal_context=True)
    nnc_codec.decode(nnc_codec.encode(tensors, EncodeParams(device_id=3), base=encoder), base=decoder)
    data = nnc_codec.encode(tensors, EncodeParams(device_id=4), base=encoder)
    with pytest.raises(CorruptError, match="device_id"):
        nnc_codec.decode(data, base=decoder)


def test_an_update_of_another_shape_is_refused() -> None:
    encoder, decoder = UpdateState(temporal_context=True), UpdateState(temporal_context=True)
    params = EncodeParams()
    nnc_codec.decode(nnc_codec.encode({"w": np.ones((4, 4), np.float32)}, params, base=encoder), base=decoder)
    with pytest.raises(NNRError):
        data = nnc_codec.encode({"w": np.ones((4, 5), np.float32)}, params, base=encoder)
        nnc_codec.decode(data, base=decoder)


def test_updates_that_are_zero_are_left_out() -> None:
    encoder, decoder = UpdateState(), UpdateState()
    tensors = {
        "a": np.ones((4, 4), np.float32),
        "b": np.zeros((4, 4), np.float32),
        "n": np.zeros(3, np.int32),
    }
    data = nnc_codec.encode(tensors, base=encoder)
    assert list(nnc_codec.decode(data, base=decoder)) == ["a"]
    assert list(encoder.nodes) == list(decoder.nodes) == ["a"]


@pytest.mark.parametrize("method", ["dq", "uniform", "codebook"])
@pytest.mark.parametrize("scan_order", [0, 1])
@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("temporal_context", [False, True])
def test_ten_updates_round_trip(method: Any, scan_order: int, history: bool, temporal_context: bool) -> None:
    generator = np.random.default_rng(8)
    options = EncodeParams(method=method, scan_order=scan_order, qp=-16)
    encoder, decoder = (UpdateState(history=history, temporal_context=temporal_context) for _ in range(2))
    shape = (40, 24)
    touched = generator.random(shape) < 0.2
    for _ in range(10):
        update = {
            "w": (generator.standard_normal(shape) * touched).astype(np.float32),
            "b": generator.standard_normal(40).astype(np.float32),
            "n": generator.integers(-3, 4, (5, 5)),
        }
        data = nnc_codec.encode(update, options, base=encoder)
        values = nnc_codec.decode(data, base=decoder)
        assert nodes(encoder) == nodes(decoder)
        reach = 2.0**-4 * (0.5 if method != "dq" else 2)
        assert np.abs(values["w"] - update["w"]).max() <= reach * (1 + 1e-6)
        assert (values["n"] == update["n"]).all()


def test_context_of_the_past_makes_updates_smaller() -> None:
    """What the tools are for: the same positions change again and again."""
    generator = np.random.default_rng(8)
    touched = generator.random((100, 80)) < 0.1
    sizes = {}
    for tools in (False, True):
        state = UpdateState(history=tools, temporal_context=tools)
        rng = np.random.default_rng(4)
        updates = [{"w": (rng.standard_normal((100, 80)) * touched).astype(np.float32)} for _ in range(4)]
        sizes[tools] = [len(nnc_codec.encode(u, EncodeParams(qp=-8), base=state)) for u in updates]
    assert sizes[True][0] == sizes[False][0]
    assert sum(sizes[True][1:]) < 0.95 * sum(sizes[False][1:])

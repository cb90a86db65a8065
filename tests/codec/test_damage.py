"""Damaged streams: an error of ours or a result, never another exception, never a crash, never much memory."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnr_vectors import manifest, stream

import nnc_codec
from nnc_codec import EncodeParams, Limits, NNRError, UpdateState
from nnc_codec.params import Block

LIMITS = Limits(max_elements=1 << 20, max_total_elements=1 << 21)
KINDS = ("uniform", "dq", "codebook", "integers", "raw", "block", "scan 2", "rows", "update", "edition 1")


@cache
def small(kind: str) -> bytes:
    """A stream of one unit, 60 to 250 bytes long."""
    generator = np.random.default_rng(11)
    array = generator.standard_normal((9, 11)).astype(np.float32)
    options = EncodeParams(qp=-6, nonweight_qp=-6, topology=False)
    replace = {"qp": -6, "nonweight_qp": -6, "topology": False}
    if kind == "integers":
        return nnc_codec.encode({"n": generator.integers(-9, 10, (9, 11))}, options)
    if kind == "block":
        block = Block(weight="w", bias="b", local_scaling="s")
        tensors = {"w": array, "b": array[:, 0], "s": array[:, 1]}
        return nnc_codec.encode(tensors, EncodeParams(**replace, blocks=(block,)))
    if kind == "scan 2":
        tall = generator.standard_normal((40, 5)).astype(np.float32)
        return nnc_codec.encode({"w": tall}, EncodeParams(**replace, scan_order=2))
    if kind == "rows":
        array[::2] = 0
        return nnc_codec.encode({"w": array}, EncodeParams(**replace, row_skipping=True))
    if kind == "update":
        return nnc_codec.encode({"w": array}, options, base=UpdateState())
    if kind == "edition 1":
        # Without node ids the header is the same in both editions but for the start unit, two bits of which count.
        return stream("unary1_u")[:3] + b"\0" + stream("unary1_u")[4:200]
    methods = {"uniform": "uniform", "dq": "dq", "codebook": "codebook", "raw": "raw"}
    return nnc_codec.encode({"w": array}, EncodeParams(**replace, method=methods[kind]))


def attempt(data: bytes) -> None:
    """Every way in. Whatever happens, it is a result or an NNRError with a code, a message, a place in the stream."""
    shape, dtype = (9, 11), np.dtype(np.float32)
    try:
        bitstream = nnc_codec.open(data, limits=LIMITS)
        bitstream.to_json()
        for tensor in bitstream.values():
            shape, dtype = tensor.shape, tensor.dtype
            assert tensor.size <= LIMITS.max_elements
            attempt_one(lambda t=tensor: t.qp)
            attempt_one(lambda t=tensor: t.decode_rows(0, 1))
        attempt_one(bitstream.split)
    except NNRError as error:
        check(error, data)
    attempt_one(lambda: nnc_codec.decode(data, limits=LIMITS), data)
    attempt_one(lambda: nnc_codec.decode(data, limits=LIMITS, base=UpdateState(history=True)), data)
    attempt_one(lambda: nnc_codec.decode_single(data, dtype, shape, limits=LIMITS), data)


def attempt_one(action: Callable[[], object], data: bytes = b"") -> None:
    try:
        action()
    except NNRError as error:
        check(error, data)


def check(error: NNRError, data: bytes) -> None:
    assert error.code.startswith("NNC-E1") and error.message
    assert error.bit_offset is None or not data or 0 <= error.bit_offset <= 8 * len(data) + 64


def mutations(data: bytes) -> Iterator[bytes]:
    for end in range(len(data)):
        yield data[:end]
    for position in range(8 * len(data)):
        changed = bytearray(data)
        changed[position >> 3] ^= 0x80 >> (position & 7)
        yield bytes(changed)


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_and_every_flipped_bit(kind: str) -> None:
    data = small(kind)
    assert len(data) < 500
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for changed in mutations(data):
        attempt(changed)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "edition 1"])
def test_every_truncation_is_an_error(kind: str) -> None:
    data = small(kind)
    ends = {unit.end for unit in nnc_codec.open(data).units}
    for end in range(len(data)):
        if end in ends:  # a shorter but whole bitstream
            assert nnc_codec.decode(data[:end]) == {}
            continue
        with pytest.raises(NNRError):
            nnc_codec.decode(data[:end])


@pytest.mark.parametrize("kind", KINDS[:3])
def test_anything_behind_is_an_error(kind: str) -> None:
    for tail in (b"\0", b"\x80", b"\0\x04", bytes(100)):
        with pytest.raises(NNRError):
            nnc_codec.decode(small(kind) + tail)
        with pytest.raises(NNRError):
            nnc_codec.decode_single(small(kind) + tail, np.float32, (9, 11))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300))
def test_noise(data: bytes) -> None:
    attempt(data)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(sorted(manifest())), st.data())
def test_several_changes_at_once(name: str, data: st.DataObject) -> None:
    changed = bytearray(stream(name))
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(changed) - 1))
        what = data.draw(st.sampled_from(("set", "insert", "delete", "copy")))
        if what == "set":
            changed[position] = data.draw(st.integers(0, 255))
        elif what == "insert":
            changed[position:position] = data.draw(st.binary(max_size=8))
        elif what == "delete" and len(changed) > 20:
            del changed[position : position + data.draw(st.integers(1, 8))]
        else:
            other = data.draw(st.integers(0, len(changed) - 1))
            changed[position : position + 8] = changed[other : other + 8]
    attempt(bytes(changed))


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(KINDS), st.binary(min_size=2, max_size=200))
def test_a_payload_of_noise_behind_an_honest_header(kind: str, noise: bytes) -> None:
    data = small(kind)
    try:
        unit = nnc_codec.open(data).units[-1]
    except NNRError:
        return
    size = unit.payload_offset - unit.offset + len(noise)
    head = data[: unit.offset] + size.to_bytes(2, "big") + data[unit.offset + 2 : unit.payload_offset]
    attempt(head + noise)

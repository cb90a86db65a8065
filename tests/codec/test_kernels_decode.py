"""The ways to decode levels agree with each other on every input: with branches, for zeros, and by an automaton."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_kernels import portable

from nnc_codec import _native
from nnc_codec.elements import native_type

pytestmark = pytest.mark.skipif(not _native.has_avx2(), reason="only portable kernels on this machine")

UNARY_LENGTHS = (1, 2, 10, 11, 16, 17, 256)


def coded(integers: np.ndarray, dq: bool, unary_length: int, scan_order: int = 0) -> bytes:
    """Payload of a matrix."""
    encoder = _native.PayloadEncoder()
    encoder.write_tensor(coding(integers.shape, dq, unary_length, scan_order), integers.reshape(-1), False, True)
    return encoder.finish()


def coding(shape: tuple[int, int], dq: bool, unary_length: int, scan_order: int = 0) -> _native.TensorCoding:
    """Options of a matrix."""
    return _native.TensorCoding(rows=shape[0], cols=shape[1], dq=dq, unary_length=unary_length, scan_order=scan_order)


def decoded(payload: bytes, options: _native.TensorCoding, size: int) -> tuple[object, object, np.ndarray]:
    """Status of the tensor, status of the codeword, integers."""
    out = np.full(size, 77, np.int32)
    decoder = _native.PayloadDecoder(np.frombuffer(payload, np.uint8))
    status = decoder.read_tensor(options, out.view(np.uint8), native_type(out.dtype), True, 1.0)
    return status, decoder.finish(), out


def quantized(weights: np.ndarray, options: _native.TensorCoding, dq: bool) -> np.ndarray:
    """Integers of weights in units of the step."""
    integers = np.empty(weights.size, np.int32)
    flat = np.clip(weights, -(2.0**29), 2.0**29).astype(np.float32).reshape(-1)
    if dq:
        _native.quantize_trellis(flat, options, 0.5, integers)
    else:
        _native.quantize_uniform(flat, 1.0, integers)
    return integers.reshape(weights.shape)


def alike(payload: bytes, options: _native.TensorCoding, size: int) -> tuple[object, object, np.ndarray]:
    """The same result from all kernels."""
    with portable():
        plain = decoded(payload, options, size)
    found = decoded(payload, options, size)
    assert found[:2] == plain[:2]
    np.testing.assert_array_equal(found[2], plain[2])
    return found


@pytest.mark.parametrize("dq", [False, True])
@pytest.mark.parametrize("unary_length", UNARY_LENGTHS)
@pytest.mark.parametrize("scale", [0.1, 0.4, 1.0, 3.0, 10.0, 1000.0, 1e8])
def test_levels_of_all_sizes(scale: float, unary_length: int, dq: bool) -> None:
    generator = np.random.default_rng(int(scale) + unary_length)
    weights = generator.laplace(0, scale, (61, 150))
    for scan_order in (0, 2):
        options = coding(weights.shape, dq, unary_length, scan_order)
        integers = quantized(weights, options, dq)
        status, end, found = alike(coded(integers, dq, unary_length, scan_order), options, integers.size)
        assert status[0] == end[0] == 0
        np.testing.assert_array_equal(found.reshape(integers.shape), integers)


@pytest.mark.parametrize("dq", [False, True])
def test_density_that_changes(dq: bool) -> None:
    """Dense, sparse, empty and far stretches in one tensor, so that the way to decode changes on the way."""
    generator = np.random.default_rng(3)
    parts = [
        generator.laplace(0, scale, 5000) * (generator.random(5000) < share)
        for scale, share in ((1, 1), (1, 0.02), (0, 0), (100, 1), (2, 1), (1, 0.5), (0.3, 1), (30, 0.01), (3, 1))
    ]
    weights = np.concatenate(parts * 2).reshape(90, -1)
    options = coding(weights.shape, dq, 11)
    integers = quantized(weights, options, dq)
    status, end, found = alike(coded(integers, dq, 11), options, integers.size)
    assert status[0] == end[0] == 0
    np.testing.assert_array_equal(found.reshape(integers.shape), integers)


@pytest.mark.parametrize("dq", [False, True])
@pytest.mark.parametrize("size", [1, 7, 1023, 1024, 1025, 4095, 4096, 4097, 8193])
def test_sizes_around_all_bounds(size: int, dq: bool) -> None:
    weights = np.random.default_rng(size).laplace(0, 2, (1, size))
    options = coding(weights.shape, dq, 11)
    integers = quantized(weights, options, dq)
    status, end, found = alike(coded(integers, dq, 11), options, size)
    assert status[0] == end[0] == 0
    np.testing.assert_array_equal(found, integers.reshape(-1))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 3000),
    st.sampled_from(UNARY_LENGTHS),
    st.booleans(),
    st.sampled_from((0, 1, 3)),
    st.sampled_from((0, 255, None)),
)
def test_arbitrary_payloads(
    seed: int, size: int, unary_length: int, dq: bool, scan_order: int, fill: int | None
) -> None:
    """Bytes that nobody encoded end in the same error at the same bit, after the same integers."""
    payload = np.random.default_rng(seed).bytes(size) if fill is None else bytes([seed & 127]) + bytes([fill]) * size
    options = coding((37, 100), dq, unary_length, scan_order)
    alike(payload, options, 3700)


@pytest.mark.parametrize("dq", [False, True])
def test_damaged_payloads(dq: bool) -> None:
    weights = np.random.default_rng(4).laplace(0, 4, (40, 100))
    options = coding(weights.shape, dq, 2)
    payload = coded(quantized(weights, options, dq), dq, 2)
    for cut in range(1, len(payload), 37):
        status, end, _ = alike(payload[:cut], options, weights.size)
        assert status[0] or end[0]
        flipped = bytearray(payload)
        flipped[cut] ^= 1 << cut % 8
        alike(bytes(flipped), options, weights.size)

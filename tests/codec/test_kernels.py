"""Kernels for vector units and the portable ones write the same bytes and read the same values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnr_vectors import is_sequence, manifest, same_bytes, stream
from test_roundtrip import float_arrays, int_arrays, params

import nnc_codec
from nnc_codec import EncodeParams, UpdateState, _native

pytestmark = pytest.mark.skipif(not _native.has_avx2(), reason="only portable kernels on this machine")


@contextmanager
def portable() -> Iterator[None]:
    _native.use_portable_kernels(True)
    try:
        assert not _native.has_avx2() and not _native.has_avx512()
        yield
    finally:
        _native.use_portable_kernels(False)


@contextmanager
def avx2() -> Iterator[None]:
    """Kernels for AVX2 where those for AVX-512 would run."""
    _native.use_avx512_kernels(False)
    try:
        assert _native.has_avx2() and not _native.has_avx512()
        yield
    finally:
        _native.use_avx512_kernels(True)


@pytest.mark.parametrize("name", [name for name in manifest() if not is_sequence(name)])
def test_vectors_decode_alike(name: str) -> None:
    with portable():
        plain = nnc_codec.decode(stream(name))
    same_bytes(nnc_codec.decode(stream(name)), plain)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(float_arrays(), int_arrays()), params(), st.sampled_from(("dq", "uniform", "codebook")))
def test_streams_are_alike(array: np.ndarray, options: EncodeParams, method: str) -> None:
    if array.dtype.kind == "f" and method == "codebook":
        array = np.round(array * 8) / 8  # a short codebook
    changed = EncodeParams(**{f: getattr(options, f) for f in options.__struct_fields__} | {"method": method})
    data = nnc_codec.encode({"w": array}, changed)
    with avx2():
        assert nnc_codec.encode({"w": array}, changed) == data
    with portable():
        assert nnc_codec.encode({"w": array}, changed) == data
        plain = nnc_codec.decode(data)
    same_bytes(nnc_codec.decode(data), plain)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans(), st.sampled_from(("dq", "uniform")))
def test_updates_are_alike(seed: int, history: bool, temporal_context: bool, method: str) -> None:
    streams: list[list[bytes]] = []
    for plain in (False, True):
        generator = np.random.default_rng(seed)
        encoder, decoder = (UpdateState(history=history, temporal_context=temporal_context) for _ in range(2))
        coded = []
        for _ in range(3):
            shape = (20, 30)
            update = generator.standard_normal(shape) * (generator.random(shape) < 0.3)
            with portable() if plain else nothing():
                coded.append(
                    nnc_codec.encode({"w": update.astype(np.float32)}, EncodeParams(qp=-8, method=method), base=encoder)
                )
                nnc_codec.decode(coded[-1], base=decoder)
        assert encoder.nodes["w"].integers.tobytes() == decoder.nodes["w"].integers.tobytes()
        streams.append(coded)
    assert streams[0] == streams[1]


@contextmanager
def nothing() -> Iterator[None]:
    yield


@pytest.mark.parametrize("density", [1.0, 0.3, 0.02, 0.001])
def test_long_tensors_are_alike(density: float) -> None:
    """Long runs of zeros and large levels between them."""
    generator = np.random.default_rng(7)
    array = (generator.standard_normal((700, 300)) ** 3 * (generator.random((700, 300)) < density)).astype(np.float32)
    for options in (
        EncodeParams(qp=-20),
        EncodeParams(qp=-20, method="uniform", scan_order=3, row_skipping=True),
    ):
        data = nnc_codec.encode({"w": array}, options)
        with avx2():
            assert nnc_codec.encode({"w": array}, options) == data
        with portable():
            assert nnc_codec.encode({"w": array}, options) == data
            plain = nnc_codec.decode(data)
        same_bytes(nnc_codec.decode(data), plain)


@pytest.mark.parametrize("method", ["dq", "uniform"])
@pytest.mark.parametrize("gap", [1, 3, 4, 5, 30, 97, 400, 5000])
def test_runs_of_zeros_are_alike(gap: int, method: str) -> None:
    """Runs of every length after a one, for models that have settled and for those that have not."""
    generator = np.random.default_rng(gap)
    array = np.zeros(60_000, np.float32)
    array[np.cumsum(generator.integers(1, 2 * gap + 1, 60_000 // gap)) % array.size] = 1.0
    array = array.reshape(6, -1)
    for options in (EncodeParams(qp=0, method=method), EncodeParams(qp=0, method=method, param_opt=False)):
        data = nnc_codec.encode({"w": array}, options)
        with avx2():
            assert nnc_codec.encode({"w": array}, options) == data
        with portable():
            assert nnc_codec.encode({"w": array}, options) == data
            plain = nnc_codec.decode(data)
        decoded = nnc_codec.decode(data)
        same_bytes(decoded, plain)
        if method == "uniform":
            np.testing.assert_array_equal(decoded["w"], array)


@pytest.mark.parametrize("unary_length", [1, 2, 16, 17, 126, 127, 256])
@pytest.mark.parametrize("shape", [(1, 63), (3, 64), (65, 67), (40, 130)])
def test_levels_around_all_bounds_are_alike(shape: tuple[int, int], unary_length: int) -> None:
    """Magnitudes about the end of bytes, of the greater-than flags and of the type; blocks that end in between."""
    generator = np.random.default_rng(unary_length)
    bounds = [0, 1, 2, 16, 17, unary_length, unary_length + 1, unary_length + 2, 126, 127, 128, 129, 255, 256, 1 << 20]
    array = (generator.choice(bounds, shape) * generator.choice([-1, 1], shape)).astype(np.int32)
    array[0, :3] = -(2**31), 2**31 - 1, -(2**31)
    for options in (
        EncodeParams(cabac_unary_length=unary_length),
        EncodeParams(cabac_unary_length=unary_length, scan_order=2, row_skipping=True),
    ):
        data = nnc_codec.encode({"w": array}, options)
        with avx2():
            assert nnc_codec.encode({"w": array}, options) == data
        with portable():
            assert nnc_codec.encode({"w": array}, options) == data
        np.testing.assert_array_equal(nnc_codec.decode(data)["w"], array)


def stretches(scale: float, size: int) -> np.ndarray:
    """Weights of one spread, with runs of zeros of all lengths and a few that are far from the others."""
    generator = np.random.default_rng(5)
    values = generator.laplace(0, scale, size)
    for start in generator.integers(0, size, size // 500):
        values[start : start + generator.integers(1, 200)] = 0
    values[generator.integers(0, size, 20)] *= 1e3
    return values.astype(np.float32)


@pytest.mark.parametrize("unary_length", [1, 2, 10, 11, 16, 17, 40])
@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0, 2000.0])
@pytest.mark.parametrize("method", ["dq", "uniform"])
def test_tensors_of_all_spreads_are_alike(scale: float, unary_length: int, method: str) -> None:
    array = stretches(scale, 60 * 400).reshape(60, 400)
    for more in ({}, {"scan_order": 2}, {"row_skipping": True}):
        options = EncodeParams(qp=0, method=method, cabac_unary_length=unary_length, **more)
        data = nnc_codec.encode({"w": array}, options)
        with avx2():
            assert nnc_codec.encode({"w": array}, options) == data
        with portable():
            assert nnc_codec.encode({"w": array}, options) == data
            plain = nnc_codec.decode(data)
        same_bytes(nnc_codec.decode(data), plain)

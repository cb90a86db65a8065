"""Quantizers against their definition, and both kernels of each against each other."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nnc_codec
from nnc_codec import EncodeParams, InvalidArgumentError, _native
from nnc_codec.quantize import qp_for_step, qp_range, quantize, step_of

# Next state by current state, for an even and an odd level (dependent quantization, 8 states).
NEXT = ((0, 2), (7, 5), (1, 3), (6, 4), (2, 0), (5, 7), (3, 1), (4, 6))

shapes = st.one_of(
    st.tuples(st.integers(1, 300)),
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
)
densities = st.integers(0, 7)


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    """Gaussian-like, sparse, constant, tied, tiny and denormal weights."""
    shape = draw(shapes)
    kind = draw(st.sampled_from(("floats", "normal", "halves", "sparse")))
    if kind == "floats":
        return draw(hnp.arrays(np.float32, shape, elements=st.floats(-1e3, 1e3, width=32)))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = generator.standard_normal(shape)
    if kind == "halves":  # every value half way between two multiples at some step
        values = np.round(values * 8) / 16
    elif kind == "sparse":
        values *= generator.random(shape) < 0.1
    return values.astype(np.float32)


@contextmanager
def portable(only: bool) -> Iterator[None]:
    _native.use_portable_kernels(only)
    try:
        yield
    finally:
        _native.use_portable_kernels(False)


def round_half_away(values: np.ndarray) -> np.ndarray:
    magnitude = np.abs(values)
    whole = np.floor(magnitude)
    return np.copysign(whole + (magnitude - whole >= 0.5), values)


def uniform_reference(values: np.ndarray, step: float) -> np.ndarray:
    return round_half_away(np.float32(1) / np.float32(step) * values.reshape(-1)).astype(np.int32)


def in_coding_order(integers: np.ndarray, rows: int, scan_order: int) -> np.ndarray:
    matrix = integers.reshape(rows, -1)
    if scan_order == 0 or 1 in matrix.shape:
        return matrix.reshape(-1)
    block = 4 << scan_order
    pieces = [
        matrix[y : y + block, x : x + block].reshape(-1)
        for y in range(0, matrix.shape[0], block)
        for x in range(0, matrix.shape[1], block)
    ]
    return np.concatenate(pieces)


def assert_reachable(multiples: np.ndarray) -> None:
    """Every multiple is one that its state can express; the states follow from the levels before."""
    state = 0
    for multiple in multiples.tolist():
        odd = state & 1
        assert multiple == 0 or (multiple & 1) == odd, f"multiple {multiple} in state {state}"
        level = (abs(multiple) + odd) >> 1
        state = NEXT[state][level & 1]


def test_cost_table_is_the_published_one() -> None:
    digest = hashlib.sha256(_native.cost_numbers()).hexdigest()
    assert digest == "828e0d3ba7a2f4cc5cd5423fc41ed24dc110b62ade852e3b99b08aa7136996a0"


@pytest.mark.parametrize(
    ("density", "qp", "step"),
    [
        (2, 0, 1.0),
        (2, -12, 0.125),
        (2, -20, 2**-5),
        (2, -32, 2**-8),
        (2, -38, 1.5 * 2**-10),
        (2, -75, 1.25 * 2**-19),
    ],
)
def test_step_sizes_of_the_text(density: int, qp: int, step: float) -> None:
    assert step_of(qp, density) == step


@given(densities, st.data())
def test_step_size_formula(density: int, data: st.DataObject) -> None:
    low, high = qp_range(density)
    qp = data.draw(st.integers(low, high))
    k = 1 << density
    assert step_of(qp, density) == (k + qp % k) * 2.0 ** (qp // k - density)


@given(densities, st.data())
def test_qp_for_step_inverts_the_step_size(density: int, data: st.DataObject) -> None:
    qp = data.draw(st.integers(*qp_range(density)))
    step = step_of(qp, density)
    assert qp_for_step(step, density) == qp
    if qp > qp_range(density)[0]:
        assert qp_for_step(float(np.nextafter(step, 0)), density) == qp - 1


@given(weights(), st.integers(-40, 8))
def test_uniform_is_rounding_to_nearest_half_away(values: np.ndarray, qp: int) -> None:
    ours, used = quantize(values, qp, 2, rows=values.shape[0], dependent=False)
    assert used == qp
    assert ours.tolist() == uniform_reference(values, step_of(qp, 2)).tolist()


@given(weights(), st.integers(-40, 8), st.integers(0, 4))
def test_trellis_gives_reachable_multiples(values: np.ndarray, qp: int, scan_order: int) -> None:
    rows = values.shape[0]
    multiples, used = quantize(values, qp, 2, rows=rows, scan_order=scan_order, dependent=True)
    assert used == qp
    assert_reachable(in_coding_order(multiples, rows, scan_order))


def least_error(scaled: np.ndarray) -> float:
    """Smallest squared error of all paths, by trying every sequence of level parities."""
    best = np.inf
    for parities in itertools.product((0, 1), repeat=scaled.size):
        state, error = 0, 0.0
        for value, parity in zip(np.abs(scaled).tolist(), parities, strict=True):
            odd = state & 1
            nearest = round(value / 4)
            levels = [level for level in range(2 * nearest - 3, 2 * nearest + 4) if level >= 0 and level & 1 == parity]
            error += min((value - (2 * level - odd if level else 0)) ** 2 for level in levels)
            state = NEXT[state][parity]
        best = min(best, error)
    return best


@given(hnp.arrays(np.float32, st.integers(1, 7), elements=st.floats(-20, 20, width=32)), st.integers(-4, 4))
def test_trellis_finds_the_path_of_least_error(values: np.ndarray, qp: int) -> None:
    multiples, _ = quantize(values, qp, 2, rows=values.size, dependent=True)
    scaled = values.astype(np.float64) / step_of(qp, 2)
    assert np.sum((scaled - multiples) ** 2) == pytest.approx(least_error(scaled), rel=1e-9, abs=1e-12)


@given(weights(), st.integers(-40, 8), st.integers(0, 2), st.booleans())
def test_portable_and_vector_kernels_agree(values: np.ndarray, qp: int, scan_order: int, dependent: bool) -> None:
    results = []
    for only in (False, True):
        with portable(only):
            results.append(quantize(values, qp, 2, rows=values.shape[0], scan_order=scan_order, dependent=dependent))
    assert results[0][1] == results[1][1]
    assert results[0][0].tolist() == results[1][0].tolist()


@given(
    hnp.arrays(np.int32, hnp.array_shapes(min_dims=1, max_dims=2, max_side=40), elements=st.integers(-40, 40)),
    st.booleans(),
    st.booleans(),
    st.integers(1, 12),
)
def test_parameter_search_does_not_depend_on_the_kernel(
    values: np.ndarray, sparse: bool, row_skipping: bool, unary_length: int
) -> None:
    if sparse:
        values = values * (np.abs(values) > 30)
    coding = _native.TensorCoding(rows=values.shape[0], cols=values.size // values.shape[0], unary_length=unary_length)
    payloads = []
    for only in (False, True):
        with portable(only):
            encoder = _native.PayloadEncoder()
            status = encoder.write_tensor(coding, values.reshape(-1), row_skipping=row_skipping)
            assert status[0] == 0
            payloads.append((encoder.finish(), encoder.parameter_sets()))
    assert payloads[0] == payloads[1]


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("largest", [2.0**24, 2.0**31, 2.0**40, 2.0**61])
def test_weights_too_large_for_the_step_raise_the_qp(dependent: bool, largest: float) -> None:
    values = np.array([[largest, -largest, 1.0, 0.0]], np.float32)
    integers, qp = quantize(values, -38, 2, rows=1, dependent=dependent)
    assert qp > -38
    assert np.abs(integers.astype(np.int64)).max() < 2**31
    restored = np.float32(step_of(qp, 2)) * integers.astype(np.float32)
    assert np.allclose(restored[:2], values[0, :2], rtol=1e-6)
    if dependent:
        assert_reachable(integers)


def test_weights_beyond_every_step_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="do not fit"):
        quantize(np.array([[3e38, 1.0]], np.float32), -38, 2, rows=1, dependent=False)


lambdas = st.sampled_from((0.01, 0.1, 0.5, 3.0))


@given(weights(), st.integers(-20, 4), st.integers(0, 2), st.booleans(), lambdas)
def test_the_rate_in_the_decision_keeps_to_what_can_be_coded(
    values: np.ndarray, qp: int, scan_order: int, dependent: bool, lambda_: float
) -> None:
    rows = values.shape[0]
    options = {"rows": rows, "scan_order": scan_order, "dependent": dependent, "lambda_": lambda_}
    integers, used = quantize(values, qp, 2, **options)
    assert used == qp
    if dependent:
        assert_reachable(in_coding_order(integers, rows, scan_order))
    with portable(True):
        assert quantize(values, qp, 2, **options)[0].tolist() == integers.tolist()


@pytest.mark.parametrize("method", ["dq", "uniform"])
@pytest.mark.parametrize("density", [1.0, 0.2])
def test_the_rate_in_the_decision_pays(method: str, density: float) -> None:
    """Less of error + lambda * bits than without; smaller files the larger lambda is; nothing left in the end."""
    generator = np.random.default_rng(4)
    array = (generator.laplace(size=(150, 120)) * (generator.random((150, 120)) < density)).astype(np.float32)

    def coded(lambda_: float) -> tuple[int, float]:
        data = nnc_codec.encode({"w": array}, EncodeParams(qp=-4, method=method, lambda_=lambda_))
        tensor = nnc_codec.open(data)["w"]
        error = np.square(tensor.decode(dtype=np.float64) - array).sum() / tensor.step**2
        return 8 * len(data), float(error)

    bits, error = coded(0.0)
    sizes = [bits]
    for lambda_ in (0.05, 0.2, 0.5):
        fewer, more = coded(lambda_)
        sizes.append(fewer)
        assert more + lambda_ * fewer < error + lambda_ * bits
    assert sizes == sorted(sizes, reverse=True)
    data = nnc_codec.encode({"w": array}, EncodeParams(qp=-4, method=method, lambda_=1e9))
    assert np.count_nonzero(nnc_codec.decode(data)["w"]) < array.size / 1000

"""Quantization with error feedback."""

from __future__ import annotations

import numpy as np
import pytest

import nnc_codec
from nnc_codec import EncodeParams, InvalidArgumentError, _native
from nnc_codec.feedback import Feedback, feedback_of, quantize_feedback
from nnc_codec.quantize import quantize, step_of

SHAPES = [(64, 9, 64), (60, 25, 3), (100, 1, 1), (12, 40, 3), (5, 33, 1), (1, 200, 1)]


def moments(groups: int, n: int, *, seed: int = 0, rows: int | None = None) -> np.ndarray:
    """Second moments of correlated inputs."""
    generator = np.random.default_rng(seed)
    mixing = np.eye(n) + generator.standard_normal((groups, n, n)) * 0.8 / np.sqrt(n)
    inputs = generator.standard_normal((groups, rows or 4 * n + 8, n)) @ mixing + 0.5
    return inputs.transpose(0, 2, 1) @ inputs / inputs.shape[1]


def weights(rows: int, cols: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32)


def loss(errors: np.ndarray, second: np.ndarray, across: bool) -> float:
    """Mean square change of the layer's outputs."""
    wide = errors.astype(np.float64)
    if across:
        return float((wide * (second[0] @ wide)).sum())
    grouped = wide.reshape(len(second), -1, wide.shape[1])
    return float((grouped @ second * grouped).sum())


def greedy(array: np.ndarray, feedback: Feedback, step: float) -> np.ndarray:
    """Rounding with error feedback along rows, weight by weight."""
    out = np.empty(array.shape, np.int64)
    per = len(array) // len(feedback.factors)
    for y, row in enumerate(array / np.float64(step)):
        factor = feedback.factors[y // per].astype(np.float64)
        errors = np.zeros(len(row))
        for x, value in enumerate(row):
            target = value + errors[:x] @ factor[:x, x]
            out[y, x] = np.sign(target) * np.floor(abs(target) + 0.5)
            errors[x] = value - out[y, x]
    return out


def rate(array: np.ndarray, levels: np.ndarray, qp: int, method: str) -> tuple[int, np.ndarray]:
    """Bits of a bitstream with these levels, and what it decodes to."""
    chosen = (levels.astype(np.float32) * np.float32(step_of(qp))).reshape(array.shape)
    data = nnc_codec.encode({"w": chosen}, EncodeParams(qp=qp, nonweight_qp=qp, method=method))
    decoded = nnc_codec.decode(data)["w"]
    np.testing.assert_array_equal(decoded, chosen)
    return 8 * len(data), decoded


@pytest.mark.parametrize(("rows", "cols", "groups"), SHAPES)
def test_plain_rounding_is_the_greedy_one(rows: int, cols: int, groups: int) -> None:
    array = weights(rows, cols)
    feedback = feedback_of(moments(groups, cols), rows, cols, across=False)
    found = quantize_feedback(array, feedback, -4, 2, dependent=False)
    wanted = greedy(array, feedback, step_of(-4))
    # Sums in another order may round a tie, and all that follows in the row, the other way.
    same = (found.reshape(array.shape) == wanted).all(axis=1)
    assert same.mean() > 0.95


@pytest.mark.parametrize("rows", [1, 17, 40])
def test_both_directions_agree(rows: int) -> None:
    array = weights(30, rows)
    second = moments(1, 30)
    across = quantize_feedback(array, feedback_of(second, 30, rows, across=True), -4, 2, dependent=False)
    turned = np.ascontiguousarray(array.T)
    along = quantize_feedback(turned, feedback_of(second, rows, 30, across=False), -4, 2, dependent=False)
    same = (across.reshape(30, rows).T == along.reshape(rows, 30)).all(axis=1)
    assert same.mean() > 0.9


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("method", ["dq", "uniform"])
@pytest.mark.parametrize("qp", [-10, -4, 0])
def test_outputs_change_less_at_the_same_rate(method: str, across: bool, qp: int) -> None:
    array = weights(192, 160)
    second = moments(1, 192 if across else 160, seed=2)
    feedback = feedback_of(second, *array.shape, across=across)
    dependent = method == "dq"
    plain, _ = quantize(array, qp, 2, rows=192, dependent=dependent, lambda_=0.1)
    fed = quantize_feedback(array, feedback, qp, 2, dependent=dependent, lambda_=0.1)
    plain_bits, plain_values = rate(array, plain, qp, method)
    fed_bits, fed_values = rate(array, fed, qp, method)
    # A bit more per weight quarters the loss.
    more = 4.0 ** ((fed_bits - plain_bits) / array.size)
    assert more * loss(array - fed_values, second, across) < 0.8 * loss(array - plain_values, second, across)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("dependent", [False, True])
def test_a_price_buys_bits(dependent: bool, across: bool) -> None:
    array = weights(120, 130)
    feedback = feedback_of(moments(1, 120 if across else 130), *array.shape, across=across)
    method = "dq" if dependent else "uniform"
    bits = [
        rate(array, quantize_feedback(array, feedback, -2, 2, dependent=dependent, lambda_=price), -2, method)[0]
        for price in (0.0, 0.2, 1.0)
    ]
    assert bits == sorted(bits, reverse=True)
    assert bits[2] < bits[0]


@pytest.mark.parametrize(("rows", "cols", "groups"), SHAPES)
def test_multiples_are_reachable(rows: int, cols: int, groups: int) -> None:
    array = weights(rows, cols) * 20
    feedback = feedback_of(moments(groups, cols), rows, cols, across=False)
    rate(array, quantize_feedback(array, feedback, 0, 2, dependent=True, lambda_=0.1), 0, "dq")


@pytest.mark.skipif(not _native.has_avx2(), reason="only portable kernels on this machine")
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("dependent", [False, True])
def test_portable_kernels_agree(dependent: bool, across: bool) -> None:
    array = weights(70, 90) * np.float32(3)
    feedback = feedback_of(moments(1, 70 if across else 90), *array.shape, across=across)
    fast = quantize_feedback(array, feedback, -6, 2, dependent=dependent, lambda_=0.15)
    _native.use_portable_kernels(True)
    try:
        slow = quantize_feedback(array, feedback, -6, 2, dependent=dependent, lambda_=0.15)
    finally:
        _native.use_portable_kernels(False)
    np.testing.assert_array_equal(fast, slow)


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("second", [np.zeros((1, 50, 50)), np.ones((1, 50, 50)), np.diag([1e30] + [0.0] * 49)[None]])
def test_inputs_that_say_little(second: np.ndarray, dependent: bool) -> None:
    """Nothing seen, one direction seen, one input seen."""
    array = weights(20, 50)
    feedback = feedback_of(second, 20, 50, across=False)
    assert np.isfinite(feedback.factors).all()
    levels = quantize_feedback(array, feedback, -8, 2, dependent=dependent)
    assert np.abs(levels.reshape(array.shape) * step_of(-8) - array).max() < 2


def test_without_correlation_it_is_plain_rounding() -> None:
    array = weights(30, 50)
    feedback = feedback_of(np.eye(50)[None], 30, 50, across=False)
    levels = quantize_feedback(array, feedback, -8, 2, dependent=False)
    plain, _ = quantize(array, -8, 2, rows=30, dependent=False)
    np.testing.assert_array_equal(levels, plain)


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("across", [False, True])
def test_wild_factors_stay_within_bounds(dependent: bool, across: bool) -> None:
    array = weights(40, 40)
    factors = np.triu(np.full((1, 40, 40), 3e4, np.float32), 1)
    feedback = Feedback(40, 40, across, factors, np.ones((1, 40), np.float32))
    levels = quantize_feedback(array, feedback, 0, 2, dependent=dependent, lambda_=0.1)
    assert np.abs(levels.astype(np.int64)).max() <= 2**30 + 4


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    second = moments(1, 8)
    feedback = feedback_of(second, 4, 8, across=False)
    array = weights(4, 8)
    with pytest.raises(InvalidArgumentError):
        quantize_feedback(np.where(array == array[1, 1], np.float32(bad), array), feedback, 0, 2, dependent=True)
    second[0, 0, 0] = bad
    with pytest.raises(InvalidArgumentError):
        feedback_of(second, 4, 8, across=False)
    broken = feedback._replace(importance=np.full((1, 8), bad, np.float32))
    with pytest.raises(InvalidArgumentError):
        quantize_feedback(array, broken, 0, 2, dependent=True)


@pytest.mark.parametrize(
    ("rows", "cols", "groups", "n", "across"),
    [(4, 8, 3, 8, False), (4, 8, 1, 7, False), (4, 8, 1, 8, True), (4, 8, 2, 4, True)],
)
def test_moments_have_to_fit(rows: int, cols: int, groups: int, n: int, across: bool) -> None:
    with pytest.raises(InvalidArgumentError):
        feedback_of(np.ones((groups, n, n)), rows, cols, across=across)


def test_sizes_have_to_fit() -> None:
    feedback = feedback_of(moments(1, 8), 4, 8, across=False)
    for array in (weights(4, 7), weights(8, 8)):
        with pytest.raises(InvalidArgumentError):
            quantize_feedback(array, feedback, 0, 2, dependent=True)
    with pytest.raises(InvalidArgumentError):
        quantize_feedback(weights(4, 8), feedback._replace(rows=2**40, cols=2**24), 0, 2, dependent=True)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("price", [0.0, 0.2])
def test_another_look_pays(price: float, dependent: bool, across: bool) -> None:
    array = weights(192, 160)
    second = moments(1, 192 if across else 160, seed=2, rows=60)
    feedback = feedback_of(second, *array.shape, across=across)
    once, twice = (
        quantize_feedback(array, feedback, -4, 2, dependent=dependent, lambda_=price, sweeps=n) for n in (0, 1)
    )
    before, after = (
        loss(array - levels.reshape(array.shape) * step_of(-4), second, across) for levels in (once, twice)
    )
    assert after < before


def test_another_look_without_a_price_never_does_harm() -> None:
    array = weights(60, 25)
    second = moments(3, 25)
    feedback = feedback_of(second, 60, 25, across=False, damping=0.0)
    found = [quantize_feedback(array, feedback, -4, 2, dependent=False, sweeps=n) for n in range(4)]
    losses = [loss(array - levels.reshape(array.shape) * step_of(-4), second, False) for levels in found]
    assert losses == sorted(losses, reverse=True)
    assert losses[3] < losses[0]


@pytest.mark.skipif(not _native.has_avx2(), reason="only portable kernels on this machine")
@pytest.mark.parametrize("across", [False, True])
def test_portable_kernels_look_again_alike(across: bool) -> None:
    array = weights(70, 90) * np.float32(3)
    feedback = feedback_of(moments(1, 70 if across else 90), *array.shape, across=across)
    fast = quantize_feedback(array, feedback, -6, 2, dependent=True, lambda_=0.15, sweeps=1)
    _native.use_portable_kernels(True)
    try:
        slow = quantize_feedback(array, feedback, -6, 2, dependent=True, lambda_=0.15, sweeps=1)
    finally:
        _native.use_portable_kernels(False)
    np.testing.assert_array_equal(fast, slow)


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("across", [False, True])
def test_wild_factors_are_looked_at_again(dependent: bool, across: bool) -> None:
    array = weights(40, 40)
    factors = np.triu(np.full((1, 40, 40), 3e4, np.float32), 1)
    feedback = Feedback(40, 40, across, factors, np.ones((1, 40), np.float32))
    try:
        levels = quantize_feedback(array, feedback, 0, 2, dependent=dependent, lambda_=0.1, sweeps=2)
    except InvalidArgumentError:
        return
    assert np.abs(levels.astype(np.int64)).max() <= 2**30 + 4

"""Quantization that weighs bits against error."""

from __future__ import annotations

import numpy as np
import pytest

import nnc_codec
from nnc_codec import EncodeParams, InvalidArgumentError, _native, quantize


def weights(shape: tuple[int, int], scale: float, zeros: float = 0.0, seed: int = 3) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.laplace(0, scale, shape)
    values[generator.random(shape) < zeros] = 0
    return values.astype(np.float32)


def cost(array: np.ndarray, params: EncodeParams) -> tuple[int, float]:
    data = nnc_codec.encode({"w": array}, params)
    return 8 * len(data), float(np.sum((nnc_codec.decode(data)["w"].astype(np.float64) - array) ** 2))


@pytest.mark.parametrize("method", ["dq", "uniform"])
@pytest.mark.parametrize(("scale", "zeros"), [(0.3, 0), (1, 0), (3, 0), (1, 0.9)])
def test_fewer_bits_at_less_cost(method: str, scale: float, zeros: float) -> None:
    lambda_ = 0.15
    array = weights((300, 400), scale, zeros)
    plain = cost(array, EncodeParams(qp=0, method=method))
    rate = cost(array, EncodeParams(qp=0, method=method, lambda_=lambda_))
    assert rate[0] < plain[0]
    assert rate[1] + lambda_ * rate[0] < plain[1] + lambda_ * plain[0]


@pytest.mark.parametrize(("zeros", "scale"), [(0, 0.4), (0, 1), (0.9, 1), (0, 2)])
def test_better_than_a_coarser_step(scale: float, zeros: float) -> None:
    """At the bits that a rate-minded quantizer needs, coarser steps alone leave more error."""
    array = weights((400, 512), scale, zeros)
    bits, error = cost(array, EncodeParams(qp=-4, lambda_=0.1))
    curve = [cost(array, EncodeParams(qp=qp)) for qp in range(-8, 6)]
    known = np.array(sorted(curve))
    expected = np.interp(bits, known[:, 0], np.log(known[:, 1]))
    assert np.log(error) < expected


@pytest.mark.parametrize("scan_order", [0, 2])
@pytest.mark.parametrize("dependent", [False, True])
def test_multiples_are_reachable(scan_order: int, dependent: bool) -> None:
    array = weights((70, 130), 5)
    params = EncodeParams(qp=0, method="dq" if dependent else "uniform", lambda_=0.2, scan_order=scan_order)
    integers, qp = quantize.quantize(array, 0, 2, rows=70, scan_order=scan_order, dependent=dependent, lambda_=0.2)
    assert qp == 0
    decoded = nnc_codec.decode(nnc_codec.encode({"w": array}, params))["w"]
    np.testing.assert_array_equal(decoded, integers.reshape(array.shape).astype(np.float32))


@pytest.mark.skipif(not _native.has_avx2(), reason="only portable kernels on this machine")
@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("scale", [0.05, 1, 40, 1e6])
@pytest.mark.parametrize("lambda_", [1e-4, 0.1, 3])
def test_kernels_decide_alike(dependent: bool, scale: float, lambda_: float) -> None:
    array = weights((150, 301), scale, 0.2)
    results = []
    for portable in (False, True):
        _native.use_portable_kernels(portable)
        try:
            results.append(
                quantize.quantize(array, 0, 2, rows=150, dependent=dependent, lambda_=lambda_, unary_length=4)[0]
            )
        finally:
            _native.use_portable_kernels(False)
    np.testing.assert_array_equal(*results)


@pytest.mark.skipif(not _native.has_avx2(), reason="only portable kernels on this machine")
@pytest.mark.parametrize("scale", [0.02, 0.3, 2])
def test_long_trials_are_alike(scale: float) -> None:
    """Enough bins to fill the trial queues of several models more than once."""
    array = weights((700, 600), scale, 0.3)
    data = nnc_codec.encode({"w": array}, EncodeParams(qp=0))
    _native.use_portable_kernels(True)
    try:
        assert nnc_codec.encode({"w": array}, EncodeParams(qp=0)) == data
    finally:
        _native.use_portable_kernels(False)


def test_what_is_refused() -> None:
    with pytest.raises(InvalidArgumentError):
        EncodeParams(lambda_=float("nan"))
    out = np.empty(4, np.int32)
    coding = _native.TensorCoding(rows=2, cols=2, dq=True)
    values = np.array([1, np.nan, 0, 2], np.float32)
    assert _native.quantize_rate(values, coding, 1.0, 0.1, out)[0] != 0
    assert _native.quantize_rate(np.zeros(4, np.float32), coding, 1.0, -1.0, out)[0] != 0

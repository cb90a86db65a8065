"""Weights that are zero stay zero where that is asked for."""

from __future__ import annotations

import numpy as np
import pytest

import nnc_codec
from nnc_codec import _native
from nnc_codec.feedback import feedback_of, quantize_feedback
from nnc_codec.params import EncodeParams, Method
from nnc_codec.quantize import quantize


def sparse(shape: tuple[int, ...], share: float) -> np.ndarray:
    values = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
    values[np.abs(values) < np.quantile(np.abs(values), share)] = 0
    return values


def coded(array: np.ndarray, **options: object) -> np.ndarray:
    params = EncodeParams(nonweight_qp=-8, topology=False, **{"qp": -8, **options})
    return nnc_codec.decode(nnc_codec.encode({"w": array}, params))["w"]


@pytest.fixture(params=[False, True], ids=["vectors", "portable"])
def kernels(request: pytest.FixtureRequest) -> object:
    _native.use_portable_kernels(request.param)
    yield
    _native.use_portable_kernels(False)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("scan_order", [0, 2])
@pytest.mark.parametrize("lambda_", [0.0, 0.1])
@pytest.mark.parametrize("method", ["dq", "uniform"])
def test_zeros_stay(method: Method, lambda_: float, scan_order: int) -> None:
    array = sparse((100, 130), 0.6)
    decoded = coded(array, method=method, lambda_=lambda_, scan_order=scan_order, keep_zeros=True)
    assert not decoded[array == 0].any()
    assert np.abs(decoded - array).max() < 1


def test_without_being_asked_the_trellis_gives_some_up() -> None:
    array = sparse((100, 130), 0.6)
    assert coded(array)[array == 0].any()


@pytest.mark.parametrize("lambda_", [0.0, 0.1])
def test_tensors_without_zeros_are_coded_as_ever(lambda_: float) -> None:
    array = sparse((64, 64), 0.0)
    array[array == 0] = 1
    decoded = [coded(array, lambda_=lambda_, keep_zeros=keep) for keep in (False, True)]
    error = [float(np.square(each - array).mean()) for each in decoded]
    assert error[1] == pytest.approx(error[0], rel=1e-3)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("dependent", [False, True])
def test_error_feedback_spares_zeros(dependent: bool, across: bool) -> None:
    array = sparse((96, 80), 0.5)
    n = 96 if across else 80
    rng = np.random.default_rng(3)
    related = np.eye(n) + 0.6 * rng.standard_normal((n, 8)) @ rng.standard_normal((8, n))
    inputs = rng.standard_normal((400, n)) @ related
    moments = inputs.T @ inputs / len(inputs)
    feedback = feedback_of(moments[None], 96, 80, across=across)
    found = {
        keep: quantize_feedback(array, feedback, -8, 2, dependent=dependent, keep_zeros=keep).reshape(array.shape)
        for keep in (False, True)
    }
    assert found[False][array == 0].any()
    assert not found[True][array == 0].any()

    def change(levels: np.ndarray) -> float:
        error = levels * 0.25 - array
        error = error.T if across else error
        return float(np.einsum("ij,jk,ik->", error, moments, error))

    plain, _ = quantize(array, -8, 2, rows=96, dependent=dependent, keep_zeros=True)
    assert change(found[True]) < 0.9 * change(plain.reshape(array.shape))

"""Clustered tensors come back exactly, and are recognised as such."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnc_codec
from nnc_codec.codebook import MAX_TRIED_LEVELS, build_codebook
from nnc_codec.exact import MOST_ENTRIES, clusters, codebook_exponent, entropy
from nnc_codec.params import EncodeParams
from nnc_codec.quality import exact_quality, is_best_exact


def nearest(shape: tuple[int, ...], centroids: np.ndarray) -> np.ndarray:
    """Gaussian weights, each replaced by the nearest centroid."""
    values = np.random.default_rng(shape).standard_normal(shape) * 0.05
    return centroids[np.abs(values[..., None] - centroids).argmin(-1)]


def lloyd(count: int, dtype: str = "float32") -> np.ndarray:
    """Centroids at uneven places, as clustering gives them."""
    return np.sort(np.random.default_rng(count).standard_normal(count) * 0.06).astype(dtype)


def back(array: np.ndarray) -> np.ndarray:
    quality = exact_quality(array.astype(np.float32))
    assert quality is not None
    params = EncodeParams(qp=quality.qp, nonweight_qp=quality.qp, method=quality.method, topology=False)
    return nnc_codec.decode(nnc_codec.encode({"w": array}, params))["w"]


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_clustered_weights_come_back(count: int) -> None:
    array = nearest((64, 96), lloyd(count))
    assert np.array_equal(back(array), array)


def test_centroids_near_zero_are_rounded_finely() -> None:
    array = nearest((64, 96), lloyd(64))
    assert np.abs(back(array).astype(np.float64) - array).max() <= 2.0**-33


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_half_precision_value_fits(dtype: str) -> None:
    values = np.array([2.0**-24, -(2.0**-14), 1 / 3, 0.0999, -17.3], np.float16).astype(dtype)
    array = np.random.default_rng(0).choice(values, (40, 50))
    assert back(array).tobytes() == array.tobytes()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_dequantized_integers_come_back(bits: int) -> None:
    step = np.float32(0.37) / np.float32(2 ** (bits - 1))
    levels = np.random.default_rng(bits).integers(1 - 2 ** (bits - 1), 2 ** (bits - 1), (128, 64))
    array = levels.astype(np.float32) * step
    assert np.abs(back(array) - array).max() <= 2.0**-33
    assert np.array_equal(back(array * 128), array * 128)


def test_values_far_below_the_largest_are_rounded_finely() -> None:
    array = np.random.default_rng(0).choice(np.array([1.0, 0.3, 1e-7, -3e-6], np.float32), (30, 30))
    assert np.abs(back(array) - array).max() <= 2.0**-30


def test_many_values_are_no_clusters() -> None:
    array = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    assert clusters(array) is None and exact_quality(array) is None and not is_best_exact(array)


def test_as_many_values_as_may_be() -> None:
    array = np.arange(2 * MOST_ENTRIES * 10, dtype=np.float32) % MOST_ENTRIES
    found = clusters(array)
    assert found is not None and found.size == MOST_ENTRIES
    assert entropy(array, found) == pytest.approx(8)
    assert clusters(np.append(array, np.float32(-1))) is None


def test_a_late_value_counts() -> None:
    array = np.zeros(300_000, np.float32)
    array[-1] = 0.3
    found = clusters(array)
    assert found is not None and found.tolist() == [0, np.float32(0.3)]


def test_few_bits_leave_nothing_to_plan() -> None:
    assert is_best_exact(nearest((64, 64), lloyd(4)))
    assert not is_best_exact(nearest((64, 64), lloyd(64)))
    assert is_best_exact(np.eye(64, dtype=np.float32))


def test_a_size_that_is_of_no_use() -> None:
    array = nearest((64, 64), lloyd(16))
    assert exact_quality(array, most_bytes=array.size) is not None
    assert exact_quality(array, most_bytes=array.size / 8) is None


@pytest.mark.parametrize("tiny", [1e-30, 1e-9])
def test_values_below_the_finest_step(tiny: float) -> None:
    array = np.random.default_rng(0).choice(np.array([tiny, -tiny * 0.7], np.float32), (20, 20))
    assert exact_quality(array) is None


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=40))
def test_an_exponent_holds_what_it_promises(values: list[float]) -> None:
    array = np.unique(np.array(values, np.float32))
    exponent = codebook_exponent(array)
    if exponent is not None:
        entries = np.rint(np.ldexp(array.astype(np.float64), -exponent))
        assert np.abs(entries).max() <= 2**30
        error = np.abs(np.ldexp(entries, exponent) - array).max()
        assert error <= max(2.0**-30 * float(np.abs(array).max()), 2.0**-33)


def test_the_histogram_recommends_a_good_zero() -> None:
    rng = np.random.default_rng(3)
    integers = np.rint(rng.standard_normal(MAX_TRIED_LEVELS // 64) * 12).astype(np.int32) * 3 + 50
    codebook, indices = build_codebook(integers, rows=64, unary_length=11)
    assert abs(codebook.entries[codebook.zero_index] - 50) <= 9
    assert (np.array(codebook.entries)[indices + codebook.zero_index] == integers).all()

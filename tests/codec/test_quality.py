"""The default quantization parameter follows the tensor, within bounds."""

from __future__ import annotations

import numpy as np
import pytest

import nnc_codec
from nnc_codec.quality import FULL_SIZE, MAX_CHANNEL_GAIN, STEP_PER_RMS, choose_quality
from nnc_codec.quantize import step_of, unbounded_qp_for_step


def gaussian(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(shape).standard_normal(shape) * scale).astype(np.float32)


@pytest.mark.parametrize("density", range(8))
def test_step_and_qp_are_inverse(density: int) -> None:
    for qp in range(-120, 120):
        step = step_of(qp, density)
        assert unbounded_qp_for_step(step, density) == qp
        assert unbounded_qp_for_step(step * 1.0001, density) == qp
        assert unbounded_qp_for_step(step * 0.9999, density) == qp - 1


def test_step_of_known_values() -> None:
    assert [step_of(qp) for qp in (0, 1, 2, 3, 4, -4, -32)] == [1, 1.25, 1.5, 1.75, 2, 0.5, 2**-8]


def test_step_is_what_the_codec_uses() -> None:
    array = gaussian(64, 64)
    bitstream = nnc_codec.encode({"w": array}, nnc_codec.EncodeParams(qp=-13))
    assert nnc_codec.open(bitstream)["w"].step == step_of(-13)


def test_large_gaussian_tensors_get_the_documented_step() -> None:
    step = step_of(choose_quality(gaussian(1024, 1024)).qp)
    assert STEP_PER_RMS * 0.7 <= step <= STEP_PER_RMS


def test_the_step_scales_with_the_values() -> None:
    small, large = choose_quality(gaussian(256, 256)), choose_quality(gaussian(256, 256) * np.float32(16))
    assert large.qp - small.qp == 16


def test_small_tensors_get_finer_steps() -> None:
    qps = [choose_quality(gaussian(size, 64)).qp for size in (16, 256, 4096, 16384)]
    assert qps == sorted(qps) and qps[0] < qps[-1]


def test_size_is_relative_to_small_models() -> None:
    array = gaussian(64, 64)
    alone = choose_quality(array, total_elements=array.size)
    assert alone.qp == choose_quality(array, total_elements=1).qp
    assert alone.qp > choose_quality(array, total_elements=FULL_SIZE).qp


def test_weak_channels_make_the_step_finer_but_dead_ones_do_not_run_away() -> None:
    even = gaussian(512, 512)
    weak, dead = even.copy(), even.copy()
    weak[:256] *= 0.25
    dead[:400] *= 1e-9
    qp = choose_quality(even).qp
    assert choose_quality(weak).qp < qp
    assert qp - choose_quality(dead).qp <= 4 * np.log2(MAX_CHANNEL_GAIN) + 8


@pytest.mark.parametrize("exponent", [-20, -3, 0, 5])
def test_values_on_a_grid_come_back_exactly(exponent: int) -> None:
    array = np.ldexp(np.random.default_rng(1).integers(-100, 100, (60, 70)), exponent).astype(np.float32)
    quality = choose_quality(array)
    assert quality.method == "uniform"
    params = nnc_codec.EncodeParams(qp=quality.qp, method=quality.method)
    assert np.array_equal(nnc_codec.decode(nnc_codec.encode({"w": array}, params))["w"], array)


def test_one_hot_and_all_zero() -> None:
    assert choose_quality(np.zeros((4, 4), np.float32)) == (0, "uniform")
    assert choose_quality(np.eye(4, dtype=np.float32) * 4) == (8, "uniform")


def test_the_method_asked_for_is_kept_otherwise() -> None:
    for method in ("dq", "uniform"):
        assert choose_quality(gaussian(64, 64), method=method).method == method


@pytest.mark.parametrize("density", range(8))
def test_density_changes_the_unit_not_the_step(density: int) -> None:
    array = gaussian(64, 64)
    step = step_of(choose_quality(array, qp_density=density).qp, density)
    finest = step_of(choose_quality(array, qp_density=7).qp, 7)
    assert step <= finest < 2 * step


@pytest.mark.parametrize("scale", [3.4e38, 1e30, 1e14, 1e-9, 1e-20, 1e-38, 1e-44])
def test_ranges_that_no_step_suits_stay_exact(scale: float) -> None:
    array = np.where(gaussian(64, 64) > 0, np.float32(0), np.float32(-scale))
    assert choose_quality(array).method == "raw"
    assert choose_quality(gaussian(64, 64) * np.float32(scale / 8)).method == "raw"

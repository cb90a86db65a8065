"""Codebooks, bit depths, optimised QPs, parameter sets: what each option promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nnc_codec
from nnc_codec import EncodeParams
from nnc_codec.codebook import MAX_TRIED_ZEROS, build_codebook

shapes = st.one_of(st.tuples(st.integers(1, 60)), st.tuples(st.integers(1, 20), st.integers(1, 20)))


def gauss(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def only(data: bytes) -> nnc_codec.CodedTensor:
    return nnc_codec.open(data)["w"]


def integers_of(tensor: nnc_codec.CodedTensor) -> np.ndarray:
    """The integers behind the values; exact, because steps here are powers of two times small numbers."""
    return np.round(tensor.decode(dtype=np.float64) / tensor.step).astype(np.int64)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.int32, shapes, elements=st.integers(-30, 30) | st.integers(-(2**31) + 1, 2**31 - 1)))
def test_a_codebook_says_the_same(integers: np.ndarray) -> None:
    flat = integers.reshape(-1)
    codebook, indices = build_codebook(flat, rows=integers.shape[0], unary_length=11)
    entries = np.array(codebook.entries, np.int64)
    assert (np.diff(entries) > 0).all()
    assert (entries[indices.astype(np.int64) + codebook.zero_index] == flat).all()
    assert set(entries.tolist()) == set(flat.tolist())


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.float32, shapes, elements=st.floats(-4, 4, width=32)),
    st.integers(-16, 0),
    st.integers(0, 4),
)
def test_a_codebook_changes_no_value(array: np.ndarray, qp: int, scan_order: int) -> None:
    results = [
        nnc_codec.decode(
            nnc_codec.encode({"w": array}, EncodeParams(qp=qp, nonweight_qp=qp, method=method, scan_order=scan_order))
        )["w"]
        for method in ("uniform", "codebook")
    ]
    assert results[0].tobytes() == results[1].tobytes()


def test_a_codebook_with_more_entries_than_are_tried() -> None:
    integers = np.arange(2 * MAX_TRIED_ZEROS, dtype=np.int32)
    integers[:9] = 77
    codebook, indices = build_codebook(integers, rows=integers.size, unary_length=11)
    assert codebook.entries[codebook.zero_index] == 77
    assert indices[0] == 0


@pytest.mark.parametrize("method", ["dq", "uniform"])
def test_a_codebook_only_where_it_is_smaller(method: Any) -> None:
    few = np.random.default_rng(1).choice(gauss(5), (60, 40)).astype(np.float32)
    many = gauss(60, 40)
    options = {"qp": -16, "method": method}
    for array, wanted in ((few, "codebook"), (many, method)):
        plain = nnc_codec.encode({"w": array}, EncodeParams(**options))
        either = nnc_codec.encode({"w": array}, EncodeParams(**options, codebook_if_smaller=True))
        assert len(either) <= len(plain)
        assert only(either).method == wanted


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 2**32 - 1),
    shapes,
    st.integers(1, 16),
    st.sampled_from(("uniform", "dq", "codebook")),
    st.booleans(),
)
def test_a_bit_depth_holds(seed: int, shape: tuple[int, ...], bits: int, method: Any, positive: bool) -> None:
    array = gauss(*shape, seed=seed)
    if positive:
        array = np.abs(array)
    tensor = only(nnc_codec.encode({"w": array}, EncodeParams(bit_depth=bits, method=method)))
    depth = bits if len(shape) > 1 else max(bits, 8)
    low, high = (0, 2**depth - 1) if not (array < 0).any() else (-(2 ** (depth - 1)), 2 ** (depth - 1) - 1)
    slack = 2 if method == "dq" else 0
    integers = integers_of(tensor)
    assert low - slack <= integers.min() and integers.max() <= high + slack
    # What lies within the range is as close as the step allows.
    inside = (array > low * tensor.step) & (array < high * tensor.step)
    error = np.abs(tensor.decode(dtype=np.float64) - array)[inside]
    assert error.size == 0 or error.max() <= (0.5 if method != "dq" else 2) * tensor.step * (1 + 1e-6)


def test_a_bit_depth_of_zeros() -> None:
    tensor = only(nnc_codec.encode({"w": np.zeros((5, 5), np.float32)}, EncodeParams(bit_depth=4)))
    assert tensor.qp == 0
    assert not tensor.decode().any()


def test_the_optimised_qp_of_the_text() -> None:
    """share = size / total + 0.1 (1 - spread / widest), above one half 0.15; QP times (1 - share), weights only."""
    tensors = {
        "a": gauss(10, 10),
        "b": gauss(20, 10) * np.float32(0.5),
        "c": gauss(5, 20) * np.float32(2),
        "v": gauss(50),
    }
    bitstream = nnc_codec.open(nnc_codec.encode(tensors, EncodeParams(qp=-40, opt_qp=True)))
    weights = {name: tensors[name] for name in "abc"}
    total, widest = sum(w.size for w in weights.values()), max(float(np.std(w)) for w in weights.values())
    for name, w in weights.items():
        share = w.size / total + 0.1 * (1 - float(np.std(w)) / widest)
        assert bitstream[name].qp == round(-40 * (1 - (0.15 if share > 0.5 else share)))
    assert bitstream["v"].qp == -75


def test_the_optimised_qp_of_weights_without_spread() -> None:
    for tensors in ({"w": np.ones((4, 4), np.float32)}, {"w": np.ones(4, np.float32)}):
        assert nnc_codec.open(nnc_codec.encode(tensors, EncodeParams(opt_qp=True)))["w"].qp is not None


def test_parameter_sets_pay_on_large_tensors() -> None:
    array = gauss(200, 100) * (np.random.default_rng(3).random((200, 100)) < 0.2)
    sizes = [
        len(nnc_codec.encode({"w": array.astype(np.float32)}, EncodeParams(qp=-8, param_opt=on, method="uniform")))
        for on in (True, False)
    ]
    assert sizes[0] < sizes[1]


def test_dependent_quantization_is_better_than_rounding() -> None:
    """The same error for a tenth of a bit per weight less: that is what it is for."""
    array = gauss(120, 100)

    def bits_at_error_one(method: Any, qp: int) -> float:
        data = nnc_codec.encode({"w": array}, EncodeParams(qp=qp, method=method))
        error = np.square(nnc_codec.decode(data)["w"] - array, dtype=np.float64).mean()
        return 8 * len(data) / array.size + 0.5 * float(np.log2(error))

    for qp in (-20, -16, -12):
        assert bits_at_error_one("dq", qp - 4) < bits_at_error_one("uniform", qp) - 0.1


def test_a_finer_qp_costs_more_and_errs_less() -> None:
    array = gauss(60, 50)
    sizes, errors = [], []
    for qp in range(-32, 1, 4):
        data = nnc_codec.encode({"w": array}, EncodeParams(qp=qp))
        sizes.append(len(data))
        errors.append(float(np.square(nnc_codec.decode(data)["w"] - array).mean()))
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)


def test_topology_and_node_ids_are_optional() -> None:
    plain = nnc_codec.open(nnc_codec.encode({"w": gauss(3, 3)}, EncodeParams(topology=False, node_id=False)))
    assert [unit.type_name for unit in plain.units] == ["NNR_STR", "NNR_MPS", "NNR_NDU"]
    assert plain.units[1].payload.topology_carriage_flag == 0
    assert plain.units[2].data_unit.node_id_present_flag == 0
    full = nnc_codec.open(nnc_codec.encode({"v": gauss(3), "w": gauss(3, 3)}, EncodeParams(device_id=7)))
    assert [unit.type_name for unit in full.units][2] == "NNR_TPL"
    header = full.units[-1].data_unit
    assert (header.device_id, header.parameter_id, header.put_node_depth) == (7, 1, 0)

"""Encode, decode: what comes back, for every element type, shape and option."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nnc_codec
from nnc_codec import EncodeParams, TensorParams
from nnc_codec.quantize import step_of

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")

shapes = st.one_of(
    st.tuples(st.integers(1, 200)),
    hnp.array_shapes(min_dims=1, max_dims=5, max_side=9),
    st.tuples(st.integers(1, 70), st.integers(1, 20)),
)


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


@st.composite
def params(draw: st.DrawFn) -> EncodeParams:
    density = draw(st.integers(0, 7))
    octave = 1 << density
    return EncodeParams(
        qp=draw(st.integers(max(-16 * octave, -(32 << density)), octave)),
        nonweight_qp=draw(st.one_of(st.none(), st.integers(-16 * octave, 0))),
        qp_density=density,
        method=draw(st.sampled_from(("dq", "uniform"))),
        cabac_unary_length=draw(st.sampled_from((1, 2, 3, 10, 11, 31, 256))),
        scan_order=draw(st.integers(0, 4)),
        param_opt=draw(st.booleans()),
        topology=draw(st.booleans()),
        node_id=draw(st.booleans()),
        row_skipping=draw(st.booleans()),
    )


@st.composite
def float_arrays(draw: st.DrawFn) -> np.ndarray:
    shape = draw(shapes)
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = generator.standard_normal(shape) * 2.0 ** draw(st.integers(-8, 3))
    if draw(st.booleans()):
        values[generator.random(shape[0]) < 0.5] = 0
    array = values.astype(dtype_of(draw(st.sampled_from(FLOATS))))
    return array.T.copy().T if draw(st.booleans()) else array


@st.composite
def int_arrays(draw: st.DrawFn) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from(INTEGERS)))
    info = np.iinfo(dtype)
    low, high = max(info.min, -(2**31)), min(info.max, 2**31 - 1)
    near = st.integers(max(low, -3), min(high, 3))
    return draw(hnp.arrays(dtype, draw(shapes), elements=st.one_of(near, st.integers(low, high))))


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(float_arrays(), params())
def test_floats_come_back_within_the_step(array: np.ndarray, options: EncodeParams) -> None:
    data = nnc_codec.encode({"w": array}, options)
    tensor = nnc_codec.open(data)["w"]
    values = tensor.decode()
    assert values.shape == array.shape == tensor.shape
    assert values.dtype == tensor.dtype
    assert tensor.dtype == {"float16": np.float16, "float64": np.float64}.get(array.dtype.name, np.float32)
    assert tensor.step == step_of(tensor.qp, options.qp_density)
    assert tensor.method == options.method
    exact = tensor.decode(dtype=np.float64)
    # Half a step for rounding to the nearest. The trellis may move an integer by one more, near zero by two.
    reach = 0.5 if options.method == "uniform" else 2.0
    error = np.abs(exact - array.astype(np.float64)).max()
    assert error <= reach * tensor.step * (1 + 1e-6) + 2.0**-23 * np.abs(exact).max()
    assert values.tobytes() == exact.astype(np.float32).astype(values.dtype).tobytes()


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(int_arrays(), params())
def test_integers_come_back_exactly(array: np.ndarray, options: EncodeParams) -> None:
    data = nnc_codec.encode({"n": array}, options)
    tensor = nnc_codec.open(data)["n"]
    assert (tensor.qp, tensor.step, tensor.method) == (None, None, None)
    values = tensor.decode(dtype=array.dtype)
    assert values.dtype == array.dtype
    assert values.tobytes() == np.ascontiguousarray(array).tobytes()
    stated = array.dtype.name if array.dtype.name in ("int8", "int16", "int64") else "int32"
    natural = tensor.decode()
    assert natural.dtype == stated
    assert (natural.astype(np.int64) == array.astype(np.int64)).all()


@settings(deadline=None)
@given(hnp.arrays(np.float32, shapes, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_raw_floats_come_back_exactly(array: np.ndarray) -> None:
    data = nnc_codec.encode({"w": array}, EncodeParams(method="raw"))
    assert nnc_codec.decode(data)["w"].tobytes() == array.tobytes()
    assert nnc_codec.open(data)["w"].method == "raw"


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.text(min_size=1, max_size=20).filter(lambda s: "\0" not in s), float_arrays(), max_size=5))
def test_names_and_order_are_kept(tensors: dict[str, np.ndarray]) -> None:
    try:
        for name in tensors:
            name.encode()
    except UnicodeEncodeError:  # lone surrogates
        with pytest.raises(nnc_codec.NNRError):
            nnc_codec.encode(tensors)
        return
    decoded = nnc_codec.decode(nnc_codec.encode(tensors))
    assert list(decoded) == list(tensors)


def test_decoding_again_gives_the_same_bytes() -> None:
    """Values on the grid of their own step survive another round unchanged."""
    generator = np.random.default_rng(5)
    for method in ("uniform", "dq"):
        options = EncodeParams(method=method, qp=-20)
        first = nnc_codec.decode(
            nnc_codec.encode({"w": generator.standard_normal((40, 30)).astype(np.float32)}, options)
        )
        second = nnc_codec.decode(nnc_codec.encode(first, EncodeParams(method="uniform", qp=-20)))
        assert first["w"].tobytes() == second["w"].tobytes()


def test_per_tensor_overrides() -> None:
    generator = np.random.default_rng(6)
    tensors = {name: generator.standard_normal((40, 30)).astype(np.float32) for name in "abc"}
    tensors["a"][::2] = 0
    options = EncodeParams(
        qp=-20,
        per_tensor={
            "a": TensorParams(row_skipping=True, qp=-28, cabac_unary_length=3),
            "c": TensorParams(method="raw"),
        },
    )
    bitstream = nnc_codec.open(nnc_codec.encode(tensors, options))
    assert [(t.method, t.qp) for t in bitstream.values()] == [("dq", -28), ("dq", -20), ("raw", None)]
    assert bitstream["c"].decode().tobytes() == tensors["c"].tobytes()
    header = bitstream.units[bitstream["a"].unit].data_unit
    assert header is not None and header.cabac_unary_length_minus1 == 2
    # Nothing else of the bitstream depends on it.
    plain = nnc_codec.open(nnc_codec.encode(tensors, EncodeParams(qp=-20)))
    assert plain.unit_bytes(plain["b"].unit) == bitstream.unit_bytes(bitstream["b"].unit)


@pytest.mark.parametrize("dimensions, qp", [(1, -28), (2, -20), (4, -20)])
def test_vectors_have_a_qp_of_their_own(dimensions: int, qp: int) -> None:
    array = np.ones((4,) * dimensions, np.float32)
    options = EncodeParams(qp=-20, nonweight_qp=None)
    assert nnc_codec.open(nnc_codec.encode({"w": array}, options))["w"].qp == qp


def test_no_tensors_make_an_empty_bitstream() -> None:
    data = nnc_codec.encode({})
    assert nnc_codec.decode(data) == {}
    assert len(nnc_codec.open(data)) == 0


def test_row_skipping_pays_for_zero_rows() -> None:
    array = np.random.default_rng(7).standard_normal((200, 50)).astype(np.float32)
    array[np.arange(200) % 4 != 0] = 0
    with_flags = nnc_codec.encode({"w": array}, EncodeParams(row_skipping=True))
    assert len(with_flags) < len(nnc_codec.encode({"w": array}))
    assert nnc_codec.decode(with_flags)["w"][1].any() == False  # noqa: E712

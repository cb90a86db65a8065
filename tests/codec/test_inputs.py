"""What cannot be coded is refused with the tensor's name, before anything is written."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import nnc_codec
from nnc_codec import EncodeParams, InvalidArgumentError, NNRError, TensorParams
from nnc_codec.params import Block

GOOD = np.ones((4, 4), np.float32)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("method", ["dq", "uniform", "codebook"])
def test_values_without_a_size(bad: float, dtype: Any, method: Any) -> None:
    array = np.ones((5, 5), dtype)
    array[3, 3] = bad
    with pytest.raises(InvalidArgumentError, match=r"'layer\.w'") as caught:
        nnc_codec.encode({"good": GOOD, "layer.w": array}, EncodeParams(method=method))
    assert caught.value.tensor == "layer.w"
    assert caught.value.hint


def test_float64_beyond_float32() -> None:
    with pytest.raises(InvalidArgumentError):
        nnc_codec.encode({"w": np.array([[1e300, 1.0]])})


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 3)])
def test_arrays_without_elements_or_dimensions(shape: tuple[int, ...]) -> None:
    for dtype in (np.float32, np.int32):
        with pytest.raises(InvalidArgumentError, match="shape"):
            nnc_codec.encode({"w": np.ones(shape, dtype)})


@pytest.mark.parametrize(
    "array",
    [
        np.ones((3, 3), bool),
        np.ones((3, 3), complex),
        np.array(["a", "b"]),
        np.array([object()]),
        np.ones(3, ml_dtypes.float8_e4m3fn),
        np.ones(3, ml_dtypes.int4),
    ],
    ids=lambda a: str(a.dtype),
)
def test_other_element_types(array: np.ndarray) -> None:
    with pytest.raises(InvalidArgumentError, match="element type"):
        nnc_codec.encode({"w": array})


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**62])
def test_integers_beyond_32_bits(value: int) -> None:
    with pytest.raises(InvalidArgumentError, match="32 bits"):
        nnc_codec.encode({"w": np.array([0, value], np.int64)})


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_names_that_cannot_be_written(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="name"):
        nnc_codec.encode({name: GOOD})


@pytest.mark.parametrize("qp", [-129, 128, 10**9])
def test_a_qp_that_does_not_fit_its_field(qp: int) -> None:
    """The reference writes these modulo 2**(6 + qp_density)."""
    with pytest.raises(InvalidArgumentError, match=r"qp -?\d+ is outside -128\.\.127"):
        nnc_codec.encode({"w": GOOD * 1e-12}, EncodeParams(qp=qp))
    with pytest.raises(InvalidArgumentError, match="outside"):
        nnc_codec.encode({"w": GOOD * 1e-12}, EncodeParams(per_tensor={"w": TensorParams(qp=qp)}))


def test_overrides_of_absent_tensors() -> None:
    with pytest.raises(InvalidArgumentError, match="'x'"):
        nnc_codec.encode({"w": GOOD}, EncodeParams(per_tensor={"x": TensorParams(qp=1)}))


@pytest.mark.parametrize(
    "block, tensors",
    [
        (Block(weight="w"), {"w": ones(4, 4)}),
        (Block(weight="w", bias="b"), {"w": ones(4, 4)}),
        (Block(weight="w", bias="b"), {"w": ones(4, 4), "b": ones(5)}),
        (Block(weight="w", bias="b"), {"w": ones(4, 4), "b": ones(4, 1)}),
        (Block(weight="w", g="g", h="h"), {"g": ones(4, 2), "h": ones(3, 4)}),
        (Block(weight="w", g="g", h="h"), {"g": ones(4), "h": ones(1, 4)}),
        (Block(weight="w", bias="w"), {"w": ones(4, 4)}),
        (Block(weight="w", local_scaling="b", bias="b"), {"w": ones(4, 4), "b": ones(4)}),
    ],
)
def test_blocks_that_do_not_hold_together(block: Block, tensors: dict[str, np.ndarray]) -> None:
    with pytest.raises(InvalidArgumentError):
        nnc_codec.encode(tensors, EncodeParams(blocks=(block,)))


def test_a_tensor_in_two_blocks() -> None:
    tensors = {"v": ones(4, 4), "w": ones(4, 4), "b": ones(4)}
    with pytest.raises(InvalidArgumentError, match="two blocks"):
        nnc_codec.encode(tensors, EncodeParams(blocks=(Block(weight="v", bias="b"), Block(weight="w", bias="b"))))


@pytest.mark.parametrize("names", [{"bn_beta": "x"}, {"g": "g"}, {"bn_beta": "a", "bn_gamma": "b", "bn_mean": "c"}])
def test_half_a_companion_is_refused_at_once(names: dict[str, str]) -> None:
    with pytest.raises(InvalidArgumentError):
        Block(weight="w", **names)


@pytest.mark.parametrize(
    "options",
    [
        {"qp_density": 8},
        {"qp_density": -1},
        {"cabac_unary_length": 0},
        {"cabac_unary_length": 257},
        {"scan_order": 5},
        {"lambda_": -1.0},
        {"lambda_": float("nan")},
        {"lambda_": 1e30},
        {"bit_depth": 0},
        {"bit_depth": 32},
        {"qp": -20.5},
        {"qp": "fine"},
        {"method": "nope"},
    ],
)
def test_options_outside_their_range(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"is (outside|not|none of)"):
        EncodeParams(**options)


@pytest.mark.parametrize("options", [{"method": "nope"}, {"cabac_unary_length": 257}, {"qp": 1.5}])
def test_overrides_outside_their_range(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        TensorParams(**options)


def test_numbers_of_numpy_are_numbers() -> None:
    array = np.random.default_rng(0).standard_normal((12, 10)).astype(np.float32)
    options = {
        "qp": np.int32(-20),
        "row_skipping": np.bool_(True),
        "cabac_unary_length": np.int64(5),
        "param_opt": 1,
    }
    plain = {"qp": -20, "row_skipping": True, "cabac_unary_length": 5}
    assert nnc_codec.encode({"w": array}, EncodeParams(**options)) == nnc_codec.encode(
        {"w": array}, EncodeParams(**plain)
    )


def test_strided_and_swapped_arrays_are_fine() -> None:
    array = np.random.default_rng(0).standard_normal((12, 10)).astype(np.float32)
    expected = nnc_codec.encode({"w": array})
    big = np.zeros((24, 20), np.float32)
    big[::2, ::2] = array
    for same in (
        array.copy(order="F"),
        big[::2, ::2],
        array.astype(">f4"),
        np.ma.array(array),
        array[::-1][::-1],
    ):
        assert nnc_codec.encode({"w": same}) == expected
    assert nnc_codec.encode({"w": array.astype(np.int16).astype(">i2")}) == nnc_codec.encode(
        {"w": array.astype(np.int16)}
    )


def test_the_input_is_not_changed() -> None:
    array = np.random.default_rng(0).standard_normal((12, 10)).astype(np.float32)
    before = array.tobytes()
    array.flags.writeable = False
    for method in ("dq", "uniform", "codebook", "raw"):
        nnc_codec.encode({"w": array}, EncodeParams(method=method, bit_depth=4 if method == "dq" else None))
    assert array.tobytes() == before


def test_every_error_is_ours() -> None:
    for bad in (np.array([np.nan], np.float32), np.ones(()), np.array(["a"])):
        with pytest.raises(NNRError) as caught:
            nnc_codec.encode({"w": bad})
        assert caught.value.code.startswith("NNC-E1")
        assert "'w'" in str(caught.value)

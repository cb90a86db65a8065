"""Differences of tensors and the names of models."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nnc_codec
from nnc_codec.differences import Uncodable, add, bits_of, difference, model_id, tensor_id

INTEGERS = [np.dtype(name) for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32")]


def pairs(dtype: np.dtype, **options: object) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    shape = st.shared(hnp.array_shapes(max_dims=3), key="shape")
    return st.tuples(hnp.arrays(dtype, shape, **options), hnp.arrays(dtype, shape, **options))


@given(st.sampled_from(INTEGERS).flatmap(pairs))
def test_integers_of_up_to_32_bits_are_exact(pair: tuple[np.ndarray, np.ndarray]) -> None:
    base, new = pair
    change = difference(base, new)
    if change is None:
        assert np.array_equal(base, new)
        return
    assert change.dtype == np.int32
    result = add(base, change)
    assert result.dtype == base.dtype and np.array_equal(result, new)


@given(st.sampled_from([np.dtype("int64"), np.dtype("uint64")]).flatmap(pairs))
def test_wide_integers_are_exact_or_refused(pair: tuple[np.ndarray, np.ndarray]) -> None:
    base, new = pair
    change = difference(base, new)
    if isinstance(change, Uncodable):
        assert "32 bits" in change.reason
    elif change is not None:
        assert np.array_equal(add(base, change), new)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@given(st.data())
def test_untouched_floats_keep_their_bits(dtype: str, data: st.DataObject) -> None:
    base, new = data.draw(pairs(np.dtype(dtype)))
    change = difference(base, new)
    if not isinstance(change, np.ndarray):
        assert change is not None or np.array_equal(bits_of(base), bits_of(new))
        return
    result = add(base, change)
    assert result.dtype == base.dtype and result.shape == base.shape
    kept = change == 0
    assert np.array_equal(bits_of(result)[kept], bits_of(base)[kept])


def test_close_floats_come_back_exactly() -> None:
    generator = np.random.default_rng(0)
    base = generator.standard_normal(5000).astype(np.float32)
    new = base * generator.uniform(0.6, 1.9, 5000).astype(np.float32)
    change = difference(base, new)
    assert isinstance(change, np.ndarray) and np.array_equal(add(base, change), new)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_floats_are_rounded_to_their_type(dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    generator = np.random.default_rng(0)
    base, new = (generator.standard_normal(3000).astype(kind) for _ in range(2))
    change = difference(base, new)
    assert isinstance(change, np.ndarray) and change.dtype == np.float32
    assert add(base, change).tobytes() == new.tobytes()


def test_numbers_that_are_none_cancel_only_if_they_are_the_same() -> None:
    base = np.array([np.nan, np.inf, -np.inf, 1.0, -0.0], np.float32)
    new = np.array([np.nan, np.inf, -np.inf, 2.0, 0.0], np.float32)
    change = difference(base, new)
    assert isinstance(change, np.ndarray) and change.tolist() == [0, 0, 0, 1, 0]
    assert add(base, change)[:4].tobytes() == new[:4].tobytes()
    assert isinstance(difference(base, np.zeros(5, np.float32)), Uncodable)
    assert isinstance(difference(np.array([True]), np.array([False])), Uncodable)


arrays = st.lists(
    st.tuples(st.text(st.characters(blacklist_categories=("Cs",))), hnp.arrays(np.float32, hnp.array_shapes())),
    unique_by=lambda item: item[0],
    max_size=4,
)


@given(arrays, st.randoms())
def test_ids_do_not_depend_on_order(tensors: list[tuple[str, np.ndarray]], random: object) -> None:
    ids = [tensor_id(name, array) for name, array in tensors]
    shuffled = list(ids)
    random.shuffle(shuffled)
    assert model_id(shuffled) == model_id(ids)


def test_ids_depend_on_everything_that_counts() -> None:
    array = np.arange(6, dtype=np.float32)
    ids = {
        model_id([tensor_id("a", array)]),
        model_id([tensor_id("b", array)]),
        model_id([tensor_id("a", array.reshape(2, 3))]),
        model_id([tensor_id("a", array.reshape(3, 2))]),
        model_id([tensor_id("a", array.view(np.int32))]),
        model_id([tensor_id("a", array[::-1])]),
        model_id([tensor_id("a", array), tensor_id("b", array)]),
        model_id([]),
    }
    assert len(ids) == 8


def test_an_id_is_what_its_description_says() -> None:
    array = np.array([[1, 2]], np.int8)
    values = hashlib.sha256(b"\x01\x02").digest()
    text = struct.pack("<I", 1) + b"w" + struct.pack("<I", 4) + b"int8"
    hashed = b"onnx_nnc model id 1\0" + text + struct.pack("<IQQ", 2, 1, 2) + values
    assert model_id([tensor_id("w", array)]) == "sha256:" + hashlib.sha256(hashed).hexdigest()
    assert model_id([tensor_id("w", array)]) == (
        "sha256:5b130d5eaa46103e8d1723a4e2ae024884a976c9bc577d68cd69d3cd03dceec7"
    )


def test_raw_differences_are_sent_unless_they_are_zero() -> None:
    generator = np.random.default_rng(0)
    arrays = {"w": generator.standard_normal((3, 4)).astype(np.float32), "z": np.zeros((3, 4), np.float32)}
    data = nnc_codec.encode(arrays, nnc_codec.EncodeParams(method="raw"), base=nnc_codec.UpdateState())
    decoded = nnc_codec.decode(data, base=nnc_codec.UpdateState())
    assert list(decoded) == ["w"] and decoded["w"].tobytes() == arrays["w"].tobytes()

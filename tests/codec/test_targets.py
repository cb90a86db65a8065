"""Where decoded values go: element types, the caller's arrays, and the run-time library's single call."""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from nnr_vectors import decoded, is_sequence, manifest, stream

import nnc_codec
import nnc_codec.syntax
from nnc_codec import EncodeParams, InvalidArgumentError, UnsupportedError

FLOATS = [np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]
INTEGERS = [np.dtype(t) for t in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")]
KINDS = ("uniform", "dq", "blocks of rows", "codebook", "raw", "subnormal", "integers")


@cache
def bitstream(kind: str) -> bytes:
    generator = np.random.default_rng(3)
    array = generator.standard_normal((37, 21)).astype(np.float32)
    if kind == "codebook":
        return stream("codebook3_scan0")
    if kind == "integers":
        return nnc_codec.encode({"w": generator.integers(0, 100, (37, 21))})
    if kind == "raw":
        array[0, :4] = np.nan, np.inf, -np.inf, -0.0
        # Not through encode: quantized tensors must be finite, raw ones need not be.
        finite = nnc_codec.encode({"w": np.nan_to_num(array)}, EncodeParams(method="raw"))
        return finite[: -array.nbytes] + array.tobytes()
    if kind == "subnormal":
        return nnc_codec.encode({"w": array * 2e-5}, EncodeParams(qp=-120))
    options = EncodeParams(
        method="uniform" if kind == "uniform" else "dq", scan_order=2 if kind == "blocks of rows" else 0
    )
    return nnc_codec.encode({"w": array}, options)


def only(data: bytes) -> nnc_codec.CodedTensor:
    (tensor,) = nnc_codec.open(data).values()
    return tensor


def suitable(kind: str) -> list[np.dtype[Any]]:
    return INTEGERS if kind == "integers" else FLOATS


@pytest.mark.parametrize("kind", KINDS)
def test_other_element_types_are_rounded_once(kind: str) -> None:
    tensor = only(bitstream(kind))
    natural = tensor.decode()
    with np.errstate(over="ignore"):
        for dtype in suitable(kind):
            values = tensor.decode(dtype=dtype)
            assert values.dtype == dtype
            expected = natural.astype(dtype)
            same = (values == expected) | (np.isnan(values) & np.isnan(expected))
            assert same.all(), dtype
            assert (np.signbit(values) == np.signbit(expected)).all() or kind == "integers"


@pytest.mark.parametrize("kind", KINDS)
def test_single_call_gives_what_the_bitstream_gives(kind: str) -> None:
    data = bitstream(kind)
    tensor = only(data)
    for dtype in suitable(kind):
        single = nnc_codec.decode_single(data, dtype, tensor.shape)
        assert single.dtype == dtype
        assert single.shape == tensor.shape
        assert single.tobytes() == tensor.decode(dtype=dtype).tobytes(), dtype


@pytest.mark.parametrize("name", [n for n in manifest() if not is_sequence(n)])
def test_single_call_on_every_vector(name: str) -> None:
    expected = decoded(name)
    for part in nnc_codec.open(stream(name)).split().values():
        tensors = nnc_codec.open(part)
        first = next(iter(tensors.values()))
        if len(tensors) > 1:
            with pytest.raises(UnsupportedError, match="block"):
                nnc_codec.decode_single(part, np.float32, first.shape)
            continue
        values = nnc_codec.decode_single(part, first.dtype, first.shape)
        assert values.tobytes() == expected[first.name].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_into_an_array(kind: str) -> None:
    tensor = only(bitstream(kind))
    for dtype in suitable(kind):
        whole = np.empty((3, *tensor.shape), dtype)
        whole.view(np.uint8)[...] = 0x5A
        guard = whole[0].tobytes()
        out = whole[1]
        assert tensor.decode(out=out) is out
        assert out.tobytes() == tensor.decode(dtype=dtype).tobytes()
        assert whole[0].tobytes() == guard == whole[2].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_wrong_kind_of_type_is_refused(kind: str) -> None:
    data = bitstream(kind)
    tensor = only(data)
    for dtype in FLOATS if kind == "integers" else INTEGERS:
        with pytest.raises(InvalidArgumentError):
            tensor.decode(dtype=dtype)
        with pytest.raises(InvalidArgumentError):
            tensor.decode(out=np.empty(tensor.shape, dtype))
        with pytest.raises(InvalidArgumentError):
            nnc_codec.decode_single(data, dtype, tensor.shape)
    swapped = tensor.dtype.newbyteorder()
    for other in (np.dtype(bool), np.dtype(complex), np.dtype("U3"), np.dtype(object), swapped):
        with pytest.raises(InvalidArgumentError):
            tensor.decode(dtype=other)
        with pytest.raises(InvalidArgumentError):
            tensor.decode(out=np.empty(tensor.shape, other))
        with pytest.raises(InvalidArgumentError):
            nnc_codec.decode_single(data, other, tensor.shape)


@pytest.mark.parametrize(
    "out",
    [
        np.empty((21, 37), np.float32),
        np.empty(37 * 21, np.float32),
        np.empty((21, 37), np.float32).T,
        np.empty((37, 42), np.float32)[:, ::2],
        np.broadcast_to(np.float32(0), (37, 21)),
    ],
    ids=["transposed", "flat", "column order", "strided", "read-only"],
)
def test_an_array_that_does_not_fit_is_refused(out: np.ndarray) -> None:
    with pytest.raises(InvalidArgumentError, match="C-contiguous array of shape"):
        only(bitstream("uniform")).decode(out=out)


def test_integers_that_do_not_fit_the_type_are_an_error() -> None:
    data = nnc_codec.encode({"w": np.array([1, 300, -5], np.int32)})
    for dtype in (np.int8, np.uint8, np.uint16, np.uint32, np.uint64):
        with pytest.raises(nnc_codec.CorruptError):
            only(data).decode(dtype=dtype)
        with pytest.raises(nnc_codec.CorruptError):
            nnc_codec.decode_single(data, dtype, (3,))


def test_an_update_does_not_wrap_integers() -> None:
    encoder, decoder = nnc_codec.UpdateState(), nnc_codec.UpdateState()
    data = nnc_codec.encode({"w": np.array([1, 300, -5], np.int16)}, base=encoder)
    assert nnc_codec.decode(data, base=decoder)["w"].tolist() == [1, 300, -5]
    unit = nnc_codec.open(data).units[-1]
    header = unit.header.compressed_data_unit_header
    assert header is not None
    narrow = header.replace(nnr_decompressed_data_format=int(nnc_codec.syntax.DecompressedDataFormat.TENSOR_INT8))
    bitstream = data[: unit.offset] + nnc_codec.syntax.write_unit(
        unit.header.replace(compressed_data_unit_header=narrow),
        data[unit.payload_offset :],
        nnc_codec.open(data)._contexts[-1],
    )
    for base in (None, nnc_codec.UpdateState()):
        with pytest.raises(nnc_codec.CorruptError):
            nnc_codec.decode(bitstream, base=base)


@pytest.mark.parametrize("method", ["dq", "uniform", "codebook", "raw"])
def test_floats_beyond_the_type_become_infinite(method: Any) -> None:
    data = nnc_codec.encode(
        {"w": np.array([[1e15, -1e15], [0.0, 1.0]], np.float32)}, EncodeParams(method=method, qp=90)
    )
    values = only(data).decode(dtype=np.float16)
    assert values[0].tolist() == [np.inf, -np.inf]
    assert values.tobytes() == nnc_codec.decode_single(data, np.float16, (2, 2)).tobytes()


def test_single_call_checks_the_shape() -> None:
    data = bitstream("uniform")
    flat = nnc_codec.decode_single(data, np.float32, (37 * 21,))
    assert flat.tobytes() == only(data).decode().tobytes()
    for shape in ((37, 20), (37,), (), (0,), (1 << 20,)):
        with pytest.raises(nnc_codec.CorruptError, match="tensor_dimensions"):
            nnc_codec.decode_single(data, np.float32, shape)


def test_single_call_wants_one_unit() -> None:
    array = np.ones((4, 4), np.float32)
    with pytest.raises(UnsupportedError, match="more than one data unit"):
        nnc_codec.decode_single(nnc_codec.encode({"a": array, "b": array}), np.float32, (4, 4))
    with pytest.raises(nnc_codec.TruncatedError, match="no data unit"):
        nnc_codec.decode_single(nnc_codec.encode({}), np.float32, (4, 4))


def test_numpy_reads_a_tensor() -> None:
    tensor = only(bitstream("dq"))
    assert np.asarray(tensor).tobytes() == tensor.decode().tobytes()
    assert np.asarray(tensor, dtype=np.float16).dtype == np.float16


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda b: np.frombuffer(b, np.uint8)])
def test_any_buffer_is_read(wrap: Any) -> None:
    data = bitstream("dq")
    expected = nnc_codec.decode(data)["w"].tobytes()
    assert nnc_codec.decode(wrap(data))["w"].tobytes() == expected
    assert nnc_codec.decode_single(wrap(data), np.float32, (37, 21)).tobytes() == expected


def test_a_file_is_read(tmp_path: Any) -> None:
    path = tmp_path / "w.nnr"
    path.write_bytes(bitstream("dq"))
    for given in (path, str(path)):
        assert nnc_codec.decode(given)["w"].tobytes() == nnc_codec.decode(bitstream("dq"))["w"].tobytes()

"""Rows out of the middle, through entry points."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnr_vectors import is_sequence, manifest, payloads, stream

import nnc_codec
from nnc_codec import EncodeParams, InvalidArgumentError, NNRError, _native

SCANS = [name for name in manifest() if not is_sequence(name)]
INT32 = 8  # nnc::DType::int32


@pytest.mark.parametrize("vector", [v for v in payloads() if v["tensors"][0]["entry_points"]], ids=lambda v: v["name"])
def test_block_rows_of_the_reference_payloads(vector: dict) -> None:
    (tensor,) = vector["tensors"]
    rows, columns = tensor["shape"]
    coding = _native.TensorCoding(
        rows=rows,
        cols=columns,
        dq=bool(tensor["dq"]),
        unary_length=tensor["unary_length"],
        scan_order=tensor["scan_order"],
    )
    block = 4 << tensor["scan_order"]
    values = tensor["values"] if tensor["decoded"] == "same" else tensor["decoded"]
    expected = np.array(values, np.int32).reshape(rows, columns)
    distances, windows, states = (list(column) for column in zip(*tensor["entry_points"], strict=True))
    count = -(-rows // block)
    for first in range(count):
        for last in range(first, count):
            decoder = _native.PayloadDecoder(np.frombuffer(bytes.fromhex(vector["payload"]), np.uint8))
            if "qp" in tensor:
                decoder.read_qp(tensor["qp_bits"])
            part = expected[first * block : (last + 1) * block]
            out = np.empty(part.shape, np.int32)
            status = decoder.read_rows(
                coding, first, last, distances, windows, states, out.reshape(-1).view(np.uint8), INT32, True
            )
            assert status[0] == 0
            assert (out == part).all()


@pytest.mark.parametrize("name", SCANS)
def test_rows_of_every_vector(name: str) -> None:
    for tensor in nnc_codec.open(stream(name)).values():
        whole = tensor.decode()
        rows = tensor.shape[0]
        for start, stop in {(0, rows), (rows - 1, rows), (rows // 3, rows // 3 + 1), (rows // 2, rows)}:
            part = tensor.decode_rows(start, stop)
            assert part.dtype == whole.dtype
            assert part.shape == whole[start:stop].shape
            assert part.tobytes() == whole[start:stop].tobytes()


@settings(deadline=None)
@given(st.data())
def test_any_rows(data: st.DataObject) -> None:
    shape = (data.draw(st.integers(1, 100)), data.draw(st.integers(1, 40)))
    array = np.random.default_rng(data.draw(st.integers(0, 99))).standard_normal(shape).astype(np.float32)
    array[data.draw(st.integers(0, shape[0] - 1))] = 0
    options = EncodeParams(
        scan_order=data.draw(st.integers(1, 4)),
        method=data.draw(st.sampled_from(("dq", "uniform", "codebook"))),
        row_skipping=data.draw(st.booleans()),
        qp=-12,
    )
    tensor = nnc_codec.open(nnc_codec.encode({"w": array}, options))["w"]
    start = data.draw(st.integers(0, shape[0] - 1))
    stop = data.draw(st.integers(start + 1, shape[0]))
    assert tensor.decode_rows(start, stop).tobytes() == tensor.decode()[start:stop].tobytes()


@pytest.mark.parametrize("method", ["dq", "uniform"])
def test_block_rows_can_be_decoded_in_parallel(method: Any) -> None:
    array = np.random.default_rng(2).standard_normal((330, 50)).astype(np.float32)
    tensor = nnc_codec.open(nnc_codec.encode({"w": array}, EncodeParams(scan_order=2, method=method)))["w"]
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(lambda start: tensor.decode_rows(start, min(start + 16, 330)), range(0, 330, 16))
        assert np.concatenate(list(parts)).tobytes() == tensor.decode().tobytes()


def test_only_the_block_rows_asked_for_are_read() -> None:
    """Damage before and after leaves them as they are."""
    array = np.random.default_rng(1).standard_normal((160, 32)).astype(np.float32)
    data = nnc_codec.encode({"w": array}, EncodeParams(scan_order=1))
    bitstream = nnc_codec.open(data)
    expected = bitstream["w"].decode()
    unit = bitstream.units[bitstream["w"].unit]
    header = unit.data_unit
    assert header is not None and header.cabac_entry_point_list is not None
    bits = np.cumsum(header.cabac_entry_point_list.bit_offset_list)
    damaged = bytearray(data)
    for first, last in ((3, 4), (15, 17)):  # bytes of these block rows
        begin, end = (
            unit.payload_offset + int(bits[first - 1]) // 8 + 8,
            unit.payload_offset + int(bits[last - 1]) // 8,
        )
        damaged[begin:end] = bytes(b ^ 0x5A for b in damaged[begin:end])
    tensor = nnc_codec.open(bytes(damaged))["w"]
    assert tensor.decode_rows(8 * 6, 8 * 14).tobytes() == expected[8 * 6 : 8 * 14].tobytes()
    try:
        assert tensor.decode().tobytes() != expected.tobytes()
    except NNRError:
        pass


@pytest.mark.parametrize("start, stop", [(-1, 3), (3, 3), (4, 3), (0, 41), (40, 41)])
def test_rows_that_are_not_there(start: int, stop: int) -> None:
    array = np.ones((40, 9), np.float32)
    for scan_order in (0, 1):
        data = nnc_codec.encode({"w": array}, EncodeParams(scan_order=scan_order))
        with pytest.raises(InvalidArgumentError, match="rows"):
            nnc_codec.open(data)["w"].decode_rows(start, stop)

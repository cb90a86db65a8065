"""Block rows decoded side by side, factors of a weight, and flags that are only transported."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import nnc_codec
from nnc_codec import Block, EncodeParams, UpdateState


def matrix(rows: int, columns: int) -> np.ndarray:
    values: np.ndarray = np.random.default_rng(rows).standard_normal((rows, columns)).astype(np.float32)
    return values


@pytest.mark.parametrize("method", ["dq", "uniform", "codebook"])
@pytest.mark.parametrize("scan_order", [0, 1, 2, 3, 4])
def test_parallel_equals_sequential(method: str, scan_order: int) -> None:
    params = EncodeParams(qp=-12, method=method, scan_order=scan_order, row_skipping=scan_order % 2 == 1)  # type: ignore[arg-type]
    tensor = nnc_codec.open(nnc_codec.encode({"w": matrix(333, 50)}, params))["w"]
    with ThreadPoolExecutor(4) as executor:
        assert tensor.decode(executor=executor).tobytes() == tensor.decode().tobytes()
        half = tensor.decode(np.empty((333, 50), np.float16), executor=executor)
    assert half.tobytes() == tensor.decode(dtype=np.float16).tobytes()


def test_damage_in_any_block_row_is_found() -> None:
    bitstream = bytearray(nnc_codec.encode({"w": matrix(256, 64)}, EncodeParams(qp=-12, scan_order=1)))
    bitstream[-1] ^= 0xFF
    tensor = nnc_codec.open(bytes(bitstream))["w"]
    with ThreadPoolExecutor(2) as executor, pytest.raises(nnc_codec.CorruptError):
        tensor.decode(executor=executor)


def test_factors_stand_for_a_weight_of_low_rank() -> None:
    weight = (matrix(40, 3) @ matrix(60, 3).T).reshape(40, 15, 4)
    g, h = nnc_codec.decompose(weight, 3)
    block = Block(weight="w", g="w.g", h="w.h", bias="b")
    tensors = {"w.g": g, "w.h": h, "b": np.ones(40, np.float32)}
    bitstream = nnc_codec.encode(tensors, EncodeParams(qp=-50, blocks=(block,)))
    decoded = nnc_codec.decode(bitstream)
    assert decoded.keys() == tensors.keys()
    again = nnc_codec.compose(decoded, (block,))["w"].reshape(weight.shape)
    assert np.abs(again - weight).max() < 1e-2 * np.abs(weight).max()
    with pytest.raises(nnc_codec.InvalidArgumentError):
        nnc_codec.decompose(weight, 41)


def test_predictive_flag_is_transported() -> None:
    state = UpdateState(compress_differences=False, predictive=True)
    stream = nnc_codec.open(nnc_codec.encode({"w": matrix(8, 8)}, base=state))
    mps = stream.to_json()["units"][1]["payload"]
    assert (mps["mps_parent_signalling_enabled_flag"], mps["nnr_pre_flag"]) == (1, 1)
    assert stream["w"].decode().shape == (8, 8)

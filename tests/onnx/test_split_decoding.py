"""A tensor with entry points is decoded on several threads of onnxruntime at once."""

from __future__ import annotations

import gc

import models
import numpy as np
import onnxruntime as ort
import pytest

from nnc_onnx.runtime.library import reset_stats, stats
from nnc_onnx.runtime.loader import InferenceSession, register

CPU = ["CPUExecutionProvider"]


@pytest.fixture(autouse=True)
def no_other_sessions() -> None:
    gc.collect()
    reset_stats()


def whole(item: models.Packed) -> bytes:
    """A model that decodes one tensor."""
    return models.model([], [], [item.info], [item]).SerializeToString()


def options(threads: int) -> ort.SessionOptions:
    made = ort.SessionOptions()
    made.intra_op_num_threads = threads
    made.log_severity_level = 4
    return made


@pytest.mark.parametrize("shape", [(700, 300), (65, 3000), (1000, 7, 11, 3), (8193, 33)])
@pytest.mark.parametrize("scan_order", [1, 4])
@pytest.mark.parametrize("params", [{}, {"method": "uniform", "qp": -12}, {"method": "codebook", "qp": -12}])
def test_same_bits_on_any_number_of_threads(shape, scan_order, params):
    array = models.weights(*shape)
    item = models.Packed("W", array, bits=models.payload(array, scan_order=scan_order, **params))
    for threads in (1, 2, 5):
        run = InferenceSession(whole(item), options(threads), providers=CPU, mode="lazy", recode=False)
        assert run.run(None, {})[0].tobytes() == item.values.tobytes()
    assert (stats().decodes, stats().split_decodes) == (3, 2)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "int32"])
def test_every_kind_of_element(dtype):
    array = models.weights(700, 300, dtype=dtype)
    item = models.Packed("W", array, bits=models.payload(array, scan_order=3))
    run = InferenceSession(whole(item), options(3), providers=CPU, mode="lazy")
    assert run.run(None, {})[0].tobytes() == item.values.tobytes()
    assert stats().split_decodes == 1


@pytest.mark.parametrize(("shape", "scan_order"), [((700, 300), 0), ((30, 300), 2), ((1, 90000), 2)])
def test_what_cannot_be_split_is_decoded_in_one_piece(shape, scan_order):
    array = models.weights(*shape)
    item = models.Packed("W", array, bits=models.payload(array, scan_order=scan_order))
    run = InferenceSession(whole(item), options(3), providers=CPU, mode="lazy")
    assert run.run(None, {})[0].tobytes() == item.values.tobytes()
    assert stats().split_decodes == 0


@pytest.mark.parametrize("levels", [False, True])
def test_last_missing_tensor_of_a_cache_is_split(levels):
    made, _ = models.chain(3, 256, 192, scan_order=3)
    feeds = {"x0": models.weights(2, 192, seed=5)}
    settings = {"mode": "cache", "cache_bytes": 1 << 20, "resident": False, "cache_levels": levels}
    run = InferenceSession(made.SerializeToString(), options(4), providers=CPU, **settings)
    lazy = InferenceSession(made.SerializeToString(), options(4), providers=CPU, mode="lazy")
    for _ in range(3):
        assert run.run(None, feeds)[0].tobytes() == lazy.run(None, feeds)[0].tobytes()
    assert stats().split_decodes > 0


def test_own_sessions_split_too():
    array = models.weights(700, 300)
    item = models.Packed("W", array, bits=models.payload(array, scan_order=3))
    prepared = options(3)
    register(prepared, mode="lazy")
    run = ort.InferenceSession(whole(item), prepared, providers=CPU)
    assert run.run(None, {})[0].tobytes() == item.values.tobytes()
    assert stats().split_decodes == 1


def test_damage_is_found_whoever_decodes_it():
    array = models.weights(700, 300)
    bits = bytearray(models.payload(array, scan_order=3))
    for position in range(len(bits) // 2, len(bits) // 2 + 400):
        bits[position] ^= 0x5A
    messages = set()
    for threads in (1, 4):
        run = InferenceSession(
            whole(models.Packed("W", array, bits=bytes(bits))), options(threads), providers=CPU, mode="lazy"
        )
        try:
            messages.add(np.asarray(run.run(None, {})[0]).tobytes())
        except Exception as error:
            messages.add(str(error).encode())
    assert len(messages) == 1

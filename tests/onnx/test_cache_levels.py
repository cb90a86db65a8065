"""A cache that is too small for all values holds levels: the integers that weights are coded as."""

from __future__ import annotations

import functools
import gc

import models
import numpy as np
import pytest
from caching import caching_session
from onnx import TensorProto, helper

from nnc_onnx.runtime.library import RuntimeStats, reset_stats, stats
from nnc_onnx.runtime.loader import InferenceSession

CPU = ["CPUExecutionProvider"]
LAYERS, WIDE, NARROW = 8, 160, 128
TENSOR = WIDE * NARROW * 4

session = functools.partial(caching_session, levels=True)


@pytest.fixture(autouse=True)
def no_other_sessions() -> None:
    gc.collect()
    reset_stats()


def decoded(array: np.ndarray, name: str = "W", bits: bytes | None = None) -> tuple[bytes, models.Packed]:
    """A model whose outputs are decoded tensors: two of them, so that one alone never fits the budgets below."""
    items = [models.Packed(f"{name}{number}", array, bits=bits) for number in range(2)]
    items[1].node.input[0] = items[0].node.input[0]
    element = helper.np_dtype_to_tensor_dtype(array.dtype)
    nodes = [helper.make_node("Identity", [f"{name}{number}"], [f"y{number}"]) for number in range(2)]
    outputs = [helper.make_tensor_value_info(f"y{number}", element, None) for number in range(2)]
    made = models.model(nodes, [], outputs, items)
    del made.graph.initializer[1]
    return made.SerializeToString(), items[0]


def level_bytes(array: np.ndarray, bits: bytes) -> RuntimeStats:
    """Counters after a tensor was used, decoded to a budget that its values do not fit into."""
    model, item = decoded(array, bits=bits)
    run = session(model, item.values.nbytes - 1)
    for _ in range(4):
        outputs = run.run(None, {})
        assert all(output.tobytes() == item.values.tobytes() for output in outputs)
    return stats()


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("params", [{}, {"qp": -12, "method": "uniform"}, {"qp": -12, "method": "codebook"}])
@pytest.mark.parametrize("scan_order", [0, 2])
def test_values_are_the_same_bits(dtype, params, scan_order):
    array = models.weights(200, 300, dtype=dtype)
    counts = level_bytes(array, models.payload(array, scan_order=scan_order, **params))
    assert counts.cache_restores == 8
    assert counts.decodes == 1
    assert counts.cache_bytes < 1.2 * array.size


def test_a_few_large_weights_do_not_widen_the_rest():
    array = models.weights(200, 300)
    array[np.arange(0, 200, 5), 7] = np.linspace(-30, 30, 40)
    counts = level_bytes(array, models.payload(array))
    assert (counts.cache_restores, counts.decodes) == (8, 1)
    assert array.size < counts.cache_bytes < 1.2 * array.size


def test_many_large_weights_take_two_bytes_each():
    array = models.weights(200, 300)
    counts = level_bytes(array, models.payload(array, qp=-50))
    assert counts.cache_restores > 0
    assert 2 * array.size <= counts.cache_bytes < 2.2 * array.size


@pytest.mark.parametrize("params", [{"qp": -110}, {"method": "raw"}])
def test_what_no_level_holds_is_decoded_each_time(params):
    array = models.weights(200, 300)
    counts = level_bytes(array, models.payload(array, **params))
    assert (counts.cache_restores, counts.cache_bytes) == (0, 0)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_integers_are_their_values(dtype):
    array = models.weights(200, 300, dtype=dtype)
    counts = level_bytes(array, models.payload(array))
    assert counts.cache_restores == 0


@pytest.fixture(scope="module")
def chain() -> bytes:
    return models.chain(LAYERS, WIDE, NARROW, qp=-20)[0].SerializeToString()


@pytest.fixture(scope="module")
def feeds() -> dict[str, np.ndarray]:
    return {"x0": models.weights(5, NARROW, seed=9)}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.5, 0.8, 1.0])
def test_budget_decides_what_is_levels_and_what_is_values(chain, feeds, share, threads):
    # Products are summed in another order on other numbers of threads.
    expected = session(chain, 0, threads).run(None, feeds)[0].tobytes()
    budget = int(share * LAYERS * TENSOR)
    run = session(chain, budget, threads)
    for _ in range(3):
        assert run.run(None, feeds)[0].tobytes() == expected
    reset_stats()
    for _ in range(5):
        assert run.run(None, feeds)[0].tobytes() == expected
    counts = stats()
    assert counts.cache_peak_bytes <= budget
    assert (counts.decodes == 0) == (share >= 0.3)
    assert (counts.cache_restores == 0) == (share == 1.0)
    if share == 0.5:
        assert 0 < counts.cache_restores < 5 * LAYERS


def test_levels_can_be_refused(chain, feeds):
    run = session(chain, LAYERS * TENSOR // 2, levels=False)
    for _ in range(3):
        run.run(None, feeds)
    assert stats().cache_restores == 0
    assert stats().decodes > LAYERS


def test_one_session_that_refuses_decides_for_tensors_it_shares(chain, feeds):
    budget = LAYERS * TENSOR // 2
    willing, refusing = session(chain, budget), session(chain, budget, levels=False)
    for _ in range(3):
        outputs = {run.run(None, feeds)[0].tobytes() for run in (willing, refusing)}
        assert len(outputs) == 1
    assert stats().cache_restores == 0
    del refusing
    gc.collect()
    for _ in range(3):
        assert {willing.run(None, feeds)[0].tobytes()} == outputs
    assert stats().cache_restores > 0


def test_constants_leave_room_for_the_levels_of_the_others(chain, feeds):
    expected = InferenceSession(chain, providers=CPU, mode="lazy").run(None, feeds)[0]
    budget = int(0.6 * LAYERS * TENSOR)
    run = InferenceSession(chain, providers=CPU, mode="cache", cache_bytes=budget)
    assert run.plan is not None
    assert 0 < run.plan.constant_bytes < budget
    for _ in range(3):
        assert np.allclose(run.run(None, feeds)[0], expected, atol=1e-5)
    reset_stats()
    run.run(None, feeds)
    assert stats().decodes == 0


def test_tensor_that_fails_to_decode_is_reported_each_time():
    made, _ = models.chain(4, 64, 32)
    wrong = next(item for item in made.graph.node[2].attribute if item.name == "crc32")
    wrong.i ^= 1
    run = session(made.SerializeToString(), 2 * 64 * 32 * 4, threads=3)
    for _ in range(3):
        with pytest.raises(Exception, match="CRC-32"):
            run.run(None, {"x0": models.weights(1, 32)})


def test_two_models_of_one_payload_and_other_types():
    array = models.weights(64, 96)
    bits = models.payload(array)
    items = [models.Packed("A", array, bits=bits), models.Packed("B", array.astype(np.float16), bits=bits)]
    made = models.model(
        [helper.make_node("Cast", ["B"], ["b"], to=TensorProto.FLOAT), helper.make_node("Sub", ["A", "b"], ["y"])],
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        items,
    )
    run = session(made.SerializeToString(), array.nbytes)
    for _ in range(3):
        difference = run.run(None, {})[0]
        assert np.array_equal(difference, items[0].values - items[1].values.astype(np.float32))

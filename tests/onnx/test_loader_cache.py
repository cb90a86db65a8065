"""Sessions that keep decoded tensors within a budget."""

from __future__ import annotations

import functools
import gc
import threading

import models
import numpy as np
import onnxruntime as ort
import pytest
from caching import caching_session
from onnx import TensorProto, helper

import nnc_onnx.runtime.budget
from nnc_codec.errors import InvalidArgumentError
from nnc_onnx.errors import CarriageError
from nnc_onnx.runtime import settings
from nnc_onnx.runtime.graph_scan import scan_graph
from nnc_onnx.runtime.library import RuntimeStats, reset_stats, stats
from nnc_onnx.runtime.loader import InferenceSession, register

CPU = ["CPUExecutionProvider"]
LAYERS, WIDE, NARROW = 10, 128, 64
TENSOR = WIDE * NARROW * 4

session = functools.partial(caching_session, levels=False)


@pytest.fixture(scope="module")
def chain() -> bytes:
    return models.chain(LAYERS, WIDE, NARROW)[0].SerializeToString()


@pytest.fixture(scope="module")
def feeds() -> dict[str, np.ndarray]:
    return {"x0": models.weights(5, NARROW, seed=9)}


@pytest.fixture(scope="module")
def expected(chain, feeds) -> bytes:
    return InferenceSession(chain, providers=CPU, mode="lazy").run(None, feeds)[0].tobytes()


def counters(run: InferenceSession, feeds: dict[str, np.ndarray], runs: int) -> tuple[RuntimeStats, set[bytes]]:
    reset_stats()
    outputs = {run.run(None, feeds)[0].tobytes() for _ in range(runs)}
    return stats(), outputs


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("slots", [0.5, 1, 2, 5, 9, 10, 50])
@pytest.mark.parametrize("levels", [False, True])
def test_same_bits_within_the_budget(chain, feeds, expected, slots, threads, levels):
    gc.collect()
    budget = int(slots * TENSOR)
    counts, outputs = counters(session(chain, budget, threads, levels=levels), feeds, 6)
    assert outputs == {expected}
    assert counts.cache_peak_bytes <= budget
    assert counts.cache_hits + counts.cache_misses == counts.computes == 6 * LAYERS


@pytest.mark.parametrize("slots", [2, 5, 9])
def test_cyclic_use_hits_what_fits(chain, feeds, slots):
    """Dropping the tensor that was used longest ago would hit nothing at all."""
    run = session(chain, slots * TENSOR)
    counters(run, feeds, 2)
    counts, _ = counters(run, feeds, 10)
    assert counts.cache_hits == 10 * slots
    assert counts.decodes == 10 * (LAYERS - slots)


def test_everything_fits(chain, feeds):
    run = session(chain, LAYERS * TENSOR)
    counters(run, feeds, 1)
    counts, _ = counters(run, feeds, 5)
    assert (counts.decodes, counts.cache_misses, counts.cache_hits) == (0, 0, 5 * LAYERS)


def test_missing_tensors_are_decoded_ahead(chain, feeds, expected):
    run = session(chain, 4 * TENSOR, threads=3)
    counters(run, feeds, 3)
    counts, outputs = counters(run, feeds, 10)
    assert outputs == {expected}
    # Two of three missing tensors were decoded together with another one.
    assert counts.cache_misses <= 10 * LAYERS / 2
    assert counts.decodes <= 10 * LAYERS


def test_memory_goes_with_the_sessions(chain, feeds):
    gc.collect()
    before = stats()
    first, second = session(chain, 4 * TENSOR), session(chain, 8 * TENSOR)
    for run in (first, second):
        run.run(None, feeds)
    assert stats().cache_bytes == 8 * TENSOR
    del second, run
    gc.collect()
    assert stats().cache_bytes <= 4 * TENSOR
    del first
    gc.collect()
    assert (stats().cache_bytes, stats().kernels) == (0, before.kernels)


def test_sessions_share_equal_tensors(chain, feeds, expected):
    gc.collect()
    first, second = session(chain, LAYERS * TENSOR), session(chain, LAYERS * TENSOR)
    counters(first, feeds, 1)
    counts, outputs = counters(second, feeds, 2)
    assert outputs == {expected}
    assert (counts.decodes, counts.cache_bytes) == (0, LAYERS * TENSOR)
    del first
    gc.collect()
    counts, outputs = counters(second, feeds, 2)
    assert outputs == {expected}
    assert (counts.decodes, counts.cache_bytes) == (0, LAYERS * TENSOR)


def test_consumer_that_works_in_place_leaves_the_cache_alone():
    item = models.Packed("W", models.weights(64, 64), after="x")
    made = models.model(
        [
            helper.make_node("Sigmoid", ["W"], ["s"]),
            helper.make_node("Tanh", ["s"], ["t"]),
            helper.make_node("MatMul", ["x", "t"], ["y"]),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 64])],
        [item],
    )
    feeds = {"x": models.weights(2, 64, seed=1)}
    run = session(made.SerializeToString(), 1 << 20)
    _, outputs = counters(run, feeds, 5)
    assert len(outputs) == 1
    assert stats().cache_hits == 4


def lends() -> bool:
    return settings.onnxruntime_version() >= settings.OLDEST_LENDING


@pytest.mark.skipif(not lends(), reason="onnxruntime is older than 1.23")
def test_tensors_that_are_only_read_are_not_copied(chain, feeds, expected):
    run = session(chain, LAYERS * TENSOR, threads=2)
    counts, outputs = counters(run, feeds, 3)
    assert outputs == {expected}
    assert counts.cache_loans == 3 * LAYERS


def test_options_used_for_another_graph_lend_nothing_of_it():
    """The same name and payload, once only read and once overwritten in place."""
    item = models.Packed("W", models.weights(64, 64), after="x")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    read = [helper.make_node("MatMul", ["x", "W"], ["y"])]
    overwritten = [helper.make_node("Sigmoid", ["W"], ["s"]), helper.make_node("MatMul", ["x", "s"], ["y"])]
    options = ort.SessionOptions()
    feeds = {"x": models.weights(2, 64, seed=1)}
    for nodes in (read, overwritten, read, overwritten):
        data = models.model(nodes, inputs, outputs, [item]).SerializeToString()
        plain = InferenceSession(data, providers=CPU, mode="lazy").run(None, feeds)[0]
        for kind, kept in ((InferenceSession, {"resident": False}), (ort.InferenceSession, {})):
            options.enable_mem_reuse = True
            run = kind(data, options, providers=CPU, **kept)
            for _ in range(3):
                assert run.run(None, feeds)[0].tobytes() == plain.tobytes()


def test_activation_that_does_not_fit_into_memory_is_an_error():
    item = models.Packed("W", models.weights(8, 16), after="x")
    made = models.model(
        [
            helper.make_node("MatMul", ["x", "W"], ["y"]),
            helper.make_node("ConstantOfShape", ["size"], ["z"]),
        ],
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8]),
            helper.make_tensor_value_info("size", TensorProto.INT64, [2]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, None),
        ],
        [item],
    )
    run = session(made.SerializeToString(), 1 << 20)
    x = models.weights(1, 8, seed=1)
    with pytest.raises(Exception, match="ConstantOfShape"):
        run.run(None, {"x": x, "size": np.array([1 << 24, 1 << 24])})
    assert run.run(None, {"x": x, "size": np.array([1, 2])})[0].shape == (1, 16)


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        ([("MatMul", ["x", "W"], "y")], ["W"]),
        ([("MatMul", ["W", "x"], "y")], ["W"]),
        ([("Gemm", ["x", "x", "W"], "y")], []),
        ([("Identity", ["W"], "y")], []),
        ([("MatMul", ["x", "W"], "m"), ("Relu", ["W"], "y")], []),
        ([("Conv", ["x", "W", "b"], "y")], ["W"]),
        ([("Conv", ["W", "x"], "y")], []),
    ],
)
def test_which_tensors_are_shareable(nodes, names):
    item = models.Packed("W", models.weights(8, 8))
    made = models.model(
        [helper.make_node(op, inputs, [output]) for op, inputs, output in nodes],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [item],
    )
    assert scan_graph(made.SerializeToString()).shareable == tuple(names)
    made.graph.node[1].domain = "somewhere.else"
    assert scan_graph(made.SerializeToString()).shareable == ()


def test_a_consumer_in_a_subgraph_or_a_graph_output_forbids_sharing():
    item = models.Packed("W", models.weights(8, 8))
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    body = helper.make_graph([helper.make_node("Relu", ["W"], ["y"])], "body", [], [value])
    branches = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    read = helper.make_node("MatMul", ["W", "W"], ["m"])
    for nodes, outputs in (([read, branches], [value]), ([read], [item.info])):
        made = models.model(nodes, [helper.make_tensor_value_info("c", TensorProto.BOOL, [])], outputs, [item])
        assert scan_graph(made.SerializeToString()).shareable == ()


def test_output_of_the_graph_can_be_written_to():
    item = models.Packed("W", models.weights(24, 24))
    made = models.model([], [], [helper.make_tensor_value_info("W", TensorProto.FLOAT, [24, 24])], [item])
    run = session(made.SerializeToString(), 1 << 20)
    for _ in range(3):
        output = run.run(None, {})[0]
        assert np.array_equal(output, item.values)
        output[:] = 0


def test_damage_found_ahead_is_reported_where_it_is_used():
    made, _ = models.chain(4, 64, 32)
    wrong = next(attribute for attribute in made.graph.node[2].attribute if attribute.name == "crc32")
    wrong.i ^= 1
    run = session(made.SerializeToString(), 4 * 64 * 32 * 4, threads=3)
    for _ in range(3):
        with pytest.raises(CarriageError) as caught:
            run.run(None, {"x0": models.weights(1, 32)})
        assert caught.value.tensor == "W2"


def test_many_threads_and_sessions_under_eviction(chain, feeds, expected):
    sessions = [session(chain, 3 * TENSOR, threads) for threads in (1, 2)]
    failures: list[str] = []

    def work(number: int) -> None:
        for turn in range(50):
            output = sessions[(number + turn) % 2].run(None, feeds)[0]
            if output.tobytes() != expected:
                failures.append(f"thread {number}, turn {turn}")

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
    assert stats().cache_bytes <= 3 * TENSOR


def test_sessions_come_and_go_while_another_runs(chain, feeds, expected):
    run = session(chain, 3 * TENSOR, 2)
    stop = threading.Event()
    outputs: set[bytes] = set()

    def work() -> None:
        while not stop.is_set():
            outputs.add(run.run(None, feeds)[0].tobytes())

    worker = threading.Thread(target=work)
    worker.start()
    for _ in range(10):
        other = session(chain, 3 * TENSOR, 2)
        assert other.run(None, feeds)[0].tobytes() == expected
        del other
        gc.collect()
    stop.set()
    worker.join()
    assert outputs == {expected}


def test_auto_without_constants_keeps_tensors_on_the_cpu(chain, feeds):
    run = InferenceSession(chain, providers=CPU, resident=False)
    run.run(None, feeds)
    counts, _ = counters(run, feeds, 2)
    assert counts.cache_hits == 2 * LAYERS


def test_own_session_with_a_cache(chain, feeds, expected):
    options = ort.SessionOptions()
    register(options, mode="cache", cache_bytes=5 * TENSOR)
    run = ort.InferenceSession(chain, options, providers=CPU)
    _, outputs = counters(run, feeds, 3)
    assert outputs == {expected}
    assert stats().cache_hits > 0


@pytest.mark.parametrize(("cache_bytes", "slots"), [("all", LAYERS), (1.0, LAYERS), (0.5, LAYERS // 2), (0.0, 0)])
def test_budget_by_fraction(chain, feeds, expected, cache_bytes, slots, monkeypatch):
    monkeypatch.setattr(nnc_onnx.runtime.budget, "ROUNDING", 1024)
    gc.collect()
    assert scan_graph(chain).decoded_bytes == LAYERS * TENSOR
    run = InferenceSession(
        chain, providers=CPU, mode="cache", cache_bytes=cache_bytes, resident=False, cache_levels=False
    )
    _, outputs = counters(run, feeds, 3)
    assert outputs == {expected}
    assert stats().cache_bytes == slots * TENSOR


@pytest.mark.parametrize("cache_bytes", [-1, -0.5, 1.5, float("nan"), "some"])
def test_what_is_no_budget(chain, cache_bytes):
    with pytest.raises(InvalidArgumentError, match="cache_bytes"):
        InferenceSession(chain, providers=CPU, cache_bytes=cache_bytes)
    with pytest.raises(InvalidArgumentError):
        register(ort.SessionOptions(), cache_bytes=cache_bytes)

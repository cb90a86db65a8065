"""Sessions that run for long, side by side, and end at any time."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from nnc_onnx.runtime.library import reset_stats, stats
from nnc_onnx.runtime.loader import InferenceSession

CPU = ["CPUExecutionProvider"]
LAYERS, WIDE, NARROW = 6, 96, 64
TENSOR = WIDE * NARROW * 4
ROWS = 1500

CACHES = {
    "nothing": {"mode": "lazy"},
    "values": {"mode": "cache", "cache_bytes": 3 * TENSOR, "resident": False, "cache_levels": False},
    "levels": {"mode": "cache", "cache_bytes": 3 * TENSOR, "resident": False},
    "constants": {"mode": "cache", "cache_bytes": 4 * TENSOR},
}


def with_table(layers: int = LAYERS) -> onnx.ModelProto:
    """Rows of a table through a chain of layers."""
    made, _ = models.chain(layers, WIDE, NARROW, scan_order=1)
    array = models.weights(ROWS, NARROW)
    item = models.Packed("T", array, bits=models.payload(array, "T", scan_order=1))
    made.graph.node.insert(0, item.node)
    made.graph.initializer.append(item.initializer)
    made.graph.value_info.append(item.info)
    made.graph.node.insert(layers + 1, helper.make_node("Gather", ["T", "i"], ["x0"]))
    del made.graph.input[:]
    made.graph.input.append(helper.make_tensor_value_info("i", TensorProto.INT64, ["n"]))
    return made


@pytest.fixture(scope="module")
def model() -> bytes:
    return with_table().SerializeToString()


@pytest.fixture(scope="module")
def work() -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    return [generator.integers(0, ROWS, 12) for _ in range(16)]


@pytest.fixture(scope="module")
def expected(model, work) -> list[bytes]:
    run = session(model, threads=1, mode="lazy")
    return [run.run(None, {"i": i})[0].tobytes() for i in work]


def session(model: bytes, threads: int = 1, **settings: object) -> InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return InferenceSession(model, options, providers=CPU, **settings)


def in_threads(count: int, task) -> None:
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            task(number)
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, failures[0]


@pytest.mark.parametrize("cache", CACHES)
def test_four_threads_two_hundred_runs(model, work, expected, cache):
    run = session(model, **CACHES[cache])

    def task(number: int) -> None:
        for turn in range(200):
            which = (turn + 5 * number) % len(work)
            assert np.allclose(
                run.run(None, {"i": work[which]})[0], np.frombuffer(expected[which], np.float32).reshape(12, -1)
            )
            if cache != "constants":
                assert run.run(None, {"i": work[which]})[0].tobytes() == expected[which]

    in_threads(4, task)


def test_sessions_of_all_kinds_on_one_model_side_by_side(model, work, expected):
    runs = [session(model, **settings) for name, settings in CACHES.items() if name != "constants"]

    def task(number: int) -> None:
        for turn in range(100):
            which = turn % len(work)
            assert runs[(number + turn) % len(runs)].run(None, {"i": work[which]})[0].tobytes() == expected[which]

    in_threads(4, task)


@pytest.mark.parametrize("cache", ["values", "levels"])
def test_sessions_end_while_others_run(model, work, expected, cache):
    gc.collect()
    before = stats().kernels
    stop = threading.Event()
    alive = [session(model, **CACHES[cache])]

    def task(number: int) -> None:
        if number == 0:
            try:
                for _ in range(25):
                    other = session(model, **CACHES[cache])
                    assert other.run(None, {"i": work[1]})[0].tobytes() == expected[1]
                    del other
                    gc.collect()
            finally:
                stop.set()
        while not stop.is_set():
            assert alive[0].run(None, {"i": work[number]})[0].tobytes() == expected[number]

    in_threads(3, task)
    alive.clear()
    gc.collect()
    assert (stats().kernels, stats().cache_bytes) == (before, 0)


def test_smaller_budget_takes_effect_when_the_session_with_the_larger_one_ends(model, work, expected):
    gc.collect()
    small = session(model, mode="cache", cache_bytes=2 * TENSOR, resident=False)
    large = session(model, mode="cache", cache_bytes=4 << 20, resident=False)
    for run in (small, large):
        for which, i in enumerate(work):
            assert run.run(None, {"i": i})[0].tobytes() == expected[which]
    assert stats().cache_bytes > 2 * TENSOR
    del large, run
    gc.collect()
    assert stats().cache_bytes <= 2 * TENSOR
    for which, i in enumerate(work):
        assert small.run(None, {"i": i})[0].tobytes() == expected[which]
    assert stats().cache_bytes <= 2 * TENSOR


def test_branch_not_taken_costs_nothing_in_a_cache():
    array = models.weights(64, 64)
    item = models.Packed("W", array)
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    then = helper.make_graph(
        [item.node, helper.make_node("MatMul", ["x", "W"], ["y"])], "then", [], [value], value_info=[item.info]
    )
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "else", [], [value])
    made = models.model(
        [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
        [
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64]),
        ],
        [value],
        [],
        [item.initializer],
    )
    run = session(made.SerializeToString(), mode="cache", cache_bytes=1 << 20, resident=False)
    x = models.weights(2, 64, seed=1)
    reset_stats()
    for _ in range(3):
        assert np.array_equal(run.run(None, {"c": np.array(False), "x": x})[0], -x)
    assert stats().computes == 0
    for _ in range(3):
        assert np.allclose(run.run(None, {"c": np.array(True), "x": x})[0], x @ item.values, atol=1e-5)
    assert stats().computes == 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize("cache", ["nothing", "values", "levels"])
def test_ten_thousand_runs_do_not_leak(cache):
    made = with_table(2)
    run = session(
        made.SerializeToString(), **{**CACHES[cache], **({"cache_bytes": TENSOR} if cache != "nothing" else {})}
    )
    generator = np.random.default_rng(1)

    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096

    def runs(count: int) -> None:
        for _ in range(count):
            run.run(None, {"i": generator.integers(0, ROWS, 3)})

    runs(1000)
    gc.collect()
    before = resident()
    runs(10000)
    gc.collect()
    assert resident() - before < 2 << 20


def test_sessions_do_not_leak(model, work):
    for settings in CACHES.values():
        session(model, **settings).run(None, {"i": work[0]})
    gc.collect()
    before = stats()
    for settings in CACHES.values():
        for _ in range(5):
            session(model, **settings).run(None, {"i": work[0]})
    gc.collect()
    after = stats()
    assert (after.kernels, after.cache_bytes) == (before.kernels, before.cache_bytes)

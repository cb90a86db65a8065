"""Sharing work out: order, bounds, errors, and bytes that know nothing of threads."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import numpy as np
import pytest

import nnc_codec
from nnc_codec import EncodeParams, UpdateState, _native, parallel, payload
from nnc_codec.parallel import run_all


class Gauge:
    """Counts what is under way."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = 0

    def __call__(self, size: int) -> int:
        with self.lock:
            self.now += size
            self.most = max(self.most, self.now)
        time.sleep(0.002)
        with self.lock:
            self.now -= size
        return -size


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order(workers: int) -> None:
    items = [(7 * i) % 100 * 10_000 for i in range(100)]
    seen: list[int] = []
    executor = ThreadPoolExecutor(workers) if workers else None
    assert run_all(lambda x: x + 1, items, items, executor, done=seen.append) == [x + 1 for x in items]
    assert sorted(seen) == list(range(100))


def test_large_items_come_first() -> None:
    order: list[int] = []
    with ThreadPoolExecutor(1) as one:
        run_all(order.append, [10**6, 10**8, 10**7], [10**6, 10**8, 10**7], one)
    assert order == [10**8, 10**7, 10**6]


def test_bytes_in_flight_are_bounded() -> None:
    sizes = [40_000_000, *[1_000_000] * 30]
    gauge = Gauge()
    with ThreadPoolExecutor(8) as executor:
        assert run_all(gauge, sizes, sizes, executor, max_in_flight_bytes=3_000_000) == [-size for size in sizes]
    assert gauge.most == 40_000_000
    gauge = Gauge()
    with ThreadPoolExecutor(8) as executor:
        run_all(gauge, sizes[1:], sizes[1:], executor, max_in_flight_bytes=3_000_000)
    assert 1_000_000 < gauge.most <= 3_000_000


def test_small_items_share_a_task() -> None:
    class Counting(Executor):
        submitted = 0

        def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
            self.submitted += 1
            future: Future[object] = Future()
            future.set_result(fn(*args, **kwargs))
            return future

    executor = Counting()
    run_all(abs, list(range(10_000)), [100] * 10_000, executor)
    assert 10 < executor.submitted < 1_000


def test_the_error_does_not_depend_on_timing() -> None:
    def fail(x: int) -> int:
        time.sleep(0.0005 * (x % 7))
        if x % 10 == 3:
            raise ValueError(x)
        return x

    items = list(range(10**6, 10**6 + 60))
    for workers in (1, 2, 8):
        with ThreadPoolExecutor(workers) as executor, pytest.raises(ValueError, match="1000053"):
            run_all(fail, items, items, executor)


def test_bytes_do_not_depend_on_workers() -> None:
    rng = np.random.default_rng(0)
    tensors = {f"t{i}": rng.standard_normal((1 + i % 5, 40 * (1 + i % 3))).astype(np.float32) for i in range(150)}
    tensors["large"] = rng.standard_normal((600, 300)).astype(np.float32)
    params = EncodeParams(qp=-8, entry_points_from=100_000)
    expected = nnc_codec.encode(tensors, params)
    for workers in (1, 2, 7):
        with ThreadPoolExecutor(workers) as executor:
            assert nnc_codec.encode(tensors, params, executor=executor, max_in_flight_bytes=1) == expected
            decoded = nnc_codec.decode(expected, executor=executor)
        assert list(decoded) == list(tensors)
        for name, values in nnc_codec.decode(expected).items():
            assert decoded[name].tobytes() == values.tobytes()


def test_large_tensors_get_entry_points() -> None:
    large = np.random.default_rng(1).standard_normal((300, 70)).astype(np.float32)
    tensors = {"large": large, "small": large[:10], "vector": large.reshape(-1)}

    def orders(params: EncodeParams, base: UpdateState | None = None) -> list[int]:
        units = nnc_codec.open(nnc_codec.encode(tensors, params, base=base)).units
        return [unit.data_unit.scan_order for unit in units if unit.data_unit is not None]

    assert orders(EncodeParams()) == [0, 0, 0]
    assert orders(EncodeParams(entry_points_from=21_000)) == [4, 0, 0]
    assert orders(EncodeParams(entry_points_from=21_001)) == [0, 0, 0]
    assert orders(EncodeParams(entry_points_from=21_000, scan_order=1)) == [1, 1, 0]
    assert orders(EncodeParams(entry_points_from=21_000), UpdateState()) == [0, 0, 0]


@pytest.mark.parametrize("method", ["dq", "uniform", "codebook"])
def test_parts_equal_the_whole(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).standard_normal((500, 33, 3)).astype(np.float32)
    data = nnc_codec.encode({"w": values}, EncodeParams(qp=-8, method=method, entry_points_from=1))  # type: ignore[arg-type]
    whole = nnc_codec.decode(data)["w"]
    monkeypatch.setattr(payload, "PART_ELEMENTS", 10_000)
    assert len(nnc_codec.open(data)["w"].decoding()[1]) == 4
    assert nnc_codec.decode(data)["w"].tobytes() == whole.tobytes()


def test_one_item_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(parallel, "ThreadPoolExecutor")
    data = nnc_codec.encode({"w": np.ones((4, 4), np.float32), "b": np.ones(4, np.float32)})
    assert nnc_codec.decode(data).keys() == {"w", "b"}


def test_native_code_runs_without_the_interpreter_lock() -> None:
    weights = np.random.default_rng(3).standard_normal(1 << 20).astype(np.float32)
    levels = np.empty(weights.size, np.int32)
    values = np.empty(weights.nbytes, np.uint8)
    coding = _native.TensorCoding(rows=1024, cols=1024, dq=True, unary_length=11)
    encoder = _native.PayloadEncoder()
    calls: list[Callable[[], object]] = [
        lambda: _native.quantize_uniform(weights, 0.1, levels),
        lambda: _native.quantize_rate(weights, coding, 0.1, 0.1, levels),
        lambda: _native.quantize_trellis(weights, coding, 0.1, levels),
        lambda: encoder.write_tensor(coding, levels),
    ]
    turns = [0]
    stop = threading.Event()

    def count() -> None:
        while not stop.is_set():
            turns[0] += 1
            time.sleep(0)

    def has_a_turn_during(call: Callable[[], object]) -> bool:
        # Calls are so short that the other thread may not get a processor during one.
        for _ in range(50):
            before = turns[0]
            call()
            if turns[0] > before:
                return True
        return False

    interval = sys.getswitchinterval()
    other = threading.Thread(target=count)
    other.start()
    try:
        # Who holds the lock keeps it for so long that only releasing it lets the other thread run.
        sys.setswitchinterval(60)
        assert all(map(has_a_turn_during, calls))
        data = encoder.finish()

        def decode() -> None:
            _native.PayloadDecoder(np.frombuffer(data, np.uint8)).read_tensor(coding, values, 0, False)

        assert has_a_turn_during(decode)
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        other.join()

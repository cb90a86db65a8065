"""One configuration of a benchmark, in a process of its own: ``python -m nnc_onnx.benchmark.child``.

Reads a JSON task from standard input and writes a JSON result to standard output.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from nnc_codec.errors import NNRError

from ..runtime.running import random_inputs, read_inputs, run_once, session_options
from .report import BenchRow, Configuration

if TYPE_CHECKING:
    from numpy.typing import NDArray


_ENOUGH_SECONDS = 20.0


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure.

    Attributes:
        configuration: how to run.
        model: the model file.
        outputs: ``.npy`` files ``<outputs>.<position>.npy`` receive what the model computed.
        inputs, batch, dims, seed, runs, threads: as in :class:`BenchOptions`.
    """

    configuration: Configuration
    model: str
    outputs: str
    inputs: str | None
    batch: int
    dims: dict[str, int]
    seed: int
    runs: int
    threads: int


def main() -> int:
    """Measure; returns the exit status. A typed error becomes a row that says so."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    try:
        row = measure(task)
    except NNRError as error:
        row = BenchRow(name=task.configuration.name, failure=f"{error.code}: {error}")
    sys.stdout.write(msgspec.json.encode(row).decode())
    return 0


def measure(task: Task) -> BenchRow:
    """Create a session and run it.

    Raises:
        NNRError: as the loader and the run.
    """
    make = _session_maker(task)
    _lower_peak()
    before = _memory()
    start = time.perf_counter()
    session = make()
    create_seconds = time.perf_counter() - start
    feed = read_inputs(Path(task.inputs)) if task.inputs is not None else _made_up(session, task)
    start = time.perf_counter()
    outputs = run_once(session, feed)
    first_seconds = time.perf_counter() - start
    earlier = _counters()
    wall: list[float] = []
    busy: list[float] = []
    while len(wall) < task.runs - 1 and sum(wall) < _ENOUGH_SECONDS:
        start, processor = time.perf_counter(), time.process_time()
        outputs = run_once(session, feed)
        wall.append(time.perf_counter() - start)
        busy.append(time.process_time() - processor)
    after, later = _memory(), _counters()
    for position, output in enumerate(outputs):
        np.save(f"{task.outputs}.{position}.npy", np.asarray(output), allow_pickle=False)
    spent = {name: later[name] - earlier[name] for name in later}
    asked = spent["cache_hits"] + spent["cache_misses"]
    plan = getattr(session, "plan", None)
    return BenchRow(
        name=task.configuration.name,
        mode=plan.mode if plan is not None else "plain",
        runs=len(wall),
        create_seconds=create_seconds,
        first_seconds=first_seconds,
        median_seconds=statistics.median(wall),
        processor_seconds=statistics.median(busy),
        peak_bytes=_beyond(after, before, "VmHWM", "VmRSS"),
        anonymous_bytes=_beyond(after, before, "RssAnon", "RssAnon"),
        file_bytes=_beyond(after, before, "RssFile", "RssFile"),
        constant_bytes=plan.constant_bytes if plan is not None else 0,
        hit_rate=spent["cache_hits"] / asked if asked else None,
        decode_seconds=(spent["decode_ns"] + spent["recoded_ns"]) / 1e9 / len(wall),
    )


def _session_maker(task: Task) -> Any:
    """A function that creates the session, with everything it needs imported already."""
    import onnx  # noqa: F401 - the loader imports it where a model has to be changed
    import onnxruntime

    from ..runtime.loader import InferenceSession

    options = session_options()
    options.intra_op_num_threads = task.threads
    configuration = task.configuration
    providers = ["CPUExecutionProvider"]
    if configuration.mode == "plain":
        return lambda: onnxruntime.InferenceSession(task.model, options, providers=providers)
    return lambda: InferenceSession(
        task.model,
        options,
        providers=providers,
        mode=configuration.mode,
        cache_bytes=configuration.cache_bytes,
        resident=configuration.resident,
    )


def _made_up(session: Any, task: Task) -> dict[str, NDArray[Any]]:
    inputs = session.get_inputs()
    dims = dict(task.dims)
    for value in inputs:
        if value.shape and isinstance(value.shape[0], str):
            dims.setdefault(value.shape[0], task.batch)
    return random_inputs(inputs, task.seed, dims)


def _counters() -> dict[str, int]:
    from ..runtime.library import stats

    counted = stats()
    return {name: getattr(counted, name) for name in ("cache_hits", "cache_misses", "decode_ns", "recoded_ns")}


def _memory() -> dict[str, int]:
    """Bytes by key of /proc/self/status; empty where there is none."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(":")
            if value.endswith(" kB"):
                found[key] = int(value.split()[0]) * 1024
    return found


def _lower_peak() -> None:
    """Make VmHWM start from what is resident now (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _beyond(after: dict[str, int], before: dict[str, int], key: str, base: str) -> int | None:
    return max(after[key] - before[base], 0) if key in after and base in before else None


if __name__ == "__main__":
    raise SystemExit(main())

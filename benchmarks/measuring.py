"""Clocks, memory and tables that all benchmarks share."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
BUDGET = 1.0
"""Seconds after which an action is not repeated any more."""


class Row(NamedTuple):
    """One measured figure.

    Attributes:
        section: table it belongs to.
        what: what was done.
        data: to what.
        ours: the figure, million weights per second if nothing else is said.
        theirs: NNCodec's; empty where it has no counterpart.
        ratio: how many times better ours is, or how large it is against a bound.
    """

    section: str
    what: str
    data: str
    ours: str
    theirs: str = ""
    ratio: str = ""


def least(actions: Sequence[Callable[[], object]], repeat: int) -> list[float]:
    """Shortest processor time of every action, which take turns; slow ones are run less often."""
    times = [float("inf")] * len(actions)
    spent = [0.0] * len(actions)
    for _ in range(repeat):
        for i, action in enumerate(actions):
            if spent[i] > BUDGET:
                continue
            start = time.process_time()
            action()
            taken = time.process_time() - start
            times[i] = min(times[i], taken)
            spent[i] += taken
    return times


def timed(action: Callable[[], T]) -> tuple[T, float]:
    """Result and processor time."""
    start = time.process_time()
    result = action()
    return result, time.process_time() - start


def status(key: str) -> int:
    """An entry of /proc/self/status in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def peak_bytes(action: Callable[[], object], first: Callable[[], object]) -> int:
    """Growth of the resident set while an action runs, in a process of its own (Linux).

    Args:
        action: what is measured.
        first: runs before, so that code and libraries are in memory.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        # Arrays come from the system and go back to it (M_MMAP_THRESHOLD), so that none hides in memory freed before.
        ctypes.CDLL(None).mallopt(-3, 1 << 16)
        first()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts at the present size
        before = status("VmRSS")
        action()
        os.write(write, str(status("VmHWM") - before).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return int(pipe.read())


class Clocked(ThreadPoolExecutor):
    """Threads that note the processor time of every task, in the order in which they were handed out."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.tasks: list[Future[float]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As of the base class."""
        clock: Future[float] = Future()
        self.tasks.append(clock)

        def run() -> Any:
            start = time.thread_time()
            try:
                return fn(*args, **kwargs)
            finally:
                clock.set_result(time.thread_time() - start)

        return super().submit(run)


class Scaling(NamedTuple):
    """What two threads gain, from processor times, which other work on the machine hardly touches.

    Attributes:
        serial: share of the processor time spent in the thread that hands out the work.
        gain: one thread's time over that of two, if each task runs on the first thread that is free.
        wall: what the clock on the wall said.
        seconds: processor time of one thread.
    """

    serial: float
    gain: float
    wall: float
    seconds: float


def scaling(action: Callable[[ThreadPoolExecutor], object]) -> Scaling:
    """Run an action with one thread and with two."""
    walls, threads = [], []
    for workers in (1, 2):
        with Clocked(workers) as executor:
            start, main = time.perf_counter(), time.thread_time()
            action(executor)
            walls.append(time.perf_counter() - start)
            threads.append((time.thread_time() - main, [task.result() for task in executor.tasks]))
    main_time, tasks = threads[0]
    busy = [0.0, 0.0]
    for task in tasks:
        busy[busy.index(min(busy))] += task
    total = main_time + sum(tasks)
    return Scaling(main_time / total, total / (main_time + max(busy)), walls[0] / walls[1], total)


def threads_row(what: str, data: str, gained: Scaling) -> Row:
    """A row of the table of threads."""
    return Row("threads", what, data, f"{gained.gain:.2f}", f"{gained.serial:.1%}", f"{gained.wall:.2f}")


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = ["---"] * len(header)
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *lines))

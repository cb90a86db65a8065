"""Work on many tensors: the largest first, small ones in batches, within a bound on what is under way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from os import cpu_count
from typing import TypeVar

MAX_IN_FLIGHT_BYTES = 1 << 28
"""Bytes of tensors that are worked on at the same time unless the caller says otherwise; one tensor may be larger."""

_BATCH_BYTES = 1 << 18
_ITEM_BYTES = 1 << 12
"""What an item costs beside its bytes, in bytes of a large one."""

_WINDOW = 4 * (cpu_count() or 1) + 16
"""Most batches submitted at a time: enough for every worker, and few to wait for."""

_T = TypeVar("_T")
_R = TypeVar("_R")


def run_all(
    function: Callable[[_T], _R],
    items: Sequence[_T],
    sizes: Sequence[int],
    executor: Executor | None,
    *,
    done: Callable[[int], None] | None = None,
    max_in_flight_bytes: int = MAX_IN_FLIGHT_BYTES,
) -> list[_R]:
    """Apply a function to every item.

    Args:
        function: releases the interpreter lock where it takes long.
        items: arguments.
        sizes: bytes of every item, by which they are ordered and shared out.
        executor: where it runs and which is left running; ``None`` uses threads, one per processor, or the caller's
            where there is work for one only.
        done: called in the caller's thread with the index of every item that is finished.
        max_in_flight_bytes: most bytes of items under way at a time; a larger item runs alone.

    Returns:
        The results in the order of the items.

    Raises:
        Exception: what the function raised for the first of the failing batches, whatever the number of threads.
    """
    batches = _batches(sizes)
    results: dict[int, _R] = {}

    def collect(batch: list[int], found: list[_R]) -> None:
        results.update(zip(batch, found, strict=True))
        if done is not None:
            for index in batch:
                done(index)

    if executor is not None:
        _submit(function, items, sizes, batches, executor, collect, max_in_flight_bytes)
    elif len(batches) <= 1 or cpu_count() == 1:
        for batch in batches:
            collect(batch, _run(function, [items[index] for index in batch]))
    else:
        with ThreadPoolExecutor(min(len(batches), cpu_count() or 1)) as own:
            _submit(function, items, sizes, batches, own, collect, max_in_flight_bytes)
    return [results[index] for index in range(len(items))]


def _batches(sizes: Sequence[int]) -> list[list[int]]:
    """Indices by decreasing size, small ones together."""
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        cost = sizes[index] + _ITEM_BYTES
        if cost > room:
            batches.append([])
            room = _BATCH_BYTES
        batches[-1].append(index)
        room -= cost
    return batches


def _submit(
    function: Callable[[_T], _R],
    items: Sequence[_T],
    sizes: Sequence[int],
    batches: list[list[int]],
    executor: Executor,
    collect: Callable[[list[int], list[_R]], None],
    max_in_flight_bytes: int,
) -> None:
    """Keep an executor busy until all batches are through, or one has failed and those before it are through."""
    pending: dict[Future[list[_R]], int] = {}
    costs = [sum(sizes[index] for index in batch) for batch in batches]
    following = in_flight = 0
    failed = len(batches)
    failure: BaseException | None = None
    try:
        while following < failed or any(number < failed for number in pending.values()):
            while following < failed and len(pending) < _WINDOW:
                if pending and in_flight + costs[following] > max_in_flight_bytes:
                    break
                batch = [items[index] for index in batches[following]]
                pending[executor.submit(_run, function, batch)] = following
                in_flight += costs[following]
                following += 1
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                number = pending.pop(future)
                in_flight -= costs[number]
                error = future.exception()
                if error is None:
                    collect(batches[number], future.result())
                elif number < failed:
                    failed, failure = number, error
    finally:
        for future in pending:
            future.cancel()
    if failure is not None:
        raise failure


def _run(function: Callable[[_T], _R], batch: list[_T]) -> list[_R]:
    return [function(item) for item in batch]

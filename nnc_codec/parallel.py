"""Where work on many tensors runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from os import cpu_count


@contextlib.contextmanager
def pool_of(executor: Executor | None, jobs: int) -> Iterator[Executor]:
    """The caller's executor, left running, or threads of our own (the native code runs without the GIL)."""
    if executor is not None:
        yield executor
        return
    with ThreadPoolExecutor(max_workers=max(1, min(jobs, cpu_count() or 1))) as own:
        yield own

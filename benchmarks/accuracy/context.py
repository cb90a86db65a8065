"""What methods are given and what they give."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tasks import Run

KEPT = 0.005
"""Share of the original's metric that may be lost for a row to count as the same."""


class Absent(Exception):
    """Something a method needs is not installed, or the model has nothing for it."""


class Took(NamedTuple):
    """How long something took.

    Attributes:
        wall: seconds.
        cpu: processor seconds, of child processes too.
    """

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: object) -> Took:
        """Both, one after the other."""
        return Took(self.wall + other.wall, self.cpu + other.cpu) if isinstance(other, Took) else NotImplemented


class Stopwatch:
    """Measures the block it is used with; `took` is there afterwards."""

    took = Took()

    def __enter__(self) -> Stopwatch:
        """Start."""
        self._start = time.perf_counter(), _processor_time()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self.took = Took(time.perf_counter() - self._start[0], _processor_time() - self._start[1])


class Outcome(NamedTuple):
    """One way of making a model smaller.

    Attributes:
        label: the method and its setting.
        nbytes: size of everything needed to run the model.
        metric: of what comes out; ``None`` where nothing is lost.
        encode: time to make it.
        decode: time to get back what can be run; zero if it is run as it is.
    """

    label: str
    nbytes: int
    metric: float | None
    encode: Took = Took()
    decode: Took = Took()


Outcomes = Iterator[Outcome]


class Context(NamedTuple):
    """What methods work with.

    Attributes:
        model: the original.
        folder: for temporary files.
        score: metric of something that runs.
        feeds: real inputs, about 64 samples.
        nncodec: Python interpreter with NNCodec.
        original: metric of the original.
    """

    model: Path
    folder: Path
    score: Callable[[Run], float]
    feeds: Callable[[], list[dict[str, Any]]]
    nncodec: Path | None
    original: float

    def keeps(self, metric: float) -> bool:
        """Whether a metric is as good as the original's."""
        return keeps(metric, self.original)


def keeps(metric: float, original: float) -> bool:
    """Whether at most :data:`KEPT` of the original's metric is lost."""
    return metric >= original - KEPT * abs(original)


def _processor_time() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system

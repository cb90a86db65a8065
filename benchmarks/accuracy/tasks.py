"""Tasks: models with a metric, and what they are fed."""

from __future__ import annotations

import importlib.util
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime

CALIBRATION_SAMPLES = 64

Run = Callable[[dict[str, Any]], list[Any]]


class Task(NamedTuple):
    """A model and how it is judged.

    Attributes:
        name: of the task.
        model: its ONNX file.
        score: metric of something that runs; higher is better.
        feeds: real inputs without labels, about 64 samples.
        unit: what the metric is.
        always_held_out: whether the feeds are never among those judged.
    """

    name: str
    model: Path
    score: Callable[[Run], float]
    feeds: Callable[[], list[dict[str, Any]]]
    unit: str = ""
    always_held_out: bool = False


def evaluation_tasks(folder: Path, split: Path | None = None) -> dict[str, Task]:
    """The tasks of an evaluation folder: ``evaluate.py`` (``TASKS``, ``score(task, run)``) and ``models/<task>.onnx``.

    Args:
        folder: the evaluation folder.
        split: folder with ``calibration`` and ``held_out`` in the place of ``data``; without it calibration inputs
            are some of those that are judged.
    """
    evaluation = _module(folder / "evaluate.py")
    whole = folder / "data"
    judged, calibration = (whole, whole) if split is None else (split / "held_out", split / "calibration")
    tasks = {}
    for name in evaluation.TASKS:
        model = folder / "models" / f"{name}.onnx"
        if not model.exists():
            continue

        def score(run: Run, name: str = name, data: Path = judged) -> float:
            with _data(evaluation, data):
                return float(next(iter(evaluation.score(name, run).values())))

        def feeds(name: str = name, model: Path = model) -> list[dict[str, Any]]:
            return recorded_feeds(lambda run: score(run, name, calibration), model)

        tasks[name] = Task(name, model, score, feeds)
    return tasks


def runner(model: Path) -> Run:
    """A plain model as a function from feed to outputs."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return lambda feed: list(session.run(None, feed))


def float_tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """All float32 tensors of a model, wherever they are."""
    from nnc_onnx.model_io import all_tensors

    return [tensor for tensor in all_tensors(model) if tensor.data_type == onnx.TensorProto.FLOAT]


def graph_bytes(model: onnx.ModelProto, gone: Sequence[onnx.TensorProto]) -> int:
    """What is left of a model without the values of some of its tensors, compressed by zlib; the model stays."""
    values = [bytes(tensor.SerializeToString()) for tensor in gone]
    for tensor in gone:
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    size = len(zlib.compress(model.SerializeToString(), 9))
    for tensor, data in zip(gone, values, strict=True):
        tensor.ParseFromString(data)
    return size


def recorded_feeds(score: Callable[[Run], float], model: Path) -> list[dict[str, Any]]:
    """Some of the inputs that a task feeds, spread over all of them; about 64 samples."""
    run = runner(model)
    feeds: list[dict[str, Any]] = []

    def record(feed: dict[str, Any]) -> list[Any]:
        feeds.append({name: np.array(value) for name, value in feed.items()})
        return run(feed)

    score(record)
    wanted = min(CALIBRATION_SAMPLES, len(feeds))
    picked = [feeds[number * len(feeds) // wanted] for number in range(wanted)]
    each = max(1, CALIBRATION_SAMPLES // wanted)
    return [_first(feed, each) for feed in picked]


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("evaluate", path)
    if spec is None or spec.loader is None or not path.exists():
        raise SystemExit(f"{path} is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _data(evaluation: ModuleType, folder: Path) -> Iterator[None]:
    before = evaluation.DATA
    evaluation.DATA = folder
    try:
        yield
    finally:
        evaluation.DATA = before


def _first(feed: dict[str, Any], count: int) -> dict[str, Any]:
    """The first samples of a feed whose inputs all have one batch size."""
    sizes = {value.shape[0] if value.ndim > 1 else None for value in feed.values()}
    if len(sizes) != 1 or None in sizes:
        return feed
    return {name: value[:count] for name, value in feed.items()}

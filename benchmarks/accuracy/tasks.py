"""Tasks of an evaluation folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime

CALIBRATION_SAMPLES = 64

Run = Callable[[dict[str, Any]], list[Any]]


def load_evaluation(folder: Path) -> ModuleType:
    """The module ``evaluate.py`` of `folder`."""
    spec = importlib.util.spec_from_file_location("evaluate", folder / "evaluate.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{folder} has no evaluate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def runner(model: Path) -> Run:
    """A plain model as a function from feed to outputs."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return lambda feed: list(session.run(None, feed))


def recorded_feeds(evaluation: ModuleType, task: str) -> list[dict[str, Any]]:
    """Some of the inputs that a task feeds, spread over all of them; about 64 samples."""
    run = runner(Path(evaluation.HERE) / "models" / f"{task}.onnx")
    feeds: list[dict[str, Any]] = []

    def record(feed: dict[str, Any]) -> list[Any]:
        feeds.append({name: np.array(value) for name, value in feed.items()})
        return run(feed)

    evaluation.score(task, record)
    wanted = min(CALIBRATION_SAMPLES, len(feeds))
    picked = [feeds[number * len(feeds) // wanted] for number in range(wanted)]
    each = max(1, CALIBRATION_SAMPLES // wanted)
    return [_first(feed, each) for feed in picked]


def _first(feed: dict[str, Any], count: int) -> dict[str, Any]:
    """The first samples of a feed whose inputs all have one batch size."""
    sizes = {value.shape[0] if value.ndim > 1 else None for value in feed.values()}
    if len(sizes) != 1 or None in sizes:
        return feed
    return {name: value[:count] for name, value in feed.items()}

"""Our own rows: what ``onnx-nnc pack`` gives by its options."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from context import Context, Outcome, Outcomes, Stopwatch, Took
from tasks import runner

from nnc_codec.formats import PackOptions, ProgressCallback, UnpackOptions
from nnc_onnx import pack
from nnc_onnx.model_io import Model
from nnc_onnx.packing import Planner
from nnc_onnx.plan import PlannedTensor
from nnc_onnx.rd import PRESETS, Goal, Preset, planner_for
from nnc_onnx.rd.errors import CannotRunError, GoalError
from nnc_onnx.rd.fitting import Study
from nnc_onnx.rd.study import study_model
from nnc_onnx.unpacking import unpack

OURS = "onnx-nnc"
CURVE_RATIOS = (0.04, 0.05, 0.06, 0.08, 0.10, 0.12, 0.15, 0.20)
"""Sizes, of the original, that curves have points for; those that cannot be reached are left out."""


def fast(context: Context) -> Outcomes:
    """Steps from the statistics of every tensor."""
    yield _packed(context, f"{OURS} --fast", None)


def planned(context: Context) -> Outcomes:
    """Steps from made-up inputs."""
    study = _SharedStudy(None)
    for preset in PRESETS:
        yield _packed(context, f"{OURS} {_preset(preset)}", study.planner(Goal(preset=preset)), study)


def calibrated(context: Context) -> Outcomes:
    """Steps from real inputs."""
    study = _SharedStudy(context.feeds())
    for preset in PRESETS:
        label = f"{OURS} --calibration {_preset(preset)}"
        yield _packed(context, label, study.planner(Goal(preset=preset)), study)


def curve(context: Context) -> Outcomes:
    """Sizes to reach, without data."""
    return _curve(context, OURS, _SharedStudy(None))


def curve_calibrated(context: Context) -> Outcomes:
    """Sizes to reach, with real inputs."""
    return _curve(context, f"{OURS} --calibration", _SharedStudy(context.feeds()))


def _preset(name: Preset) -> str:
    return f"--preset {name}" + (" (default)" if name == Goal().preset else "")


class _SharedStudy:
    """A model measured once for several goals.

    Attributes:
        took: time of measuring; every row counts it, as if it were the only one.
    """

    def __init__(self, feeds: list[dict[str, Any]] | None) -> None:
        self.took = Took()
        self._feeds = feeds
        self._study: Study | None = None
        self._runs = True

    def planner(self, goal: Goal) -> Planner:
        """A planner for `goal`; the first one that runs measures."""

        def plan(
            model: Model, planned: list[PlannedTensor], options: PackOptions, progress: ProgressCallback | None
        ) -> tuple[list[PlannedTensor], tuple[str, ...]]:
            if self._study is None and self._runs:
                with Stopwatch() as measuring, ThreadPoolExecutor(os.cpu_count()) as executor:
                    try:
                        self._study = study_model(model.proto, planned, model.folder, options, self._feeds, executor)
                    except CannotRunError:
                        self._runs = False
                self.took = measuring.took
            if self._study is None:
                return planner_for(goal, calibration=self._feeds)(model, planned, options, progress)
            return planner_for(goal, study=self._study)(model, planned, options, progress)

        return plan


def _packed(context: Context, label: str, planner: Planner | None, study: _SharedStudy | None = None) -> Outcome:
    target, plain = context.folder / "packed.onnx", context.folder / "plain.onnx"
    before = study.took if study is not None else Took()
    with Stopwatch() as encoding:
        report = pack(context.model, target, PackOptions(force=True), planner=planner)
    with Stopwatch() as decoding:
        unpack(target, plain, UnpackOptions(force=True))
    metric = context.score(runner(plain))
    return Outcome(label, report.packed_bytes, metric, before + encoding.took, decoding.took)


def _curve(context: Context, label: str, study: _SharedStudy) -> Outcomes:
    for ratio in CURVE_RATIOS:
        planner = study.planner(Goal(target_ratio=ratio))
        try:
            yield _packed(context, f"{label} --target-ratio {100 * ratio:g}%", planner, study)
        except (GoalError, CannotRunError):
            continue

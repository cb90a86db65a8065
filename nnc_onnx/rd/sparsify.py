"""Sparsification by what weights do to the outputs, which is measured as for quantization."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from nnc_codec.formats import PackOptions, ProgressCallback

from ..graph.usage import Usage, Value
from ..model_io import Model
from ..plan import PlannedTensor
from ..sparsify import Candidate, may_be_sparse, sparsify_by_size, summary, thresholds, zeroed
from .allocate import Item
from .calibration import Calibration
from .errors import CannotRunError, GoalError
from .fitting import Study
from .goals import Goal, Metric
from .network import Weight
from .sensitivity import hedged
from .study import study_model

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Sparsified(NamedTuple):
    """A model with zeros in its weights.

    Attributes:
        planned: its tensors.
        goal: what is left to aim at when they are quantized.
        notes: for the user.
    """

    planned: list[PlannedTensor]
    goal: Goal | None
    notes: tuple[str, ...]


def sparsify(
    model: Model,
    planned: list[PlannedTensor],
    options: PackOptions,
    sparsity: float,
    goal: Goal | None,
    *,
    calibration: Calibration | None = None,
    metric: Metric | None = None,
    study: Study | None = None,
    progress: ProgressCallback | None = None,
) -> Sparsified:
    """Put zeros where they change the outputs least; on calibration inputs the other weights make up for them.

    Args:
        model: as loaded.
        planned: its tensors.
        options: as for :func:`nnc_onnx.rd.plan_quality`.
        sparsity: share of the weights of :func:`nnc_onnx.sparsify.may_be_sparse` to become zero.
        goal: what is aimed at with zeros and quantization together.
        calibration, metric, study, progress: as for :func:`nnc_onnx.rd.plan_quality`.

    Raises:
        CalibrationError: bad calibration inputs.
        GoalError: the zeros alone miss the goal.
        InvalidModelError, ExternalDataError: values cannot be read.
    """
    usage = Usage(model.proto.graph)
    with ThreadPoolExecutor(options.jobs or os.cpu_count() or 1) as executor:
        try:
            if study is None:
                study = study_model(model.proto, planned, model.folder, options, calibration, executor, progress)
        except CannotRunError:
            # The planner, which meets the same obstacle, decides whether that is an error.
            by_size, notes = sparsify_by_size(planned, usage, model.folder, sparsity)
            return Sparsified(by_size, goal, notes)
        wanted = {tensor.value for tensor in may_be_sparse(planned, usage)}
        items = hedged(study.items) if study.basis == "synthetic" and study.items else study.items
        chosen = [
            (weight, item)
            for weight, item in zip(study.weights, items, strict=True)
            if all(tensor.value in wanted for tensor in weight.tensors)
        ]
        limits = thresholds([Candidate(weight.values, _importance(item)) for weight, item in chosen], sparsity)
        values = dict(executor.map(lambda pair: _zeroed(study, *pair), _pairs(chosen, limits)))
    by_tensor = {tensor.value: values[weight.name] for weight, _ in chosen for tensor in weight.tensors}
    result = with_sparse(planned, by_tensor)
    return Sparsified(result, _left(goal, study, values, metric), (summary(result),))


def with_sparse(planned: Sequence[PlannedTensor], values: dict[Value, NDArray[Any]]) -> list[PlannedTensor]:
    """The tensors with zeros in some of them."""
    return [tensor._replace(sparse=values.get(tensor.value)) for tensor in planned]


def _pairs(chosen: list[tuple[Weight, Item]], limits: list[float]) -> list[tuple[Weight, float]]:
    return [(weight, limit) for (weight, _), limit in zip(chosen, limits, strict=True)]


def _importance(item: Item) -> float:
    """Change of the outputs per squared error of a weight, at the middle of the curve."""
    middle = len(item.curve.qps) // 2
    return float(item.deviation[middle]) / max(float(item.curve.mse[middle]) * item.elements, 1e-300)


def _zeroed(study: Study, weight: Weight, threshold: float) -> tuple[str, NDArray[Any]]:
    if study.feedback is not None and weight.name in study.feedback:
        return weight.name, study.feedback.sparsify(weight, threshold)
    return weight.name, zeroed(weight.values, threshold)


def _left(goal: Goal | None, study: Study, values: dict[str, NDArray[Any]], metric: Metric | None) -> Goal | None:
    """What zeros leave of a goal, whose measures start from the model with the zeros in it."""
    if goal is not None and goal.max_error is not None:
        change = study.check(values)
        left = goal.max_error**2 - change
        if left <= 0:
            raise GoalError(
                f"the zeros alone change the outputs by {math.sqrt(change):.3g}", hint="ask for fewer, or allow more"
            )
        return msgspec.structs.replace(goal, max_error=math.sqrt(left))
    if goal is not None and goal.max_drop is not None and metric is not None:
        drop = float(metric(study.network.run)) - float(metric(lambda feed: study.network.run(feed, values)))
        if not drop < goal.max_drop:
            raise GoalError(f"the zeros alone lower the metric by {drop:.3g}", hint="ask for fewer, or allow more")
        return msgspec.structs.replace(goal, max_drop=goal.max_drop - drop)
    return goal

"""From a model and a goal to a quantization parameter for every tensor."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from nnc_codec.formats import PackOptions, Progress, ProgressCallback
from nnc_codec.params import TensorParams

from ..graph.usage import Value
from ..plan import PlannedTensor
from .calibration import Calibration
from .curves import LAMBDA
from .errors import CannotRunError, GoalError
from .fitting import Basis, Fit, Study, fit_deviation, fit_limits, fit_metric, settled
from .goals import PRESETS, Goal, Metric
from .sensitivity import hedged
from .sizing import fit_size
from .study import study_model

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


class Plan(NamedTuple):
    """What every tensor is coded with.

    Attributes:
        params: by tensor. Tensors that are missing are left to :func:`nnc_codec.quality.choose_quality`.
        basis: what the choice rests on: calibration inputs, made-up inputs, or the weights alone.
        deviation: mean square change of the outputs relative to their power, measured; ``None`` if it was not.
        notes: what the user should know.
        values: what is coded instead of a tensor's own values.
    """

    params: dict[Value, TensorParams]
    basis: Basis
    deviation: float | None
    notes: tuple[str, ...] = ()
    values: Mapping[Value, NDArray[Any]] = MappingProxyType({})


def plan_quality(
    proto: onnx.ModelProto,
    planned: Sequence[PlannedTensor],
    folder: Path,
    options: PackOptions,
    goal: Goal | None = None,
    *,
    original_bytes: int = 0,
    packed_size: Callable[[Plan], int] | None = None,
    calibration: Calibration | None = None,
    metric: Metric | None = None,
    study: Study | None = None,
    progress: ProgressCallback | None = None,
) -> Plan:
    """Choose a quantization parameter for every float tensor that is to be coded.

    Args:
        proto: the model; not changed.
        planned: its tensors, as :func:`nnc_onnx.plan.plan_tensors` gives them.
        folder: where external data lie.
        options: quantization method, density and number of workers. With a ``qp`` of their own, or a method that
            has no step, there is nothing to plan.
        goal: what to aim at.
        original_bytes: size of the model's files; needed for a target ratio.
        packed_size: packs with a plan and tells the size; needed for a target ratio or size.
        calibration: real inputs.
        metric: judges candidates for ``goal.max_drop``.
        study: what :func:`study_model` measured on these tensors with these options, if it has been called already;
            then `calibration` is not read.
        progress: called after every weight measured, with bytes of tensor data.

    Returns:
        The plan. If the model cannot be run it is empty and a note says why; so a target that needs measuring
        fails instead.

    Raises:
        CalibrationError: bad calibration inputs, before any other work.
        GoalError: the target cannot be met, or `metric` or `packed_size` is missing.
        CannotRunError: the model cannot be run and the goal needs it to be.
    """
    goal = goal or Goal()
    if goal.max_drop is not None and metric is None:
        raise GoalError("max_drop needs a metric", hint="give a function that judges a model")
    if goal.size(original_bytes) is not None and packed_size is None:
        raise GoalError("a size needs packing", hint="use planner_for, or give a function that packs")
    if options.qp is not None or options.method not in ("dq", "uniform"):
        return Plan({}, "statistics", None)
    with ThreadPoolExecutor(options.jobs or os.cpu_count() or 1) as executor:
        try:
            if study is None:
                study = study_model(proto, planned, folder, options, calibration, executor, progress)
        except CannotRunError as error:
            explicit = calibration is not None or goal != Goal(preset=goal.preset)
            if explicit:
                raise
            note = f"planned from the weights alone, as with --fast: {error.message}"
            return Plan({}, "statistics", None, (note,))
        if not study.items:
            return Plan({}, study.basis, 0.0, study.notes)
        if progress is not None:
            weighed = sum(weight.values.nbytes for weight in study.weights)
            progress(Progress(what="trying steps for all weights together", done=weighed, total=weighed))
        size_of = None if packed_size is None else lambda fit: packed_size(_plan(study, fit, options))
        fit = choose(study, goal, options, executor, most=goal.size(original_bytes), size_of=size_of, metric=metric)
    return _plan(study, fit, options)


def _plan(study: Study, fit: Fit, options: PackOptions) -> Plan:
    params: dict[Value, TensorParams] = {}
    values: dict[Value, NDArray[Any]] = {}
    for weight, qp in zip(study.weights, fit.choice.qps, strict=True):
        for tensor in weight.tensors:
            params[tensor.value] = TensorParams(qp=qp, method=options.method, lambda_=LAMBDA)
            if weight.name in fit.values:
                values[tensor.value] = fit.values[weight.name]
    if study.vectors is not None:
        params |= study.vectors.params(fit.choice, study.items, options.qp_density)
    return Plan(params, study.basis, fit.change, study.notes, values)


def choose(
    study: Study,
    goal: Goal,
    options: PackOptions,
    executor: Executor,
    *,
    most: int | None = None,
    size_of: Callable[[Fit], int] | None = None,
    metric: Metric | None = None,
) -> Fit:
    """The choice for a goal, from what was measured; one study serves many goals.

    Args:
        study: what was measured.
        goal: what to aim at.
        options: how tensors are coded.
        executor: where they are coded.
        most: bytes of the packed model, if that is the goal.
        size_of: packs with a choice and tells the size.
        metric: judges candidates for ``goal.max_drop``.

    Raises:
        GoalError: the target cannot be met.
    """
    made_up = study.basis == "synthetic"
    if made_up and goal.max_error is None:
        study = study._replace(items=hedged(study.items))
    if most is not None and size_of is not None:
        return fit_size(study.settled, most, size_of, options, executor)
    if goal.max_drop is not None and metric is not None:
        return fit_metric(study.settled, goal.max_drop, metric, options, executor)
    if goal.max_error is not None:
        fit = fit_deviation(study, goal.max_error**2, options, executor)
    else:
        fit = fit_limits(study, PRESETS[goal.preset], options, executor)
    return settled(study, fit, options, executor)

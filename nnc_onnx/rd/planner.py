"""From a model and a goal to a quantization parameter for every tensor."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc_codec.formats import PackOptions, Progress, ProgressCallback
from nnc_codec.params import TensorParams
from nnc_codec.quality import choose_quality, is_best_exact

from ..graph.usage import Usage, Value
from ..plan import PlannedTensor
from .activations import joined_moments, observe
from .calibration import Calibration, load_calibration, shared_out
from .curves import LAMBDA
from .deviation import Deviation
from .errors import CannotRunError, GoalError
from .feedback import FeedbackCoder
from .fitting import Basis, Fit, Study, fit_deviation, fit_limits, fit_metric, settled
from .goals import PRESETS, Goal, Metric
from .inputs import Synthetic
from .network import Feed, Network, Weight
from .sensitivity import PROBE_BITS, hedged, measure_items
from .signature import describe
from .sizing import fit_size
from .states import MOMENT_RUNS, RUNS, STEPS, StatePair, continued
from .tolerance import feeds_back, limits_of
from .vectors import measure_vectors, plannable_vectors, samples_for
from .work import CHECK_SAMPLES, MOMENT_SAMPLES, MOST_SAMPLES, effort

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


def study_model(
    proto: onnx.ModelProto,
    planned: Sequence[PlannedTensor],
    folder: Path,
    options: PackOptions,
    calibration: Calibration | None,
    executor: Executor,
    progress: ProgressCallback | None = None,
) -> Study:
    """Measure a model.

    Raises:
        CalibrationError, CannotRunError: as :func:`plan_quality`.
    """
    wanted = [
        tensor for tensor in planned if tensor.reason is None and tensor.element is not None and tensor.element.is_float
    ]
    network, vectors = _network(proto, wanted, plannable_vectors(planned, Usage(proto.graph)), folder)
    states: tuple[StatePair, ...] = ()
    inputs = [describe(value, network.hollow.graph) for value in network.inputs]
    tokens = all(value.dtype.kind in "iu" for value in inputs)
    feedback: FeedbackCoder | None = None
    final: FeedbackCoder | None = None
    notes: list[str] = []
    if calibration is not None:
        basis: Basis = "calibration"
        feeds = load_calibration(calibration, inputs)
        seen, judged = shared_out(feeds)
        effective = effort(network, judged[0], len(judged), len(PROBE_BITS), len(network.weights) - len(vectors))
        deviation = Deviation(network, _spread(judged, effective.samples))
        few = _spread(judged, min(samples_for(len(vectors), effective.operations), len(judged)))
        try:
            moments = observe(network, seen, executor)
            feedback = FeedbackCoder(moments, executor)
            if judged is not seen:
                others = observe(network, judged, executor)
                final = FeedbackCoder(joined_moments(moments, others, len(judged) / len(feeds)), executor)
        except CannotRunError as error:
            notes.append(_without_feedback(error))
        check = Deviation(network, _spread(judged, min(CHECK_SAMPLES, len(judged))))
    else:
        basis = "synthetic"
        synthetic = Synthetic(network)
        states = tuple(synthetic.states)
        feeds = synthetic.feeds(RUNS * STEPS if states else CHECK_SAMPLES)
        most = len(feeds) if states else MOST_SAMPLES
        effective = effort(network, feeds[0], most, len(PROBE_BITS), len(network.weights) - len(vectors))
        if states:
            feeds = feeds[: max(effective.samples // STEPS, 1) * STEPS]
        few = feeds if states else feeds[: samples_for(len(vectors), effective.operations)]
        deviation = Deviation(network, feeds if states else feeds[: effective.samples], states)
        check = Deviation(network, feeds, states)
        if feeds_back(tokens=tokens):
            fresh = synthetic.feeds(MOMENT_RUNS * STEPS if states else MOMENT_SAMPLES, RUNS * STEPS)
            try:
                seen = [feed for feed, _ in continued(network.run, network.outputs, fresh, states)] if states else fresh
                moments = observe(network, seen, executor)
                feedback = FeedbackCoder(moments, executor, made_up=True)
            except CannotRunError as error:
                notes.append(_without_feedback(error))
    apart = {vector.name for vector in vectors}
    weights = tuple(weight for weight in network.weights if weight.name not in apart and _needs_step(weight, options))
    total = sum(weight.values.nbytes for weight in weights)
    report = _reporter(progress, total)
    items, silent = measure_items(
        weights,
        deviation,
        effective.probes,
        options.qp_density,
        options.method,
        executor,
        report,
        feedback,
    )
    if silent == len(items) and items:
        raise CannotRunError("the outputs react to none of the weights on these inputs")
    if silent:
        notes.append(f"{silent} of {len(items)} weights do not act on the outputs for the inputs tried")
    measured = None
    if vectors and few:
        sampled = deviation if len(few) == effective.samples else Deviation(network, few, states)
        measured = measure_vectors(vectors, sampled, options, executor, made_up=calibration is None)
    return Study(
        network,
        deviation,
        weights,
        tuple(items),
        check,
        limits_of(
            network.hollow.graph,
            states,
            check.signal_share,
            tokens=tokens,
            calibrated=calibration is not None,
            fed_back=feedback is not None,
        ),
        basis,
        tuple(notes),
        feedback,
        final,
        measured,
    )


def _network(
    proto: onnx.ModelProto, wanted: Sequence[PlannedTensor], vectors: Sequence[PlannedTensor], folder: Path
) -> tuple[Network, list[Weight]]:
    """The model with its weights as inputs, and the vectors among them; none where that does not run."""
    try:
        network = Network(proto, [*wanted, *vectors], folder)
    except CannotRunError:
        if not vectors:
            raise
        return Network(proto, wanted, folder), []
    values = {tensor.value for tensor in vectors}
    return network, [weight for weight in network.weights if weight.tensors[0].value in values]


def _without_feedback(error: CannotRunError) -> str:
    return f"coded without error feedback: {error.message}"


def _spread(feeds: list[Feed], count: int) -> list[Feed]:
    return [feeds[number * len(feeds) // count] for number in range(count)]


def _needs_step(weight: Weight, options: PackOptions) -> bool:
    """Whether a step has to be chosen: not for values that come back exactly anyway, nor for unfit ones."""
    with np.errstate(over="ignore"):
        values = weight.values.astype(np.float32)
    if not np.isfinite(values).all() or not values.any():
        return False
    if is_best_exact(values, qp_density=options.qp_density):
        return False
    return choose_quality(values, method="dq", qp_density=options.qp_density).method == "dq"


def _reporter(progress: ProgressCallback | None, total: int) -> Callable[[Weight], None]:
    done = 0

    def report(weight: Weight) -> None:
        nonlocal done
        done += weight.values.nbytes
        if progress is not None:
            name = weight.tensors[0].name
            progress(Progress(what=f"measuring what {name} does to the outputs", done=done, total=total))

    return report

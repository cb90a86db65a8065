"""From a model and a goal to a quantization parameter for every tensor."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from nnc_codec.formats import PackOptions, Progress, ProgressCallback
from nnc_codec.params import TensorParams
from nnc_codec.quality import choose_quality

from ..coding import CARRIAGE_OVERHEAD
from ..plan import PlannedTensor
from ..usage import Value
from .allocate import Choice, Item, for_bits, for_deviation, for_noise
from .calibration import Calibration, load_calibration
from .curves import attempt
from .deviation import STEPS, Deviation
from .errors import CannotRunError, GoalError
from .goals import PRESETS, Goal, Metric
from .inputs import Synthetic, describe
from .network import Feed, Network, Weight
from .sensitivity import PROBE_BITS, capped, hedged, measure_items
from .work import MOST_SAMPLES, effort

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

MOST_CHECKS = 5
"""Times that all weights together are quantized and run to find out how far the plan is off."""

TOLERANCE = 1.25
"""A plan is good enough if the outputs change by at most this factor more or less than the goal says."""

METRIC_TRIES = 7
"""Plans that a metric judges; each halves the range on a logarithmic scale of the allowed change."""

_METRIC_RANGE = (1e-4, 1.0)
_LARGEST_STRIDE = 16.0

Basis = Literal["calibration", "synthetic", "statistics"]


class Plan(NamedTuple):
    """What every tensor is coded with.

    Attributes:
        params: by tensor. Tensors that are missing are left to :func:`nnc_codec.quality.choose_quality`.
        basis: what the choice rests on: calibration inputs, made-up inputs, or the weights alone.
        deviation: mean square change of the outputs relative to their power, measured; ``None`` if it was not.
        notes: what the user should know.
    """

    params: dict[Value, TensorParams]
    basis: Basis
    deviation: float | None
    notes: tuple[str, ...] = ()


class Study(NamedTuple):
    """A model measured, from which plans for several goals can be made.

    Attributes:
        network: the model.
        deviation: compares its outputs.
        weights: those that a step is chosen for.
        items: what is known of each of them.
        basis: as in :class:`Plan`.
        notes: as in :class:`Plan`.
    """

    network: Network
    deviation: Deviation
    weights: tuple[Weight, ...]
    items: tuple[Item, ...]
    basis: Basis
    notes: tuple[str, ...]


def plan_quality(
    proto: onnx.ModelProto,
    planned: Sequence[PlannedTensor],
    folder: Path,
    options: PackOptions,
    goal: Goal | None = None,
    *,
    original_bytes: int = 0,
    calibration: Calibration | None = None,
    metric: Metric | None = None,
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
        original_bytes: size of the model's files; needed for a target ratio or size.
        calibration: real inputs.
        metric: judges candidates for ``goal.max_drop``.
        progress: called after every weight measured, with bytes of tensor data.

    Returns:
        The plan. If the model cannot be run it is empty and a note says why; so a target that needs measuring
        fails instead.

    Raises:
        CalibrationError: bad calibration inputs, before any other work.
        GoalError: the target cannot be met, or `metric` is missing.
        CannotRunError: the model cannot be run and the goal needs it to be.
    """
    goal = goal or Goal()
    if goal.max_drop is not None and metric is None:
        raise GoalError("max_drop needs a metric", hint="give a function that judges a model")
    if options.qp is not None or options.method not in ("dq", "uniform"):
        return Plan({}, "statistics", None)
    with ThreadPoolExecutor(options.jobs or os.cpu_count() or 1) as executor:
        try:
            study = study_model(proto, planned, folder, options, calibration, executor, progress)
        except CannotRunError as error:
            explicit = calibration is not None or goal != Goal(preset=goal.preset)
            if explicit:
                raise
            note = f"planned from the weights alone: {error.message}"
            return Plan({}, "statistics", None, (note,))
        if not study.items:
            return Plan({}, study.basis, 0.0, study.notes)
        made_up = study.basis == "synthetic"
        if made_up and goal.max_error is None:
            study = study._replace(items=hedged(study.items))
        most = goal.size(original_bytes)
        if most is not None:
            choice, change = _fit_size(study, planned, most, original_bytes, options, executor)
        elif goal.max_drop is not None and metric is not None:
            choice, change = _fit_metric(study, goal.max_drop, metric, options, executor)
        elif goal.max_error is not None:
            choice, change = fit_deviation(study, goal.max_error**2, options, executor)
        else:
            noise = PRESETS[goal.preset]
            choice = for_noise(capped(study.items, noise) if made_up else study.items, noise)
            change = try_choice(study, choice, options, executor)[0]
    params = {
        tensor.value: TensorParams(qp=qp, method=options.method)
        for weight, qp in zip(study.weights, choice.qps, strict=True)
        for tensor in weight.tensors
    }
    return Plan(params, study.basis, change, study.notes)


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
    network = Network(proto, wanted, folder)
    feeds: list[Feed]
    if calibration is not None:
        feeds = load_calibration(calibration, [describe(value, network.hollow.graph) for value in network.inputs])
        effective = effort(network, feeds[0], len(feeds), len(PROBE_BITS))
        stride = len(feeds) / effective.samples
        feeds = [feeds[int(number * stride)] for number in range(effective.samples)]
        deviation = Deviation(network, feeds)
        basis: Basis = "calibration"
    else:
        synthetic = Synthetic(network)
        effective = effort(network, synthetic.feeds(1)[0], MOST_SAMPLES, len(PROBE_BITS))
        samples = effective.samples if not synthetic.states else max(effective.samples, STEPS)
        deviation = Deviation(network, synthetic.feeds(samples), synthetic.states)
        basis = "synthetic"
    weights = tuple(weight for weight in network.weights if _needs_step(weight, options))
    total = sum(weight.values.nbytes for weight in weights)
    report = _reporter(progress, total)
    items, silent = measure_items(
        weights, deviation, effective.probes, options.qp_density, options.method, executor, report
    )
    notes = []
    if silent == len(items) and items:
        raise CannotRunError("the outputs react to none of the weights on these inputs")
    if silent:
        notes.append(f"{silent} of {len(items)} weights do not act on the outputs for the inputs tried")
    return Study(network, deviation, weights, tuple(items), basis, tuple(notes))


def fit_deviation(study: Study, wanted: float, options: PackOptions, executor: Executor) -> tuple[Choice, float]:
    """The smallest choice at which the outputs change by about `wanted`, all weights quantized together.

    Errors of several weights do not simply add up. So the sum that is asked for is corrected by what is measured.
    """
    asked = wanted
    best: tuple[Choice, float] | None = None
    finest: tuple[Choice, float] | None = None
    for _ in range(MOST_CHECKS):
        choice = for_deviation(study.items, asked)
        change = try_choice(study, choice, options, executor)[0]
        if finest is None or change < finest[1]:
            finest = choice, change
        if change <= wanted * TOLERANCE and (best is None or choice.bits < best[0].bits):
            best = choice, change
        if wanted / TOLERANCE <= change <= wanted * TOLERANCE:
            break
        stride = wanted / max(change, wanted / _LARGEST_STRIDE**2)
        # Where errors do not add up, a full correction overshoots; its root is still quick.
        asked *= _stepped(min(max(stride, 1 / _LARGEST_STRIDE), _LARGEST_STRIDE) ** 0.75)
    chosen = best or finest
    if chosen is None:
        raise GoalError("no plan could be tried")
    return chosen


def try_choice(
    study: Study, choice: Choice, options: PackOptions, executor: Executor
) -> tuple[float, int, dict[str, NDArray[Any]]]:
    """Quantize all weights.

    Returns:
        Change of the outputs, bytes of all payloads, decoded weights by name.
    """

    def code(pair: tuple[Weight, int]) -> tuple[str, float, NDArray[Any]]:
        weight, qp = pair
        trial = attempt(weight.values, qp, options.qp_density, options.method)
        return weight.name, trial.bits * weight.values.size / 8, trial.values

    coded = list(executor.map(code, zip(study.weights, choice.qps, strict=True)))
    values = {name: decoded for name, _, decoded in coded}
    return study.deviation(values), math.ceil(sum(size for _, size, _ in coded)), values


def _fit_size(
    study: Study,
    planned: Sequence[PlannedTensor],
    most: int,
    original_bytes: int,
    options: PackOptions,
    executor: Executor,
) -> tuple[Choice, float]:
    coded = [tensor for weight in study.weights for tensor in weight.tensors]
    rest = original_bytes - sum(tensor.nbytes for tensor in coded) + CARRIAGE_OVERHEAD * len(coded)
    room = most - rest
    allowed = float(room)
    for _ in range(MOST_CHECKS):
        choice = for_bits(study.items, 8 * allowed)
        change, size, _ = try_choice(study, choice, options, executor)
        if size <= room:
            return choice, change
        allowed *= 0.995 * room / size
        if allowed <= 0:
            break
    raise GoalError(
        f"the model cannot be packed into {most} bytes",
        hint=f"what is not coded takes {rest} bytes; include more tensors, or allow more",
    )


def _fit_metric(
    study: Study, max_drop: float, metric: Metric, options: PackOptions, executor: Executor
) -> tuple[Choice, float]:
    """Bisect the allowed change until the metric keeps within `max_drop` of the original's."""

    def judge(values: dict[str, NDArray[Any]] | None) -> float:
        result = float(metric(lambda feed: study.network.run(feed, values)))
        if math.isnan(result):
            raise GoalError("the metric is not a number", hint="check the metric function")
        return result

    wanted = judge(None) - max_drop
    low, high = (math.log2(bound) for bound in _METRIC_RANGE)
    best: tuple[Choice, float] | None = None
    for attempt_number in range(METRIC_TRIES):
        middle = low if attempt_number == METRIC_TRIES - 1 and best is None else (low + high) / 2
        choice = for_deviation(study.items, 2.0**middle)
        change, _, values = try_choice(study, choice, options, executor)
        if judge(values) >= wanted:
            if best is None or choice.bits < best[0].bits:
                best = choice, change
            low = middle
        else:
            high = middle
    if best is None:
        raise GoalError(f"no plan keeps the metric within {max_drop}", hint="allow more, or use --preset high")
    return best


def _stepped(factor: float) -> float:
    """A factor rounded so that the last digits of what it came from do not matter."""
    return float(2.0 ** (round(4 * math.log2(factor)) / 4))


def _needs_step(weight: Weight, options: PackOptions) -> bool:
    """Whether a step has to be chosen: not for values on a grid, which come back exactly, nor for unfit ones."""
    with np.errstate(over="ignore"):
        values = weight.values.astype(np.float32)
    if not np.isfinite(values).all() or not values.any():
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

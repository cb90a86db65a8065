"""Measuring a model: what it is run on, and what every weight does to its outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnc_codec.formats import PackOptions, Progress, ProgressCallback
from nnc_codec.quality import choose_quality, is_best_exact

from ..graph.usage import Usage
from ..plan import PlannedTensor
from .activations import joined_moments, observe
from .calibration import Calibration, load_calibration, shared_out
from .deviation import Deviation
from .errors import CannotRunError
from .feedback import FeedbackCoder
from .fitting import Basis, Study
from .inputs import Synthetic
from .network import Feed, Network, Weight
from .sensitivity import PROBE_BITS, measure_items
from .signature import Input, describe
from .states import MOMENT_RUNS, RUNS, STEPS, StatePair, continued
from .tolerance import feeds_back, limits_of
from .vectors import measure_vectors, plannable_vectors, samples_for
from .work import CHECK_SAMPLES, MOMENT_SAMPLES, MOST_SAMPLES, Effort, effort

if TYPE_CHECKING:
    import onnx


class _Ground(NamedTuple):
    """What a model is measured on.

    Attributes:
        basis: real inputs or made-up ones.
        effort: how much of it.
        deviation: what single weights do.
        few: feeds for vectors.
        check: what whole plans do.
        states: recurrent states.
        feedback: codes weights while the plan is made.
        final: codes them once it is; ``None``: as `feedback`.
        notes: what the user should know.
    """

    basis: Basis
    effort: Effort
    deviation: Deviation
    few: list[Feed]
    check: Deviation
    states: tuple[StatePair, ...] = ()
    feedback: FeedbackCoder | None = None
    final: FeedbackCoder | None = None
    notes: tuple[str, ...] = ()


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
        CalibrationError, CannotRunError: as :func:`nnc_onnx.rd.plan_quality`.
    """
    wanted = [
        tensor for tensor in planned if tensor.reason is None and tensor.element is not None and tensor.element.is_float
    ]
    network, vectors = _network(proto, wanted, plannable_vectors(planned, Usage(proto.graph)), folder)
    inputs = [describe(value, network.hollow.graph) for value in network.inputs]
    tokens = all(value.dtype.kind in "iu" for value in inputs)
    if calibration is not None:
        ground = _real(network, calibration, inputs, len(vectors), executor)
    else:
        ground = _made_up(network, len(vectors), executor, tokens=tokens)
    apart = {vector.name for vector in vectors}
    weights = tuple(weight for weight in network.weights if weight.name not in apart and _needs_step(weight, options))
    report = _reporter(progress, sum(weight.values.nbytes for weight in weights))
    items, silent = measure_items(
        weights,
        ground.deviation,
        ground.effort.probes,
        options.qp_density,
        options.method,
        executor,
        report,
        ground.feedback,
    )
    if silent == len(items) and items:
        raise CannotRunError("the outputs react to none of the weights on these inputs")
    notes = ground.notes
    if silent:
        notes += (f"{silent} of {len(items)} weights do not act on the outputs for the inputs tried",)
    measured = None
    if vectors and ground.few:
        same = len(ground.few) == ground.effort.samples
        sampled = ground.deviation if same else Deviation(network, ground.few, ground.states)
        measured = measure_vectors(vectors, sampled, options, executor, made_up=calibration is None)
    limits = limits_of(
        network.hollow.graph,
        ground.states,
        ground.check.signal_share,
        tokens=tokens,
        calibrated=calibration is not None,
        fed_back=ground.feedback is not None,
    )
    return Study(
        network,
        ground.deviation,
        weights,
        tuple(items),
        ground.check,
        limits,
        ground.basis,
        notes,
        ground.feedback,
        ground.final,
        measured,
    )


def _real(
    network: Network, calibration: Calibration, inputs: Sequence[Input], vectors: int, executor: Executor
) -> _Ground:
    """Calibration inputs; some of them judge, the others tell what errors are fed back by."""
    feeds = load_calibration(calibration, inputs)
    seen, judged = shared_out(feeds)
    spent = effort(network, judged[0], len(judged), len(PROBE_BITS), len(network.weights) - vectors)
    ground = _Ground(
        "calibration",
        spent,
        Deviation(network, _spread(judged, spent.samples)),
        _spread(judged, min(samples_for(vectors, spent.operations), len(judged))),
        Deviation(network, _spread(judged, min(CHECK_SAMPLES, len(judged)))),
    )
    try:
        moments = observe(network, seen, executor)
        ground = ground._replace(feedback=FeedbackCoder(moments, executor))
        if judged is not seen:
            others = observe(network, judged, executor)
            joined = joined_moments(moments, others, len(judged) / len(feeds))
            ground = ground._replace(final=FeedbackCoder(joined, executor))
    except CannotRunError as error:
        ground = ground._replace(notes=(_without_feedback(error),))
    return ground


def _made_up(network: Network, vectors: int, executor: Executor, *, tokens: bool) -> _Ground:
    """Inputs for a model without any; those that errors are fed back by judge nothing."""
    synthetic = Synthetic(network)
    states = tuple(synthetic.states)
    feeds = synthetic.feeds(RUNS * STEPS if states else CHECK_SAMPLES)
    most = len(feeds) if states else MOST_SAMPLES
    spent = effort(network, feeds[0], most, len(PROBE_BITS), len(network.weights) - vectors)
    if states:
        feeds = feeds[: max(spent.samples // STEPS, 1) * STEPS]
    ground = _Ground(
        "synthetic",
        spent,
        Deviation(network, feeds if states else feeds[: spent.samples], states),
        feeds if states else feeds[: samples_for(vectors, spent.operations)],
        Deviation(network, feeds, states),
        states,
    )
    if not feeds_back(tokens=tokens, scenes=synthetic.scenes):
        return ground
    fresh = synthetic.feeds(MOMENT_RUNS * STEPS if states else MOMENT_SAMPLES, RUNS * STEPS)
    try:
        if states:
            fresh = [feed for feed, _ in continued(network.run, network.outputs, fresh, states)]
        moments = observe(network, fresh, executor)
        return ground._replace(feedback=FeedbackCoder(moments, executor, made_up=True))
    except CannotRunError as error:
        return ground._replace(notes=(_without_feedback(error),))


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

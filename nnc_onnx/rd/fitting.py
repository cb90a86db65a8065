"""The plan that meets a goal, found by quantizing all weights together and looking at what comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nnc_codec.formats import PackOptions

from .allocate import Choice, Item, for_deviation, for_noise
from .curves import Trial, attempt
from .deviation import Deviation
from .errors import GoalError
from .feedback import FeedbackCoder
from .goals import Metric
from .network import Network, Weight
from .sensitivity import capped
from .tolerance import Limits, Tried, coarsest_kept

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .vectors import Vectors

MOST_CHECKS = 5
"""Times that all weights together are quantized and run to find out how far the plan is off."""

MOST_STEPS = 8
"""Plans tried for the limits of a model."""

ENOUGH = 4
"""Plans tried before the limits are taken for met; one measured change alone is off by some dB."""

NEAR = 0.3
"""A plan this many dB from where the limits are expected to be met is good enough."""

LUCK = 1.0
"""A plan that is this many dB coarser than expected to keep the limits is taken if it keeps them."""

TOLERANCE = 1.25
"""A plan is good enough if the outputs change by at most this factor more or less than the goal says."""

METRIC_TRIES = 7
"""Plans that a metric judges; each halves the range on a logarithmic scale of the allowed change."""

FINEST = -40.0
"""Mean relative error of a weight in dB from which on weights take 7 bits. Where the outputs change much even then, the
inputs say nothing."""

_NO_CHANGE = 1e-12
_METRIC_RANGE = (1e-4, 1.0)
_LARGEST_STRIDE = 16.0

Basis = Literal["calibration", "synthetic", "statistics"]


class Study(NamedTuple):
    """A model measured, from which plans for several goals can be made.

    Attributes:
        network: the model.
        deviation: compares its outputs.
        weights: those that a step is chosen for.
        items: what is known of each of them.
        check: compares its outputs on more inputs, for all weights together.
        limits: what a preset may do to the weights and to the outputs.
        basis: as in :class:`Plan`.
        notes: as in :class:`Plan`.
        feedback: codes the weights whose inputs were seen; ``None`` on made-up inputs.
        final: the same, having seen the inputs too that plans are judged by; ``None`` if there are no others.
        vectors: what they do to the outputs; ``None`` if they were not measured.
    """

    network: Network
    deviation: Deviation
    weights: tuple[Weight, ...]
    items: tuple[Item, ...]
    check: Deviation
    limits: Limits
    basis: Basis
    notes: tuple[str, ...]
    feedback: FeedbackCoder | None = None
    final: FeedbackCoder | None = None
    vectors: Vectors | None = None

    @property
    def settled(self) -> Study:
        """The study for plans that are judged in another way than by its inputs: feedback has seen all of them."""
        return self._replace(feedback=self.final or self.feedback, final=None)

    def code(self, weight: Weight, qp: int, options: PackOptions) -> Trial:
        """Code a weight as the plan will have it coded."""
        if self.feedback is not None and weight.name in self.feedback:
            return self.feedback.attempt(weight, qp, options.qp_density, options.method)
        return attempt(weight.values, qp, options.qp_density, options.method)


class Fit(NamedTuple):
    """A choice that was tried.

    Attributes:
        choice: the quantization parameters.
        change: of the outputs, all weights quantized.
        values: what is coded in place of the weights that are coded with error feedback, by name.
    """

    choice: Choice
    change: float
    values: Mapping[str, NDArray[Any]]


def fit_deviation(study: Study, wanted: float, options: PackOptions, executor: Executor) -> Fit:
    """The smallest choice at which the outputs change by about `wanted`, all weights quantized together.

    Errors of several weights do not simply add up. So the sum that is asked for is corrected by what is measured.
    """
    asked = wanted
    best: Fit | None = None
    finest: Fit | None = None
    for _ in range(MOST_CHECKS):
        choice = for_deviation(study.items, asked)
        change, _, values = try_choice(study, choice, options, executor)
        fit = Fit(choice, change, fed_back(study, values))
        if finest is None or change < finest.change:
            finest = fit
        if change <= wanted * TOLERANCE and (best is None or choice.bits < best.choice.bits):
            best = fit
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
        trial = study.code(weight, qp, options)
        return weight.name, trial.bits * weight.values.size / 8, trial.values

    coded = list(executor.map(code, zip(study.weights, choice.qps, strict=True)))
    values = {name: decoded for name, _, decoded in coded}
    return study.check(values), math.ceil(sum(size for _, size, _ in coded)), values


def fed_back(study: Study, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Those of the decoded weights that were coded with error feedback, by name."""
    return {name: decoded for name, decoded in values.items() if study.feedback is not None and name in study.feedback}


def settled(study: Study, fit: Fit, options: PackOptions, executor: Executor) -> Fit:
    """The fit with values from feedback that has seen all inputs; its change stays what it was on unseen ones.

    Coded again, weights are rounded in other ways, and where a model says one number that may be worse than what was
    judged, even on inputs that feedback has seen. Then the values stay as they are.
    """
    if study.final is None or not fit.values:
        return fit
    whole = study.settled
    pairs = [pair for pair in zip(study.weights, fit.choice.qps, strict=True) if pair[0].name in fit.values]
    trials = executor.map(lambda pair: whole.code(pair[0], pair[1], options), pairs)
    values = {weight.name: trial.values for (weight, _), trial in zip(pairs, trials, strict=True)}
    return fit._replace(values=values) if study.check(values) <= study.check(fit.values) else fit


def fit_limits(study: Study, shift: float, options: PackOptions, executor: Executor) -> Fit:
    """The smallest choice that keeps the limits of the model.

    Args:
        study: the model.
        shift: dB added to the limits.
        options: as for :func:`try_choice`.
        executor: likewise.
    """
    coarsest, finest = study.limits.noise + shift, FINEST + shift
    tried: list[Tried] = []
    fits: list[Fit] = []
    foreseen = for_deviation(study.items, 10 ** ((study.limits.change + shift) / 10)).noise
    noise = max(min(coarsest, round(foreseen)), finest)
    for _ in range(MOST_STEPS):
        choice = for_noise(capped(study.items, noise) if study.basis == "synthetic" else study.items, noise)
        change, _, values = try_choice(study, choice, options, executor)
        tried.append(Tried(noise, 10 * math.log10(max(change, _NO_CHANGE))))
        fits.append(Fit(choice, change, fed_back(study, values)))
        noise = coarsest_kept(study.limits, shift, tried, coarsest, finest)
        close = any(abs(noise - point.asked) <= NEAR for point in tried)
        if noise in [point.asked for point in tried] or (close and len(tried) >= ENOUGH):
            break
    kept = [
        fit
        for fit, point in zip(fits, tried, strict=True)
        if point.asked <= noise + LUCK and point.change <= study.limits.change + shift + NEAR
    ]
    if kept:
        return min(kept, key=lambda fit: fit.choice.bits)
    return min(zip(fits, tried, strict=True), key=lambda pair: abs(pair[1].asked - noise))[0]


def fit_metric(study: Study, max_drop: float, metric: Metric, options: PackOptions, executor: Executor) -> Fit:
    """Bisect the allowed change until the metric keeps within `max_drop` of the original's."""

    def judge(values: dict[str, NDArray[Any]] | None) -> float:
        result = float(metric(lambda feed: study.network.run(feed, values)))
        if math.isnan(result):
            raise GoalError("the metric is not a number", hint="check the metric function")
        return result

    wanted = judge(None) - max_drop
    low, high = (math.log2(bound) for bound in _METRIC_RANGE)
    best: Fit | None = None
    for attempt_number in range(METRIC_TRIES):
        middle = low if attempt_number == METRIC_TRIES - 1 and best is None else (low + high) / 2
        choice = for_deviation(study.items, 2.0**middle)
        change, _, values = try_choice(study, choice, options, executor)
        if judge(values) >= wanted:
            if best is None or choice.bits < best.choice.bits:
                best = Fit(choice, change, fed_back(study, values))
            low = middle
        else:
            high = middle
    if best is None:
        raise GoalError(f"no plan keeps the metric within {max_drop}", hint="allow more, or use --preset high")
    return best


def _stepped(factor: float) -> float:
    """A factor rounded so that the last digits of what it came from do not matter."""
    return float(2.0 ** (round(4 * math.log2(factor)) / 4))

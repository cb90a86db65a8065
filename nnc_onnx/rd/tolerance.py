"""How much error a model stands, as far as its graph and its outputs tell.

No single measure tells it for all models. What the outputs do on made-up inputs says when a classifier is about to
confuse its classes, but a network that reads text answers to pictures of nothing with noise; the error of the weights
alone says nothing about how robust they are. Both together do: the coarser the weights, the clearer the outputs have to
speak for them. Two kinds of models need more: recurrent ones and those whose outputs are signals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..graph.walk import iter_graphs

if TYPE_CHECKING:
    import onnx

    from .states import StatePair

TOGETHER = -44.0
"""What the mean error of a weight (dB of its tensor's mean square) and twice the change of the outputs (dB of their
power) have to add up to at most. A picture classifier keeps its metric with -24 and -11 and loses it with -23 and -10;
a text reader loses it with "balanced" where that comes to -49, and keeps it where it comes to -53."""

TOKENS_TOGETHER = -16.0
"""The same for models that are fed numbers of tokens only: made-up texts mean nothing, and what a language model makes
of them is less robust than what it makes of a text. A sentence encoder keeps its metric with -14 and -6."""

SIGNAL_CHANGE = -20.0
"""Change of outputs that are signals or maps, relative to how they vary: every number is meant. With
"balanced", at -23, a detector of objects agrees with itself to 97 %; from there up what a noise suppressor gains moves
by 2 % with either sign."""

RECURRENT_NOISE = -23.0
"""Mean error of a weight of recurrent models whose errors are not fed back: they go round in the states, which made-up
inputs hardly move."""

STATE_NOISE = -24.0
"""The same if the states are inputs and outputs: then they go round for as long as the model is used."""

COARSEST = -16.0
"""Mean error of a weight of any other model. A classifier of pictures of text begins to suffer at -18."""

ROBUST_NOISE = -11.0
"""The same for models that are fed tokens only, and for recurrent ones whose errors are fed back. A classifier of
bytes and a sentence encoder keep their metric at -14, which the preset "balanced" comes to."""

CALIBRATED_CHANGE = -9.0
"""Change of the outputs on real inputs that error feedback has not seen. It decides alone there: what those do not
excite, data in use do not either. With the preset "balanced", at -12, the models measured keep their metrics; a reader
of texts does not at -10."""

CALIBRATED_SIGNAL_CHANGE = -19.0
"""The same for outputs that are signals or states. A denoiser and a voice detector lose nothing at -22, the latter some
at -19."""

CALIBRATED_NOISE = -5.5
"""As :data:`COARSEST` on real inputs, where errors that are fed back do little harm: a classifier of bytes suffers at
-8 and not at -9. Of signals every number is compared, so their change says all."""

SIGNAL_SHARE = 0.1
"""Output values per input value from which on an output is taken for a signal or a map: detectors of objects give one
for two to seven, classifiers less than one for fifty."""

_OUTPUT_WEIGHT = 2
_REACH = 3.0
_GRID = 8
_RECURRENT = frozenset({"GRU", "LSTM", "Loop", "RNN", "Scan"})


def feeds_back(*, tokens: bool) -> bool:
    """Whether errors are fed back on made-up inputs.

    Their moments are near enough those of real ones: values next to each other are alike, sums of rectified values
    are far from 0, and the states of a recurrent network it makes itself. Only for tokens it gains next to nothing.

    Args:
        tokens: all inputs are integers.
    """
    return not tokens


class Limits(NamedTuple):
    """What weights and outputs may lose.

    Attributes:
        noise: mean error of a weight, in dB of its tensor's mean square.
        change: mean square change of the outputs, in dB of their power.
        together: the first and twice the second.
    """

    noise: float
    change: float
    together: float

    def excess(self, noise: float, change: float, shift: float) -> float:
        """By how many dB, about, weights have to be finer; 0 or less if all limits are kept.

        Args:
            noise: mean error of a weight.
            change: of the outputs.
            shift: dB by which weights and outputs may be worse than the limits.
        """
        weight = 1 + _OUTPUT_WEIGHT
        both = (noise + _OUTPUT_WEIGHT * change - self.together) / weight
        return max(both, change - self.change) - shift


class Tried(NamedTuple):
    """A plan that was tried.

    Attributes:
        asked: mean error of a weight that was asked for, in dB.
        noise: that of the plan.
        change: of the outputs, in dB.
    """

    asked: float
    noise: float
    change: float


def expected_change(tried: Sequence[Tried], asked: float) -> float:
    """Change of the outputs to be expected of a plan, in dB.

    Where a model says one number, or two, rounding decides whether it moves by much or by little, and plans alike
    differ by ten dB. Errors of weights and changes of outputs grow together on the whole, so all plans tell about all,
    the more the nearer.
    """
    weights = [1 / (1 + ((point.asked - asked) / _REACH) ** 2) for point in tried]
    found = sum(weight * (point.change + asked - point.asked) for weight, point in zip(weights, tried, strict=True))
    return found / sum(weights)


def coarsest_kept(limits: Limits, shift: float, tried: Sequence[Tried], coarsest: float, finest: float) -> float:
    """The coarsest error of weights to ask for with which the limits are expected to be kept.

    Args:
        limits: of the model.
        shift: dB added to them.
        tried: plans.
        coarsest, finest: range of the error, in dB; the finest if none keeps them.
    """
    steps = max(math.ceil((coarsest - finest) * _GRID), 0)
    for step in range(steps + 1):
        # On a grid, so that the last digits of the outputs do not matter.
        asked = max(coarsest - step / _GRID, finest)
        if limits.excess(asked, expected_change(tried, asked), shift) <= 0:
            return asked
    return finest


def limits_of(
    graph: onnx.GraphProto,
    states: tuple[StatePair, ...],
    signal_share: float,
    *,
    tokens: bool = False,
    calibrated: bool = False,
    fed_back: bool = False,
) -> Limits:
    """The limits of a model.

    Args:
        graph: the model.
        states: its recurrent states.
        signal_share: output values per input value, of floating-point inputs and outputs.
        tokens: all inputs are integers.
        calibrated: the inputs are real.
        fed_back: errors are fed back.
    """
    is_signal = signal_share >= SIGNAL_SHARE
    if calibrated:
        if is_signal:
            return Limits(0.0, CALIBRATED_SIGNAL_CHANGE, math.inf)
        return Limits(CALIBRATED_NOISE, CALIBRATED_CHANGE, math.inf)
    if states:
        noise = STATE_NOISE
    elif tokens:
        noise = ROBUST_NOISE
    elif _is_recurrent(graph):
        noise = ROBUST_NOISE if fed_back else RECURRENT_NOISE
    else:
        noise = COARSEST
    return Limits(
        noise,
        SIGNAL_CHANGE if is_signal else 0.0,
        TOKENS_TOGETHER if tokens else TOGETHER,
    )


def _is_recurrent(graph: onnx.GraphProto) -> bool:
    return any(node.op_type in _RECURRENT for _, inner in iter_graphs(graph) for node in inner.node)

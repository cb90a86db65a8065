"""How much error a model stands, as far as its graph and its outputs tell.

What the outputs do tells most, on inputs that error feedback has not seen: when a classifier is about to confuse its
classes, and what is left of a signal. Outputs that say nothing on made-up inputs would allow anything, so the weights
have a limit too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..graph.walk import iter_graphs

if TYPE_CHECKING:
    import onnx

    from .states import StatePair

CHANGE = -10.0
"""Change of the outputs on made-up inputs, which is within 3 to 5 dB of the change on real ones. With the preset
"balanced", at -13, the classifiers and readers of texts measured keep their metrics."""

TOKENS_CHANGE = -3.0
"""The same for models that are fed numbers of tokens only: made-up texts mean nothing, and what a language model makes
of them moves more than what it makes of a text. A sentence encoder keeps its metric at -6."""

SIGNAL_CHANGE = -23.0
"""The same for outputs that are signals or maps, relative to how they vary: every number is meant. With "balanced", at
-26, a detector of objects agrees with itself to 98.9 %, and to 97 % at -23; what a noise suppressor gains moves by 2 %
with either sign from there up."""

STATE_CHANGE = -17.0
"""The same for models whose states are outputs and inputs: errors go round in them for as long as the model is used. A
voice detector keeps its metric at -20."""

NOISE = -21.0
"""Mean error of a weight where errors are fed back without data: fed back by what made-up inputs do, they are smaller
on such inputs than on real ones."""

COARSEST = -16.0
"""The same where they are not, as what made-up pictures tell is within 1 dB then: a classifier of photographs keeps its
metric with "balanced", which its outputs end at -23."""

ROBUST_NOISE = -11.0
"""The same for models fed tokens only, and for signals and states, whose change says all. A classifier of bytes and a
sentence encoder keep their metric at -14, which the preset "balanced" comes to."""

RECURRENT_NOISE = -23.0
"""The same for recurrent models whose errors are not fed back: they go round in the states."""

CALIBRATED_CHANGE = -9.0
"""Change of the outputs on real inputs that error feedback has not seen. With the preset "balanced", at -12, the models
measured keep their metrics; a reader of texts does not at -10."""

CALIBRATED_SIGNAL_CHANGE = -17.0
"""The same for signals, maps and states. With "balanced", at -20, a denoiser loses nothing; a voice detector loses
0.4 % at -19."""

CALIBRATED_NOISE = -5.5
"""As :data:`NOISE` on real inputs: a finder of text directions, which gives two numbers, gets unsure with "balanced" at
-7.5 and not at -8.5. Of signals every number is compared, so their change says all."""

SIGNAL_SHARE = 0.1
"""Output values per input value from which on an output is taken for a signal or a map: detectors of objects give one
for two to seven, classifiers less than one for fifty."""

_REACH = 3.0
_GRID = 8
_RECURRENT = frozenset({"GRU", "LSTM", "Loop", "RNN", "Scan"})


def feeds_back(*, tokens: bool, scenes: bool) -> bool:
    """Whether errors are fed back on made-up inputs.

    Their moments are near enough those of real ones: values next to each other are alike, sums of rectified values
    are far from 0, and the states of a recurrent network it makes itself. Made-up texts tell nothing,
    and made-up scenes too little of the details that photographs have.

    Args:
        tokens: all inputs are integers.
        scenes: pictures are fed that are no lines of writing.
    """
    return not (tokens or scenes)


class Limits(NamedTuple):
    """What weights and outputs may lose.

    Attributes:
        noise: mean error of a weight, in dB of its tensor's mean square.
        change: mean square change of the outputs, in dB of their power.
    """

    noise: float
    change: float


class Tried(NamedTuple):
    """A plan that was tried.

    Attributes:
        asked: mean error of a weight that was asked for, in dB.
        change: of the outputs, in dB.
    """

    asked: float
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
        if expected_change(tried, asked) <= limits.change + shift:
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
        return Limits(0.0, CALIBRATED_SIGNAL_CHANGE) if is_signal else Limits(CALIBRATED_NOISE, CALIBRATED_CHANGE)
    if tokens:
        return Limits(ROBUST_NOISE, TOKENS_CHANGE)
    if is_signal or states:
        noise = ROBUST_NOISE
        change = SIGNAL_CHANGE if is_signal else STATE_CHANGE
    else:
        noise, change = NOISE if fed_back else COARSEST, CHANGE
    if not fed_back and (states or _is_recurrent(graph)):
        noise = RECURRENT_NOISE
    return Limits(noise, change)


def _is_recurrent(graph: onnx.GraphProto) -> bool:
    return any(node.op_type in _RECURRENT for _, inner in iter_graphs(graph) for node in inner.node)

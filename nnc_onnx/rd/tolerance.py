"""How much error a model stands, as far as its graph and its outputs tell.

No single measure tells it for all models. What the outputs do on made-up inputs says when a classifier is about to
confuse its classes, but too little about states that such inputs hardly move, and nothing about the precision that
somebody wants from a signal. So there are two limits, and both have to be kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..walk import iter_graphs

if TYPE_CHECKING:
    import onnx

    from .inputs import StatePair

CHANGE = -10.0
"""Change of the outputs in dB of their power at which classes, texts and embeddings stay what they are."""

SIGNAL_CHANGE = -30.0
"""The same for outputs that are signals: about as many numbers as the input has."""

NOISE = -14.0
"""Mean error of a weight in dB of its tensor's mean square that a model stands at most, whatever the outputs do."""

RECURRENT_NOISE = -21.0
"""The same for recurrent models: errors go round in their states, which made-up inputs do not move as real ones do."""

CALIBRATED_CHANGE = -18.0
"""As :data:`CHANGE` on real inputs, where outputs are surer and tasks are judged by them."""

CALIBRATED_NOISE = -10.0
"""As :data:`NOISE` on real inputs: the outputs decide, and the error that is fed back does them little harm."""

SIGNAL_SHARE = 0.25
"""Output values per input value from which on an output is taken for a signal."""

_RECURRENT = frozenset({"GRU", "LSTM", "Loop", "RNN", "Scan"})


class Limits(NamedTuple):
    """What weights and outputs may lose.

    Attributes:
        noise: mean error of a weight, in dB of its tensor's mean square.
        change: mean square change of the outputs, in dB of their power.
    """

    noise: float
    change: float


def limits_of(
    graph: onnx.GraphProto, states: tuple[StatePair, ...], signal_share: float, *, calibrated: bool = False
) -> Limits:
    """The limits of a model.

    Args:
        graph: the model.
        states: its recurrent states.
        signal_share: output values per input value, of floating-point inputs and outputs.
        calibrated: the inputs are real.
    """
    if calibrated:
        return Limits(CALIBRATED_NOISE, SIGNAL_CHANGE if signal_share >= SIGNAL_SHARE else CALIBRATED_CHANGE)
    recurrent = bool(states) or any(
        node.op_type in _RECURRENT for _, inner in iter_graphs(graph) for node in inner.node
    )
    return Limits(RECURRENT_NOISE if recurrent else NOISE, SIGNAL_CHANGE if signal_share >= SIGNAL_SHARE else CHANGE)

"""What quantizing one tensor does to the outputs, at several step sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnc_codec.params import Method

from .allocate import Item
from .curves import Curve, attempt, measure_curve
from .deviation import Deviation
from .feedback import FeedbackCoder
from .network import Weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBE_BITS = (3.5, 2.5)
"""Bits per element at which a tensor is tried. At lower rates outputs saturate, and a plan would take what cannot get
worse for harmless."""

TRUST = 0.8
"""Weight of what was measured on made-up inputs against the plain rule of one step for all tensors, on a logarithmic
scale. Such inputs leave some parts of a network idle (a recurrent state, a saturated gate), and what they do not
excite must not be taken for unimportant."""

CAP = 6.0
"""On made-up inputs no tensor may have this many dB more relative error than the average of all."""

BINS_PER_OCTAVE = 2
"""Measured changes are rounded to this many steps per factor of two. Runs on different processors differ in the
last digits of the outputs; rounded, they still lead to the same choice."""

_NOTHING = 1e-14
_TINY = 2.0**-240


class _Probed(NamedTuple):
    """What was measured of a weight.

    Attributes:
        curve: its rate and error.
        errors: what its effect goes by, at every point of the curve.
        found: change of the outputs by such an error.
    """

    curve: Curve
    errors: NDArray[np.float64]
    found: dict[float, float]


def measure_items(
    weights: Sequence[Weight],
    deviation: Deviation,
    probes: int,
    qp_density: int,
    method: Method,
    executor: Executor,
    progress: Callable[[Weight], None],
    feedback: FeedbackCoder | None = None,
) -> tuple[list[Item], int]:
    """Try every weight with `probes` quantization parameters, one weight at a time; with `feedback` where it can.

    Returns:
        One item per weight, and how many of them the outputs did not react to; for those the change is taken to
        be what it is for the median of the others at the same relative error.
    """

    def probe(weight: Weight) -> _Probed:
        curve = measure_curve(weight.values, qp_density, method)
        coder = feedback if feedback is not None and weight.name in feedback else None
        errors = curve.mse if coder is None else _squared_steps(curve, qp_density)
        found: dict[float, float] = {}
        for bits in PROBE_BITS[:probes]:
            qp = curve.qp_at(bits)
            if coder is not None:
                decoded = coder.attempt(weight, qp, qp_density, method, hastily=True).values
                error = float(errors[qp - int(curve.qps[0])])
            else:
                _, error, decoded, _ = attempt(weight.values, qp, qp_density, method)
            change = deviation({weight.name: decoded})
            if error > 0 and change > _NOTHING:
                found[error] = change
        progress(weight)
        return _Probed(curve, errors, found)

    measured = list(executor.map(probe, weights))
    powers = [float(np.square(weight.values.astype(np.float64)).mean()) for weight in weights]
    usual = _usual_gain(weights, measured, powers)
    items, silent = [], 0
    for weight, (curve, errors, found), power in zip(weights, measured, powers, strict=True):
        if found:
            changes = _changes(errors, found)
        else:
            silent += 1
            changes = curve.mse / power * usual * weight.values.size
        items.append(Item(curve, weight.values.size, power, changes))
    return items, silent


def hedged(items: Sequence[Item]) -> tuple[Item, ...]:
    """The items as they count where the inputs were made up; see :data:`TRUST`."""
    gains = [
        math.log2(max(float(item.deviation[at]) / (float(item.curve.mse[at]) * item.elements), _TINY))
        for item in items
        for at in (len(item.curve.qps) // 2,)
    ]
    gain = 2.0 ** _rounded(float(np.median(gains)))
    return tuple(
        item._replace(deviation=item.deviation**TRUST * (item.curve.mse * gain * item.elements) ** (1 - TRUST))
        for item in items
    )


def capped(items: Sequence[Item], noise: float) -> tuple[Item, ...]:
    """The items without the coarse ends of their curves; see :data:`CAP`.

    Args:
        items: as measured.
        noise: mean relative error aimed at, in dB.
    """
    result = []
    for item in items:
        allowed = item.curve.mse <= item.power * 10 ** ((noise + CAP) / 10)
        allowed[0] = True
        result.append(item._replace(deviation=np.where(allowed, item.deviation, np.inf)))
    return tuple(result)


def _usual_gain(weights: Sequence[Weight], measured: Sequence[_Probed], powers: Sequence[float]) -> float:
    """Median over the weights of the change per element and relative error."""
    gains = [
        math.log2(change * power / mse / weight.values.size)
        for weight, (_, _, found), power in zip(weights, measured, powers, strict=True)
        for mse, change in list(found.items())[:1]
    ]
    return 2.0 ** _rounded(float(np.median(gains))) if gains else 0.0


def _squared_steps(curve: Curve, qp_density: int) -> NDArray[np.float64]:
    """Squared steps in the unit of the curve's errors at the first probe: what errors that are fed back go by.

    A weight's own error stops growing where most of it is zero; what feedback leaves of it at the outputs does not.
    """
    at = curve.qp_at(PROBE_BITS[0])
    steps: NDArray[np.float64] = curve.mse_at(at) * np.exp2(2 * (curve.qps - at) / (1 << qp_density))
    return steps


def _changes(errors: NDArray[np.float64], found: dict[float, float]) -> NDArray[np.float64]:
    """The change at every point of a curve: in proportion to the error of the tensor, faster between the probes.

    Args:
        errors: at every point.
        found: change by error.
    """
    known = sorted(found)
    at = [math.log2(mse) for mse in known]
    change = [_rounded(math.log2(found[mse])) for mse in known]
    middle, level = sum(at) / len(at), sum(change) / len(change)
    span = at[-1] - at[0]
    slope = max((change[-1] - change[0]) / span, 1.0) if span > 0 else 1.0
    wanted = np.log2(np.maximum(errors, _TINY))
    between = np.clip(wanted, at[0], at[-1])
    result: NDArray[np.float64] = np.exp2(level + slope * (between - middle) + (wanted - between))
    return result


def _rounded(logarithm: float) -> float:
    return round(logarithm * BINS_PER_OCTAVE) / BINS_PER_OCTAVE

"""Equal slope: every tensor is coded as finely as the next bit still pays as much as anywhere else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .curves import Curve

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RANGE = 120.0
_HALVINGS = 40
_LEAST = 2.0**-240


class Item(NamedTuple):
    """What the choice for one tensor rests on.

    Attributes:
        curve: its rate and error.
        elements: how many values it has.
        power: mean square of the values.
        deviation: change of the outputs at each of the curve's quantization parameters.
    """

    curve: Curve
    elements: int
    power: float
    deviation: NDArray[np.float64]


class Choice(NamedTuple):
    """A quantization parameter for every item.

    Attributes:
        qps: in the order of the items.
        bits: of all payloads.
        deviation: sum of what the items do to the outputs alone.
        noise: error of a weight in dB of its tensor's mean square, averaged over all weights.
    """

    qps: tuple[int, ...]
    bits: float
    deviation: float
    noise: float


def at_slope(items: Sequence[Item], slope: float) -> Choice:
    """The choice with the least ``deviation + slope * bits``."""
    return chosen(items, [int(np.argmin(item.deviation + slope * (item.curve.bits * item.elements))) for item in items])


def chosen(items: Sequence[Item], at: Sequence[int]) -> Choice:
    """The choice of a point on every item's curve, by its index."""
    qps: list[int] = []
    bits = deviation = noise = 0.0
    elements = sum(item.elements for item in items)
    for item, index in zip(items, at, strict=True):
        qps.append(int(item.curve.qps[index]))
        bits += float(item.curve.bits[index] * item.elements)
        deviation += float(item.deviation[index])
        relative = max(float(item.curve.mse[index]), _LEAST) / max(item.power, _LEAST)
        noise += item.elements / elements * 10 * math.log10(relative)
    return Choice(tuple(qps), bits, deviation, noise)


def for_deviation(items: Sequence[Item], most: float) -> Choice:
    """The smallest choice whose deviation is at most `most`; the least deviating if there is none."""
    return _last(items, lambda choice: choice.deviation <= most)


def for_noise(items: Sequence[Item], most: float) -> Choice:
    """The smallest choice whose noise is at most `most` dB; the finest if there is none."""
    return _last(items, lambda choice: choice.noise <= most)


def for_bits(items: Sequence[Item], most: float) -> Choice:
    """The least deviating choice of at most `most` bits; the smallest if there is none."""
    return _first(items, lambda choice: choice.bits <= most)


def _last(items: Sequence[Item], holds: Callable[[Choice], bool]) -> Choice:
    """The choice of the largest slope at which `holds` is still true."""
    return at_slope(items, 2.0 ** _edge(items, holds)[0])


def _first(items: Sequence[Item], holds: Callable[[Choice], bool]) -> Choice:
    """The choice of the smallest slope at which `holds` is already true."""
    return at_slope(items, 2.0 ** _edge(items, lambda choice: not holds(choice))[1])


def _edge(items: Sequence[Item], holds: Callable[[Choice], bool]) -> tuple[float, float]:
    low, high = -_RANGE, _RANGE
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if holds(at_slope(items, 2.0**middle)):
            low = middle
        else:
            high = middle
    return low, high

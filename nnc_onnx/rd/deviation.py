"""How much the outputs of a model change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from .errors import CannotRunError
from .network import Feed, Network
from .states import StatePair, continued

if TYPE_CHECKING:
    from numpy.typing import NDArray

View = Literal["distribution", "probability", "plain", "label"]

LARGEST = 16.0
"""Deviations above this, and outputs that are no longer finite, count as this."""

MANY = 64
"""Numbers in one output from which their power is taken about their mean. A map that says "nothing here" almost
everywhere has large numbers all over it, and next to those all changes look small."""

_LEAST_SPREAD = 1e-3
_PROBABILITY_FLOOR = 1e-6
_DISTRIBUTION_FLOOR = 1e-6
_SUM_TOLERANCE = 1e-3
_MOST_KINDS = 1024


class _Part(NamedTuple):
    """Values of one output that are compared alike.

    Attributes:
        position: of the output.
        view: how its values are compared.
        axis: along which it is taken apart.
        entries: of that axis that belong to the part; ``None`` for the whole output.
        reference: values as seen, one array per run.
        power: of all of them, about their mean if there are :data:`MANY`.
    """

    position: int
    view: View
    axis: int
    entries: NDArray[np.intp] | None
    reference: list[NDArray[Any]]
    power: float

    @classmethod
    def of(
        cls,
        position: int,
        values: Sequence[NDArray[Any]],
        view: View,
        axis: int = 0,
        entries: NDArray[np.intp] | None = None,
    ) -> _Part:
        empty = cls(position, view, axis, entries, [], 0.0)
        reference = [empty.seen(value) for value in values]
        return empty._replace(reference=reference, power=_power(reference))

    def seen(self, value: NDArray[Any]) -> NDArray[Any]:
        part = value if self.entries is None else np.take(value, self.entries, self.axis)
        return _seen(part, self.view)


class Deviation:
    """Compares a model's outputs with those it had with its own weights.

    Outputs are compared where differences mean the same everywhere: distributions (rows that sum to 1) by the
    centred logarithms of their values, probabilities by their log odds, both with a floor below which nothing
    counts, other numbers as they are, integers by equality. Where places and probabilities share an output, as those
    of detectors do, each kind is compared for itself: the numbers of the one would hide all changes of the other.
    """

    def __init__(self, network: Network, feeds: Sequence[Feed], states: Sequence[StatePair] = ()) -> None:
        """Run the model as it is.

        Raises:
            CannotRunError: it cannot be run, or no output can be compared.
        """
        self._network = network
        self._feeds = feeds
        self._states = states
        self._fed_in = {pair.input for pair in states}
        self._fed_back = {pair.output for pair in states}
        runs = self._runs(None)
        self._shapes = [[value.shape for value in run] for run in runs]
        parts = [
            part
            for position, name in enumerate(network.outputs)
            if name not in self._fed_back
            for part in _parts_of(position, [run[position] for run in runs])
            if part.power > 0
        ]
        numbers = [part for part in parts if part.view != "label"]
        self._compared = numbers or parts
        if not self._compared:
            raise CannotRunError("no output of the model says anything on these inputs")

    @property
    def signal_share(self) -> float:
        """Values of the outputs per value of the floating-point inputs; 0 without such inputs.

        Distributions do not count: of all their values one is meant.
        """
        given = sum(
            value.size
            for feed in self._feeds
            for name, value in feed.items()
            if value.dtype.kind == "f" and name not in self._fed_in
        )
        made = sum(value.size for part in self._compared if part.view != "distribution" for value in part.reference)
        return made / given if given else 0.0

    def __call__(self, replaced: Mapping[str, NDArray[Any]]) -> float:
        """Mean square change relative to the outputs' power with some weights replaced, averaged over outputs."""
        runs = self._runs(replaced)
        if [[value.shape for value in run] for run in runs] != self._shapes:
            return LARGEST
        total = 0.0
        for part in self._compared:
            pairs = zip(part.reference, runs, strict=True)
            noise = sum(_noise(reference, part.seen(run[part.position])) for reference, run in pairs)
            total += min(noise / part.power, LARGEST)
        return total / len(self._compared)

    def _runs(self, replaced: Mapping[str, NDArray[Any]] | None) -> list[list[NDArray[Any]]]:
        def run(feed: Feed) -> list[NDArray[Any]]:
            return self._network.run(feed, replaced)

        return [outputs for _, outputs in continued(run, self._network.outputs, self._feeds, self._states)]


def _parts_of(position: int, values: Sequence[NDArray[Any]]) -> list[_Part]:
    view = _view_of(values)
    if view == "plain":
        for axis in range(1, values[0].ndim):
            likely = _likely(values, axis)
            # At least half: scores of many classes beside a few coordinates, not vectors that happen to be small.
            if likely is not None and likely.size / 2 <= np.count_nonzero(likely) < likely.size:
                scores, others = np.flatnonzero(likely), np.flatnonzero(~likely)
                return [
                    _Part.of(position, values, "probability", axis, scores),
                    _Part.of(position, values, "plain", axis, others),
                ]
    return [_Part.of(position, values, view)]


def _likely(values: Sequence[NDArray[Any]], axis: int) -> NDArray[np.bool_] | None:
    """Which entries of an axis hold numbers between 0 and 1 alone, both excluded as sigmoids do."""
    lengths = {value.shape[axis] if value.ndim > axis else 0 for value in values}
    if len(lengths) != 1 or not 1 < min(lengths) <= _MOST_KINDS or any(not value.size for value in values):
        return None
    rest = tuple(a for a in range(values[0].ndim) if a != axis)
    likely: NDArray[np.bool_] = np.logical_and.reduce([(v.min(rest) > 0) & (v.max(rest) < 1) for v in values])
    return likely


def _view_of(values: Sequence[NDArray[Any]]) -> View:
    if any(value.dtype.kind not in "f" for value in values):
        return "label"
    finite = [value for value in values if value.size]
    if not finite or not all(np.isfinite(value).all() and value.min() >= 0 and value.max() <= 1 for value in finite):
        return "plain"
    if all(
        value.ndim and value.shape[-1] > 1 and np.abs(value.sum(-1, dtype=np.float64) - 1).max() < _SUM_TOLERANCE
        for value in finite
    ):
        return "distribution"
    return "probability"


def _seen(value: NDArray[Any], view: View) -> NDArray[Any]:
    if view == "label":
        return value
    wide = value.astype(np.float64)
    if view == "plain":
        return wide
    if view == "probability":
        clipped = np.clip(wide, _PROBABILITY_FLOOR, 1 - _PROBABILITY_FLOOR)
        return np.log(clipped) - np.log1p(-clipped)
    logs = np.log(np.maximum(wide, _DISTRIBUTION_FLOOR))
    centred: NDArray[Any] = logs - logs.mean(-1, keepdims=True)
    return centred


def _power(reference: Sequence[NDArray[Any]]) -> float:
    if any(value.dtype.kind != "f" for value in reference):
        return float(sum(value.size for value in reference))
    finite = [value[np.isfinite(value)] for value in reference]
    power = sum(float(np.square(value).sum()) for value in finite)
    count = sum(value.size for value in finite)
    if count < MANY * len(finite):
        return power
    mean = sum(float(value.sum()) for value in finite) / count
    return max(sum(float(np.square(value - mean).sum()) for value in finite), _LEAST_SPREAD * power)


def _noise(reference: NDArray[Any], value: NDArray[Any]) -> float:
    if reference.dtype.kind != "f":
        return float(np.count_nonzero(reference != value))
    wanted = np.isfinite(reference)
    difference = (value - reference)[wanted] if not wanted.all() else value - reference
    power = float(np.square(difference).sum())
    return power if np.isfinite(power) else float("inf")

"""How much the outputs of a model change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import CannotRunError
from .inputs import StatePair
from .network import Feed, Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

View = Literal["distribution", "probability", "plain", "label"]

STEPS = 16
"""Steps that a model with recurrent states is run for, so that errors can build up as they do in use."""

LARGEST = 16.0
"""Deviations above this, and outputs that are no longer finite, count as this."""

_PROBABILITY_FLOOR = 1e-6
_DISTRIBUTION_FLOOR = 1e-6
_SUM_TOLERANCE = 1e-3


class Deviation:
    """Compares a model's outputs with those it had with its own weights.

    Outputs are compared where differences mean the same everywhere: distributions (rows that sum to 1) by the
    centred logarithms of their values, probabilities by their log odds, both with a floor below which nothing
    counts, other numbers as they are, integers by equality.
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
        self._reference: list[list[NDArray[Any]]] = []
        self._views: list[View] = []
        runs = self._runs(None)
        for position in range(len(network.outputs)):
            values = [run[position] for run in runs]
            view = _view_of(values)
            self._views.append(view)
            self._reference.append([_seen(value, view) for value in values])
        self._powers = [_power(reference) for reference in self._reference]
        self._compared = [
            position
            for position, name in enumerate(network.outputs)
            if self._powers[position] > 0 and name not in self._fed_back
        ]
        if any(self._views[position] != "label" for position in self._compared):
            self._compared = [position for position in self._compared if self._views[position] != "label"]
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
        made = sum(
            value.size
            for position in self._compared
            for value in self._reference[position]
            if self._views[position] != "distribution"
        )
        return made / given if given else 0.0

    def __call__(self, replaced: Mapping[str, NDArray[Any]]) -> float:
        """Mean square change relative to the outputs' power with some weights replaced, averaged over outputs."""
        runs = self._runs(replaced)
        total = 0.0
        for position in self._compared:
            noise = 0.0
            for reference, run in zip(self._reference[position], runs, strict=True):
                value = run[position]
                if value.shape != reference.shape:
                    return LARGEST
                noise += _noise(reference, _seen(value, self._views[position]))
            total += min(noise / self._powers[position], LARGEST)
        return total / len(self._compared)

    def _runs(self, replaced: Mapping[str, NDArray[Any]] | None) -> list[list[NDArray[Any]]]:
        runs: list[list[NDArray[Any]]] = []
        state: dict[str, NDArray[Any]] = {}
        for step, feed in enumerate(self._feeds):
            outputs = self._network.run({**feed, **state}, replaced)
            runs.append(outputs)
            if self._states:
                named = dict(zip(self._network.outputs, outputs, strict=True))
                going_on = (step + 1) % STEPS != 0
                state = {pair.input: named[pair.output] for pair in self._states} if going_on else {}
        return runs


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
    return sum(float(np.square(value[np.isfinite(value)]).sum()) for value in reference)


def _noise(reference: NDArray[Any], value: NDArray[Any]) -> float:
    if reference.dtype.kind != "f":
        return float(np.count_nonzero(reference != value))
    wanted = np.isfinite(reference)
    difference = (value - reference)[wanted] if not wanted.all() else value - reference
    power = float(np.square(difference).sum())
    return power if np.isfinite(power) else float("inf")

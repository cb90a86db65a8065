"""What a network's weights multiply: second moments of the inputs of every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc_codec.feedback import MOST_REDUCED

from ..usage import Usage
from .inner_values import expose, fetcher
from .inputs import StatePair
from .layers import Layer, Matrix, layers_of
from .network import Feed, Network
from .random import Random

if TYPE_CHECKING:
    from numpy.typing import NDArray

VECTORS_PER_INPUT = 12
"""Vectors that a moment is estimated from, per input of the layer, if there are that many."""

LEAST_VECTORS = 2048
"""Vectors taken in any case."""

MOST_MOMENT_BYTES = 1 << 31
"""Of all second moments together; layers beyond have none."""

_CHUNK = 1 << 22
_FIRST_PART = 8
_PART_BYTES = 1 << 28


class Moments(NamedTuple):
    """Second moments of what a weight is multiplied with.

    Attributes:
        matrix: the weight.
        mean: float64 [groups, n, n].
        first: float64 [groups, n], means.
        vectors: how many they were taken from.
    """

    matrix: Matrix
    mean: NDArray[np.float64]
    first: NDArray[np.float64]
    vectors: int


class _Sum:
    """Moments being added up."""

    def __init__(self, groups: int, n: int) -> None:
        self.second = np.zeros((groups, n, n))
        self.first = np.zeros((groups, n))
        self.count = 0

    def add(self, vectors: NDArray[np.float32]) -> None:
        groups, count, n = vectors.shape
        if not np.isfinite(vectors).all():
            return
        step = max(1, _CHUNK // (groups * n))
        for start in range(0, count, step):
            part = vectors[:, start : start + step]
            self.second += np.matmul(part.transpose(0, 2, 1), part)
            self.first += part.sum(axis=1, dtype=np.float64)
        self.count += count


def observe(
    network: Network, feeds: Sequence[Feed], states: Sequence[StatePair] = (), *, steps: int = 1
) -> dict[str, Moments]:
    """Run a network and collect the second moments of the inputs of its layers.

    Args:
        network: the model.
        feeds: what it is run on.
        states: outputs that come back as inputs.
        steps: after so many feeds states start anew.

    Returns:
        By name of the weight; weights are missing that are no plain layers, whose inputs cannot be seen, or that saw
        nothing.

    Raises:
        CannotRunError: the model cannot be run.
    """
    hollow = type(network.hollow)()
    hollow.CopyFrom(network.hollow)
    usage = Usage(hollow.graph)
    layers: dict[str, list[Layer]] = {}
    room = MOST_MOMENT_BYTES
    for weight in network.weights:
        found = layers_of(hollow.graph, weight.name, weight.values.shape, usage)
        if not found or found[0].matrix.reduced > MOST_REDUCED:
            continue
        matrix = found[0].matrix
        room -= 8 * matrix.groups * matrix.reduced**2
        if room < 0:
            break
        layers[weight.name] = found
    watched: dict[tuple[object, ...], Layer] = {
        layer.observation: layer for found in layers.values() for layer in found
    }
    names = expose(hollow.graph, {layer.source for layer in watched.values()}, usage)
    sums = {
        key: _Sum(layer.matrix.groups, layer.matrix.reduced) for key, layer in watched.items() if layer.source in names
    }
    run = fetcher(network, hollow)
    own = {value.name for value in network.inputs}
    wanted = sorted({names[watched[key].source] for key in sums} - own)
    parts = [wanted[start : start + _FIRST_PART] for start in range(0, len(wanted), _FIRST_PART)] or [[]]
    returned = [pair.output for pair in states]
    sizes: dict[str, int] = {}
    state: dict[str, NDArray[Any]] = {}
    for number, feed in enumerate(feeds):
        known: Feed = {**feed, **state}
        for first, part in enumerate(parts):
            seen = run(known, [*part, *returned])
            sizes |= {name: seen[name].nbytes for name in part}
            for position, (key, total) in enumerate(sums.items()):
                layer = watched[key]
                name = names[layer.source]
                if name in part or (name in own and first == 0):
                    most = -(-max(VECTORS_PER_INPUT * layer.matrix.reduced, LEAST_VECTORS) // len(feeds))
                    values = known[name] if name in own else seen[name]
                    total.add(layer.observe(values, most, Random(number, position)))
            if first + 1 == len(parts):
                state = {} if (number + 1) % steps == 0 else {pair.input: seen[pair.output] for pair in states}
        if number == 0:
            parts = _parts(sizes)
    joined = {name: _joined(found, sums) for name, found in layers.items()}
    return {name: moments for name, moments in joined.items() if moments is not None}


def _parts(sizes: Mapping[str, int]) -> list[list[str]]:
    """Values that are fetched together: so many that they do not take much memory."""
    parts: list[list[str]] = [[]]
    room = _PART_BYTES
    for name, size in sizes.items():
        if size > room and parts[-1]:
            parts.append([])
            room = _PART_BYTES
        parts[-1].append(name)
        room -= size
    return parts


def _joined(layers: Sequence[Layer], sums: Mapping[tuple[object, ...], _Sum]) -> Moments | None:
    """Moments over all places where a weight is used; ``None`` if one of them was not seen."""
    found = [sums[layer.observation] for layer in layers if layer.observation in sums]
    count = sum(total.count for total in found)
    if count == 0 or len(found) < len(layers):
        return None
    second = sum(total.second for total in found[1:]) + found[0].second
    first = sum(total.first for total in found[1:]) + found[0].first
    return Moments(layers[0].matrix, second / count, first / count, count)

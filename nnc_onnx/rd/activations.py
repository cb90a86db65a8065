"""What a network's weights multiply: second moments of the inputs of every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc_codec.feedback import MOST_REDUCED

from ..graph.usage import Usage
from .inner_values import expose, fetcher
from .layers import Layer, Matrix, layers_of
from .network import Feed, Network
from .random import Random
from .work import operations

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

VECTORS_PER_INPUT = 12
"""Vectors that a moment is estimated from, per input of the layer, if there are that many."""

LEAST_VECTORS = 2048
"""Vectors taken in any case."""

WORK = 5e11
"""Multiply-accumulates spent on running the model; feeds are thinned out to keep it."""

MOST_MOMENT_BYTES = 1 << 31
"""Of all second moments together; layers beyond have none."""

_CHUNK = 1 << 22
_FIRST_PART = 8
_PART_BYTES = 1 << 27  # two parts at a time


class Moments(NamedTuple):
    """Second moments of what a weight is multiplied with.

    Attributes:
        matrix: the weight.
        mean: float64 [groups, n, n].
        vectors: how many they were taken from.
    """

    matrix: Matrix
    mean: NDArray[np.float64]
    vectors: int


class _Sum:
    """Moments being added up."""

    def __init__(self, groups: int, n: int) -> None:
        self.second = np.zeros((groups, n, n))
        self.count = 0

    def add(self, vectors: NDArray[np.float32]) -> None:
        groups, count, n = vectors.shape
        if not np.isfinite(vectors).all():
            return
        step = max(1, _CHUNK // (groups * n))
        for start in range(0, count, step):
            part = vectors[:, start : start + step]
            self.second += np.matmul(part.transpose(0, 2, 1), part)
        self.count += count


def observe(network: Network, feeds: Sequence[Feed], executor: Executor) -> dict[str, Moments]:
    """Run a network and collect the second moments of the inputs of its layers.

    Args:
        network: the model.
        feeds: what it is run on, as far as :data:`WORK` allows.
        executor: takes the vectors of one run while the next one goes on.

    Returns:
        By name of the weight; weights are missing that are no plain layers, whose inputs cannot be seen, or that saw
        nothing.

    Raises:
        CannotRunError: the model cannot be run with its inner values as outputs.
    """
    hollow = type(network.hollow)()
    hollow.CopyFrom(network.hollow)
    usage = Usage(hollow.graph)
    layers = _layers(network, hollow.graph, usage)
    watched = {layer.observation: layer for found in layers.values() for layer in found}
    names = expose(hollow.graph, {layer.source for layer in watched.values()}, usage)
    watched = {key: layer for key, layer in watched.items() if layer.source in names}
    sums = {key: _Sum(layer.matrix.groups, layer.matrix.reduced) for key, layer in watched.items()}
    fetch = fetcher(network, hollow)
    own = {value.name for value in network.inputs}
    wanted = sorted({names[layer.source] for layer in watched.values()} - own)
    parts = [wanted[start : start + _FIRST_PART] for start in range(0, len(wanted), _FIRST_PART)] or [[]]
    sizes: dict[str, int] = {}
    thinned = _thinned(network, feeds)

    def add(key: tuple[object, ...], values: NDArray[Any], number: int, position: int) -> None:
        layer = watched[key]
        most = -(-max(VECTORS_PER_INPUT * layer.matrix.reduced, LEAST_VECTORS) // len(thinned))
        sums[key].add(layer.observe(values, most, Random(number, position)))

    pending: list[Future[None]] = []
    for number, feed in enumerate(thinned):
        for first, part in enumerate(parts):
            seen: Feed = {**(feed if first == 0 else {}), **fetch(feed, part)}
            sizes |= {name: seen[name].nbytes for name in part}
            _finish(pending)
            pending = [
                executor.submit(add, key, seen[names[layer.source]], number, position)
                for position, (key, layer) in enumerate(watched.items())
                if names[layer.source] in seen
            ]
        if number == 0:
            parts = _parts(sizes)
    _finish(pending)
    joined = {name: _joined(found, sums) for name, found in layers.items()}
    return {name: moments for name, moments in joined.items() if moments is not None}


def _finish(pending: Sequence[Future[None]]) -> None:
    for future in pending:
        future.result()


def joined_moments(first: Mapping[str, Moments], second: Mapping[str, Moments], share: float) -> dict[str, Moments]:
    """Moments of two sets of inputs.

    Args:
        first: by name of the weight.
        second: likewise; weights that are missing here keep the first.
        share: what the second set counts, in (0, 1).
    """
    result: dict[str, Moments] = {}
    for name, known in first.items():
        other = second.get(name)
        if other is not None:
            mean = (1 - share) * known.mean + share * other.mean
            known = Moments(known.matrix, mean, known.vectors + other.vectors)
        result[name] = known
    return result


def _layers(network: Network, graph: onnx.GraphProto, usage: Usage) -> dict[str, list[Layer]]:
    """The layers of every weight, as long as there is room for their moments."""
    layers: dict[str, list[Layer]] = {}
    room = MOST_MOMENT_BYTES
    for weight in network.weights:
        found = layers_of(graph, weight.name, weight.values.shape, usage)
        if not found or found[0].matrix.reduced > MOST_REDUCED:
            continue
        matrix = found[0].matrix
        size = 8 * matrix.groups * matrix.reduced**2
        if size <= room:
            room -= size
            layers[weight.name] = found
    return layers


def _thinned(network: Network, feeds: Sequence[Feed]) -> list[Feed]:
    """Feeds, evenly spread, that take about :data:`WORK`; every one is run a few times."""
    count = max(1, min(len(feeds), int(WORK / (2 * max(operations(network, feeds[0]), 1.0)))))
    return [feeds[number * len(feeds) // count] for number in range(count)]


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
    return Moments(layers[0].matrix, second / count, count)

"""How finely vectors are coded: biases, parameters of normalizations, what is multiplied and added to channels.

They are few and of many bits, and outputs react to some of them a thousand times as much as to others: at one precision
for all, the worst of them decides. So they are measured as weights are, at one step each, and coded at the slope of the
weights: every value of a vector does as much to the outputs as every value of a weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np

import nnc_codec
from nnc_codec.exact import grid_exponent
from nnc_codec.formats import PackOptions
from nnc_codec.params import EncodeParams, TensorParams
from nnc_codec.quality import FINE_UNARY_LENGTH, fine_quality
from nnc_codec.quantize import qp_range

from ..graph.usage import Usage, Value
from ..plan import PlannedTensor
from .allocate import Choice, Item
from .deviation import Deviation
from .network import Weight
from .sensitivity import TRUST

BUDGET = 5e10
"""Multiply-accumulates spent on vectors; a quarter of what weights get."""

MOST_SAMPLES = 4
"""Feeds that what a vector does to the outputs is averaged over if the budget allows it."""

FEWEST = 8
"""Shorter vectors are coded as finely as without a plan: nothing is to be gained from them."""

FINER, COARSER, COARSER_MADE_UP = 2.0, 3.0, 2.5
"""Octaves by which the step may differ from the usual one, which is at 55 dB and was tried: what is far from there is a
guess. The last is for made-up inputs, which leave parts of a network idle."""

MOST_SHARE = 0.1
"""Change of the outputs by all vectors in parts of that by all weights: 0.4 dB."""

_NOTHING = 1e-14
_BINS_PER_OCTAVE = 2
_COMPARING = frozenset({"Equal", "Gather", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})


class Vectors(NamedTuple):
    """The vectors of a model, measured.

    Attributes:
        weights: the vectors.
        qps: the quantization parameter that each was tried with.
        changes: of the outputs by it.
        made_up: whether the inputs were.
    """

    weights: tuple[Weight, ...]
    qps: tuple[int, ...]
    changes: tuple[float, ...]
    made_up: bool

    def params(self, choice: Choice, items: Sequence[Item], qp_density: int) -> dict[Value, TensorParams]:
        """What the vectors are coded with beside weights that are coded by `choice`."""
        sizes = np.array([weight.values.size for weight in self.weights])
        weighed = sum(item.elements for item in items)
        allowed = max(choice.deviation, _NOTHING) * min(sizes.sum() / max(weighed, 1), MOST_SHARE)
        found: dict[Value, TensorParams] = {}
        coarser = COARSER_MADE_UP if self.made_up else COARSER
        lowest, highest = qp_range(qp_density)
        for weight, qp, change, share in zip(self.weights, self.qps, self._hedged(), sizes / sizes.sum(), strict=True):
            octaves = min(max(math.log2(allowed * share / change) / 2, -FINER), coarser)
            best = min(max(qp + math.floor(octaves * (1 << qp_density)), lowest), highest)
            params = TensorParams(qp=best, method="uniform", cabac_unary_length=FINE_UNARY_LENGTH)
            found.update((tensor.value, params) for tensor in weight.tensors)
        return found

    def _hedged(self) -> list[float]:
        """The changes as they count: of silent vectors what it is for the median of the others."""
        sizes = [weight.values.size for weight in self.weights]
        known = [change / size for change, size in zip(self.changes, sizes, strict=True) if change > _NOTHING]
        usual = float(np.median(known)) if known else _NOTHING
        trust = TRUST if self.made_up else 1.0
        changes = [
            (change if change > _NOTHING else usual * size) ** trust * (usual * size) ** (1 - trust)
            for change, size in zip(self.changes, sizes, strict=True)
        ]
        return [2.0 ** (round(math.log2(change) * _BINS_PER_OCTAVE) / _BINS_PER_OCTAVE) for change in changes]


def plannable_vectors(planned: Sequence[PlannedTensor], usage: Usage) -> list[PlannedTensor]:
    """The vectors whose precision is worth measuring."""
    return [
        tensor
        for tensor in planned
        if tensor.reason is not None
        and tensor.is_coded
        and tensor.element is not None
        and tensor.element.is_float
        and tensor.elements >= FEWEST
        and not any(use.node is None or use.node.op_type in _COMPARING for use in usage.uses(tensor.value))
    ]


def samples_for(vectors: int, operations: float) -> int:
    """Feeds that the budget allows for `vectors` and a model of so many multiply-accumulates; 0 for none."""
    return min(int(BUDGET / max(operations * max(vectors, 1), 1.0)), MOST_SAMPLES)


def measure_vectors(
    vectors: Sequence[Weight], deviation: Deviation, options: PackOptions, executor: Executor, *, made_up: bool
) -> Vectors | None:
    """Try every vector with the step that it has without a plan, one at a time; ``None`` if there are none."""
    tried = [pair for weight in vectors if (pair := _usual(weight, options)) is not None]
    if not tried:
        return None

    def change(pair: tuple[Weight, int]) -> float:
        weight, qp = pair
        params = EncodeParams(qp=qp, nonweight_qp=qp, qp_density=options.qp_density, method="uniform", topology=False)
        payload = nnc_codec.encode({"v": weight.values}, params)
        return deviation({weight.name: nnc_codec.decode_single(payload, weight.values.dtype, weight.values.shape)})

    changes = tuple(executor.map(change, tried))
    return Vectors(tuple(weight for weight, _ in tried), tuple(qp for _, qp in tried), changes, made_up)


def _usual(weight: Weight, options: PackOptions) -> tuple[Weight, int] | None:
    """The vector and its usual quantization parameter, if its values have no exact form and a step suits them."""
    with np.errstate(over="ignore"):
        values = weight.values.astype(np.float32)
    if not np.isfinite(values).all() or grid_exponent(values) is not None:
        return None
    reciprocal = weight.tensors[0].care == "reciprocal"
    quality = fine_quality(values, reciprocal=reciprocal, qp_density=options.qp_density)
    return None if quality.method != "uniform" else (weight, quality.qp)

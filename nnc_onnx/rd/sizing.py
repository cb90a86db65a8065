"""The best plan that fits into a size.

Only packing knows every byte: tensors share bitstreams, tables are coded in an order of their own, the graph is made
compact. So candidates are packed for real, and what that says of every tensor corrects the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import numpy as np

from nnc_codec.formats import PackOptions

from .allocate import Choice, Item, chosen, for_bits
from .curves import Trial
from .errors import GoalError
from .fitting import Fit, Study, fed_back
from .network import Weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_PACKS = 8
"""Candidates that are packed."""

NEAR = 0.995
"""A candidate that takes this share of the size asked for is near enough."""

MARGIN = 0.0015
"""Share of the size that is left free on purpose: small errors of the estimate then cost no further candidate."""

_FINER = 8
_LEAST_GAIN = 2.0**-300


def fit_size(
    study: Study, most: int, packed_size: Callable[[Fit], int], options: PackOptions, executor: Executor
) -> Fit:
    """The best choice with which the packed model has at most `most` bytes.

    Args:
        study: the model.
        most: bytes of the packed model, everything included.
        packed_size: packs with a choice and tells the size.
        options: how tensors are coded.
        executor: where they are coded.

    Raises:
        GoalError: there is none.
    """
    plain = sum(tensor.nbytes for weight in study.weights for tensor in weight.tensors)
    coder = _Coder(study, options, executor)
    items: Sequence[Item] = study.items
    best: tuple[int, Fit, dict[str, NDArray[np.generic]]] | None = None
    # Until something is packed: nothing is known of the rest but that it fits.
    room = float(min(most, plain))
    tried: set[tuple[int, ...]] = set()
    rest = 0.0
    for _ in range(MOST_PACKS):
        choice = within(items, 8 * room)
        if choice.qps in tried and best is not None:
            # By the estimate nothing is left, but packing shows what is.
            choice = within(items, 8 * (room + most - best[0]))
        if choice.qps in tried:
            break
        tried.add(choice.qps)
        values = coder.code(choice)
        fit = Fit(choice, math.nan, fed_back(study, values))
        size = packed_size(fit)
        if size <= most and (best is None or size > best[0]):
            best = size, fit, values
        if NEAR * most <= size <= most:
            break
        items = coder.corrected(study.items)
        rest = size - coder.nbytes
        room = max(most * (1 - MARGIN) - rest, 1.0)
    if best is None:
        raise GoalError(
            f"the model cannot be packed into {most} bytes",
            hint=f"what is not planned takes {math.ceil(rest)} bytes; include more tensors, or allow more",
        )
    _, fit, values = best
    return fit._replace(change=study.check(values))


def within(items: Sequence[Item], most: float) -> Choice:
    """The best choice of at most `most` bits, by what was measured."""
    return refined(items, for_bits(items, most), most)


def refined(items: Sequence[Item], choice: Choice, most: float) -> Choice:
    """A choice made finer, one tensor after the other, where it pays most for the bits that are left.

    Equal slope moves all tensors at once, and one that holds half of a model's weights leaves much room or none.

    Args:
        items: what was measured.
        choice: of at most `most` bits; otherwise it stays.
        most: bits of all payloads.
    """
    at = [int(qp - item.curve.qps[0]) for item, qp in zip(items, choice.qps, strict=True)]
    left = most - choice.bits
    while left > 0:
        step: tuple[float, int, int, float] | None = None
        for position, (item, index) in enumerate(zip(items, at, strict=True)):
            for finer in range(max(index - _FINER, 0), index):
                cost = float(item.curve.bits[finer] - item.curve.bits[index]) * item.elements
                gain = float(item.deviation[index] - item.deviation[finer])
                if cost > left or gain <= _LEAST_GAIN:
                    continue
                ratio = gain / max(cost, 1.0)
                if step is None or ratio > step[0]:
                    step = ratio, position, finer, cost
        if step is None:
            break
        _, position, finer, cost = step
        at[position] = finer
        left -= cost
    return chosen(items, at)


class _Coder:
    """Codes the weights of a study; those whose quantization parameter stays are not coded again.

    Attributes:
        nbytes: of all payloads of the last choice, without headers.
    """

    def __init__(self, study: Study, options: PackOptions, executor: Executor) -> None:
        self._study, self._options, self._executor = study, options, executor
        self._last: list[tuple[int, Trial] | None] = [None] * len(study.weights)
        self._rates: list[dict[int, float]] = [{} for _ in study.weights]
        self.nbytes = 0.0

    def code(self, choice: Choice) -> dict[str, NDArray[np.generic]]:
        """The decoded weights by name."""

        def code(job: tuple[Weight, int, tuple[int, Trial] | None]) -> tuple[int, Trial]:
            weight, qp, last = job
            return last if last is not None and last[0] == qp else (qp, self._study.code(weight, qp, self._options))

        coded = list(self._executor.map(code, zip(self._study.weights, choice.qps, self._last, strict=True)))
        self._last = list(coded)
        for rates, (qp, trial) in zip(self._rates, coded, strict=True):
            rates[qp] = trial.rate
        weights = self._study.weights
        self.nbytes = sum(
            trial.rate * weight.values.size / 8 for weight, (_, trial) in zip(weights, coded, strict=True)
        )
        return {weight.name: trial.values for weight, (_, trial) in zip(weights, coded, strict=True)}

    def corrected(self, items: Sequence[Item]) -> list[Item]:
        """The items with their rates in proportion to what the last choice took, and as they were where coded."""
        result = []
        for item, last, rates in zip(items, self._last, self._rates, strict=True):
            curve = item.curve
            if last is not None:
                qp, trial = last
                expected = float(curve.bits[qp - int(curve.qps[0])])
                bits = curve.bits * (trial.rate / max(expected, 1e-6))
                bits[[coded - int(curve.qps[0]) for coded in rates]] = list(rates.values())
                curve = curve._replace(bits=bits)
            result.append(item._replace(curve=curve))
        return result

"""Sparsification: the weights that do least become zero before a model is quantized."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .graph.ends import end_weights
from .graph.usage import Usage
from .plan import PlannedTensor
from .tensors import to_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_ELEMENTS = 4096
"""Smaller tensors stay as they are: their zeros would save nothing."""

SAMPLE = 1 << 18
"""Weights of a tensor that the threshold is found on, evenly spread."""

MOST_PER_TENSOR = 0.9
"""No tensor loses a larger share of its weights than this, or than the share asked for. Data that were not seen may
need what seems to do nothing."""

_HALVINGS = 60


class Candidate(NamedTuple):
    """A tensor whose weights may become zero.

    Attributes:
        values: its weights.
        importance: what an error of 1 in one of them does, as a mean square.
    """

    values: NDArray[Any]
    importance: float


def may_be_sparse(planned: Sequence[PlannedTensor], usage: Usage) -> list[PlannedTensor]:
    """The tensors that zeros are put into.

    Left as they are: what is no weight, tensors of fewer than :data:`LEAST_ELEMENTS` elements, depthwise filters, and
    the weights at both ends of the model, unless nothing else is left.
    """
    weights = [tensor for tensor in planned if _is_weight(tensor) and not _is_depthwise(tensor, usage)]
    ends = end_weights(usage, [tensor.value for tensor in planned if _is_weight(tensor)])
    return [tensor for tensor in weights if tensor.value not in ends] or weights


def sparsify_by_size(
    planned: Sequence[PlannedTensor], usage: Usage, folder: Path, sparsity: float
) -> tuple[list[PlannedTensor], tuple[str, ...]]:
    """Zeros where weights are small beside the rms of their tensor.

    Args:
        planned: all tensors of a model.
        usage: of its graph.
        folder: where external data lie.
        sparsity: share of the weights of :func:`may_be_sparse` to become zero.

    Returns:
        The tensors, with ``sparse`` where there are zeros, and notes for the user.

    Raises:
        InvalidModelError, ExternalDataError: values cannot be read.
    """
    chosen = may_be_sparse(planned, usage)
    arrays = [to_array(tensor.proto, folder).reshape(tensor.shape) for tensor in chosen]
    candidates = [Candidate(values, 1 / max(_power(values), 1e-300)) for values in arrays]
    found = {
        tensor.value: zeroed(values, threshold)
        for tensor, values, threshold in zip(chosen, arrays, thresholds(candidates, sparsity), strict=True)
    }
    result = [tensor._replace(sparse=found.get(tensor.value)) for tensor in planned]
    return result, (summary(result),)


def thresholds(candidates: Sequence[Candidate], sparsity: float) -> list[float]:
    """Magnitudes below which weights become zero, so that the last one of every tensor does as much as any other's.

    Args:
        candidates: the tensors.
        sparsity: share of all their weights to become zero.
    """
    samples = [np.sort(np.abs(_sample(each.values)).astype(np.float64)) for each in candidates]
    sizes = [each.values.size for each in candidates]
    gains = [math.sqrt(max(each.importance, 1e-300)) for each in candidates]
    most = max(sparsity, MOST_PER_TENSOR)
    caps = [float(np.quantile(sample, most)) for sample in samples]
    wanted = sparsity * sum(sizes)

    def at(level: float) -> list[float]:
        return [min(2.0**level / gain, cap) for gain, cap in zip(gains, caps, strict=True)]

    def zeros(level: float) -> float:
        return sum(
            size * np.searchsorted(sample, threshold, "left") / sample.size
            for size, sample, threshold in zip(sizes, samples, at(level), strict=True)
        )

    low, high = -500.0, 500.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if zeros(middle) < wanted else (low, middle)
    return at(high)


def zeroed(values: NDArray[Any], threshold: float) -> NDArray[Any]:
    """A copy of `values` with zeros for all magnitudes below `threshold`."""
    return np.where(is_zeroed(values, threshold), values.dtype.type(0), values)


def is_zeroed(values: NDArray[Any], threshold: float) -> NDArray[np.bool_]:
    """Where `values` are below `threshold`."""
    below: NDArray[np.bool_] = np.abs(values).astype(np.float64) < threshold
    return below


def share_of_zeros(values: NDArray[Any]) -> float:
    """Share of values that are zero."""
    return 1 - int(np.count_nonzero(values)) / max(values.size, 1)


def summary(planned: Iterable[PlannedTensor]) -> str:
    """What was made zero, for the user."""
    tensors = list(planned)
    sparse = [tensor.sparse for tensor in tensors if tensor.sparse is not None]
    inside = sum(values.size for values in sparse)
    zeros = sum(values.size - np.count_nonzero(values) for values in sparse)
    every = sum(tensor.elements for tensor in tensors if _is_weight(tensor))
    if not inside:
        return "no tensor is such that weights of it may become zero"
    return (
        f"{100 * zeros / inside:.1f} % of the {inside} weights in {len(sparse)} tensors are zero, "
        f"{100 * zeros / every:.1f} % of all coded weights"
    )


def _is_weight(tensor: PlannedTensor) -> bool:
    is_float = tensor.element is not None and tensor.element.is_float
    return is_float and tensor.reason is None and tensor.elements >= LEAST_ELEMENTS


def _is_depthwise(tensor: PlannedTensor, usage: Usage) -> bool:
    """Whether a convolution applies it to every channel by itself."""
    nodes = [use.node for use in usage.uses(tensor.value)]
    return len(tensor.shape) > 2 and tensor.shape[1] == 1 and any(node and node.op_type == "Conv" for node in nodes)


def _sample(values: NDArray[Any]) -> NDArray[Any]:
    flat = values.reshape(-1)
    return flat[:: max(1, -(-flat.size // SAMPLE))]


def _power(values: NDArray[Any]) -> float:
    flat = values.reshape(-1)
    return float(np.einsum("i,i->", flat.astype(np.float64), flat.astype(np.float64))) / max(flat.size, 1)

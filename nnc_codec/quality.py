"""A safe quantization parameter for a tensor from nothing but its values.

The model is never run. The step size follows the tensor's own spread, seen per output channel so that
channels with small weights keep their shape beside channels with large ones, and it is finer for small
tensors: they cost few bytes, and single weights of theirs (depthwise filters, first and last layers)
matter most.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .exact import CONTEXT_GAIN, MOST_BITS, clusters, codebook_exponent, entropy, grid_exponent
from .params import Method
from .quantize import qp_range, unbounded_qp_for_step

if TYPE_CHECKING:
    import numpy.typing as npt

STEP_PER_RMS = 0.075
"""Step size of a large tensor in units of its channels' rms: about 5 bits a weight for Gaussian values.

Measured on seven models of five kinds: their task metrics stay within 1 % up to about 0.14."""

CHANNEL_QUANTILE = 0.25
"""Channels are judged by this quantile of their rms, capped from above by the rms of the whole tensor."""

MAX_CHANNEL_GAIN = 8.0
"""The quantile counts for at least the whole rms divided by this: dead channels must not ask for endless bits."""

FULL_SIZE = 1 << 20
"""Tensors of this many elements or more get :data:`STEP_PER_RMS`; smaller ones a finer step."""

SIZE_EXPONENT = 0.25
"""The step of a tensor of N elements shrinks by (N / FULL_SIZE) ** SIZE_EXPONENT."""

FINE_STEP_PER_RMS = 0.0066
"""Step of vectors and small tensors in units of their channels' rms: 55 dB, at about 10 bits a value.

They are added to or multiplied with whole channels and are a few percent of a model, so that their error should
vanish beside that of the weights, which is at 30 to 40 dB. For so few values of so many bits the uniform quantizer
takes no more bytes than the dependent one, whose trellis has no room."""

FINE_UNARY_LENGTH = 1
"""``cabac_unary_length`` for them: contexts of more flags would have too few levels to learn from. Saves 6 %."""

MAX_RECIPROCAL_GAIN = 4096.0
"""Values that are divided by are judged by their smallest ones, but at least by their rms divided by this."""

_LEAST_VARIANCE = 1e-5
"""What ONNX adds to a variance before it divides."""


class Quality(NamedTuple):
    """What the encoder is told about one tensor.

    Attributes:
        qp: quantization parameter.
        method: quantization method; ``"uniform"`` where the values lie on a grid and come back exactly,
            ``"raw"`` where no qp of the syntax has a step that suits them.
    """

    qp: int
    method: Method


def choose_quality(
    array: npt.NDArray[Any], *, method: Method = "dq", qp_density: int = 2, total_elements: int | None = None
) -> Quality:
    """A quality at which real models keep their task metric.

    Args:
        array: finite float tensor of any shape; the first dimension counts as output channels.
        method: what the caller wants; replaced by ``"uniform"`` for values on a grid.
        qp_density: ``mps_qp_density`` that the qp is meant for.
        total_elements: coded elements of the whole model. Steps of small models are finer throughout, because
            the size rule is relative to `FULL_SIZE`; given this, it is relative to the model instead.
    """
    grid = grid_exponent(array)
    if grid is not None:
        return _representable(Quality(grid << qp_density, "uniform"), qp_density)
    spread = _spread(array)
    reference = FULL_SIZE if total_elements is None else min(FULL_SIZE, max(total_elements, 1))
    size = min(1.0, array.size / reference) ** SIZE_EXPONENT
    return _representable(Quality(unbounded_qp_for_step(STEP_PER_RMS * spread * size, qp_density), method), qp_density)


def fine_quality(array: npt.NDArray[Any], *, reciprocal: bool = False, qp_density: int = 2) -> Quality:
    """A quality at which a vector or a small tensor loses nothing visible.

    Args:
        array: finite float tensor of any shape.
        reciprocal: what counts is the square root of one over the values, as of variances.
        qp_density: as for :func:`choose_quality`.
    """
    grid = grid_exponent(array)
    if grid is not None:
        return _representable(Quality(grid << qp_density, "uniform"), qp_density)
    spread = _spread(array)
    if reciprocal:
        values = np.abs(array.reshape(-1).astype(np.float64))
        small = 1.0 / math.sqrt(np.mean(1.0 / np.square(values + _LEAST_VARIANCE)))
        spread = min(spread, max(small, spread / MAX_RECIPROCAL_GAIN))
    qp = unbounded_qp_for_step(FINE_STEP_PER_RMS * spread, qp_density)
    return _representable(Quality(qp, "uniform"), qp_density)


def exact_quality(array: npt.NDArray[Any], *, qp_density: int = 2, most_bytes: float = math.inf) -> Quality | None:
    """A quality at which a clustered tensor comes back exactly by a codebook.

    Args:
        array: finite float tensor of any shape.
        qp_density: as for :func:`choose_quality`.
        most_bytes: size from which on the caller has no use for it.

    Returns:
        ``None`` if its values are too many, no codebook can hold them, or the size is sure to be above.
    """
    values = clusters(array)
    exponent = None if values is None else codebook_exponent(values)
    if values is None or exponent is None:
        return None
    if CONTEXT_GAIN * entropy(array, values) * array.size > 8 * most_bytes:
        return None
    quality = _representable(Quality(exponent << qp_density, "codebook"), qp_density)
    return quality if quality.method == "codebook" else None


def is_best_exact(array: npt.NDArray[Any], *, qp_density: int = 2) -> bool:
    """Whether a tensor comes back exactly at a rate that leaves nothing to plan.

    Args:
        array: finite float tensor of any shape.
        qp_density: as for :func:`choose_quality`.
    """
    if grid_exponent(array) is not None:
        return True
    values = clusters(array)
    if values is None or entropy(array, values) > MOST_BITS:
        return False
    return exact_quality(array, qp_density=qp_density) is not None


def _representable(quality: Quality, qp_density: int) -> Quality:
    """`quality`, or raw values if its qp does not fit the syntax (a signed number of 6 + density bits)."""
    low, high = qp_range(qp_density)
    return quality if low <= quality.qp <= high else Quality(0, "raw")


def _spread(array: npt.NDArray[Any]) -> float:
    """The rms that stands for the tensor: a low quantile over its channels, within bounds of its whole rms."""
    rows = array.reshape(array.shape[0], -1) if array.ndim > 1 else array.reshape(1, -1)
    power = np.einsum("ij,ij->i", rows, rows, dtype=np.float64) / max(rows.shape[1], 1)
    power = power[power > 0]
    if power.size == 0:
        return 1.0
    whole = math.sqrt(power.mean())
    low = math.sqrt(np.quantile(power, CHANNEL_QUANTILE))
    return min(whole, max(low, whole / MAX_CHANNEL_GAIN))

"""Tensors whose values come back exactly: which step, and whether as plain levels or by a codebook."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

MOST_ENTRIES = 256
"""Tensors of at most so many distinct values count as clustered."""

PREMIUM = 1.05
"""An exact form is worth this much more than the coded size of a lossy one."""

MOST_BITS = 2.5
"""Zero-order entropy of a clustered tensor below which no lossy form of any use is smaller: what planned weights
take is 2.5 to 4 bits."""

CONTEXT_GAIN = 0.8
"""Share of the zero-order entropy that the coder's contexts may bring a clustered tensor down to."""

_GRID_BITS = 8
"""Values that are multiples of a power of two and need at most so many bits lie on a grid."""

_ENTRY_BITS = 30
"""Magnitude of codebook entries, so that no two of them are 2**31 apart."""

_PRECISION = 24
"""Bits that the largest entry keeps at least."""

LOWEST_EXPONENT = -32
"""Of a step that is a power of two, at any density of the quantization parameter."""

_SAMPLE = 4096
_CHUNK = 1 << 16


def grid_exponent(array: npt.NDArray[Any]) -> int | None:
    """Exponent of the largest power of two that all values are multiples of, if they are few multiples.

    Masks, one-hot tables, index tables and fake-quantized weights are such tensors: coded with that step and
    the uniform quantizer they are exact.

    Args:
        array: finite float tensor of any shape.
    """
    peak = float(np.abs(array).max(initial=0.0))
    if peak == 0.0:
        return 0
    exponent = math.frexp(peak)[1] - _GRID_BITS
    # Most tensors are no grid, and a few values show it.
    for values in (array.reshape(-1)[:_SAMPLE], array):
        scaled = np.ldexp(values.astype(np.float64), -exponent)
        if not np.array_equal(scaled, np.rint(scaled)):
            return None
    common = int(np.bitwise_or.reduce(np.abs(scaled).astype(np.int64), axis=None))
    return exponent + (common & -common).bit_length() - 1


def clusters(array: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """The distinct values of a tensor, ascending; ``None`` if there are more than :data:`MOST_ENTRIES`."""
    flat = array.reshape(-1)
    found = np.unique(flat[:_SAMPLE])
    for start in range(_SAMPLE, flat.size, _CHUNK):
        if found.size > MOST_ENTRIES:
            return None
        found = np.union1d(found, flat[start : start + _CHUNK])
    return found if found.size <= MOST_ENTRIES else None


def entropy(array: npt.NDArray[Any], values: npt.NDArray[Any]) -> float:
    """Bits per element of independent draws from what :func:`clusters` found."""
    counts = np.zeros(values.size, np.int64)
    flat = array.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        places = np.searchsorted(values, flat[start : start + _CHUNK])
        counts += np.bincount(places, minlength=values.size)
    shares = counts[counts > 0] / max(flat.size, 1)
    return float(-(shares * np.log2(shares)).sum())


def codebook_exponent(values: npt.NDArray[Any]) -> int | None:
    """Exponent of the power of two whose multiples the entries of a codebook for `values` are.

    Entries have 31 bits with their sign, and the finest step of the syntax is 2**-32. All float16 values fit, and
    float32 values of like magnitude; further below the largest one they are rounded to 2**-30 of it or to 2**-32.

    Args:
        values: finite.

    Returns:
        The exponent, or ``None`` if the largest value is too small to be held to float32 precision.
    """
    magnitudes = np.abs(values[values != 0].astype(np.float64))
    if magnitudes.size == 0:
        return 0
    mantissas, exponents = np.frexp(magnitudes)
    integers = np.ldexp(mantissas, 53).astype(np.int64)
    zeros = np.log2(integers & -integers).astype(np.int64)
    exact = int((exponents - 53 + zeros).min())
    least = math.frexp(float(magnitudes.max()))[1] - _ENTRY_BITS
    exponent = max(exact, least, LOWEST_EXPONENT)
    return exponent if exponent == exact or exponent <= least + _ENTRY_BITS - _PRECISION else None

"""Floats to integers: step sizes, the two quantizers, codebooks, bit depth."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from . import _native
from ._status import check
from .errors import InvalidArgumentError

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]

LARGEST_LEVEL = 2**31 - 3
"""Largest magnitude of an integer; the trellis looks at candidates two above it."""


def qp_range(qp_density: int) -> tuple[int, int]:
    """Smallest and largest QP of a tensor when the base QP is 0."""
    top = 1 << (5 + qp_density)
    return -top, top - 1


def step_of(qp: int, qp_density: int = 2) -> float:
    """Step size of a QP, a float32 value."""
    return float(_native.step_size(qp, qp_density))


def unbounded_qp_for_step(step: float, qp_density: int = 2) -> int:
    """The largest QP whose step is not above ``step`` (> 0), whether or not it fits the syntax."""
    units = 1 << qp_density
    mantissa, exponent = math.frexp(step)  # step = (2 * mantissa) * 2^(exponent - 1)
    return ((exponent - 1) << qp_density) + int((2 * mantissa - 1) * units)


def qp_for_step(step: float, qp_density: int) -> int:
    """The largest QP whose step is not above ``step`` (a positive number), within the range of a tensor's QP."""
    low, high = qp_range(qp_density)
    if not step > 0 or not math.isfinite(step):
        return low
    return max(low, min(high, unbounded_qp_for_step(step, qp_density)))


def quantize(
    weights: Floats,
    qp: int,
    qp_density: int,
    *,
    rows: int,
    scan_order: int = 0,
    dependent: bool,
    lambda_: float = 0.0,
    unary_length: int = 11,
    keep_zeros: bool = False,
) -> tuple[Integers, int]:
    """Quantize a tensor.

    Args:
        weights: finite float32 values in C order, any shape.
        qp: quantization parameter asked for.
        qp_density: ``mps_qp_density``.
        rows: first dimension of the tensor.
        scan_order: effective scan order; the trellis follows it.
        dependent: trellis (``dq_flag`` = 1) or plain rounding.
        lambda_: price of a bit in squared steps; the decision minimises error squared / step squared + lambda_ * bits.
            0 minimises the error alone.
        unary_length: greater-than flags per level of the coder that the bits are counted for.
        keep_zeros: weights that are zero stay zero; the trellis would else give up some of them for their successors.

    Returns:
        The integers, flat in raster order, and the QP used: coarser than ``qp`` if an integer would not have fitted.

    Raises:
        InvalidArgumentError: no QP makes the values fit.
    """
    flat = weights.reshape(-1)
    out = np.empty(flat.size, np.int32)
    coding = _native.TensorCoding(
        rows=rows, cols=flat.size // rows, dq=dependent, scan_order=scan_order, unary_length=unary_length
    )
    used = qp
    for attempt in range(2):
        step = step_of(used, qp_density)
        if lambda_ > 0 or (keep_zeros and dependent):
            status = _native.quantize_rate(flat, coding, step, lambda_, out, keep_zeros)
        elif dependent:
            status = _native.quantize_trellis(flat, coding, step, out)
        else:
            status = _native.quantize_uniform(flat, step, out)
        if status[0] == 0:
            return out, used
        used = _fitting_qp(float(np.max(np.abs(flat))), qp_density)
        if attempt or used <= qp:
            check(status)
    raise InvalidArgumentError("quantized weights do not fit 32 bits at any qp")


def _fitting_qp(largest: float, qp_density: int) -> int:
    """Smallest QP at which ``largest`` quantizes to at most LARGEST_LEVEL."""
    least = largest / LARGEST_LEVEL
    qp = qp_for_step(least, qp_density)
    while step_of(qp, qp_density) < least or largest / step_of(qp, qp_density) > LARGEST_LEVEL - 128:
        qp += 1
    if qp > qp_range(qp_density)[1]:
        raise InvalidArgumentError("quantized weights do not fit 32 bits at any qp")
    return qp


def bit_depth_qp(weights: Floats, bits: int, qp_density: int) -> tuple[int, int, int]:
    """QP and integer range for weights meant to fit ``bits`` bits.

    The step puts the 99.95th percentile of the magnitudes at the top of the range. Integers outside are clipped.

    Returns:
        (qp, lowest integer, highest integer)
    """
    magnitudes = np.abs(weights.reshape(-1))
    signed = bool((weights < 0).any())
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    denominator = max((1 << (bits - 1)) - 1, 1) if signed else (1 << bits) - 1
    target = float(np.percentile(magnitudes, 99.95)) / denominator
    if target == 0:
        target = float(magnitudes.max()) / denominator
    if target == 0:
        return 0, low, high
    k = 1 << qp_density
    exponent = math.floor(math.log2(target))
    qp = round(exponent * k + target * k / 2.0**exponent - k)
    lowest, highest = qp_range(qp_density)
    return max(lowest, min(highest, qp)), low, high

"""Codebooks: the distinct integers of a tensor, which entry is coded as zero, and how the gaps are coded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from . import _native
from .errors import InvalidArgumentError
from .syntax import Codebook, Context, size_in_bits

Integers = npt.NDArray[np.int32]

MAX_TRIED_ZEROS = 4096
"""Above this many entries the most frequent one becomes the zero instead of trying each."""


def build_codebook(integers: Integers, *, rows: int, unary_length: int) -> tuple[Codebook, Integers]:
    """A codebook for quantized integers.

    Args:
        integers: flat, in raster order.
        rows: first dimension of the tensor.
        unary_length: greater-than flags per level of the final coding; one less is used to judge candidates, as the
            reference encoder does.

    Returns:
        The codebook and the tensor as index minus zero index.
    """
    entries, indices = np.unique(integers, return_inverse=True)
    flat = indices.reshape(-1).astype(np.int32)
    zero = _best_zero(entries.size, flat, rows, max(1, unary_length - 1))
    best = min((_codebook(entries, zero, egk) for egk in range(16)), key=bits_of)
    return best, flat - np.int32(zero)


def bits_of(codebook: Codebook) -> int:
    """Size of a codebook in the header."""
    return size_in_bits(codebook, Context())


def _best_zero(size: int, indices: Integers, rows: int, unary_length: int) -> int:
    """The entry whose choice as zero gives the shortest payload; the first of equals."""
    if size > MAX_TRIED_ZEROS:
        return int(np.argmax(np.bincount(indices)))
    coding = _native.TensorCoding(rows=rows, cols=indices.size // rows, edition2=False, unary_length=unary_length)

    def bytes_with(zero: int) -> int:
        encoder = _native.PayloadEncoder()
        encoder.write_tensor(coding, indices - np.int32(zero))
        return len(encoder.finish())

    return min(range(size), key=bytes_with)


def _codebook(entries: npt.NDArray[np.int32], zero: int, egk: int) -> Codebook:
    values = entries.astype(np.int64)
    gaps = np.diff(values) - 1
    if gaps.size and int(gaps.max()) >= 2**31:
        raise InvalidArgumentError("integers too far apart for a codebook")
    return Codebook(
        codebook_egk=egk,
        codebook_size=int(values.size),
        codebook_centre_offset=zero - (int(values.size) >> 1),
        codebook_zero_value=int(values[zero]),
        codebook_delta_left=tuple(int(gap) for gap in gaps[:zero][::-1]),
        codebook_delta_right=tuple(int(gap) for gap in gaps[zero:]),
    )

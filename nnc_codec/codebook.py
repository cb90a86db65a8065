"""Codebooks: the distinct integers of a tensor, which entry is coded as zero, and how the gaps are coded."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from . import _native
from .errors import InvalidArgumentError
from .syntax import Codebook, Context, size_in_bits

Integers = npt.NDArray[np.int32]

MAX_TRIED_ZEROS = 4096
"""Above this many entries the most frequent one becomes the zero instead of trying each."""

MAX_TRIED_LEVELS = 1 << 22
"""Levels coded to find the best zero: where trying every entry takes more, those that the histogram recommends are."""

RECOMMENDED = 4
"""Entries tried then."""


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
    candidates = list(range(size))
    if size * indices.size > MAX_TRIED_LEVELS:
        counts = np.bincount(indices, minlength=size)
        candidates.sort(key=lambda zero: _estimated_bits(counts, zero, unary_length))
        candidates = sorted(candidates[:RECOMMENDED])

    def bytes_with(zero: int) -> int:
        encoder = _native.PayloadEncoder()
        encoder.write_tensor(coding, indices - np.int32(zero))
        return len(encoder.finish())

    return min(candidates, key=bytes_with)


def _estimated_bits(counts: npt.NDArray[np.int64], zero: int, unary_length: int) -> float:
    """Bits of all levels if every flag of the binarization had one context and the model knew its share of ones."""
    after, before = counts[zero + 1 :], counts[:zero][::-1]
    magnitudes = np.zeros(max(after.size, before.size) + 1, np.int64)
    magnitudes[0] = counts[zero]
    magnitudes[1 : after.size + 1] += after
    magnitudes[1 : before.size + 1] += before
    at_least = np.append(magnitudes[::-1].cumsum()[::-1], 0)
    bits = _flag_bits(int(after.sum()), int(before.sum()))
    for flag in range(min(unary_length + 1, magnitudes.size)):
        bits += _flag_bits(int(magnitudes[flag]), int(at_least[flag + 1]))
    rest = magnitudes[unary_length + 1 :]
    if rest.size:
        prefixes = np.floor(np.log2(np.arange(1, rest.size + 1))).astype(np.int64)
        each = np.bincount(prefixes, weights=rest)
        bits += float((each * np.arange(each.size)).sum())
        longer = np.append(each[::-1].cumsum()[::-1], 0)
        bits += sum(_flag_bits(int(each[k]), int(longer[k + 1])) for k in range(each.size))
    return bits


def _flag_bits(zeros: int, ones: int) -> float:
    """Bits of a flag that is so often 0 and 1."""
    total = zeros + ones
    return sum(count * math.log2(total / count) for count in (zeros, ones) if count)


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

"""One object with every bound a decoder checks before it allocates."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Upper bounds for untrusted bitstreams, checked before anything is allocated.

    Attributes:
        max_elements: elements of one tensor.
        max_total_elements: elements of all tensors decoded in one call.
        max_tensors: named tensors in a bitstream.
        max_units: NNR units in a bitstream.
        max_dims: dimensions of one tensor.
        max_name_bytes: UTF-8 bytes of a name or other string.
        max_unit_bytes: bytes of one NNR unit.
        max_expansion: decoded elements per payload byte. An honest arithmetic codeword holds at most about
            800 zero weights a byte; skipped rows and one-entry codebooks hold more.
    """

    max_elements: int = 1 << 32
    max_total_elements: int = 1 << 36
    max_tensors: int = 1 << 20
    max_units: int = 1 << 21
    max_dims: int = 16
    max_name_bytes: int = 1 << 16
    max_unit_bytes: int = (1 << 31) - 1
    max_expansion: int = 1 << 24

"""Coding tensors into the payload of a data unit: one arithmetic codeword for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from . import _native
from ._status import check
from .elements import flat_bytes, native_type
from .errors import InvalidArgumentError
from .payload import Integers, Past, coding_zero
from .syntax.data_unit import Codebook


@dataclass(frozen=True)
class Source:
    """One tensor to be coded: integers in raster order and how they came about."""

    name: str
    rows: int
    columns: int
    integers: Integers
    qp_delta: int | None = None
    codebook: Codebook | None = None
    past: Past = field(default_factory=Past)


@dataclass(frozen=True)
class Tools:
    """Coding tools of one data unit."""

    dq: bool = False
    unary_length: int = 11
    scan_order: int = 0
    row_skipping: bool = False
    param_opt: bool = True
    parent_present: bool = False
    temporal: bool = False
    hist_on: bool = False
    qp_bits: int = 8


def encode_payload(sources: Sequence[Source], tools: Tools) -> tuple[bytes, list[tuple[int, int, int]]]:
    """Code tensors into one codeword.

    Returns:
        The payload and its entry points as (distance in bits, window, state).

    Raises:
        InvalidArgumentError: a QP does not fit its field.
    """
    encoder = _native.PayloadEncoder()
    low = -(1 << (tools.qp_bits - 1))
    for source in sources:
        if source.qp_delta is not None:
            if not low <= source.qp_delta < -low:
                raise InvalidArgumentError(f"qp {source.qp_delta} is outside {low}..{-low - 1}", tensor=source.name)
            encoder.write_qp(source.qp_delta, tools.qp_bits)
        status = encoder.write_tensor(
            _coding(source, tools), source.integers, bool(tools.row_skipping), bool(tools.param_opt), tools.hist_on,
            source.past.integers if tools.temporal else None, source.past.history,
        )  # fmt: skip
        check(status, tensor=source.name)
    data = encoder.finish()
    return data, encoder.entry_points()


def decodes_back(payload: bytes, sources: Sequence[Source], tools: Tools) -> bool:
    """Whether a decoder reads the integers of ``sources`` from what :func:`encode_payload` made of them."""
    decoder = _native.PayloadDecoder(np.frombuffer(payload, np.uint8))
    for source in sources:
        if source.qp_delta is not None:
            decoder.read_qp(tools.qp_bits)
        out = np.empty_like(source.integers)
        status = decoder.read_tensor(
            _coding(source, tools), flat_bytes(out), native_type(out.dtype), True, 1.0, None,
            source.past.integers if tools.temporal else None, source.past.history,
        )  # fmt: skip
        check(status, tensor=source.name)
        if not np.array_equal(out, source.integers):
            return False
    return True


def _coding(source: Source, tools: Tools) -> _native.TensorCoding:
    codebook = source.codebook
    return _native.TensorCoding(
        rows=source.rows,
        cols=source.columns,
        dq=tools.dq and codebook is None,
        unary_length=tools.unary_length,
        scan_order=tools.scan_order,
        parent_present=tools.parent_present,
        codebook_size=0 if codebook is None else codebook.codebook_size,
        codebook_zero=coding_zero(codebook),
    )

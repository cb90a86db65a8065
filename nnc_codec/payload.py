"""Decoding the payload of a data unit: one arithmetic codeword, or raw floats, for all its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from . import _native
from ._status import check
from .blocks import Member
from .elements import dtype_of, empty, flat_bytes, is_float, native_type
from .errors import CorruptError, InvalidArgumentError, LimitExceededError, UnsupportedError
from .limits import Limits
from .syntax.context import Context
from .syntax.data_unit import Codebook, CompressedDataUnitHeader
from .syntax.enums import PayloadType

Integers = npt.NDArray[np.int32]
Flags = npt.NDArray[np.uint8]
EntryPoints = tuple[list[int], list[int], list[int]]
"""Distances in bits, decoder windows and quantization states."""

_PAYLOAD_TYPES = tuple(PayloadType)

PART_ELEMENTS = 1 << 19
"""Elements of a tensor with entry points that are decoded in one go."""


class Decoded(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One tensor out of a payload.

    Attributes:
        values: dequantized floats, or the integers of an INT unit.
        qp: quantization parameter, ``None`` for integers and raw floats.
        integers: coded integers (multiples of the step with ``dq_flag``), flat; only if asked for.
    """

    values: npt.NDArray[Any]
    qp: int | None = None
    integers: Integers | None = None


@dataclass(frozen=True)
class Past:
    """What earlier updates left behind for the contexts of a tensor.

    Attributes:
        integers: the integers of the previous node, flat (temporal context).
        history: 1 where any earlier node was not zero, flat (history-dependent significance).
    """

    integers: Integers | None = None
    history: Flags | None = None


_NO_PAST = Past()


class Payload(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A data unit's payload with all that is needed to decode it."""

    data: npt.NDArray[np.uint8]
    header: CompressedDataUnitHeader
    context: Context
    members: tuple[Member, ...]
    unit: int
    bit_offset: int

    @property
    def payload_type(self) -> PayloadType:
        """``nnr_compressed_data_unit_payload_type``."""
        return _PAYLOAD_TYPES[self.header.nnr_compressed_data_unit_payload_type]

    def codebook_of(self, member: Member) -> Codebook | None:
        """The codebook belongs to the weight, or to G and H each."""
        if not self.header.codebook_present_flag:
            return None
        if member.role in ("weight", "weight_g"):
            return self.header.codebook
        return self.header.codebook_dc if member.role == "weight_h" else None

    def natural_dtype(self) -> np.dtype[Any]:
        """Element type of the decoded tensors if the caller does not choose one."""
        return dtype_of(self.header.nnr_decompressed_data_format, integers=self.payload_type == PayloadType.NNR_PT_INT)

    def check_limits(self, limits: Limits) -> int:
        """Refuse a payload that claims to hold far more than its bytes can honestly carry; returns its elements."""
        elements = 0
        for member in self.members:
            elements += prod(member.shape)
        if elements > max(1, self.data.size) * limits.max_expansion:
            raise LimitExceededError(
                f"{elements} elements in {self.data.size} bytes is beyond Limits.max_expansion",
                unit=self.unit, tensor=self.members[0].name, bit_offset=self.bit_offset,
            )  # fmt: skip
        return elements

    def first_qp(self) -> int | None:
        """Quantization parameter of the first tensor, from the first bits of the payload."""
        if self.payload_type not in (PayloadType.NNR_PT_FLOAT, PayloadType.NNR_PT_BLOCK):
            return None
        return self._read_qp(_native.PayloadDecoder(self.data))

    def decode(
        self,
        *,
        dtype: np.dtype[Any] | None = None,
        out: Mapping[str, npt.NDArray[Any]] | None = None,
        past: Mapping[str, Past] | None = None,
        keep_integers: bool = False,
    ) -> dict[str, Decoded]:
        """Decode all tensors of the unit.

        Args:
            dtype: element type of the results; floats for FLOAT and BLOCK, integers for INT.
            out: C-contiguous arrays to decode into, by name; their type rules over ``dtype``.
            past: state of earlier updates, by name.
            keep_integers: also return the coded integers.

        Raises:
            CorruptError, TruncatedError, UnsupportedError: with unit, tensor and bit offset.
        """
        if self.payload_type == PayloadType.NNR_PT_RAW_FLOAT:
            return self._raw(dtype, out or {})
        if self.header.codebook_present_flag and self.header.dq_flag:
            raise UnsupportedError("dq_flag together with a codebook", unit=self.unit, bit_offset=self.bit_offset)
        try:
            return self._coded(dtype, out or {}, past or {}, keep_integers, esc_indices=31)
        except CorruptError:
            if self.context.general_profile_idc == 1:
                raise
            # Payloads of NNCodec 0.x signal one more ESC index; a codeword that ends well is the right reading.
            return self._coded(dtype, out or {}, past or {}, keep_integers, esc_indices=32)

    def _coded(
        self,
        dtype: np.dtype[Any] | None,
        out: Mapping[str, npt.NDArray[Any]],
        past: Mapping[str, Past],
        keep_integers: bool,
        esc_indices: int,
    ) -> dict[str, Decoded]:
        decoder = _native.PayloadDecoder(self.data)
        is_int = self.payload_type == PayloadType.NNR_PT_INT
        result: dict[str, Decoded] = {}
        for member in self.members:
            qp = None if is_int else self._read_qp(decoder)
            step = 1.0 if qp is None else step_size(qp, self.context)
            codebook = self.codebook_of(member)
            entries = None if codebook is None else np.array(codebook.entries, np.int32)
            known = past.get(member.name, _NO_PAST)
            if self.header.temporal_context_modeling_flag and known.integers is None:
                raise UnsupportedError(
                    "temporal_context_modeling_flag needs the previous update", unit=self.unit, tensor=member.name
                )
            values = out.get(member.name)
            if values is None:
                values = empty(member.shape, dtype or self.natural_dtype())
            coding = self._coding(member, codebook, esc_indices)
            reference = known.integers if self.header.temporal_context_modeling_flag else None
            if keep_integers:
                raw = np.empty(member.elements, np.int32)
                status = decoder.read_tensor(
                    coding, flat_bytes(raw), native_type(raw.dtype), True, 1.0, None, reference, known.history
                )
                check(status, unit=self.unit, tensor=member.name, bit_offset=self.bit_offset)
                _store(_reconstruct(raw, step, entries, coding_zero(codebook), is_int), values)
                result[member.name] = Decoded(values, qp, raw)
                continue
            status = decoder.read_tensor(
                coding, flat_bytes(values), native_type(values.dtype), is_int, step, entries, reference, known.history
            )
            check(status, unit=self.unit, tensor=member.name, bit_offset=self.bit_offset)
            result[member.name] = Decoded(values, qp)
        check(decoder.finish(), unit=self.unit, tensor=self.members[-1].name, bit_offset=self.bit_offset)
        return result

    def decode_rows(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows of one tensor; through the entry points if the unit holds this tensor alone and has some."""
        if not self.block_rows:
            return self.decode()[name].values[start:stop].copy()
        block = 4 << self.header.scan_order
        first, last = start // block, (stop - 1) // block
        member = self.members[0]
        rows = min(member.rows, (last + 1) * block) - first * block
        values = empty((rows, *member.shape[1:]), self.natural_dtype())
        self._decode_block_rows(first, last, values, self._entry_points())
        return values[start - first * block : stop - first * block]

    @property
    def block_rows(self) -> int:
        """Block rows that can be decoded one by one; 0 without entry points or with several tensors."""
        header = self.header
        points = header.cabac_entry_point_list
        if len(self.members) > 1 or points is None or not points.entry_points:
            return 0
        if self.payload_type == PayloadType.NNR_PT_RAW_FLOAT or (header.codebook_present_flag and header.dq_flag):
            return 0
        return len(points.entry_points) + 1

    @property
    def parts(self) -> int:
        """Parts in which a large tensor with entry points is decoded.

        They depend on the header alone, so that the number of threads does not show in what comes out.
        """
        if self.header.cabac_entry_point_list is None or self.context.general_profile_idc != 1:
            return 1
        return max(1, min(self.block_rows, self.members[0].elements // PART_ELEMENTS))

    def part_decoders(self, values: npt.NDArray[Any]) -> list[Callable[[], None]]:
        """Calls that decode the parts of a tensor with entry points into ``values``; independent of each other."""
        block, parts = 4 << self.header.scan_order, max(self.parts, 1)
        edges = [self.block_rows * i // parts for i in range(parts + 1)]
        points = self._entry_points()
        return [
            partial(self._decode_block_rows, first, end - 1, values[first * block : end * block], points)
            for first, end in pairwise(edges)
        ]

    def _entry_points(self) -> EntryPoints:
        points = self.header.cabac_entry_point_list
        if points is None:
            raise UnsupportedError("no entry points", unit=self.unit, tensor=self.members[0].name)
        return (
            list(points.bit_offset_list),
            [point.cabac_offset_list for point in points.entry_points],
            [point.dq_state_list for point in points.entry_points],
        )

    def _decode_block_rows(self, first: int, last: int, values: npt.NDArray[Any], points: EntryPoints) -> None:
        """Decode block rows ``first`` to ``last`` into the rows of the tensor they are."""
        member = self.members[0]
        is_int = self.payload_type == PayloadType.NNR_PT_INT
        decoder = _native.PayloadDecoder(self.data)
        qp = None if is_int else self._read_qp(decoder)
        codebook = self.codebook_of(member)
        status = decoder.read_rows(
            self._coding(member, codebook, 31), first, last, *points,
            flat_bytes(values), native_type(values.dtype), is_int, 1.0 if qp is None else step_size(qp, self.context),
            None if codebook is None else np.array(codebook.entries, np.int32),
        )  # fmt: skip
        check(status, unit=self.unit, tensor=member.name, bit_offset=self.bit_offset)
        if last == self.block_rows - 1:
            check(decoder.finish(), unit=self.unit, tensor=member.name, bit_offset=self.bit_offset)

    def _coding(self, member: Member, codebook: Codebook | None, esc_indices: int) -> _native.TensorCoding:
        header = self.header
        return _native.TensorCoding(
            rows=member.rows,
            cols=member.columns,
            edition2=self.context.general_profile_idc == 1,
            dq=bool(header.dq_flag) and self.payload_type != PayloadType.NNR_PT_INT,
            unary_length=header.cabac_unary_length_minus1 + 1,
            scan_order=header.scan_order,
            parent_present=bool(header.parent_node_id_present_flag),
            codebook_size=0 if codebook is None else codebook.codebook_size,
            codebook_zero=coding_zero(codebook),
            esc_indices=esc_indices,
        )

    def _read_qp(self, decoder: _native.PayloadDecoder) -> int:
        density, base = self.context.qp_density, self.context.quantization_parameter
        if density is None or base is None:
            raise CorruptError("no QP density in the parameter sets", unit=self.unit, bit_offset=self.bit_offset)
        return base + decoder.read_qp(6 + density)

    def _raw(self, dtype: np.dtype[Any] | None, out: Mapping[str, npt.NDArray[Any]]) -> dict[str, Decoded]:
        member = self.members[0]
        count = member.elements
        if self.data.size != 4 * count:
            kind = "trailing bytes" if self.data.size > 4 * count else "too few bytes"
            raise CorruptError(
                f"raw_float32_parameter: {kind}", unit=self.unit, tensor=member.name, bit_offset=self.bit_offset
            )
        values = out.get(member.name)
        if values is None:
            values = empty(member.shape, dtype or self.natural_dtype())
        native_type(values.dtype)
        if not is_float(values.dtype):
            raise InvalidArgumentError(f"raw floats cannot be handed out as {values.dtype}", tensor=member.name)
        _store(np.frombuffer(self.data.tobytes(), "<f4"), values)
        return {member.name: Decoded(values)}


def coding_zero(codebook: Codebook | None) -> int:
    """Index of the codebook entry coded as 0."""
    return 0 if codebook is None else codebook.zero_index


def step_size(qp: int, context: Context) -> float:
    """Step size of a QP as float32.

    Raises:
        CorruptError: it is not a positive finite number.
    """
    step = _native.step_size(qp, context.qp_density or 0)
    if not 0.0 < step < float("inf"):
        raise CorruptError(f"QP {qp} has no usable step size")
    return float(step)


def _store(results: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
    with np.errstate(over="ignore"):
        values[...] = results.reshape(values.shape)
    if values.dtype.kind in "iu" and not np.array_equal(values.reshape(-1), results):
        raise CorruptError("integer out of range")


def _reconstruct(
    integers: Integers, step: float, entries: Integers | None, zero: int, is_int: bool
) -> npt.NDArray[Any]:
    if is_int:
        return integers
    if entries is None:
        with np.errstate(over="ignore"):
            return np.float32(step) * integers.astype(np.float32)
    index = integers.astype(np.int64) + zero
    if index.size and (index.min() < 0 or index.max() >= entries.size):
        raise CorruptError("codebook index out of range")
    with np.errstate(over="ignore"):
        return (entries[index].astype(np.float64) * step).astype(np.float32)

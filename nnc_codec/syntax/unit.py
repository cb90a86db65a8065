"""Reading and writing whole NNR units."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..errors import CorruptError, InvalidArgumentError, LimitExceededError, NNRError, TruncatedError
from .bit_reader import BitReader
from .bit_writer import BitWriter
from .codec import reader, tracer, writer
from .context import Context
from .data_unit import CompressedDataUnitHeader
from .enums import NnrUnitType, PayloadType
from .fields import Structure
from .parameter_sets import LayerParameterSet, ModelParameterSet
from .quick_read import PlainBits, quick_reader
from .topology import TopologyUnitPayload
from .trace import TraceEntry, TracingReader
from .units import AggregateUnitPayload, QuantizationUnitPayload, UnitHeader, UnitSize

Buffer = bytes | bytearray | memoryview
Payload = ModelParameterSet | LayerParameterSet | TopologyUnitPayload | QuantizationUnitPayload | AggregateUnitPayload

_PAYLOADS: dict[int, type[Structure]] = {
    NnrUnitType.NNR_MPS: ModelParameterSet,
    NnrUnitType.NNR_LPS: LayerParameterSet,
    NnrUnitType.NNR_TPL: TopologyUnitPayload,
    NnrUnitType.NNR_QNT: QuantizationUnitPayload,
    NnrUnitType.NNR_AGG: AggregateUnitPayload,
}
_NAMES = {int(member): member.name for member in NnrUnitType}
_LONGEST_SHORT_UNIT = (1 << 15) - 1
_LONGEST_UNIT = (1 << 31) - 1
_SMALLEST_CODEWORD = 2


@dataclass(frozen=True)
class Unit:
    """One unit of a bitstream.

    Attributes:
        index: position among the units of the bitstream.
        offset: byte where its size field starts.
        size: bytes, the size field included.
        header: ``nnr_unit_header()``.
        payload: what follows the header, if that has a syntax of its own; ``None`` for start and data units.
        payload_offset: byte where the payload starts. A data unit's coded bytes run from there to ``end``.
        long_form: whether the size is coded in 31 bits.
        warnings: deviations from the standard that do not change the result.
    """

    index: int
    offset: int
    size: int
    header: UnitHeader
    payload: Payload | None
    payload_offset: int
    long_form: bool
    warnings: tuple[str, ...]

    @property
    def end(self) -> int:
        """First byte after the unit."""
        return self.offset + self.size

    @property
    def type(self) -> int:
        """``nnr_unit_type``."""
        return self.header.nnr_unit_type

    @property
    def type_name(self) -> str:
        """The standard's name of the unit type."""
        return unit_type_name(self.header.nnr_unit_type)

    @property
    def reference_list(self) -> tuple[str, ...] | None:
        """Tensor names that later units refer to by index, if this unit lists them."""
        listed = isinstance(self.payload, TopologyUnitPayload) and self.payload.topology_elements_ids_list
        return listed.topology_elem_id_list if listed else None

    def context_after(self, context: Context) -> Context:
        """The context of the next unit; the same object where this one says nothing for later ones, as data units."""
        if self.payload is None and self.header.start_unit_header is None:
            return context
        names = self.reference_list
        following = context.exported((self.header.start_unit_header, self.payload))
        return following if names is None else replace(following, reference_list=names, reference_count=len(names))

    @property
    def data_unit(self) -> CompressedDataUnitHeader | None:
        """The header of a compressed data unit, ``None`` for other units."""
        return self.header.compressed_data_unit_header

    def to_dict(self) -> dict[str, Any]:
        """Place, header and payload as JSON types."""
        return {
            "index": self.index,
            "offset": self.offset,
            "nnr_unit_size": self.size,
            "nnr_unit_type": self.type_name,
            "nnr_unit_header": self.header.to_dict(),
            "payload": None if self.payload is None else self.payload.to_dict(),
            "payload_offset": self.payload_offset,
            "warnings": list(self.warnings),
        }


def unit_type_name(value: int) -> str:
    """The standard's name of a unit type."""
    return _NAMES.get(value, f"reserved unit type {value}")


def read_unit(
    buffer: Buffer,
    offset: int = 0,
    context: Context | None = None,
    *,
    index: int = 0,
    trace: list[TraceEntry] | None = None,
) -> Unit:
    """Read the unit that starts at byte ``offset``.

    Args:
        buffer: the bitstream; nothing outside the unit is looked at.
        offset: first byte of the unit.
        context: what the units before said; the default is the start of a bitstream.
        index: position of the unit among the units of the bitstream.
        trace: receives every element in order, each bit of the unit exactly once.

    Raises:
        TruncatedError, CorruptError: the unit does not follow the syntax.
        UnsupportedError: legal, but not handled, or not confirmed while ``context.strict``.
        LimitExceededError: above a limit of the context; nothing was allocated.
    """
    context = context or _START
    data = buffer if isinstance(buffer, bytes) else memoryview(buffer).cast("B")
    if offset < 0:
        raise InvalidArgumentError(f"a unit cannot start at byte {offset}")
    if trace is not None:
        bits = TracingReader(data, offset, len(data), unit=index, entries=trace)
        return _read_unit(bits, offset, context, index, tracer, _step_into)
    try:
        return _read_unit(PlainBits(data, offset), offset, context, index, quick_reader)
    except ValueError:
        pass  # something is not in order: read it again, to say what
    return _read_unit(BitReader(data, offset, unit=index), offset, context, index, reader)


def _read_unit(
    bits: BitReader,
    offset: int,
    context: Context,
    index: int,
    get: Callable[[type[Structure]], Callable[..., Any]],
    step_into: Callable[[Any, str, type[Structure]], None] | None = None,
) -> Unit:
    if step_into is not None:
        step_into(bits, "nnr_unit_size", UnitSize)
    unit_size: UnitSize = get(UnitSize)(bits, context)
    size = unit_size.nnr_unit_size
    if size > context.max_unit_bytes:
        raise LimitExceededError(f"a unit of {size} bytes", unit=index, bit_offset=8 * offset)
    end = offset + size
    if 8 * end > bits.end:
        left = (bits.end >> 3) - offset
        raise TruncatedError(f"a unit of {size} bytes where {left} are left", unit=index, bit_offset=8 * offset)
    bits.end = 8 * end
    bits.unit_type = _NAMES.get(bits.data[bits.position >> 3] >> 2, "")
    if step_into is not None:
        step_into(bits, "nnr_unit_header", UnitHeader)
    header: UnitHeader = get(UnitHeader)(bits, context)
    if bits.position & 7:
        bits.fail("corrupt", "nnr_unit_header", "does not end on a byte boundary")
    payload_offset = bits.position >> 3
    structure = _PAYLOADS.get(header.nnr_unit_type)
    payload: Any = None
    if structure is not None:
        if step_into is not None:
            step_into(bits, "payload", structure)
        payload = get(structure)(bits, context, *_payload_parameters(header))
    elif header.compressed_data_unit_header is not None:
        _check_data_unit(header.compressed_data_unit_header, end - payload_offset, bits)
        bits.unread("nnr_compressed_data_unit_payload")
    elif header.nnr_unit_type not in _NAMES:
        bits.at = bits.position
        bits.warn("nnr_unit_type", "reserved; the unit is skipped")
        bits.unread("payload")
    if bits.position != bits.end:
        bits.at = bits.position
        bits.fail("corrupt", "nnr_unit_size", f"{(bits.end - bits.position + 7) >> 3} bytes after the syntax")
    unit = object.__new__(Unit)  # the constructor of a frozen dataclass costs as much as reading ten elements
    unit.__dict__.update(
        index=index, offset=offset, size=size, header=header, payload=payload, payload_offset=payload_offset,
        long_form=bool(unit_size.nnr_unit_size_flag), warnings=tuple(bits.warnings),
    )  # fmt: skip
    return unit


_START = Context()


def _step_into(bits: TracingReader, name: str, structure: type[Structure]) -> None:
    bits.places[:] = [(f"{name}.", structure, False)]


def _payload_parameters(header: UnitHeader) -> tuple[int, ...]:
    topology = header.topology_unit_header
    return () if topology is None else (topology.topology_storage_format,)


def _check_data_unit(header: CompressedDataUnitHeader, payload_bytes: int, bits: BitReader | BitWriter) -> None:
    """What the header and the size of the payload say about each other."""
    if header.nnr_compressed_data_unit_payload_type == PayloadType.NNR_PT_RAW_FLOAT:
        elements = 1
        for dimension in header.tensor_dimensions:
            elements *= dimension
        if payload_bytes != 4 * elements:
            bits.fail("corrupt", "raw_float32", f"{payload_bytes} bytes for {elements} values")
    elif payload_bytes < _SMALLEST_CODEWORD:
        bits.fail("corrupt", "nnr_compressed_data_unit_payload", f"{payload_bytes} bytes hold no codeword")
    if header.cabac_entry_point_list is not None:
        distances = header.cabac_entry_point_list.bit_offset_list
        if min(distances, default=0) < 0 or sum(distances) > 8 * payload_bytes:
            bits.fail("corrupt", "bit_offset_delta2", "entry point outside the payload")


def write_unit(
    header: UnitHeader,
    payload: Payload | Buffer | None = None,
    context: Context | None = None,
    *,
    long_form: bool = False,
) -> bytes:
    """Write one unit.

    Args:
        header: the header; its ``nnr_unit_type`` says what ``payload`` must be.
        payload: the structure of the unit type, the coded bytes of a data unit, or ``None`` for a start unit.
        context: what the units before said.
        long_form: code the size in 31 bits even where 15 are enough.

    Raises:
        InvalidArgumentError: a value is missing, superfluous or out of range.
        UnsupportedError, LimitExceededError: as :func:`read_unit`.
    """
    context = context or _START
    bits = BitWriter(unit_type_name(header.nnr_unit_type))
    writer(UnitHeader)(bits, context, header)
    structure = _PAYLOADS.get(header.nnr_unit_type)
    tail: Buffer = b""
    if structure is not None:
        if type(payload) is not structure:
            bits.fail("corrupt", "payload", f"must be a {structure.__name__}")
        writer(structure)(bits, context, payload, *_payload_parameters(header))
    elif header.nnr_unit_type == NnrUnitType.NNR_STR:
        if payload is not None:
            bits.fail("corrupt", "payload", "a start unit has none")
    elif isinstance(payload, Structure) or payload is None:
        bits.fail("corrupt", "payload", "must be bytes")
    else:
        tail = payload
        if header.compressed_data_unit_header is not None:
            _check_data_unit(header.compressed_data_unit_header, len(tail), bits)
    body = bits.finish()
    size = 2 + len(body) + len(tail)
    long_form = long_form or size > _LONGEST_SHORT_UNIT
    size += 2 * long_form
    if size > min(_LONGEST_UNIT, context.max_unit_bytes):
        raise LimitExceededError(f"a unit of {size} bytes cannot be written", hint="split the tensor")
    front = BitWriter("nnr_unit_size")
    writer(UnitSize)(front, context, UnitSize(nnr_unit_size_flag=int(long_form), nnr_unit_size=size))
    return b"".join((front.finish(), body, tail))


def trace_units(buffer: Buffer, context: Context | None = None) -> Iterator[list[TraceEntry]]:
    """The elements of every unit of a bitstream, unit by unit.

    Raises:
        NNRError: as :func:`scan_units`, after the elements in front of the damage have been handed out.
    """
    context = context or _START
    size = memoryview(buffer).nbytes
    offset = index = 0
    while offset < size:
        entries: list[TraceEntry] = []
        try:
            unit = read_unit(buffer, offset, context, index=index, trace=entries)
        except NNRError:
            yield entries
            raise
        yield entries
        context = unit.context_after(context)
        offset = unit.end
        index += 1


def scan_units(buffer: Buffer, context: Context | None = None) -> Iterator[tuple[Unit, Context]]:
    """Read the units of a whole bitstream, each with the context it was read in.

    Raises:
        CorruptError: there is no unit at all; otherwise as :func:`read_unit`.
    """
    context = context or _START
    size = memoryview(buffer).nbytes
    if size == 0:
        raise CorruptError("an empty bitstream")
    offset = index = 0
    while offset < size:
        if index >= context.max_units:
            raise LimitExceededError(f"more than {context.max_units} units", bit_offset=8 * offset)
        unit = read_unit(buffer, offset, context, index=index)
        yield unit, context
        context = unit.context_after(context)
        offset = unit.end
        index += 1


__all__ = ["Payload", "Unit", "read_unit", "scan_units", "unit_type_name", "write_unit"]

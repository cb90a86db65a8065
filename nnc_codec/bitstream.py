"""A parsed bitstream: its units, its tensors, and edits that move bytes without decoding them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from . import syntax
from .blocks import Member, Role, members
from .elements import empty
from .errors import CorruptError, InvalidArgumentError, LimitExceededError, UnsupportedError
from .limits import Limits
from .params import Method
from .payload import Payload, step_size
from .state import UpdateState
from .syntax.context import Context
from .syntax.data_unit import CompressedDataUnitHeader
from .syntax.enums import NnrUnitType, PayloadType

Buffer = Union[bytes, bytearray, memoryview, npt.NDArray[np.uint8]]  # noqa: UP007 - evaluated at run time
Source = Union[Buffer, str, "os.PathLike[str]"]
_HEAD = (NnrUnitType.NNR_STR, NnrUnitType.NNR_MPS)


class CodedTensor:
    """One tensor of a bitstream, decoded when asked for.

    Attributes:
        name: ``topology_elem_id``.
        shape: dimensions.
        role: what it is within its data unit; ``"weight"`` for a tensor of its own.
    """

    def __init__(self, payload: Payload, member: Member) -> None:
        self._payload = payload
        self.name = member.name
        self.shape = member.shape
        self.role: Role = member.role

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of :meth:`decode` without arguments: the stated format, else float32 or int32."""
        return self._payload.natural_dtype()

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def payload_type(self) -> PayloadType:
        """``nnr_compressed_data_unit_payload_type``."""
        return self._payload.payload_type

    @property
    def unit(self) -> int:
        """Index of the data unit in the bitstream."""
        return self._payload.unit

    @property
    def unit_members(self) -> tuple[str, ...]:
        """Names of all tensors in the same data unit, in payload order."""
        return tuple(m.name for m in self._payload.members)

    @property
    def coded_nbytes(self) -> int:
        """Bytes of the payload, which a block's tensors share."""
        return int(self._payload.data.size)

    @property
    def method(self) -> Method | None:
        """How the values were quantized; ``None`` for integers, which are exact."""
        if self.payload_type == PayloadType.NNR_PT_INT:
            return None
        if self.payload_type == PayloadType.NNR_PT_RAW_FLOAT:
            return "raw"
        if self._payload.codebook_of(Member(self.name, self.role, self.shape)) is not None:
            return "codebook"
        return "dq" if self._payload.header.dq_flag else "uniform"

    @cached_property
    def qp(self) -> int | None:
        """Quantization parameter; ``None`` for integers and raw floats.

        Behind the first tensor of a block this decodes the unit.
        """
        if self._payload.members[0].name == self.name:
            return self._payload.first_qp()
        return self._payload.decode()[self.name].qp

    @property
    def step(self) -> float | None:
        """Step size; ``None`` for integers and raw floats."""
        return None if self.qp is None else step_size(self.qp, self._payload.context)

    def decode(
        self,
        out: npt.NDArray[Any] | None = None,
        dtype: npt.DTypeLike | None = None,
        *,
        executor: Executor | None = None,
    ) -> npt.NDArray[Any]:
        """Decode the tensor.

        Args:
            out: C-contiguous array of this shape to decode into; a float type for quantized tensors, an integer type
                for INT units.
            dtype: element type of a new array, e.g. ``np.float16`` (rounded to nearest even).
            executor: threads that share the block rows of a tensor with entry points (scan order above 0).

        Returns:
            ``out``, or a new array.

        Raises:
            CorruptError, TruncatedError, UnsupportedError: the payload cannot be decoded.
            InvalidArgumentError: ``out`` or ``dtype`` does not fit.
        """
        if out is not None and (out.shape != self.shape or not out.flags.c_contiguous or not out.flags.writeable):
            raise InvalidArgumentError(
                f"out must be a writeable C-contiguous array of shape {self.shape}", tensor=self.name
            )
        wanted = None if dtype is None else np.dtype(dtype)
        if executor is not None and self._payload.block_rows:
            values = empty(self.shape, wanted or self.dtype) if out is None else out
            for job in [executor.submit(decode) for decode in self._payload.part_decoders(values)]:
                job.result()
            return values
        decoded = self._payload.decode(dtype=wanted, out=None if out is None else {self.name: out})
        return decoded[self.name].values

    def decode_unit(self) -> dict[str, npt.NDArray[Any]]:
        """Decode all tensors of the data unit at once, by name in payload order."""
        return {name: decoded.values for name, decoded in self._payload.decode().items()}

    def decoding(self) -> tuple[dict[str, npt.NDArray[Any]], list[Callable[[], None]]]:
        """The data unit's tensors, by name in payload order, and the independent calls that fill them.

        Large tensors with entry points are decoded in parts.
        """
        tensors: dict[str, npt.NDArray[Any]] = {}
        if self._payload.parts > 1:
            tensors[self.name] = empty(self.shape, self.dtype)
            return tensors, self._payload.part_decoders(tensors[self.name])
        return tensors, [lambda: tensors.update(self.decode_unit())]

    def decode_update(self, base: UpdateState) -> dict[str, npt.NDArray[Any]]:
        """Decode all tensors of the data unit as the next step of a sequence of updates, and advance its state."""
        header, parts = self._payload.header, self._payload.members
        base.check(header, {m.name: m.rows * m.columns for m in parts})
        decoded = self._payload.decode(past={m.name: base.past(m.name) for m in parts}, keep_integers=True)
        base.advance(header, {name: d.integers for name, d in decoded.items() if d.integers is not None})
        return {name: d.values for name, d in decoded.items()}

    def decode_rows(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Decode rows ``start`` to ``stop`` of the first dimension.

        With entry points (scan order above 0) only the block rows touched are decoded; without, everything is.

        Raises:
            InvalidArgumentError: not ``0 <= start < stop <= shape[0]``.
        """
        if not self.shape or not 0 <= start < stop <= self.shape[0]:
            raise InvalidArgumentError(f"rows {start}:{stop} are not in {self.shape}", tensor=self.name)
        return self._payload.decode_rows(self.name, start, stop)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Decoded values, for ``np.asarray``."""
        values = self.decode()
        return values if dtype is None else values.astype(dtype)

    def __repr__(self) -> str:
        how = self.method or "integers"
        return f"<CodedTensor {self.name!r} {self.shape} {how}, {self.coded_nbytes} bytes>"


class Bitstream(Mapping[str, CodedTensor]):
    """Units and tensors of an NNR bitstream. Opening parses headers; tensors are decoded one by one on demand."""

    def __init__(self, data: Buffer, *, limits: Limits | None = None, strict: bool = True) -> None:
        self._data = as_bytes(data)
        self._bytes = np.frombuffer(self._data, np.uint8)
        self._limits = limits or Limits()
        self._contexts: list[Context] = []
        self._tensors: dict[str, CodedTensor] = {}
        self.units: tuple[syntax.Unit, ...] = self._parse(strict)

    def _parse(self, strict: bool) -> tuple[syntax.Unit, ...]:
        units: list[syntax.Unit] = []
        elements = 0
        start = Context.from_limits(self._limits, strict=strict)
        for unit, context in syntax.scan_units(self._data, start):
            self._contexts.append(context)
            units.append(unit)
            if unit.data_unit is not None:
                elements += self._add(unit, unit.data_unit, context)
                if elements > self._limits.max_total_elements:
                    raise LimitExceededError("more elements than Limits.max_total_elements", unit=unit.index)
        return tuple(units)

    def _add(self, unit: syntax.Unit, header: CompressedDataUnitHeader, context: Context) -> int:
        parts = members(header, names_of(header, context))
        begin = unit.payload_offset
        payload = Payload(self._bytes[begin : unit.end], header, context, parts, unit.index, 8 * begin)
        elements = payload.check_limits(self._limits)
        tensors = self._tensors
        for member in parts:
            if member.name in tensors:
                raise CorruptError("the name occurs twice", unit=unit.index, tensor=member.name)
            if len(tensors) >= self._limits.max_tensors:
                raise LimitExceededError("more tensors than Limits.max_tensors", unit=unit.index)
            tensors[member.name] = CodedTensor(payload, member)
        return elements

    def __getitem__(self, name: str) -> CodedTensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"<Bitstream of {len(self._tensors)} tensors in {len(self.units)} units, {len(self._data)} bytes>"

    @property
    def nbytes(self) -> int:
        """Size of the bitstream."""
        return len(self._data)

    def data_units(self) -> list[list[CodedTensor]]:
        """Tensors by data unit, in bitstream order."""
        groups: dict[int, list[CodedTensor]] = {}
        for tensor in self._tensors.values():
            groups.setdefault(tensor.unit, []).append(tensor)
        return list(groups.values())

    def unit_bytes(self, index: int) -> bytes:
        """The bytes of one unit."""
        unit = self.units[index]
        return bytes(memoryview(self._data)[unit.offset : unit.offset + unit.size])

    def to_json(self) -> dict[str, Any]:
        """All syntax elements as JSON types."""
        return {"units": [unit.to_dict() for unit in self.units]}

    def split(self) -> dict[str, bytes]:
        """One bitstream per data unit, by the name of its (first) tensor: STR, MPS, the LPS in force, NDU.

        Raises:
            UnsupportedError: tensors are named by index, so a unit does not stand alone.
        """
        result: dict[str, bytes] = {}
        head = b""
        layer = b""
        for unit in self.units:
            data = self.unit_bytes(unit.index)
            unit_type = unit.header.nnr_unit_type
            if unit_type in _HEAD:
                head += data
            elif unit_type == NnrUnitType.NNR_LPS:
                layer = data
            elif unit.data_unit is not None:
                if self._contexts[unit.index].mps_topology_indexed_reference_flag:
                    raise UnsupportedError("tensors named by index cannot be split off", unit=unit.index)
                result[names_of(unit.data_unit, self._contexts[unit.index])[0]] = head + layer + data
        return result

    def relabel(self, names: Mapping[str, str]) -> bytes:
        """The bitstream with other tensor names; coded payloads are moved, not touched.

        Args:
            names: old name -> new name; tensors not mentioned keep theirs.

        Raises:
            InvalidArgumentError: an old name is unknown, a new one empty, with NUL, or not unique.
            UnsupportedError: tensors are named by index.
        """
        unknown = sorted(names.keys() - self._tensors.keys())
        if unknown:
            raise InvalidArgumentError(f"no tensor is called {unknown[0]!r}")
        after = [names.get(name, name) for name in self._tensors]
        if len(set(after)) != len(after) or any(not name or "\0" in name for name in after):
            raise InvalidArgumentError("tensor names must be unique, not empty, and without NUL")
        return b"".join(self._relabelled(unit, names) for unit in self.units)

    def _relabelled(self, unit: syntax.Unit, names: Mapping[str, str]) -> bytes:
        data = self.unit_bytes(unit.index)
        header = unit.data_unit
        if header is None:
            return data
        if self._contexts[unit.index].mps_topology_indexed_reference_flag:
            raise UnsupportedError("tensors are named by index; rewrite the reference list instead", unit=unit.index)
        if header.topology_elements_ids_list is None:
            old = header.topology_elem_id
            if old is None or old not in names:
                return data
            renamed = header.replace(topology_elem_id=names[old])
        else:
            ids = header.topology_elements_ids_list
            new = tuple(names.get(name, name) for name in ids.topology_elem_id_list)
            if new == ids.topology_elem_id_list:
                return data
            renamed = header.replace(topology_elements_ids_list=ids.replace(topology_elem_id_list=new))
        payload = data[unit.payload_offset - unit.offset :]
        changed = unit.header.replace(compressed_data_unit_header=renamed)
        return syntax.write_unit(changed, payload, self._contexts[unit.index], long_form=unit.long_form)


def names_of(header: CompressedDataUnitHeader, context: Context) -> tuple[str, ...]:
    """Names of the tensors of a data unit, in the order of the header."""
    return context.names(header.topology_elem_id, header.topology_elem_id_index, header.topology_elements_ids_list)


def as_bytes(source: Source) -> bytes | memoryview:
    """Bytes of a buffer, without a copy, or of a file."""
    if isinstance(source, (str, os.PathLike)):
        return Path(source).read_bytes()
    if isinstance(source, bytes):
        return source
    view = memoryview(source)  # type: ignore[arg-type]  # numpy arrays are buffers on every supported version
    if not view.c_contiguous:
        raise InvalidArgumentError("a bitstream must lie in contiguous memory")
    return view.cast("B")


def merge(bitstreams: Sequence[Buffer]) -> bytes:
    """One bitstream with the data units of several, in order; no payload is touched.

    Raises:
        InvalidArgumentError: nothing to merge, or a tensor name occurs twice.
        UnsupportedError: the parameter sets differ, or units depend on more than those.
    """
    if not bitstreams:
        raise InvalidArgumentError("nothing to merge")
    heads: set[tuple[bytes, ...]] = set()
    body: list[bytes] = []
    names: set[str] = set()
    for data in bitstreams:
        stream = Bitstream(data)
        twice = names & stream.keys()
        if twice:
            raise InvalidArgumentError(f"tensor {min(twice)!r} occurs in two bitstreams")
        names |= stream.keys()
        head = []
        for unit in stream.units:
            if unit.header.nnr_unit_type in _HEAD:
                head.append(stream.unit_bytes(unit.index))
            elif unit.data_unit is not None:
                body.append(stream.unit_bytes(unit.index))
            elif unit.header.nnr_unit_type != NnrUnitType.NNR_TPL:
                raise UnsupportedError(f"{unit.type_name} units cannot be merged", unit=unit.index)
        heads.add(tuple(head))
    if len(heads) > 1:
        raise UnsupportedError("bitstreams with different parameter sets cannot be merged")
    return b"".join(heads.pop()) + b"".join(body)

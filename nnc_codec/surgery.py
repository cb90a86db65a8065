"""Edits of whole bitstreams that move data units and never decode one.

:meth:`Bitstream.split`, :meth:`Bitstream.relabel` and :func:`nnc_codec.merge` are the other three. What all of them
have in common: the coded payload of every data unit that survives is byte for byte the one that came in.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from . import syntax
from .bitstream import Bitstream, Buffer
from .errors import CorruptError, InvalidArgumentError, LimitExceededError, UnsupportedError
from .limits import Limits
from .syntax.context import Context
from .syntax.enums import NnrUnitType, TopologyCompressionFormat, TopologyStorageFormat
from .syntax.parameter_sets import ModelParameterSet
from .syntax.topology import TopologyUnitHeader, TopologyUnitPayload
from .syntax.units import UnitHeader
from .unit_encoder import check_name

_MODELS = frozenset(
    (
        TopologyStorageFormat.NNR_TPL_UNREC,
        TopologyStorageFormat.NNR_TPL_NNEF,
        TopologyStorageFormat.NNR_TPL_ONNX,
        TopologyStorageFormat.NNR_TPL_PYT,
        TopologyStorageFormat.NNR_TPL_TEF,
    )
)
"""Storage formats that describe a model; the others hold what data units refer to."""

_DEFLATE_LEVEL = 9
_GROWTH = 1 << 20


class Topology(NamedTuple):
    """What a topology unit carries.

    Attributes:
        storage_format: ``topology_storage_format``.
        data: ``topology_data``, inflated if it was deflated. Writers that treat it as text end it with a zero
            byte, which is still there.
        compression_format: ``topology_compression_format`` in the bitstream.
    """

    storage_format: int
    data: bytes
    compression_format: int = TopologyCompressionFormat.NNR_PT_RAW

    @property
    def text(self) -> bytes:
        """`data` without one final zero byte."""
        return self.data.removesuffix(b"\0")


def topologies(bitstream: Bitstream, *, limits: Limits | None = None) -> Iterator[Topology]:
    """The topology units that describe a model, in order; lists of names and pruning information are none.

    Args:
        bitstream: any bitstream.
        limits: ``max_unit_bytes`` bounds the inflated size too.

    Raises:
        CorruptError: deflated data are damaged.
        LimitExceededError: they inflate to more than the limit.
        UnsupportedError: a compression format that the standard does not name.
    """
    bound = (limits or Limits()).max_unit_bytes
    for unit in bitstream.units:
        header = unit.header.topology_unit_header
        if header is None or header.topology_storage_format not in _MODELS:
            continue
        data = unit.payload.topology_data if isinstance(unit.payload, TopologyUnitPayload) else None
        compression = header.topology_compression_format
        if compression == TopologyCompressionFormat.NNR_DFL and data:
            data = _inflate(data, bound, unit.index)
        elif compression not in (TopologyCompressionFormat.NNR_PT_RAW, TopologyCompressionFormat.NNR_DFL):
            raise UnsupportedError(f"topology_compression_format {compression}", unit=unit.index)
        yield Topology(header.topology_storage_format, data or b"", compression)


def _inflate(data: bytes, bound: int, unit: int) -> bytes:
    # The standard says deflate; both the zlib wrapping (RFC 1950) and none (RFC 1951) are met.
    wrapped = len(data) >= 2 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
    inflater = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
    pieces: list[bytes] = []
    size = 0
    rest = data
    try:
        while not inflater.eof:
            piece = inflater.decompress(rest, _GROWTH)
            rest = inflater.unconsumed_tail
            size += len(piece)
            if size > bound:
                raise LimitExceededError(f"topology_data inflate to more than {bound} bytes", unit=unit)
            if not piece and not rest and not inflater.eof:
                raise CorruptError("topology_data end before the deflated stream does", unit=unit)
            pieces.append(piece)
    except zlib.error as error:
        raise CorruptError(f"topology_data cannot be inflated: {error}", unit=unit) from error
    if inflater.unused_data not in (b"", b"\0"):
        raise CorruptError("bytes after the deflated topology_data", unit=unit)
    return b"".join(pieces)


def with_topology(bitstream: Bitstream, *carried: Topology) -> bytes:
    """The bitstream with other topology units, behind the model parameter set; none removes them.

    Args:
        bitstream: any bitstream.
        carried: what to write. ``data`` are deflated here (as RFC 1950) if ``compression_format`` says so.

    Raises:
        InvalidArgumentError: a storage format that describes no model, or an unknown compression format.
    """
    written = []
    for topology in carried:
        if topology.storage_format not in _MODELS:
            raise InvalidArgumentError(f"topology_storage_format {topology.storage_format} describes no model")
        written.append(_topology_unit(topology))
    flag = int(bool(carried) or any(_type(u) == NnrUnitType.NNR_TPL and not _is_model(u) for u in bitstream.units))
    out = []
    for unit in bitstream.units:
        if _is_model(unit):
            continue
        if _type(unit) == NnrUnitType.NNR_MPS:
            out.append(_parameter_set(bitstream, unit, topology_carriage_flag=flag))
            out.extend(written)
        else:
            out.append(bitstream.unit_bytes(unit.index))
    return b"".join(out)


def _topology_unit(topology: Topology) -> bytes:
    if topology.compression_format == TopologyCompressionFormat.NNR_DFL:
        data = zlib.compress(topology.data, _DEFLATE_LEVEL)
    elif topology.compression_format == TopologyCompressionFormat.NNR_PT_RAW:
        data = topology.data
    else:
        raise InvalidArgumentError(f"topology_compression_format {topology.compression_format} is unknown")
    header = UnitHeader(
        nnr_unit_type=NnrUnitType.NNR_TPL,
        topology_unit_header=TopologyUnitHeader(
            topology_storage_format=topology.storage_format,
            topology_compression_format=topology.compression_format,
        ),
    )
    # The syntax of a topology unit depends on nothing before it.
    after_parameters = Context(start_units=1, model_parameter_sets=1)
    return syntax.write_unit(header, TopologyUnitPayload(topology_data=data), after_parameters)


def model_parameter_set(bitstream: Bitstream) -> ModelParameterSet | None:
    """The model parameter set; ``None`` in a bitstream that ends before it."""
    return next((unit.payload for unit in bitstream.units if isinstance(unit.payload, ModelParameterSet)), None)


def with_base_model_id(bitstream: Bitstream, base_model_id: str | None) -> bytes:
    """The bitstream with another ``base_model_id`` in its model parameter set, or without one.

    Raises:
        UnsupportedError: the bitstream is of edition 1, which has no such element, or has no parameter set.
        InvalidArgumentError: NUL in the id.
    """
    if base_model_id is not None and "\0" in base_model_id:
        raise InvalidArgumentError("base_model_id must not contain NUL")
    start = bitstream.units[0].header.start_unit_header
    if model_parameter_set(bitstream) is None or start is None or start.general_profile_idc != 1:
        raise UnsupportedError("base_model_id needs a model parameter set of edition 2")
    changes = {"base_model_id_present_flag": int(base_model_id is not None), "base_model_id": base_model_id}
    return b"".join(
        _parameter_set(bitstream, unit, **changes)
        if _type(unit) == NnrUnitType.NNR_MPS
        else bitstream.unit_bytes(unit.index)
        for unit in bitstream.units
    )


def _parameter_set(bitstream: Bitstream, unit: syntax.Unit, **changes: Any) -> bytes:
    payload = unit.payload
    if not isinstance(payload, ModelParameterSet) or all(getattr(payload, k) == v for k, v in changes.items()):
        return bitstream.unit_bytes(unit.index)
    context = Context()
    for before in bitstream.units[: unit.index]:
        context = before.context_after(context)
    return syntax.write_unit(unit.header, payload.replace(**changes), context, long_form=unit.long_form)


def extract(bitstream: Bitstream, names: Iterable[str]) -> bytes:
    """The bitstream with the data units of some tensors only, in their old order.

    Units that are no data units stay. A block is one unit: naming one of its tensors keeps all of them.

    Raises:
        InvalidArgumentError: no tensor has one of the names.
        UnsupportedError: tensors sit inside an aggregate unit.
    """
    wanted = {_tensor_unit(bitstream, name) for name in names}
    _refuse_aggregates(bitstream)
    return b"".join(
        bitstream.unit_bytes(unit.index) for unit in bitstream.units if unit.data_unit is None or unit.index in wanted
    )


def reorder(bitstream: Bitstream, names: Iterable[str]) -> bytes:
    """The bitstream with its data units in another order.

    Args:
        bitstream: any bitstream.
        names: tensors in the order wanted; of a block the first name counts. Units of tensors that are not named
            follow in their old order. Other units come before the first data unit, and a layer parameter set before
            the units it holds for.

    Raises:
        InvalidArgumentError: no tensor has one of the names.
        UnsupportedError: aggregate units, two reference lists, or units with and without a layer parameter set, which
            cannot be undone once it was sent.
    """
    _refuse_aggregates(bitstream)
    if sum(unit.reference_list is not None for unit in bitstream.units) > 1:
        raise UnsupportedError("data units that refer to different lists of names cannot change places")
    order = dict.fromkeys(_tensor_unit(bitstream, name) for name in names)
    order |= dict.fromkeys(unit.index for unit in bitstream.units if unit.data_unit is not None)
    layers = _layers(bitstream)
    front = [u.index for u in bitstream.units if u.data_unit is None and _type(u) != NnrUnitType.NNR_LPS]
    placed = [bitstream.unit_bytes(index) for index in front]
    active: bytes | None = None
    for index in order:
        layer = layers[index]
        if layer != active:
            if layer is None:
                raise UnsupportedError("a unit without layer parameter set cannot follow one with", unit=index)
            placed.append(layer)
            active = layer
        placed.append(bitstream.unit_bytes(index))
    return b"".join(placed)


def _layers(bitstream: Bitstream) -> dict[int, bytes | None]:
    """For every data unit the layer parameter set that holds for it."""
    found: dict[int, bytes | None] = {}
    layer: bytes | None = None
    for unit in bitstream.units:
        if _type(unit) == NnrUnitType.NNR_LPS:
            layer = bitstream.unit_bytes(unit.index)
        elif unit.data_unit is not None:
            found[unit.index] = layer
    return found


def collect(parts: Mapping[str, Buffer], identifiers: Mapping[str, int] | None = None) -> bytes:
    """One bitstream from bitstreams of one tensor each.

    Args:
        parts: bitstreams by the name that their tensor gets.
        identifiers: ``parameter_id`` by name, for units that state a node id; ``None`` numbers the parts.

    Returns:
        The start unit and model parameter set that all parts share, then one data unit per part.

    Raises:
        InvalidArgumentError: a part holds more or less than one tensor, or a name is impossible.
        UnsupportedError: the parameter sets differ, or a part is named by index.
    """
    heads: set[bytes] = set()
    units: list[bytes] = []
    for position, (name, data) in enumerate(parts.items()):
        check_name(name)
        bitstream = Bitstream(data)
        if len(bitstream) != 1:
            raise InvalidArgumentError(f"a bitstream of {len(bitstream)} tensors instead of one", tensor=name)
        head = b""
        context = Context()
        for unit in bitstream.units:
            if unit.data_unit is not None:
                number = position if identifiers is None else identifiers[name]
                units.append(_identified(bitstream, unit, context, name, number))
            elif _type(unit) in (NnrUnitType.NNR_STR, NnrUnitType.NNR_MPS):
                head += bitstream.unit_bytes(unit.index)
            elif not _is_model(unit):
                raise UnsupportedError(f"{unit.type_name} units cannot be collected", unit=unit.index, tensor=name)
            context = unit.context_after(context)
        heads.add(head)
    if len(heads) > 1:
        raise UnsupportedError("bitstreams with different parameter sets cannot be collected")
    return b"".join((*heads, *units))


def _identified(bitstream: Bitstream, unit: syntax.Unit, context: Context, name: str, number: int) -> bytes:
    header = unit.data_unit
    if header is None or header.topology_elem_id is None:
        raise UnsupportedError("the tensor is not called by one name", unit=unit.index, tensor=name)
    changes: dict[str, Any] = {"topology_elem_id": name}
    if header.node_id_present_flag:
        changes["parameter_id"] = number
    renamed = unit.header.replace(compressed_data_unit_header=header.replace(**changes))
    payload = bitstream.unit_bytes(unit.index)[unit.payload_offset - unit.offset :]
    return syntax.write_unit(renamed, payload, context, long_form=unit.long_form)


def _tensor_unit(bitstream: Bitstream, name: str) -> int:
    tensor = bitstream.get(name)
    if tensor is None:
        raise InvalidArgumentError(f"no tensor is called {name!r}")
    return tensor.unit


def _refuse_aggregates(bitstream: Bitstream) -> None:
    for unit in bitstream.units:
        if _type(unit) == NnrUnitType.NNR_AGG:
            raise UnsupportedError("units inside an aggregate unit cannot be moved", unit=unit.index)


def _type(unit: syntax.Unit) -> int:
    return unit.header.nnr_unit_type


def _is_model(unit: syntax.Unit) -> bool:
    header = unit.header.topology_unit_header
    return header is not None and header.topology_storage_format in _MODELS


__all__ = [
    "Topology",
    "collect",
    "extract",
    "model_parameter_set",
    "reorder",
    "topologies",
    "with_base_model_id",
    "with_topology",
]

"""NNR files that carry an ONNX model: one bitstream of start unit, parameter set, topology unit and data units.

The topology unit holds the ONNX model without the coded weights (:mod:`.hollow`); everything that was not coded is in
it, exactly. What the file says about its making is in the model's metadata, :class:`NnrRecord`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

import nnc_codec
from nnc_codec.bitstream import Bitstream
from nnc_codec.errors import CorruptError, InvalidArgumentError, UnsupportedError
from nnc_codec.files import access_error, require_readable
from nnc_codec.formats import Kind
from nnc_codec.limits import Limits
from nnc_codec.report import ErrorMeasure
from nnc_codec.surgery import Topology, model_parameter_set, topologies, with_topology
from nnc_codec.syntax.enums import NnrUnitType, TopologyStorageFormat

from ..carriage import metadata
from ..errors import CarriageError, InvalidModelError, UnsupportedCarriageError
from ..manifest import Parameters
from ..model_io import parse

if TYPE_CHECKING:
    import onnx

RECORD_KEY = "onnx_nnc.nnr"
FORMAT = "1"
SUFFIX = ".nnr"
_NPZ_HINT = "the tensors can be had with -o FILE.npz"
_HEAD = 8

_PARAMETERS = (NnrUnitType.NNR_STR, NnrUnitType.NNR_MPS)


class NnrRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Value of the metadata entry ``onnx_nnc.nnr`` of the model in an NNR file.

    Attributes:
        format: version of this way of carrying a model.
        producer: what wrote the file.
        source_sha256: SHA-256 over the bytes of the source model's files, the ModelProto first, in hexadecimal.
        units_sha256: SHA-256 over the sorted SHA-256 digests of all data units, in hexadecimal.
        parameters: options of the packer.
        errors: what coding did to the values, by name in the bitstream; without those that came back exactly.
    """

    format: str
    producer: str
    source_sha256: str
    units_sha256: str
    parameters: Parameters
    errors: dict[str, ErrorMeasure] = {}

    def to_json(self) -> str:
        """Compact JSON."""
        return msgspec.json.encode(self, order="deterministic").decode()


class NnrFile(NamedTuple):
    """An NNR file opened for reading.

    Attributes:
        path: of the file.
        bitstream: its units.
        carried: the topology units that describe a model.
        base_model_id: of the model it updates; ``None`` for a model of its own.
        is_update: whether its tensors are differences to a base model.
    """

    path: Path
    bitstream: Bitstream
    carried: tuple[Topology, ...]
    base_model_id: str | None
    is_update: bool

    def model(self, purpose: str) -> onnx.ModelProto:
        """The ONNX model in the file, hollow.

        Args:
            purpose: what it is needed for, for messages.

        Raises:
            InvalidArgumentError: the file is an update, or carries no model.
            UnsupportedError: it carries a model of another kind.
            CorruptError: the model is damaged.
        """
        if self.is_update:
            raise InvalidArgumentError(
                f"{self.path} is an update to a model; {purpose} needs a whole one",
                hint="give it to onnx-nnc apply together with its base",
            )
        found = onnx_topology(self.carried)
        if found is not None:
            return found
        formats = [_format_name(item.storage_format) for item in self.carried if item.text]
        if formats:
            raise UnsupportedError(
                f"{self.path} carries a topology of format {formats[0]}, not ONNX; {purpose} needs that",
                hint=_NPZ_HINT,
            )
        raise InvalidArgumentError(
            f"{self.path} holds tensors but no topology; {purpose} needs an ONNX model", hint=_NPZ_HINT
        )


def onnx_topology(carried: Iterable[Topology]) -> onnx.ModelProto | None:
    """The first ONNX model among topologies.

    Raises:
        CorruptError: it is damaged.
    """
    for item in carried:
        if item.storage_format == TopologyStorageFormat.NNR_TPL_ONNX:
            return _parse(item)
    return None


def _parse(item: Topology) -> onnx.ModelProto:
    # A ModelProto may well end with a zero byte, so the byte that ends a string is only taken off if it disturbs.
    try:
        return parse(item.data, "the topology unit")
    except InvalidModelError as error:
        if item.data.endswith(b"\0"):
            try:
                return parse(item.text, "the topology unit")
            except InvalidModelError:
                pass
        raise CorruptError(error.message, hint=_NPZ_HINT) from error


def _format_name(storage_format: int) -> str:
    known = TopologyStorageFormat.__members__.values()
    return next((item.name for item in known if item == storage_format), str(storage_format))


def recognise_nnr(path: Path) -> Kind | None:
    """``"packed"`` if `path` begins with an NNR start unit, else ``None``.

    Raises:
        FileAccessError: the file cannot be read.
    """
    if path.is_dir():
        return None
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        raise access_error(error, path, "read") from error
    short, long = head[:2] == b"\x00\x04", head[:4] == b"\x80\x00\x00\x06"
    at = 2 if short else 4
    is_start = (short or long) and len(head) > at and head[at] >> 2 == NnrUnitType.NNR_STR
    return "packed" if is_start else None


def read_nnr(path: str | Path, limits: Limits) -> NnrFile:
    """Open an NNR file; nothing is decoded.

    Raises:
        FileAccessError: it cannot be read.
        NNRError: it is no bitstream, or a damaged one.
    """
    checked = require_readable(path)
    try:
        data = checked.read_bytes()
    except OSError as error:
        raise access_error(error, checked, "read") from error
    bitstream = nnc_codec.open(data, limits=limits)
    parameters = model_parameter_set(bitstream)
    return NnrFile(
        checked,
        bitstream,
        tuple(topologies(bitstream, limits=limits)),
        parameters.base_model_id if parameters is not None else None,
        parameters is not None and bool(parameters.mps_parent_signalling_enabled_flag),
    )


def record_of(proto: onnx.ModelProto | None) -> NnrRecord | None:
    """What the model in an NNR file says about the file.

    Raises:
        CarriageError: it is not JSON of the schema.
        UnsupportedCarriageError: it belongs to another version.
    """
    text = metadata(proto).get(RECORD_KEY) if proto is not None else None
    if text is None:
        return None
    try:
        record = msgspec.json.decode(text.encode(), type=NnrRecord)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise CarriageError(f"the record in the topology is damaged: {error}") from error
    if record.format != FORMAT:
        raise UnsupportedCarriageError(
            f"NNR files of format {record.format!r} are unknown; this release reads {FORMAT!r}",
            hint="a newer release of onnx-nnc wrote this file",
        )
    return record


def remove_record(proto: onnx.ModelProto) -> None:
    """Take :data:`RECORD_KEY` out of a model's metadata."""
    kept = [entry for entry in proto.metadata_props if entry.key != RECORD_KEY]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)


def units_digest(bitstream: Bitstream) -> str:
    """:attr:`NnrRecord.units_sha256` of a bitstream; the order of its units does not count."""
    parts = [bitstream.unit_bytes(unit.index) for unit in bitstream.units if unit.data_unit is not None]
    head = [bitstream.unit_bytes(unit.index) for unit in bitstream.units if unit.header.nnr_unit_type in _PARAMETERS]
    # The parameter set says whether there is a topology, which is no part of the digest.
    parts.append(with_topology(Bitstream(b"".join(head))))
    digests = sorted(hashlib.sha256(part).digest() for part in parts)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def check_units(bitstream: Bitstream, record: NnrRecord | None) -> None:
    """Compare the data units with the record, if there is one.

    Raises:
        CarriageError: they are others.
    """
    if record is not None and units_digest(bitstream) != record.units_sha256:
        raise CarriageError(
            "SHA-256 of the data units is not the one recorded", hint="the file is damaged or not complete"
        )

"""Packed ONNX models into NNR files and back; payloads move, nothing is coded again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import nnc_codec
from nnc_codec.bitstream import Bitstream
from nnc_codec.formats import ConvertOptions, PackOptions
from nnc_codec.limits import Limits
from nnc_codec.report import ConvertedTensor, ConvertReport, ErrorMeasure
from nnc_codec.surgery import with_topology

from .. import carriage
from ..graph.placement import Placement
from ..graph.usage import Usage
from ..graph.walk import all_names
from ..grouping import group_tensors
from ..hollow import clear_values
from ..manifest import Manifest, Parameters, files_digest
from ..model_coding import PackedTensor
from ..model_io import EXTERNAL_THRESHOLD, Model, check_output, model_writer
from ..packing import Work, entry_of, insert_coded, name_payloads
from ..plan import PlannedTensor, plan_tensors
from ..version import producer
from .layout import check_units, read_nnr, record_of, remove_record
from .packing import pack_nnr
from .sources import coded_payload
from .unpacking import Hole, holes_of

if TYPE_CHECKING:
    import onnx

_EVERYTHING = PackOptions(min_elements=0, include=("*",))


def to_nnr(source: Path, output: Path, options: ConvertOptions) -> ConvertReport:
    """Write a packed ONNX model as NNR file; see :func:`nnc_onnx.pack_nnr`. A plain one is packed."""
    report = pack_nnr(source, output, PackOptions(force=options.force))
    return ConvertReport(
        format="onnx",
        source=str(source),
        seconds=report.seconds,
        notes=report.notes,
        target_format="nnr",
        output=str(output),
        tensors=tuple(
            ConvertedTensor(
                name=tensor.name, target=tensor.name, action="carried" if tensor.treatment == "coded" else "plain"
            )
            for tensor in report.tensors
        ),
    )


def to_onnx(source: Path, output: Path, options: ConvertOptions, *, limits: Limits | None = None) -> ConvertReport:
    """Write the model in an NNR file as a packed ONNX model, which runs while still coded.

    A tensor whose data unit does not stand alone, or that an ONNX model cannot have coded, is decoded.

    Raises:
        FileAccessError, OutputExistsError: bad files.
        InvalidArgumentError, UnsupportedError: the file carries no ONNX model.
        CarriageError, NNRError: model or bitstream are damaged; nothing is written.
    """
    start = time.perf_counter()
    bounds = limits or Limits()
    file = read_nnr(source, bounds)
    proto = file.model("conversion")
    record = record_of(proto)
    check_units(file.bitstream, record)
    check_output(output, source=source, external=None, force=options.force)
    holes = {id(hole.tensor): hole for hole in holes_of(proto, file.bitstream, bounds)}
    remove_record(proto)
    filled = _fill(proto, holes, file.bitstream, {} if record is None else record.errors)
    usage, taken = Usage(proto.graph), all_names(proto.graph)
    below = PackOptions().group_below
    singles, groups = group_tensors(filled.packed, Placement(usage, ()).graph_for, below, taken)
    packed = name_payloads(singles, taken)
    manifest = Manifest(
        format=carriage.FORMAT,
        producer=producer() if record is None else record.producer,
        source_sha256=files_digest([source]) if record is None else record.source_sha256,
        parameters=Parameters(method="unknown") if record is None else record.parameters,
        tensors=tuple(entry_of(item) for item in packed),
        groups=tuple(group.entry for group in groups),
    )
    model = Model(proto, source.parent, source, (source,))
    work = Work(model, usage, filled.planned, packed, {}, groups, manifest, 0.0)
    with model_writer(output, external=work.volume > EXTERNAL_THRESHOLD, force=options.force) as writer:
        insert_coded(work, writer.put)
        writer.finish(proto)
    return ConvertReport(
        format="nnr",
        source=str(source),
        seconds=time.perf_counter() - start,
        target_format="onnx",
        output=str(output),
        tensors=filled.report,
    )


class _Filled(NamedTuple):
    planned: list[PlannedTensor]
    packed: list[PackedTensor]
    report: tuple[ConvertedTensor, ...]


def _fill(
    proto: onnx.ModelProto, holes: dict[int, Hole], bitstream: Bitstream, errors: dict[str, ErrorMeasure]
) -> _Filled:
    """Give every hollow tensor its payload, or its values where it cannot be coded in an ONNX model."""
    alone = Bitstream(with_topology(bitstream)).split()
    planned = plan_tensors(proto, Usage(proto.graph), _EVERYTHING)
    owners: dict[str, PlannedTensor] = {}
    packed, report = [], []
    for tensor in planned:
        hole = holes.pop(id(tensor.proto), None)
        if hole is None:
            report.append(ConvertedTensor(name=tensor.name, target=tensor.name, action="plain"))
            continue
        payload = alone.get(hole.name)
        if payload is None or tensor.reason is not None or len(bitstream[hole.name].unit_members) > 1:
            _decode(hole, bitstream)
            reason = tensor.reason or "its data unit holds several tensors"
            report.append(ConvertedTensor(name=hole.name, target=tensor.name, action="raw", reason=reason))
            continue
        owner = owners.setdefault(hole.name, tensor)
        renamed = nnc_codec.open(payload).relabel({hole.name: owner.name})
        packed.append(PackedTensor(tensor, coded_payload(renamed, errors.get(hole.name)), "", owner))
        same = hole.name == owner.name
        report.append(ConvertedTensor(name=hole.name, target=tensor.name, action="carried" if same else "renamed"))
    for hole in holes.values():
        _decode(hole, bitstream)
        report.append(ConvertedTensor(name=hole.name, target=hole.tensor.name, action="raw", reason="an attribute"))
    return _Filled(planned, packed, tuple(report))


def _decode(hole: Hole, bitstream: Bitstream) -> None:
    values = bitstream[hole.name].decode(dtype=hole.element.dtype)
    clear_values(hole.tensor)
    hole.tensor.raw_data = np.ascontiguousarray(values).tobytes()

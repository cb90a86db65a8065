"""An ONNX model into an NNR file, with the model as topology or as bare tensors."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

import nnc_codec
from nnc_codec.errors import InvalidArgumentError
from nnc_codec.files import require_readable, require_writable, write_atomic
from nnc_codec.formats import PackOptions, ProgressCallback
from nnc_codec.params import EncodeParams
from nnc_codec.quantize import qp_for_step
from nnc_codec.report import PackReport, TensorReport
from nnc_codec.surgery import Topology, collect, with_topology
from nnc_codec.syntax.enums import TopologyCompressionFormat, TopologyStorageFormat

from ..carriage import check_format
from ..graph.usage import Value
from ..hollow import element_ids, embed, make_hollow
from ..manifest import rounded
from ..model_coding import PackedTensor, tensor_reports
from ..model_io import all_tensors, load
from ..optimize import optimized
from ..plan import PlannedTensor
from ..tensors import to_array
from ..version import producer
from .layout import FORMAT, RECORD_KEY, NnrRecord, recognise_nnr, units_digest
from .sources import CodedModel, coded_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..packing import Planner

_FINE = 2.0**-14
"""Step of tensors that other carriages leave plain, relative to their rms."""

_COMPRESSION = {"deflate": TopologyCompressionFormat.NNR_DFL, "raw": TopologyCompressionFormat.NNR_PT_RAW}


class _Rest(NamedTuple):
    """Tensors coded only because there is no topology to keep them, and why the others are missing."""

    parts: dict[Value, bytes]
    missing: list[str]


def pack_nnr(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: PackOptions | None = None,
    *,
    planner: Planner | None = None,
    progress: ProgressCallback | None = None,
) -> PackReport:
    """Code an ONNX model into one NNR bitstream.

    The same tensors are coded in the same way as by :func:`nnc_onnx.pack`; the rest of the model is the topology. With
    ``options.topology = "none"`` the bitstream holds tensors only, as every decoder of the standard reads it: then
    all tensors are coded, those that :func:`nnc_onnx.pack` would leave plain with a step of 2**-14 of their rms.

    A packed model is written with the payloads that it has; no tensor is coded twice.

    Args:
        source: ONNX file, plain or packed.
        output: NNR file to write.
        options: what to code and how; ``external_data`` has no meaning here.
        planner: as for :func:`nnc_onnx.pack`.
        progress: called after every tensor.

    Raises:
        FileAccessError, OutputExistsError, InvalidModelError, TruncatedModelError, ExternalDataError: bad files.
        InvalidArgumentError: `source` is an NNR file itself, or there is nothing to code.
        CarriageError, UnsupportedCarriageError, NNRError: a packed model is damaged.
    """
    start = time.perf_counter()
    options = options or PackOptions()
    source, output = Path(source), Path(output)
    if recognise_nnr(require_readable(source)) is not None:
        raise InvalidArgumentError(f"{source} is an NNR file already", hint="unpack it first")
    require_writable(output, force=options.force)
    loaded = load(source)
    original_bytes = loaded.nbytes
    coding_start = time.perf_counter()
    if options.optimize and check_format(loaded.proto) is None:
        loaded = optimized(loaded)
    work = coded_model(loaded, options, planner, progress)
    planned, packed, notes = work.planned, work.packed, work.notes
    reports = tensor_reports(planned, packed, work.reasons)
    ids = dict(zip((tensor.value for tensor in planned), element_ids(planned), strict=True))
    parts = {ids[item.planned.value]: item.coded.payload for item in packed if item.owner is item.planned}
    if options.topology == "none":
        rest = _code_rest(planned, packed, work.model.folder)
        parts |= {ids[item.planned.value]: item.coded.payload for item in packed}
        parts |= {ids[value]: payload for value, payload in rest.parts.items()}
        order = {ids[tensor.value]: None for tensor in planned}
        parts = {name: parts[name] for name in order if name in parts}
        notes += tuple(rest.missing)
        reports = _with_rest(reports, planned, rest)
    if not parts:
        raise InvalidArgumentError(f"{source} has no tensor to code", hint="see onnx-nnc inspect -v for the reasons")
    encode_seconds = time.perf_counter() - coding_start
    data = collect(parts)
    if options.topology != "none":
        data = _with_model(data, work, ids, options)
    write_atomic(output, data, force=options.force)
    return PackReport(
        format="nnr",
        source=str(source),
        output=str(output),
        seconds=time.perf_counter() - start,
        notes=notes,
        original_bytes=original_bytes,
        packed_bytes=len(data),
        tensors=reports,
        encode_seconds=encode_seconds,
        decode_seconds=sum(item.coded.decode_seconds for item in packed if item.owner is item.planned),
    )


def _with_model(data: bytes, work: CodedModel, ids: dict[Value, str], options: PackOptions) -> bytes:
    """The bitstream with the hollow model as its topology unit."""
    bitstream = nnc_codec.open(data)
    proto = work.model.proto
    for item in work.packed:
        make_hollow(item.planned.proto, ids[item.owner.value])
    for tensor in all_tensors(proto):
        embed(tensor, work.model.folder)
    record = NnrRecord(
        format=FORMAT,
        producer=producer(),
        source_sha256=work.source_sha256,
        units_sha256=units_digest(bitstream),
        parameters=work.parameters,
        errors={
            ids[item.planned.value]: rounded(item.coded.error)
            for item in work.packed
            if item.coded.error.max_abs != 0 and item.owner is item.planned
        },
    )
    proto.metadata_props.add(key=RECORD_KEY, value=record.to_json())
    serialized = proto.SerializeToString(deterministic=True)
    topology = Topology(TopologyStorageFormat.NNR_TPL_ONNX, serialized, _COMPRESSION[options.topology])
    return with_topology(bitstream, topology)


def _code_rest(planned: list[PlannedTensor], packed: list[PackedTensor], folder: Path) -> _Rest:
    coded = {item.planned.value for item in packed}
    rest = _Rest({}, [])
    for tensor in planned:
        if tensor.value in coded:
            continue
        if tensor.element is None or tensor.elements == 0 or not tensor.name:
            rest.missing.append(f"{tensor.name or 'a tensor without name'} is missing: {tensor.reason}")
            continue
        array = to_array(tensor.proto, folder)
        try:
            # A bitstream has no tensors without dimensions.
            rest.parts[tensor.value] = _fine(tensor.name, array.reshape(array.shape or (1,)), tensor.element.is_float)
        except InvalidArgumentError as error:
            rest.missing.append(f"{tensor.name} is missing: {error.message}")
    return rest


def _fine(name: str, array: NDArray[Any], is_float: bool) -> bytes:
    qp = 0
    if is_float:
        with np.errstate(over="ignore", invalid="ignore"):
            rms = float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
        qp = qp_for_step(rms * _FINE, 2) if np.isfinite(rms) else 0
    params = EncodeParams(qp=qp, nonweight_qp=qp, method="uniform", topology=False)
    return nnc_codec.encode({name: array}, params)


def _with_rest(
    reports: tuple[TensorReport, ...], planned: list[PlannedTensor], rest: _Rest
) -> tuple[TensorReport, ...]:
    changed = []
    for report, tensor in zip(reports, planned, strict=True):
        payload = rest.parts.get(tensor.value)
        if payload is not None:
            (unit,) = nnc_codec.open(payload).values()
            report = msgspec.structs.replace(
                report,
                treatment="coded",
                reason=None,
                stored_bytes=len(payload),
                payload_type=unit.payload_type.name.removeprefix("NNR_PT_"),
                method=unit.method,
                qp=unit.qp,
                step=unit.step,
            )
        elif report.treatment == "plain":
            report = msgspec.structs.replace(report, stored_bytes=0)
        else:
            # Without a topology nothing could say that two tensors share a data unit.
            report = msgspec.structs.replace(report, same_as=None)
        changed.append(report)
    return tuple(changed)

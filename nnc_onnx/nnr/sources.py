"""Where the coded tensors of an NNR file come from: a plain model is coded, a packed one gives its payloads away."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import nnc_codec
from nnc_codec.formats import PackOptions, ProgressCallback, UnpackOptions
from nnc_codec.report import ErrorMeasure

from .. import carriage
from ..coding import Coded
from ..errors import CarriageError
from ..graph.usage import Usage, Value
from ..manifest import Parameters, files_digest, payload_digest
from ..model_coding import PackedTensor, code_all
from ..model_io import Model
from ..packing import treatments
from ..payloads import Entries, check_digest, manifest_of, packed_tensors, read_payload
from ..plan import PlannedTensor, plan_tensors
from ..unpacking import unpack_model

if TYPE_CHECKING:
    from ..packing import Planner

_EXACT = ErrorMeasure(max_abs=0.0, rel_rms=0.0)


class CodedModel(NamedTuple):
    """A plain model with some of its tensors coded.

    Attributes:
        model: the plain model.
        planned: all its tensors.
        packed: the coded ones, in the model's order.
        reasons: by index why others that were wanted stay plain.
        source_sha256: of the files that the tensors were coded from first.
        parameters: how they were coded.
        notes: for the user.
    """

    model: Model
    planned: list[PlannedTensor]
    packed: list[PackedTensor]
    reasons: dict[int, str]
    source_sha256: str
    parameters: Parameters
    notes: tuple[str, ...] = ()


def coded_model(
    model: Model, options: PackOptions, planner: Planner | None, progress: ProgressCallback | None
) -> CodedModel:
    """A model as :func:`nnc_onnx.pack` codes it, or, packed already, with the payloads that it has.

    Raises:
        InvalidModelError, ExternalDataError: values cannot be read.
        CarriageError, UnsupportedCarriageError, NNRError: a packed model is damaged.
    """
    if carriage.check_format(model.proto) is not None:
        return _carried(model, options)
    digest = files_digest(model.files)
    planned, notes = treatments(model, Usage(model.proto.graph), options, planner, progress)
    packed, reasons = code_all(planned, model.folder, options, progress)
    return CodedModel(model, planned, packed, reasons, digest, Parameters.of(options), notes)


def _carried(model: Model, options: PackOptions) -> CodedModel:
    manifest = manifest_of(model.proto)
    entries = Entries(manifest)
    usage = Usage(model.proto.graph)
    plain = unpack_model(model.proto, UnpackOptions(jobs=options.jobs), folder=model.folder)
    plain_usage = Usage(plain.graph)
    # Indices of nodes shift when decode nodes go, but graphs keep their order.
    paths = dict(zip(usage.graphs, plain_usage.graphs, strict=True))
    planned = plan_tensors(plain, plain_usage, options)
    by_value = {tensor.value: tensor for tensor in planned}
    found: dict[Value, tuple[Coded, Value]] = {}
    for tensor in packed_tensors(usage):
        value = Value(paths[tensor.path], tensor.decode.output)
        if value not in by_value:
            raise CarriageError("the decoded tensor is not where it was", tensor=tensor.decode.output)
        payload = read_payload(tensor, model)
        entry = entries.find(tensor.decode)
        if entry is not None:
            check_digest(tensor, model, entry.sha256)
        coded = coded_payload(bytes(payload), None if entry is None else entry.error)
        member = "" if tensor.decode.member is None else f"/{tensor.decode.member}"
        found[value] = (coded, Value(tensor.home, tensor.payload.name + member))
    owners: dict[Value, PlannedTensor] = {}
    packed = []
    for item in planned:
        if item.value in found:
            coded, payload_value = found[item.value]
            owner = owners.setdefault(payload_value, item)
            packed.append(PackedTensor(item, coded, payload_value.name, owner))
    return CodedModel(
        model._replace(proto=plain),
        planned,
        packed,
        {},
        files_digest(model.files) if manifest is None else manifest.source_sha256,
        Parameters.of(options) if manifest is None else manifest.parameters,
        (f"{len(packed)} tensors were coded already; their payloads were carried over",),
    )


def coded_payload(payload: bytes, error: ErrorMeasure | None) -> Coded:
    """A payload of one tensor as the packer describes what it coded.

    Args:
        payload: a bitstream of one data unit.
        error: what coding did to the values; ``None`` if it did nothing or is not known.
    """
    (unit,) = nnc_codec.open(payload).values()
    return Coded(
        payload=payload,
        crc32=zlib.crc32(payload),
        sha256=payload_digest(payload),
        payload_type=unit.payload_type.name.removeprefix("NNR_PT_"),
        error=_EXACT if error is None else error,
        decode_seconds=0.0,
        method=unit.method,
        qp=unit.qp,
        step=unit.step,
    )

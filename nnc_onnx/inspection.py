"""Describing a model, packed or plain, without decoding a tensor."""

from __future__ import annotations

import os
import time
from pathlib import Path

from nnc_codec.formats import DEFAULT_LIMITS, PackOptions
from nnc_codec.limits import Limits
from nnc_codec.report import InspectReport, TensorReport

from . import carriage
from .graph.usage import Usage
from .model_io import Model, load
from .payloads import Entries, PackedTensor, manifest_of, open_payload, packed_tensors, read_payload
from .plan import PlannedTensor, plan_tensors
from .tensors import read_bytes


def inspect(source: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> InspectReport:
    """Every tensor of a model with its type, shape, size and, if it is packed, how it was coded.

    Args:
        source: ONNX file, packed or plain.
        limits: bounds for the headers of payloads.

    Raises:
        FileAccessError, InvalidModelError, TruncatedModelError, ExternalDataError: bad files.
        CarriageError, UnsupportedCarriageError, NNRError: payload headers cannot be read.
    """
    start = time.perf_counter()
    model = load(Path(source))
    version = carriage.check_format(model.proto)
    usage = Usage(model.proto.graph)
    manifest = manifest_of(model.proto) if version is not None else None
    packed = list(packed_tensors(usage))
    entries = Entries(manifest)
    payloads = {tensor.payload.name for tensor in packed}
    plain = plan_tensors(model.proto, usage, PackOptions())
    coded, shared = [], set[str]()
    for tensor in packed:
        coded.append(describe(tensor, model, entries, limits, shared=tensor.payload.name in shared))
        if tensor.group is None:
            shared.add(tensor.payload.name)
    return InspectReport(
        format="onnx",
        source=str(source),
        seconds=time.perf_counter() - start,
        packed=version is not None,
        file_bytes=model.nbytes,
        carriage=version,
        producer=manifest.producer if manifest is not None else model.proto.producer_name or None,
        manifest=manifest.to_json() if manifest is not None else None,
        tensors=(*coded, *(_plain(tensor) for tensor in plain if tensor.name not in payloads)),
    )


def describe(
    tensor: PackedTensor, model: Model, entries: Entries, limits: Limits, *, shared: bool = False
) -> TensorReport:
    """The report of one packed tensor from its node, its payload's headers and its manifest entry.

    Raises:
        CarriageError: the headers are not those of this tensor.
        NNRError: the headers cannot be read.
    """
    decode = tensor.decode
    payload = read_payload(tensor, model) if tensor.group else read_bytes(tensor.payload, model.folder).data
    unit = open_payload(tensor, payload, limits)
    entry = entries.find(decode)
    detail: dict[str, str | int] = {"payload": decode.payload, "crc32": f"{decode.crc32:08x}"}
    if decode.member is not None:
        detail["unit"] = decode.member
    if decode.after:
        detail["after"] = decode.after
    if tensor.path:
        detail["graph"] = "/".join(tensor.path)
    return TensorReport(
        name=decode.output,
        shape=decode.shape,
        dtype=decode.element.dtype_name,
        treatment="coded",
        original_bytes=decode.nbytes,
        stored_bytes=payload.nbytes if tensor.group is None else tensor.group.unit_size(tensor, model.folder),
        payload_type=unit.payload_type.name.removeprefix("NNR_PT_"),
        method=unit.method,
        qp=unit.qp,
        step=unit.step,
        error=entry.error if entry is not None else None,
        sparsity=entry.sparsity if entry is not None else None,
        same_as=unit.name if shared and unit.name != decode.output else None,
        detail=detail,
    )


def _plain(tensor: PlannedTensor) -> TensorReport:
    return TensorReport(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype_name,
        treatment="plain",
        original_bytes=tensor.nbytes,
        stored_bytes=tensor.nbytes,
        reason=tensor.reason,
    )

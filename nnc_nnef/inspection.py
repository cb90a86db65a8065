"""Describing an NNEF model, packed or plain, without decoding a variable."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

import nnc_codec
from nnc_codec.errors import UnsupportedError
from nnc_codec.formats import DEFAULT_LIMITS, PackOptions
from nnc_codec.limits import Limits
from nnc_codec.report import InspectReport, TensorReport

from .coding import reason_to_stay
from .index import FORMAT
from .model import NnefModel, Variable, open_model


def inspect(source: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> InspectReport:
    """Every variable of a model with its type, shape, size and, if it is packed, how it was coded.

    Args:
        source: NNEF model, packed or plain.
        limits: bounds for the headers of payloads.

    Raises:
        FileAccessError, ArchiveError, IndexFileError, NNRError: the model cannot be read.
    """
    start = time.perf_counter()
    path = Path(source)
    with open_model(path, limits=limits) as model:
        tensors = tuple(describe(model, variable) for variable in model.values())
        last = model.indices[-1] if model.indices else None
        packed = model.packed or bool(model.bitstreams)
        return InspectReport(
            format="nnef",
            source=str(source),
            seconds=time.perf_counter() - start,
            packed=packed,
            file_bytes=sum(model.archive.values()) if path.is_dir() else path.stat().st_size,
            carriage=FORMAT.rpartition("-")[2] if packed else None,
            producer=last.producer if last else None,
            manifest=last.to_json().decode() if last else None,
            tensors=tensors,
        )


def describe(model: NnefModel, variable: Variable) -> TensorReport:
    """The report of one variable, from headers and the index."""
    dtype = variable.dtype
    itemsize = dtype.itemsize if dtype is not None else max(variable.item[1] // 8, 1)
    report = TensorReport(
        name=variable.label,
        shape=variable.shape,
        dtype=str(dtype) if dtype is not None else f"item type {variable.item[0]}",
        treatment="coded" if variable.coded else "plain",
        original_bytes=variable.size * itemsize,
        stored_bytes=variable.stored_nbytes,
        detail={"item_type": variable.item[0], "bits": variable.item[1]},
    )
    if not variable.coded:
        return msgspec.structs.replace(
            report, reason=reason_to_stay(variable.label, model.header(variable.label), PackOptions())
        )
    try:
        stream = nnc_codec.open(variable.unit().bitstream, limits=model.limits)
    except UnsupportedError as error:
        return msgspec.structs.replace(report, reason=None, detail={**report.detail, "unit": error.message})
    tensor = next(iter(stream.values()))
    entry = variable.entry
    exact = tensor.payload_type.name == "NNR_PT_RAW_FLOAT"
    return msgspec.structs.replace(
        report,
        treatment="plain" if exact else "coded",
        reason="exact" if exact else None,
        payload_type=tensor.payload_type.name.removeprefix("NNR_PT_"),
        method=tensor.method,
        qp=tensor.qp,
        step=tensor.step,
        error=entry.error if entry is not None else None,
    )

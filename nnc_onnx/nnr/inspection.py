"""Describing and verifying NNR files."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from nnc_codec.bitstream import CodedTensor
from nnc_codec.errors import NNRError
from nnc_codec.formats import (
    DEFAULT_LIMITS,
    PackOptions,
    Progress,
    ProgressCallback,
    VerificationError,
    VerifyOptions,
)
from nnc_codec.limits import Limits
from nnc_codec.report import ErrorMeasure, Finding, InspectReport, TensorReport, VerifyReport

from ..compare import Original, compare_decoded, load_original
from ..graph.usage import Usage
from ..hollow import element_ids, is_hollow
from ..manifest import files_digest
from ..plan import plan_tensors
from .layout import NnrFile, check_units, onnx_topology, read_nnr, record_of
from .unpacking import holes_of

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


def inspect_nnr(source: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> InspectReport:
    """Every tensor of an NNR file, and the plain ones of the model in it.

    Raises:
        FileAccessError: the file cannot be read.
        NNRError: it is no bitstream, or a damaged one.
    """
    start = time.perf_counter()
    file = read_nnr(Path(source), limits)
    proto = onnx_topology(file.carried)
    record = record_of(proto)
    errors = record.errors if record is not None else {}
    dtypes = _model_dtypes(file, proto, limits)
    coded = tuple(_describe(tensor, dtypes, errors) for tensor in file.bitstream.values())
    return InspectReport(
        format="nnr",
        source=str(source),
        seconds=time.perf_counter() - start,
        notes=_notes(file, proto),
        packed=True,
        file_bytes=file.bitstream.nbytes,
        carriage=record.format if record is not None else _edition(file),
        producer=record.producer if record is not None else None,
        manifest=record.to_json() if record is not None else None,
        tensors=(*coded, *_plain(proto)),
    )


def _edition(file: NnrFile) -> str:
    start = file.bitstream.units[0].header.start_unit_header
    return f"none, edition {1 + (start.general_profile_idc if start is not None else 0)}"


def _model_dtypes(file: NnrFile, proto: onnx.ModelProto | None, limits: Limits) -> dict[str, str]:
    if proto is None or file.is_update:
        return {}
    return {hole.name: hole.element.dtype_name for hole in holes_of(proto, file.bitstream, limits)}


def _notes(file: NnrFile, proto: onnx.ModelProto | None) -> tuple[str, ...]:
    notes = []
    if file.is_update:
        notes.append(f"an update of differences to the model {file.base_model_id or 'that is not named'}")
    elif proto is not None:
        notes.append(f"carries the ONNX model {proto.graph.name!r}")
    else:
        notes.append("carries no ONNX model")
    warnings = [warning for unit in file.bitstream.units for warning in unit.warnings]
    return (*notes, *warnings)


def _describe(tensor: CodedTensor, dtypes: dict[str, str], errors: dict[str, ErrorMeasure]) -> TensorReport:
    # Behind the first tensor of a block the parameters can only be had by decoding.
    first = tensor.unit_members[0] == tensor.name
    dtype = dtypes.get(tensor.name, tensor.dtype.name)
    itemsize = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
    return TensorReport(
        name=tensor.name,
        shape=tensor.shape,
        dtype=dtype,
        treatment="coded",
        original_bytes=tensor.size * itemsize,
        stored_bytes=tensor.coded_nbytes if first else 0,
        payload_type=tensor.payload_type.name.removeprefix("NNR_PT_"),
        method=tensor.method,
        qp=tensor.qp if first else None,
        step=tensor.step if first else None,
        error=errors.get(tensor.name),
        detail={"unit": tensor.unit, "role": tensor.role},
    )


def _plain(proto: onnx.ModelProto | None) -> tuple[TensorReport, ...]:
    if proto is None:
        return ()
    planned = plan_tensors(proto, Usage(proto.graph), PackOptions())
    return tuple(
        TensorReport(
            name=tensor.name,
            shape=tensor.shape,
            dtype=tensor.dtype_name,
            treatment="plain",
            original_bytes=tensor.nbytes,
            stored_bytes=tensor.nbytes,
            reason=tensor.reason,
        )
        for tensor in planned
        if not is_hollow(tensor.proto)
    )


def verify_nnr(
    source: str | os.PathLike[str],
    options: VerifyOptions | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> VerifyReport:
    """Check an NNR file: syntax, a full decode, and, if it carries a model, hashes and every tensor against it.

    Args:
        source: NNR file.
        options: with ``against`` decoded values are compared with the original model's. An NNR file is not executed
            itself, so ``run`` has no meaning.
        progress: called after every data unit.

    Raises:
        FileAccessError: the file cannot be read.
        NNRError: its syntax is broken.
    """
    start = time.perf_counter()
    options = options or VerifyOptions()
    file = read_nnr(Path(source), options.limits)
    original = _by_element(load_original(options.against)) if options.against is not None else None
    model = _check_model(file, original, options)
    checks, findings, notes = ["syntax", "decode", *model.checks], list(model.findings), list(model.notes)
    if original is not None:
        checks.append("original")
    if options.run:
        notes.append("an NNR file is not executed itself, so outputs were not compared")
    units = []
    for unit in file.bitstream.data_units():
        if _needs_earlier_updates(file, unit[0]):
            notes.append(f"{unit[0].name} was not decoded: its contexts depend on the update before")
        else:
            units.append(unit)
    reports = []
    total, done = sum(tensor.size for unit in units for tensor in unit), 0
    with ThreadPoolExecutor(options.jobs or os.cpu_count() or 1) as executor:
        results = executor.map(lambda unit: _check_unit(unit, model, original, options), units)
        for unit, checked in zip(units, results, strict=True):
            reports += [report for report, _ in checked]
            findings += [finding for _, found in checked for finding in found]
            done += sum(tensor.size for tensor in unit)
            if progress is not None:
                progress(Progress(what=unit[0].name, done=done, total=total))
    return VerifyReport(
        format="nnr",
        source=str(source),
        seconds=time.perf_counter() - start,
        notes=tuple(notes),
        ok=not findings,
        findings=tuple(findings),
        tensors=tuple(reports),
        checks=tuple(checks),
    )


def _by_element(original: Original) -> Original:
    """The original with its tensors under the names that they have in a bitstream."""
    tensors = [tensor for tensors in original.tensors.values() for tensor in tensors]
    return original._replace(tensors={name: [t] for name, t in zip(element_ids(tensors), tensors, strict=True)})


class _ModelChecks(NamedTuple):
    """What the model in a file says of its tensors, and what was found when they were compared."""

    checks: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    dtypes: dict[str, str]
    errors: dict[str, ErrorMeasure]


def _check_model(file: NnrFile, original: Original | None, options: VerifyOptions) -> _ModelChecks:
    checks: list[str] = []
    notes: tuple[str, ...] = ()
    dtypes: dict[str, str] = {}
    errors: dict[str, ErrorMeasure] = {}
    try:
        proto = onnx_topology(file.carried)
        record = record_of(proto)
        if record is not None:
            checks.append("sha256")
            errors = record.errors
            if original is not None and files_digest(original.model.files) != record.source_sha256:
                notes = ("the original given is not byte for byte the file that was packed",)
            check_units(file.bitstream, record)
        if proto is not None and not file.is_update:
            checks.append("topology")
            dtypes = _model_dtypes(file, proto, options.limits)
    except NNRError as error:
        return _ModelChecks(tuple(checks), (Finding.of(error),), notes, dtypes, errors)
    return _ModelChecks(tuple(checks), (), notes, dtypes, errors)


def _needs_earlier_updates(file: NnrFile, tensor: CodedTensor) -> bool:
    header = file.bitstream.units[tensor.unit].data_unit
    return header is not None and bool(header.temporal_context_modeling_flag)


def _check_unit(
    unit: list[CodedTensor],
    model: _ModelChecks,
    original: Original | None,
    options: VerifyOptions,
) -> list[tuple[TensorReport, list[Finding]]]:
    results = []
    try:
        values = unit[0].decode_unit()
    except NNRError as error:
        return [(_describe(tensor, model.dtypes, model.errors), [Finding.of(error)]) for tensor in unit[:1]]
    for tensor in unit:
        report, found = _describe(tensor, model.dtypes, model.errors), list[Finding]()
        if original is not None:
            try:
                report = _compare(report, values[tensor.name], original, options.max_rel_error)
            except VerificationError as error:
                found.append(Finding.of(error))
        results.append((report, found))
    return results


def _compare(
    report: TensorReport, values: NDArray[Any], original: Original, max_rel_error: float | None
) -> TensorReport:
    """As :func:`compare_decoded`, after rounding to the model's element type, which only the original may know."""
    candidates = original.tensors.get(report.name, [])
    for candidate in candidates:
        if candidate.element is not None and (candidate.shape or (1,)) == report.shape:
            typed = msgspec.structs.replace(report, shape=candidate.shape, dtype=candidate.dtype_name)
            rounded = values.astype(candidate.element.dtype).reshape(candidate.shape)
            return compare_decoded(typed, rounded, original, max_rel_error)
    return compare_decoded(report, values, original, max_rel_error)

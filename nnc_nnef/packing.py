"""Packing an NNEF model. Works from the file list alone, so archives with unknown extensions pack too."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from nnc_codec.errors import InvalidArgumentError, UnsupportedError
from nnc_codec.formats import PackOptions, Progress, ProgressCallback
from nnc_codec.report import PackReport, TensorReport
from nnc_onnx.manifest import Parameters

from .archive_writer import copy_of, kind_for, require_output, write_archive
from .coding import EXACT_BYTES, EXACT_ITEMS, Coded, code_variable, exact_unit, reason_to_stay
from .container import GRAPH, QUANT
from .labels import member_of
from .layout import Payload, packed_members
from .model import NnefModel, Variable, open_model


def pack(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: PackOptions | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> PackReport:
    """Codes the variables of an NNEF model.

    ``graph.nnef`` and ``graph.quant`` are copied byte for byte, as is everything else that is not coded.

    Args:
        source: folder, tar, gzip-compressed tar or stored zip.
        output: what to write; the suffix decides the container, ``.nnef.tar`` is the usual one.
        options: what to code and how.
        progress: called after every variable.

    Returns:
        What was done to every variable. The bytes written depend on `source` and `options` only.

    Raises:
        FileAccessError, OutputExistsError, ArchiveError, LabelError, TensorFileError, LimitExceededError: bad files.
        InvalidArgumentError: the model is packed already.
    """
    start = time.perf_counter()
    options = options or PackOptions()
    for name in ("sparsity", "optimize"):
        if getattr(options, name):
            raise UnsupportedError(f"{name} is for ONNX models", hint="convert the model, or leave the option out")
    output = Path(output)
    require_output(output, source=Path(source), force=options.force)
    with open_model(source) as model:
        if model.packed or model.bitstreams:
            raise InvalidArgumentError(f"{source} is packed already", hint="unpack it first")
        coding_start = time.perf_counter()
        outcome = _code_all(model, options, progress)
        encode_seconds = time.perf_counter() - coding_start
        payloads = {
            label: Payload(unit=coded.unit, shape=model[label].shape, item=model[label].item, error=coded.error)
            for label, coded in outcome.items()
            if isinstance(coded, Coded)
        }
        if payloads:
            payloads = _with_exact(model, payloads, options.qp_density)
        archive = model.archive
        gone = {GRAPH, QUANT, *(member_of(label) for label in payloads)}
        members = packed_members(
            archive.read(GRAPH),
            archive.read(QUANT) if QUANT in archive else None,
            payloads,
            [copy_of(archive, name) for name in archive if name not in gone],
            parameters=Parameters.of(options),
        )
        packed_bytes = write_archive(output, members, kind=kind_for(output), force=options.force)
        reports = tuple(_report(model[label], outcome[label], payloads.get(label)) for label in model)
        original = Path(source)
        size = sum(archive.values()) if original.is_dir() else original.stat().st_size
    return PackReport(
        format="nnef",
        source=str(source),
        output=str(output),
        seconds=time.perf_counter() - start,
        original_bytes=size,
        packed_bytes=packed_bytes,
        tensors=reports,
        encode_seconds=encode_seconds,
        decode_seconds=sum(coded.decode_seconds for coded in outcome.values() if isinstance(coded, Coded)),
    )


def _code_all(model: NnefModel, options: PackOptions, progress: ProgressCallback | None) -> dict[str, Coded | str]:
    outcome: dict[str, Coded | str] = {}
    wanted = []
    for label in model:
        reason = reason_to_stay(label, model.header(label), options)
        if reason is None:
            wanted.append(label)
        else:
            outcome[label] = reason
    # The largest first keeps all workers busy until the end.
    wanted.sort(key=lambda label: (-model[label].size, label))
    elements = sum(model[label].size for label in wanted)
    total = sum(model[label].stored_nbytes for label in wanted)
    done = 0
    with ThreadPoolExecutor(options.jobs or os.cpu_count() or 1) as executor:

        def code(label: str) -> Coded | str:
            return code_variable(label, model[label].read(), options, elements)

        for label, result in zip(wanted, executor.map(code, wanted), strict=True):
            outcome[label] = result
            done += model[label].stored_nbytes
            if progress is not None:
                progress(Progress(what=label, done=done, total=total))
    return {label: outcome[label] for label in model}


def _with_exact(model: NnefModel, payloads: dict[str, Payload], qp_density: int) -> dict[str, Payload]:
    """The payloads, and small float variables that stay as they are, in the order of the archive."""
    result = {}
    for label, variable in model.items():
        payload = payloads.get(label)
        if payload is None and variable.item in EXACT_ITEMS and variable.stored_nbytes <= EXACT_BYTES:
            unit = exact_unit(label, variable.read(), qp_density=qp_density)
            payload = Payload(unit=unit, shape=variable.shape, item=variable.item) if unit is not None else None
        if payload is not None:
            result[label] = payload
    return result


def _report(variable: Variable, outcome: Coded | str, payload: Payload | None) -> TensorReport:
    dtype = variable.dtype
    itemsize = dtype.itemsize if dtype is not None else max(variable.item[1] // 8, 1)
    report = TensorReport(
        name=variable.label,
        shape=variable.shape,
        dtype=str(dtype) if dtype is not None else f"item type {variable.item[0]}",
        treatment="plain",
        original_bytes=variable.size * itemsize,
        stored_bytes=variable.stored_nbytes,
        reason=outcome if isinstance(outcome, str) else None,
    )
    if isinstance(outcome, str):
        if payload is None:
            return report
        return msgspec.structs.replace(report, stored_bytes=len(payload.unit.data), payload_type="RAW_FLOAT")
    return msgspec.structs.replace(
        report,
        treatment="coded",
        stored_bytes=len(outcome.unit.data),
        payload_type=outcome.payload_type,
        method=outcome.method,
        qp=outcome.qp,
        step=outcome.step,
        error=outcome.error,
    )

"""Verifying a packed NNEF model: digests, headers, a full decode, and comparisons on request."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from nnc_codec.errors import InvalidArgumentError, NNRError
from nnc_codec.formats import Progress, ProgressCallback, VerificationError, VerifyOptions, output_findings
from nnc_codec.report import Finding, OutputComparison, TensorReport, VerifyReport
from nnc_onnx.coding import measure

from .container import GRAPH, QUANT
from .errors import IntegrityError
from .index import digest
from .inspection import describe
from .model import NnefModel, Variable, open_model
from .unpacking import is_packing

_INDEX_PRECISION = 1.01
"""Errors in an index have three significant digits."""


def verify(
    source: str | os.PathLike[str],
    options: VerifyOptions | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> VerifyReport:
    """Checks a packed model.

    Digests of the graph, of every bitstream and data unit, headers against the index, a full decode; with
    ``against`` the decoded values and everything that is not packed against the original model; with ``run`` the
    outputs of the packed model against those of the unpacked one.

    Returns:
        The report; ``ok`` is false if anything was found.

    Raises:
        FileAccessError, ArchiveError, IndexFileError: the model cannot be read at all.
        InvalidArgumentError: it is not packed.
    """
    start = time.perf_counter()
    options = options or VerifyOptions()
    findings: list[Finding] = []
    notes: list[str] = []
    checks = ["headers", "decode"]
    with open_model(source, limits=options.limits) as model:
        if not model.packed and not model.bitstreams:
            raise InvalidArgumentError(f"{source} is not packed", hint="there is nothing to verify")
        if model.indices:
            checks.append("sha256")
            findings += _digests(model)
        else:
            notes.append("the archive has no index, so there are no SHA-256 digests to compare with")
        original = open_model(options.against) if options.against is not None else None
        try:
            reports = _check_variables(model, original, options, findings, progress)
            if original is not None:
                checks.append("original")
                findings += _rest(model, original)
        finally:
            if original is not None:
                original.close()
    outputs: tuple[OutputComparison, ...] = ()
    if options.run and not findings:
        from .running import compare_packed_and_plain

        checks.append("run")
        outputs = compare_packed_and_plain(Path(source), options)
        findings += output_findings(outputs)
    return VerifyReport(
        format="nnef",
        source=str(source),
        seconds=time.perf_counter() - start,
        notes=tuple(notes),
        ok=not findings,
        findings=tuple(findings),
        tensors=tuple(reports),
        checks=tuple(checks),
        outputs=outputs,
    )


def _digests(model: NnefModel) -> list[Finding]:
    found = []
    graph = digest(model.archive.read(GRAPH))
    for index in model.indices:
        if index.graph_sha256 != graph:
            found.append(Finding.of(IntegrityError("SHA-256 of graph.nnef is not the one in the index")))
        for entry in index.bitstreams:
            if digest(*model.archive.chunks(entry.file)) != entry.sha256:
                found.append(Finding.of(IntegrityError(f"SHA-256 of {entry.file} is not the one in the index")))
    return found


def _check_variables(
    model: NnefModel,
    original: NnefModel | None,
    options: VerifyOptions,
    findings: list[Finding],
    progress: ProgressCallback | None,
) -> list[TensorReport]:
    coded = [variable for variable in model.values() if variable.coded]
    total, done = sum(variable.size for variable in coded), 0
    reports = []
    for variable in coded:
        try:
            reports.append(_check_variable(model, variable, original, options))
        except NNRError as error:
            error.tensor = error.tensor or variable.label
            findings.append(Finding.of(error))
        done += variable.size
        if progress is not None:
            progress(Progress(what=variable.label, done=done, total=total))
    return reports


def _check_variable(
    model: NnefModel, variable: Variable, original: NnefModel | None, options: VerifyOptions
) -> TensorReport:
    values = variable.read()
    report = describe(model, variable)
    if original is None:
        return report
    if variable.label not in original:
        raise VerificationError("the original has no such variable", tensor=variable.label)
    reference = original[variable.label].read()
    if reference.shape != values.shape or reference.dtype != values.dtype:
        raise VerificationError("shape or type is not the original's", tensor=variable.label)
    error = measure(reference, values)
    if report.payload_type == "INT" and error.max_abs != 0:
        raise VerificationError("integers differ from the original's", tensor=variable.label)
    allowed = options.max_rel_error
    if allowed is None and report.error is not None:
        allowed = report.error.rel_rms * _INDEX_PRECISION
    if allowed is not None and error.rel_rms > allowed:
        raise VerificationError(f"relative rms error {error.rel_rms:.3g} exceeds {allowed:.3g}", tensor=variable.label)
    return msgspec.structs.replace(report, error=error)


def _rest(model: NnefModel, original: NnefModel) -> list[Finding]:
    """What differs from the original apart from coded variables."""
    found = []
    for name in (GRAPH, QUANT):
        if _bytes(model, name) != _bytes(original, name):
            found.append(Finding.of(VerificationError(f"{name} is not the original's")))
    for name in model.archive:
        if name not in (GRAPH, QUANT) and not is_packing(name) and _bytes(model, name) != _bytes(original, name):
            found.append(Finding.of(VerificationError(f"{name} differs from the original or is not in it")))
    for label in original:
        if label not in model:
            found.append(Finding.of(VerificationError("the variable is missing", tensor=label)))
    return found


def _bytes(model: NnefModel, name: str) -> str | None:
    return digest(*model.archive.chunks(name)) if name in model.archive else None

"""Verifying a packed model: checksums, hashes, a full decode, and comparisons on request."""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nnc_codec.errors import InvalidArgumentError, NNRError
from nnc_codec.formats import Progress, ProgressCallback, UnpackOptions, VerifyOptions, output_findings
from nnc_codec.report import Finding, OutputComparison, TensorReport, VerifyReport

from . import carriage
from .compare import Original, compare_decoded, compare_rest, load_original
from .errors import CarriageError
from .graph.usage import Usage
from .inspection import describe
from .manifest import files_digest
from .model_io import Model, load
from .payloads import Entries, PackedTensor, check_digest, decode_payload, manifest_of, packed_tensors, read_payload


def verify(
    source: str | os.PathLike[str],
    options: VerifyOptions | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> VerifyReport:
    """Check a packed model.

    Every payload's CRC-32 and SHA-256, its headers against the node, a full decode; with ``against`` the
    decoded values and everything that is not packed against the original model; with ``run`` the outputs
    of the packed model against those of the unpacked one on random inputs, which must be equal bit for bit.

    Args:
        source: packed ONNX file.
        options: which checks.
        progress: called after every tensor.

    Returns:
        The report; ``ok`` is false if anything was found. ``findings[0].code`` tells the kind.

    Raises:
        FileAccessError, InvalidModelError, TruncatedModelError, ExternalDataError: the model cannot be
        read at all. CarriageError, UnsupportedCarriageError: the carriage cannot be followed.
        InvalidArgumentError: the model is not packed.
    """
    start = time.perf_counter()
    options = options or VerifyOptions()
    model = load(Path(source))
    if carriage.check_format(model.proto) is None:
        raise InvalidArgumentError(f"{source} is not packed", hint="there is nothing to verify")
    tensors = list(packed_tensors(Usage(model.proto.graph)))
    manifest = manifest_of(model.proto)
    entries = Entries(manifest)
    original = load_original(options.against) if options.against is not None else None
    checks = ["crc32", "headers", "decode"]
    findings: list[Finding] = []
    notes: list[str] = []
    if manifest is None:
        notes.append("the model has no manifest, so there are no SHA-256 hashes to compare with")
    else:
        checks.append("sha256")
        findings += _manifest_findings(entries, tensors)
    reports = []
    for report, found in _check_tensors(tensors, model, entries, original, options, progress):
        reports.append(report)
        findings += found
    if original is not None:
        checks.append("original")
        findings += map(Finding.of, compare_rest(model, tensors, original))
        if manifest is not None and files_digest(original.model.files) != manifest.source_sha256:
            notes.append("the original given is not byte for byte the file that was packed")
    outputs: tuple[OutputComparison, ...] = ()
    if options.run and not findings:
        checks.append("run")
        outputs = _run_both(Path(source), options)
        findings += output_findings(outputs)
    return VerifyReport(
        format="onnx",
        source=str(source),
        seconds=time.perf_counter() - start,
        notes=tuple(notes),
        ok=not findings,
        findings=tuple(findings),
        tensors=tuple(reports),
        checks=tuple(checks),
        outputs=outputs,
    )


def _manifest_findings(entries: Entries, tensors: list[PackedTensor]) -> list[Finding]:
    """Payloads that only the manifest or only the graph has."""
    listed = entries.payload_names
    present = {tensor.decode.payload for tensor in tensors}
    errors = [CarriageError(f"payload {name!r} is in the manifest only") for name in sorted(listed - present)]
    errors += [CarriageError(f"payload {name!r} is in the graph only") for name in sorted(present - listed)]
    return [Finding.of(error) for error in errors]


def _check_tensors(
    tensors: list[PackedTensor],
    model: Model,
    entries: Entries,
    original: Original | None,
    options: VerifyOptions,
    progress: ProgressCallback | None,
) -> list[tuple[TensorReport, list[Finding]]]:
    def check(tensor: PackedTensor) -> tuple[TensorReport, list[Finding]]:
        return _check_tensor(tensor, model, entries, original, options)

    results = []
    total = sum(tensor.decode.nbytes for tensor in tensors)
    done = 0
    with ThreadPoolExecutor(options.jobs or os.cpu_count() or 1) as executor:
        for tensor, result in zip(tensors, executor.map(check, tensors), strict=True):
            results.append(result)
            done += tensor.decode.nbytes
            if progress is not None:
                progress(Progress(what=tensor.decode.output, done=done, total=total))
    return results


def _check_tensor(
    tensor: PackedTensor, model: Model, entries: Entries, original: Original | None, options: VerifyOptions
) -> tuple[TensorReport, list[Finding]]:
    decode = tensor.decode
    report = TensorReport(
        name=decode.output,
        shape=decode.shape,
        dtype=decode.element.dtype_name,
        treatment="coded",
        original_bytes=decode.nbytes,
        stored_bytes=tensor.payload.dims[0] if tensor.group is None else 0,
    )
    try:
        payload = read_payload(tensor, model)
        entry = entries.find(decode)
        if entry is not None:
            check_digest(tensor, model, entry.sha256)
            if (entry.shape, entry.dtype) != (decode.shape, decode.element.dtype_name):
                raise CarriageError("shape or type is not the manifest's", tensor=decode.output)
        report = describe(tensor, model, entries, options.limits)
        values = decode_payload(tensor, payload, options.limits)
        if original is not None:
            report = compare_decoded(report, values, original, options.max_rel_error)
    except NNRError as error:
        return report, [Finding.of(error)]
    return report, []


def _run_both(source: Path, options: VerifyOptions) -> tuple[OutputComparison, ...]:
    """Outputs of the packed model, decoded lazily, and of the unpacked one on the same inputs.

    Both sessions run without graph optimizations and prepacking: onnxruntime treats constant weights
    differently there, which changes last bits for reasons that have nothing to do with the packed model.
    """
    from .runtime.loader import InferenceSession
    from .runtime.running import compare_outputs, random_inputs, read_inputs, run_once, session_options
    from .runtime.settings import require_onnxruntime
    from .unpacking import unpack

    runtime = require_onnxruntime()

    def plain_options() -> Any:
        settings = session_options()
        settings.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.add_session_config_entry("session.disable_prepacking", "1")
        return settings

    with tempfile.TemporaryDirectory(prefix="onnx-nnc-") as folder:
        plain = Path(folder) / "unpacked.onnx"
        unpack(source, plain, UnpackOptions(jobs=options.jobs, limits=options.limits))
        session = InferenceSession(str(source), plain_options(), mode="lazy")
        feed = (
            read_inputs(options.inputs)
            if options.inputs is not None
            else random_inputs(session.get_inputs(), options.seed, options.dims)
        )
        outputs = run_once(session, feed)
        names = [output.name for output in session.get_outputs()]
        del session
        reference = InferenceSession(str(plain), plain_options())
        expected = run_once(reference, feed)
        del reference
    return compare_outputs(names, outputs, expected)

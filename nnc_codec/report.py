"""What an operation on a model says about itself, in words that fit every model format.

Sizes are bytes, durations seconds, ratios ``after / before``. Everything is a frozen value with a JSON form
(:func:`to_json`) whose schema lies in ``schemas/``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .errors import NNRError

_GRAVITY = (3, 4, 5)

Treatment = Literal["coded", "plain"]


class ErrorMeasure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far decoded values are from the original ones.

    Attributes:
        max_abs: largest absolute difference.
        rel_rms: root mean square of the difference divided by the root mean square of the original.
        snr_db: the same as signal to noise ratio in dB; ``None`` when the values are equal.
    """

    max_abs: float
    rel_rms: float
    snr_db: float | None = None


class TensorReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One tensor of a model.

    Attributes:
        name: as the model calls it.
        shape: dimensions.
        dtype: element type of the model's tensor in numpy's words: ``"float32"``, ``"bfloat16"``, ``"int8"``.
        treatment: ``"coded"`` as an NNR unit or left ``"plain"``.
        reason: why it is plain.
        original_bytes: size of the plain tensor.
        stored_bytes: size it takes in the file described: of its payload if coded.
        payload_type: ``nnr_compressed_data_unit_payload_type`` in the standard's words (``"FLOAT"``,
            ``"INT"`` ...).
        method: quantization method of the coded tensor.
        qp: quantization parameter.
        step: quantization step size.
        error: what coding did to the values; only known where the original is.
        sparsity: share of the decoded values that are zero.
        same_as: name of another tensor whose identical payload this one shares.
        detail: format-specific facts, ready to be shown.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    treatment: Treatment
    original_bytes: int
    stored_bytes: int
    reason: str | None = None
    payload_type: str | None = None
    method: str | None = None
    qp: int | None = None
    step: float | None = None
    error: ErrorMeasure | None = None
    sparsity: float | None = None
    same_as: str | None = None
    detail: dict[str, str | int] = {}

    @property
    def elements(self) -> int:
        """Number of values."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per value; 0 for an empty tensor."""
        return 8 * self.stored_bytes / self.elements if self.elements else 0.0


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="report"):
    """What all reports share.

    Attributes:
        format: model format, e.g. ``"onnx"``.
        source: path read.
        seconds: wall time of the operation.
        notes: things the user should know, one line each.
    """

    format: str
    source: str
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


class PackReport(Report, frozen=True, kw_only=True, omit_defaults=True, tag="pack"):
    """Result of ``pack``.

    Attributes:
        output: path written.
        original_bytes: all files of the source model.
        packed_bytes: all files of the packed model.
        tensors: every tensor of the model, in its order.
        encode_seconds: wall time spent in quantizing and coding.
        decode_seconds: processor time, summed over tensors, of the check that decodes everything again.
    """

    output: str
    original_bytes: int
    packed_bytes: int
    tensors: tuple[TensorReport, ...]
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0

    @property
    def ratio(self) -> float:
        """Packed size divided by original size."""
        return self.packed_bytes / self.original_bytes if self.original_bytes else 1.0

    @property
    def coded(self) -> tuple[TensorReport, ...]:
        """The tensors that were coded."""
        return tuple(tensor for tensor in self.tensors if tensor.treatment == "coded")

    @property
    def bits_per_weight(self) -> float:
        """Payload bits per coded value; a payload shared by several tensors counts once."""
        elements = sum(tensor.elements for tensor in self.coded)
        stored = sum(tensor.stored_bytes for tensor in self.coded if tensor.same_as is None)
        return 8 * stored / elements if elements else 0.0

    @property
    def worst(self) -> TensorReport | None:
        """The coded tensor with the largest relative rms error."""
        measured = [tensor for tensor in self.coded if tensor.error is not None]
        return max(measured, key=lambda t: t.error.rel_rms if t.error else 0.0, default=None)


class UnpackReport(Report, frozen=True, kw_only=True, omit_defaults=True, tag="unpack"):
    """Result of ``unpack``.

    Attributes:
        output: path written.
        packed_bytes: all files of the packed model.
        unpacked_bytes: all files of the plain model.
        tensors: number of tensors decoded.
    """

    output: str
    packed_bytes: int
    unpacked_bytes: int
    tensors: int


class InspectReport(Report, frozen=True, kw_only=True, omit_defaults=True, tag="inspect"):
    """Result of ``inspect``; nothing is decoded.

    Attributes:
        packed: whether the file carries coded tensors.
        file_bytes: all files of the model.
        carriage: version of the carriage (``onnx_nnc.format``), ``None`` for a plain model.
        producer: what wrote the file, if it says so.
        tensors: every tensor, in the model's order.
        manifest: the manifest or index of the packed model as JSON text.
    """

    packed: bool
    file_bytes: int
    tensors: tuple[TensorReport, ...]
    carriage: str | None = None
    producer: str | None = None
    manifest: str | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that verification found wrong.

    Attributes:
        code: stable error code (``NNC-E...``).
        message: one line.
        exit_code: process exit status for this kind of error.
        tensor: name of the tensor it is about.
    """

    code: str
    message: str
    exit_code: int
    tensor: str | None = None

    @classmethod
    def of(cls, error: NNRError) -> Finding:
        """The finding that an error amounts to."""
        return cls(code=error.code, message=str(error), exit_code=error.exit_code, tensor=error.tensor)


class OutputComparison(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One output of the model, computed twice.

    Attributes:
        name: output's name.
        shape: its shape in this run.
        dtype: its element type.
        identical: bit for bit equal.
        error: difference to the reference; ``None`` without finite numbers in both or where shapes differ.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    identical: bool
    error: ErrorMeasure | None = None


class VerifyReport(Report, frozen=True, kw_only=True, omit_defaults=True, tag="verify"):
    """Result of ``verify``.

    Attributes:
        ok: nothing was found.
        findings: what is wrong.
        tensors: the coded tensors; with an original given, their errors against it.
        checks: names of the checks that were made.
        outputs: with ``--run``, the outputs computed from the packed and from the unpacked model.
    """

    ok: bool
    findings: tuple[Finding, ...] = ()
    tensors: tuple[TensorReport, ...] = ()
    checks: tuple[str, ...] = ()
    outputs: tuple[OutputComparison, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 if nothing was found, else the status of the gravest finding: corrupt, mismatch, unsupported."""
        found = {finding.exit_code for finding in self.findings}
        return next((code for code in _GRAVITY if code in found), max(found, default=0))


class OutputSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One output of one run: name, shape, element type and range (``None`` without numbers)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    minimum: float | None = None
    maximum: float | None = None


class RunReport(Report, frozen=True, kw_only=True, omit_defaults=True, tag="run"):
    """Result of ``run``.

    Attributes:
        mode: how weights were decoded.
        runtime: runtime and version.
        load_seconds: time to create the session.
        first_seconds: latency of the first run.
        median_seconds: median latency of the later runs, if there were any.
        runs: number of runs.
        outputs: what came out.
        against: path of the model compared with.
        comparison: outputs against that model's.
        against_median_seconds: median latency of that model.
    """

    mode: str
    runtime: str
    load_seconds: float
    first_seconds: float
    runs: int
    outputs: tuple[OutputSummary, ...]
    median_seconds: float | None = None
    against: str | None = None
    comparison: tuple[OutputComparison, ...] = ()
    against_median_seconds: float | None = None


class ConvertedTensor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one tensor when a model changed its format.

    Attributes:
        name: in the source model.
        target: in the converted model.
        action: ``"carried"`` (payload bytes untouched), ``"renamed"`` (coded bytes untouched, name in the
            header changed), ``"reencoded"``, ``"raw"`` (decoded and stored plain) or ``"plain"``
            (was plain before).
        reason: why its payload could not be carried.
    """

    name: str
    target: str
    action: Literal["carried", "renamed", "reencoded", "raw", "plain"]
    reason: str | None = None


class ConvertReport(Report, frozen=True, kw_only=True, omit_defaults=True, tag="convert"):
    """Result of ``convert``.

    Attributes:
        target_format: format written.
        output: path written.
        tensors: one entry per tensor.
        comparison: outputs of the converted model against the source's, if it was checked.
    """

    target_format: str
    output: str
    tensors: tuple[ConvertedTensor, ...] = ()
    comparison: tuple[OutputComparison, ...] = ()


def to_json(report: Report) -> str:
    """`report` as one JSON document, two spaces of indentation."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()

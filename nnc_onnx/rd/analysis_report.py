"""The report of ``onnx-nnc analyze``."""

from __future__ import annotations

import msgspec

from nnc_codec.report import Report

from .fitting import Basis
from .lossless import LosslessSize


class AnalysisTensor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One tensor that is coded.

    Attributes:
        name: its name.
        shape: dimensions.
        dtype: element type.
        original_bytes: size as stored.
        predicted_bytes: size when packed without options.
        bits_per_weight: of that.
        qp: quantization parameter of that; absent for integers.
        error: rms error of that, relative to the rms of the values.
        sparsity: share of zeros in that; absent for integers.
        sensitivity: mean square change of the outputs, relative to their power, per mean square error of this tensor
            alone, relative to its own power; absent where it was not measured.
        same_as: an earlier tensor with the same values, whose payload serves both.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    original_bytes: int
    predicted_bytes: int
    bits_per_weight: float
    qp: int | None = None
    error: float = 0.0
    sparsity: float | None = None
    sensitivity: float | None = None
    same_as: str | None = None


class AnalysisPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the model's rate-distortion curve.

    Attributes:
        packed_bytes: predicted size of the packed model.
        ratio: the same relative to the original.
        deviation: measured mean square change of the outputs relative to their power, all weights quantized.
    """

    packed_bytes: int
    ratio: float
    deviation: float


class AnalysisRung(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one way of packing gives; it was done.

    Attributes:
        options: of ``onnx-nnc pack``.
        is_default: whether packing without options does the same.
        packed_bytes: size of the packed model.
        ratio: the same relative to the original.
        bits_per_weight: of the coded tensors.
        deviation: as in :class:`AnalysisPoint`; absent if the model cannot be run.
    """

    options: str
    is_default: bool = False
    packed_bytes: int
    ratio: float
    bits_per_weight: float
    deviation: float | None = None


class Analysis(Report, frozen=True, kw_only=True, omit_defaults=True, tag="analyze"):
    """A model's weights, its rate-distortion curve, and what packing and other compressors give.

    Attributes:
        original_bytes: size of the model's files.
        fixed_bytes: what is left of the packed model without the payloads of the weights that the curve varies.
        basis: what was measured on: ``"synthetic"`` or ``"calibration"`` inputs, or ``"statistics"`` if the model
            cannot be run; then there is no curve.
        tensors: those that are coded, the largest first.
        curve: from fine to coarse.
        rungs: ways of packing.
        lossless: what general-purpose compressors give.
    """

    original_bytes: int
    fixed_bytes: int
    basis: Basis
    tensors: tuple[AnalysisTensor, ...]
    curve: tuple[AnalysisPoint, ...]
    rungs: tuple[AnalysisRung, ...]
    lossless: tuple[LosslessSize, ...]

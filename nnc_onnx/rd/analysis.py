"""Data of ``onnx-nnc analyze``: sensitivities and the rate-distortion curve of a model."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np

from nnc_codec.formats import PackOptions, ProgressCallback
from nnc_codec.report import Report

from ..coding import CARRIAGE_OVERHEAD
from ..model_io import load
from ..plan import plan_tensors
from ..usage import Usage
from .allocate import for_deviation
from .calibration import Calibration
from .fitting import try_choice
from .planner import study_model

DEVIATIONS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Allowed changes of the outputs that the curve has a point for."""

_REFERENCE = 0.03


class AnalysisTensor(msgspec.Struct, frozen=True, kw_only=True):
    """One weight.

    Attributes:
        name: its name; the first one's if several tensors have the same values.
        shape: dimensions.
        original_bytes: size as stored.
        predicted_bytes: size when coded with the preset ``balanced``.
        qp: quantization parameter of that.
        deviation: what that does to the outputs, alone, relative to their power.
    """

    name: str
    shape: tuple[int, ...]
    original_bytes: int
    predicted_bytes: int
    qp: int
    deviation: float


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


class Analysis(Report, frozen=True, kw_only=True, omit_defaults=True, tag="analyze"):
    """A model's weights and its rate-distortion curve.

    Attributes:
        original_bytes: size of the model's files.
        fixed_bytes: what coding does not touch: the graph, small tensors, and what carries the payloads.
        basis: what was measured on: ``"synthetic"`` or ``"calibration"`` inputs.
        tensors: the weights, the largest first.
        curve: from fine to coarse.
    """

    original_bytes: int
    fixed_bytes: int
    basis: str
    tensors: tuple[AnalysisTensor, ...]
    curve: tuple[AnalysisPoint, ...]


def analyze(
    source: str | os.PathLike[str],
    options: PackOptions | None = None,
    *,
    calibration: Calibration | None = None,
    progress: ProgressCallback | None = None,
) -> Analysis:
    """Measure what every weight of a plain ONNX model costs and does.

    Raises:
        CalibrationError: bad calibration inputs.
        CannotRunError: the model cannot be run.
        FileAccessError, InvalidModelError, ExternalDataError: bad files.
    """
    start = time.perf_counter()
    options = options or PackOptions()
    model = load(Path(source))
    planned = plan_tensors(model.proto, Usage(model.proto.graph), options)
    with ThreadPoolExecutor(options.jobs or os.cpu_count() or 1) as executor:
        study = study_model(model.proto, planned, model.folder, options, calibration, executor, progress)
        coded = [tensor for weight in study.weights for tensor in weight.tensors]
        fixed = model.nbytes - sum(tensor.nbytes for tensor in coded) + CARRIAGE_OVERHEAD * len(coded)
        points = []
        for wanted in DEVIATIONS:
            choice = for_deviation(study.items, wanted)
            change, size, _ = try_choice(study, choice, options, executor)
            packed = fixed + size
            points.append(AnalysisPoint(packed_bytes=packed, ratio=packed / max(model.nbytes, 1), deviation=change))
    tensors = []
    choice = for_deviation(study.items, _REFERENCE)
    for weight, item, qp in zip(study.weights, study.items, choice.qps, strict=True):
        at = int(np.searchsorted(item.curve.qps, qp))
        first = weight.tensors[0]
        tensors.append(
            AnalysisTensor(
                name=first.name,
                shape=first.shape,
                original_bytes=sum(tensor.nbytes for tensor in weight.tensors),
                predicted_bytes=round(float(item.curve.bits[at]) * item.elements / 8),
                qp=qp,
                deviation=float(item.deviation[at]),
            )
        )
    tensors.sort(key=lambda tensor: (-tensor.original_bytes, tensor.name))
    return Analysis(
        format="onnx",
        source=str(source),
        seconds=time.perf_counter() - start,
        original_bytes=model.nbytes,
        fixed_bytes=fixed,
        basis=study.basis,
        tensors=tuple(tensors),
        curve=tuple(points),
        notes=study.notes,
    )

"""Data of ``onnx-nnc analyze``: what every weight costs and does, and what every way of packing gives."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from nnc_codec.errors import InvalidArgumentError
from nnc_codec.formats import PackOptions, ProgressCallback
from nnc_codec.report import PackReport

from ..carriage import check_format
from ..graph.usage import Usage, Value
from ..model_io import Model, load
from ..packing import pack
from ..plan import PlannedTensor, plan_tensors
from ..tensors import to_array
from ..unpacking import unpack_model
from .allocate import Choice, for_bits
from .analysis_report import Analysis, AnalysisPoint, AnalysisRung, AnalysisTensor
from .calibration import Calibration
from .errors import CannotRunError
from .fitting import Basis, Study, try_choice
from .goals import PRESETS, Goal
from .hook import planner_for
from .lossless import lossless_sizes
from .planner import Plan
from .sensitivity import hedged
from .study import study_model

RATES = (6.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5)
"""Bits per weight that the curve has a point for: from where nothing is lost to where few models still work."""

FAST = "--fast"
_RUNGS: dict[Basis, str] = {"synthetic": "--preset {}", "calibration": "--calibration INPUTS --preset {}"}


class _Packed(NamedTuple):
    """A model packed to see what comes out; its file is gone."""

    report: PackReport
    plan: Plan | None
    change: float | None


def analyze(
    source: str | os.PathLike[str],
    options: PackOptions | None = None,
    *,
    calibration: Calibration | None = None,
    progress: ProgressCallback | None = None,
) -> Analysis:
    """Measure what every weight of a plain ONNX model costs and does, and pack the model in every way.

    Nothing is written but temporary files.

    Args:
        source: ONNX file.
        options: which tensors to code, and the number of workers.
        calibration: real inputs. Then all measurements are on them, also those of plans made without.
        progress: called after every tensor.

    Raises:
        CalibrationError: bad calibration inputs, or the model cannot be run on them.
        InvalidArgumentError: the model is packed already.
        FileAccessError, InvalidModelError, ExternalDataError: bad files.
    """
    start = time.perf_counter()
    options = options or PackOptions()
    model = load(Path(source))
    if check_format(model.proto) is not None:
        raise InvalidArgumentError(f"{source} is packed already", hint="analyze the model it was made from")
    planned = plan_tensors(model.proto, Usage(model.proto.graph), options)
    with ThreadPoolExecutor(options.jobs or os.cpu_count() or 1) as executor:
        studies, notes = _studies(model, planned, options, calibration, executor, progress)
        judge = next(iter(studies.values()), None)
        packed = dict(_pack_all(Path(source), studies, judge, options, progress))
        usual = packed[_usual(packed)]
        fixed = 0
        curve: tuple[AnalysisPoint, ...] = ()
        if judge is not None:
            fixed = usual.report.packed_bytes - _payload_bytes(judge, planned, usual.report)
            curve = tuple(_curve(judge, fixed, model.nbytes, options, executor))
        lossless = lossless_sizes(model, executor)
    return Analysis(
        format="onnx",
        source=str(source),
        seconds=time.perf_counter() - start,
        original_bytes=model.nbytes,
        fixed_bytes=fixed,
        basis="statistics" if judge is None else judge.basis,
        tensors=_tensors(planned, usual.report, judge),
        curve=curve,
        rungs=tuple(_rung(name, item, name == _usual(packed), model.nbytes) for name, item in packed.items()),
        lossless=lossless,
        notes=notes,
    )


def _studies(
    model: Model,
    planned: list[PlannedTensor],
    options: PackOptions,
    calibration: Calibration | None,
    executor: Executor,
    progress: ProgressCallback | None,
) -> tuple[dict[Basis, Study], tuple[str, ...]]:
    """What was measured on which inputs, the real ones first; notes."""
    studies: dict[Basis, Study] = {}
    notes: tuple[str, ...] = ()
    for given in (calibration, None) if calibration is not None else (None,):
        try:
            study = study_model(model.proto, planned, model.folder, options, given, executor, progress)
        except CannotRunError as error:
            if given is not None:
                raise
            notes += (f"nothing measured on made-up inputs: {error.message}",)
            continue
        if study.items:
            studies[study.basis] = study
        notes += study.notes
    return studies, notes


def _pack_all(
    source: Path,
    studies: dict[Basis, Study],
    judge: Study | None,
    options: PackOptions,
    progress: ProgressCallback | None,
) -> Iterator[tuple[str, _Packed]]:
    """The model packed in every way, by the options that do so."""
    with tempfile.TemporaryDirectory(prefix="onnx-nnc-") as folder:
        target = Path(folder) / "packed.onnx"
        options = msgspec.structs.replace(options, force=True)
        report = pack(source, target, options, progress=progress)
        yield FAST, _Packed(report, None, _decoded_change(judge, target))
        for basis in ("synthetic", "calibration"):
            study = studies.get(basis)
            if study is None:
                continue
            for preset in PRESETS:
                plans: list[Plan] = []
                planner = planner_for(Goal(preset=preset), study=study, inform=plans.append)
                report = pack(source, target, options, planner=planner, progress=progress)
                change = plans[0].deviation if study is judge else _decoded_change(judge, target)
                yield _RUNGS[basis].format(preset), _Packed(report, plans[0], change)


def _usual(packed: dict[str, _Packed]) -> str:
    """The way of packing that is taken without options."""
    planned = _RUNGS["synthetic"].format(Goal().preset)
    return planned if planned in packed else FAST


def _decoded_change(judge: Study | None, packed: Path) -> float | None:
    """Change of the outputs with the weights that a packed model holds."""
    if judge is None:
        return None
    model = load(packed)
    plain = unpack_model(model.proto, folder=model.folder)
    found = {tensor.value: tensor for tensor in plan_tensors(plain, Usage(plain.graph), PackOptions())}
    values = {}
    for weight in judge.weights:
        tensor = found.get(weight.tensors[0].value)
        if tensor is not None:
            values[weight.name] = to_array(tensor.proto, model.folder).reshape(weight.values.shape)
    return judge.check(values)


def _payload_bytes(study: Study, planned: list[PlannedTensor], report: PackReport) -> int:
    """Bytes of the payloads that hold the weights of a study."""
    varied = {tensor.value for weight in study.weights for tensor in weight.tensors}
    return sum(
        entry.stored_bytes
        for tensor, entry in zip(planned, report.tensors, strict=True)
        if tensor.value in varied and entry.same_as is None
    )


def _curve(
    study: Study, fixed: int, original_bytes: int, options: PackOptions, executor: Executor
) -> Iterator[AnalysisPoint]:
    """What plans for a size give."""
    last: Choice | None = None
    items = hedged(study.items) if study.basis == "synthetic" else study.items
    elements = sum(item.elements for item in items)
    for rate in RATES:
        choice = for_bits(items, rate * elements)
        if last is None or choice.qps != last.qps:
            change, size, _ = try_choice(study, choice, options, executor)
            yield AnalysisPoint(packed_bytes=fixed + size, ratio=(fixed + size) / original_bytes, deviation=change)
        last = choice


def _rung(name: str, packed: _Packed, is_default: bool, original_bytes: int) -> AnalysisRung:
    report = packed.report
    return AnalysisRung(
        options=name,
        is_default=is_default,
        packed_bytes=report.packed_bytes,
        ratio=report.packed_bytes / original_bytes,
        bits_per_weight=report.bits_per_weight,
        deviation=packed.change,
    )


def _tensors(planned: list[PlannedTensor], report: PackReport, study: Study | None) -> tuple[AnalysisTensor, ...]:
    sensitivities = _sensitivities(study) if study is not None else {}
    found = [
        AnalysisTensor(
            name=entry.name,
            shape=entry.shape,
            dtype=entry.dtype,
            original_bytes=entry.original_bytes,
            predicted_bytes=entry.stored_bytes,
            bits_per_weight=entry.bits_per_weight,
            qp=entry.qp,
            error=entry.error.rel_rms if entry.error is not None else 0.0,
            sparsity=entry.sparsity,
            sensitivity=sensitivities.get(tensor.value),
            same_as=entry.same_as,
        )
        for tensor, entry in zip(planned, report.tensors, strict=True)
        if entry.treatment == "coded"
    ]
    return tuple(sorted(found, key=lambda tensor: (-tensor.original_bytes, tensor.name)))


def _sensitivities(study: Study) -> dict[Value, float]:
    """Change of the outputs per relative error of a tensor, at the middle of its curve."""
    result = {}
    for weight, item in zip(study.weights, study.items, strict=True):
        middle = len(item.curve.qps) // 2
        error = float(item.curve.mse[middle]) / item.power
        for tensor in weight.tensors:
            result[tensor.value] = float(item.deviation[middle]) / error
    return result

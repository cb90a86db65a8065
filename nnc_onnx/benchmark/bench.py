"""Benchmark of the ways to run a packed model, against the plain one; every configuration in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from nnc_codec.errors import InvalidArgumentError
from nnc_codec.files import require_readable
from nnc_codec.formats import UnpackOptions

from ..coding import measure
from ..runtime.settings import require_onnxruntime
from .child import Task
from .report import CONFIGURATIONS, BenchOptions, BenchReport, BenchRow, Configuration

_LONGEST_FAILURE = 300


def bench(source: str | os.PathLike[str], options: BenchOptions | None = None) -> BenchReport:
    """Measure a packed model.

    Args:
        source: packed ONNX file.
        options: what to measure and on which inputs.

    Raises:
        InvalidArgumentError: the model is not packed.
        NNRError: a file cannot be read, or the packed model not be unpacked. A configuration that fails gets a row
            that says why.
    """
    start = time.perf_counter()
    options = options or BenchOptions()
    runtime = require_onnxruntime()
    source = require_readable(source)
    wanted = [item for item in CONFIGURATIONS if not options.configurations or item.name in options.configurations]
    plain = next(item for item in CONFIGURATIONS if item.mode == "plain")
    rows: list[BenchRow] = []
    with tempfile.TemporaryDirectory(prefix="onnx-nnc-") as name:
        folder = Path(name)
        baseline = _baseline(source, options, folder)
        for number, item in enumerate([plain, *(item for item in wanted if item != plain)]):
            model = baseline if item == plain else source
            rows.append(_compared(_measure(item, model, folder / str(number), options), rows, folder, number))
    return BenchReport(
        format="onnx",
        source=str(source),
        seconds=time.perf_counter() - start,
        runtime=f"onnxruntime {runtime.__version__}",
        against=str(options.against) if options.against is not None else None,
        batch=options.batch,
        threads=options.threads,
        runs=options.runs,
        rows=tuple(rows),
    )


def _baseline(source: Path, options: BenchOptions, folder: Path) -> Path:
    from ..recognise import recognise_onnx
    from ..unpacking import unpack

    if recognise_onnx(source) != "packed":
        raise InvalidArgumentError(f"{source} is not a packed ONNX model", hint="pack it first")
    if options.against is not None:
        return require_readable(options.against)
    plain = folder / "plain.onnx"
    unpack(source, plain, UnpackOptions(external_data=True))
    return plain


def _measure(configuration: Configuration, model: Path, outputs: Path, options: BenchOptions) -> BenchRow:
    task = Task(
        configuration=configuration,
        model=str(model),
        outputs=str(outputs),
        inputs=str(options.inputs) if options.inputs is not None else None,
        batch=options.batch,
        dims=options.dims,
        seed=options.seed,
        runs=options.runs,
        threads=options.threads,
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "nnc_onnx.benchmark.child"]
    done = subprocess.run(command, input=msgspec.json.encode(task), capture_output=True, env=environment, check=False)
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = lines[-1] if lines else "nothing was said"
        return BenchRow(name=configuration.name, failure=f"exit status {done.returncode}: {why}"[:_LONGEST_FAILURE])
    return msgspec.json.decode(done.stdout, type=BenchRow)


def _compared(row: BenchRow, rows: list[BenchRow], folder: Path, number: int) -> BenchRow:
    """`row` with what can be said of it relative to the plain model, which is the first one."""
    if row.failure is not None:
        return row
    plain = rows[0] if rows else row
    if plain.failure is not None:
        return row
    changed = msgspec.structs.replace(
        row,
        relative=_ratio(row.median_seconds, plain.median_seconds),
        relative_processor=_ratio(row.processor_seconds, plain.processor_seconds),
        relative_peak=_ratio(row.peak_bytes, plain.peak_bytes),
    )
    change, identical = 0.0, True
    for path in sorted(folder.glob("0.*.npy")):
        expected = np.load(path, allow_pickle=False)
        got = np.load(folder / f"{number}{path.name[1:]}", allow_pickle=False)
        identical &= got.dtype == expected.dtype and got.tobytes() == expected.tobytes()
        if got.shape != expected.shape or not np.isfinite(got).all() or not np.isfinite(expected).all():
            return changed
        change = max(change, measure(expected, got).rel_rms)
    return msgspec.structs.replace(changed, output_change=change, identical=identical)


def _ratio(value: float | None, reference: float | None) -> float | None:
    return value / reference if value is not None and reference else None

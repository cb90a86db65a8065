"""Running models on inputs of the user or on random ones, and comparing what comes out."""

from __future__ import annotations

import os
import statistics
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc_codec.errors import InvalidArgumentError, NNRError
from nnc_codec.files import atomic_writer, require_readable, require_writable
from nnc_codec.formats import RunOptions
from nnc_codec.report import OutputComparison, OutputSummary, RunReport

from ..coding import measure
from .settings import require_onnxruntime

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

    from .session_plan import SessionPlan

Feed = Mapping[str, "NDArray[Any]"]

_LONGEST_MESSAGE = 300
_INPUT_TYPES: dict[str, str] = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(uint16)": "uint16",
    "tensor(int32)": "int32",
    "tensor(uint32)": "uint32",
    "tensor(int64)": "int64",
    "tensor(uint64)": "uint64",
}


def run(source: str | os.PathLike[str], options: RunOptions | None = None) -> RunReport:
    """Run a packed or plain model with :class:`nnc_onnx.InferenceSession`.

    Raises:
        InvalidArgumentError: the inputs do not fit the model, or random ones cannot be made for it.
        NNRError: as the loader.
    """
    start = time.perf_counter()
    options = options or RunOptions()
    require_onnxruntime()
    from .loader import InferenceSession

    if options.runs < 1:
        raise InvalidArgumentError(f"runs = {options.runs} is below 1")
    if options.outputs is not None:
        require_writable(options.outputs, force=options.force)
    if options.against is not None:
        require_readable(options.against)
    session_start = time.perf_counter()
    session = InferenceSession(str(source), session_options(), mode=options.mode, cache_bytes=options.cache_bytes)
    load_seconds = time.perf_counter() - session_start
    if options.inputs is not None:
        feed = read_inputs(options.inputs)
    else:
        feed = random_inputs(session.get_inputs(), options.seed, options.dims)
    outputs, seconds = _timed_runs(session, feed, options.runs)
    names = [output.name for output in session.get_outputs()]
    if options.outputs is not None:
        _write_outputs(options.outputs, names, outputs, force=options.force)
    notes = _notes(session.plan)
    comparison: tuple[OutputComparison, ...] = ()
    against_seconds: list[float] = []
    # Whoever asks for approximate results is told how far off they are.
    against = options.against or (source if _mode(session.plan) == "int8" else None)
    if against is not None:
        del session
        reference = InferenceSession(str(against), session_options(), mode="auto")
        expected, against_seconds = _timed_runs(reference, feed, options.runs)
        comparison = compare_outputs(names, outputs, expected)
    return RunReport(
        format="onnx",
        source=str(source),
        seconds=time.perf_counter() - start,
        notes=notes,
        mode=options.mode,
        runtime=_runtime_name(),
        load_seconds=load_seconds,
        first_seconds=seconds[0],
        median_seconds=_median(seconds),
        runs=options.runs,
        outputs=tuple(summarise(name, value) for name, value in zip(names, outputs, strict=True)),
        against=str(against) if against is not None else None,
        comparison=comparison,
        against_median_seconds=_median(against_seconds),
    )


def _mode(plan: SessionPlan | None) -> str:
    return "plain" if plan is None else plan.mode


def _notes(plan: SessionPlan | None) -> tuple[str, ...]:
    """How the weights are held, for people."""
    if plan is None:
        return ("the model is plain: its weights are constants",)
    held = f"weights: {plan.constant_bytes / 1e6:.3g} MB are constants, {plan.coded_bytes / 1e6:.3g} MB stay coded"
    kept = f", of which {min(plan.budget, plan.coded_bytes) / 1e6:.3g} MB may be kept decoded" if plan.budget else ""
    note = held + kept
    if plan.mode == "int8":
        return (note, "mode int8 is approximate: the outputs are compared with those of the decoded weights")
    return (note,)


def session_options() -> onnxruntime.SessionOptions:
    """Session options that keep onnxruntime's log off the terminal: its errors are raised anyway."""
    options = require_onnxruntime().SessionOptions()
    options.log_severity_level = 4
    return options


def random_inputs(inputs: Sequence[Any], seed: int, dims: Mapping[str, int]) -> dict[str, NDArray[Any]]:
    """One array per model input: normal floats, small non-negative integers, all-true booleans.

    Args:
        inputs: ``session.get_inputs()``.
        seed: of the generator; every input draws from its own, so that inputs do not depend on their order.
        dims: sizes of symbolic dimensions; 1 for those not named.

    Raises:
        InvalidArgumentError: an input is no numeric tensor.
    """
    feed: dict[str, NDArray[Any]] = {}
    for position, value in enumerate(inputs):
        dtype = _INPUT_TYPES.get(value.type)
        if dtype is None:
            raise InvalidArgumentError(
                f"cannot make random values of {value.type} for input {value.name!r}",
                hint="give inputs with --inputs x.npz",
            )
        shape = tuple(size if isinstance(size, int) else dims.get(str(size), 1) for size in value.shape)
        generator = np.random.default_rng([seed, position])
        if dtype == "bool":
            feed[value.name] = np.ones(shape, np.bool_)
        elif dtype.startswith("float"):
            feed[value.name] = generator.standard_normal(shape).astype(dtype)
        else:
            feed[value.name] = generator.integers(0, 2, shape).astype(dtype)
    return feed


def read_inputs(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a ``.npz`` file.

    Raises:
        FileAccessError: the file cannot be read.
        InvalidArgumentError: it is no ``.npz`` file or needs pickle.
    """
    checked = require_readable(path)
    try:
        with np.load(checked, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InvalidArgumentError(f"cannot read inputs from {checked}: {error}") from error


def run_once(session: onnxruntime.InferenceSession, feed: Feed) -> list[Any]:
    """The model's outputs.

    Raises:
        InvalidArgumentError: onnxruntime rejects the inputs.
        NNRError: a decode operator failed.
    """
    expected = {value.name for value in session.get_inputs()}
    missing, unknown = sorted(expected - set(feed)), sorted(set(feed) - expected)
    if missing or unknown:
        words = [f"{', '.join(missing)} missing"] if missing else []
        words += [f"{', '.join(unknown)} unknown"] if unknown else []
        raise InvalidArgumentError(f"inputs do not fit the model: {'; '.join(words)}")
    try:
        return list(session.run(None, dict(feed)))
    except NNRError:
        raise
    except Exception as error:
        # onnxruntime's exceptions have no common public base, and their text says which input is wrong.
        raise InvalidArgumentError(
            f"onnxruntime cannot run the model on these inputs: {_one_line(error)}",
            hint="give inputs with --inputs x.npz or sizes with --dim name=size",
        ) from error


def compare_outputs(
    names: Sequence[str], outputs: Sequence[Any], expected: Sequence[Any]
) -> tuple[OutputComparison, ...]:
    """`outputs` against `expected`, one entry per name.

    Raises:
        InvalidArgumentError: the models have different numbers of outputs.
    """
    if len(outputs) != len(expected):
        raise InvalidArgumentError(f"the models have {len(outputs)} and {len(expected)} outputs")
    compared = []
    for name, value, reference in zip(names, outputs, expected, strict=True):
        left, right = np.asarray(value), np.asarray(reference)
        alike = left.shape == right.shape and left.dtype == right.dtype
        identical = alike and left.tobytes() == right.tobytes()
        error = measure(right, left) if alike and _is_finite(left) and _is_finite(right) else None
        compared.append(
            OutputComparison(name=name, shape=left.shape, dtype=str(left.dtype), identical=identical, error=error)
        )
    return tuple(compared)


def _is_finite(array: NDArray[Any]) -> bool:
    return array.size > 0 and array.dtype.kind in "fiub" and bool(np.isfinite(array).all())


def summarise(name: str, value: Any) -> OutputSummary:
    """Shape, type and range of one output."""
    array = np.asarray(value)
    low = high = None
    if array.size and array.dtype.kind in "fiub":
        low, high = float(array.min()), float(array.max())
    return OutputSummary(name=name, shape=array.shape, dtype=str(array.dtype), minimum=low, maximum=high)


def _timed_runs(session: onnxruntime.InferenceSession, feed: Feed, runs: int) -> tuple[list[Any], list[float]]:
    seconds = []
    outputs: list[Any] = []
    for _ in range(runs):
        start = time.perf_counter()
        outputs = run_once(session, feed)
        seconds.append(time.perf_counter() - start)
    return outputs, seconds


def _median(seconds: list[float]) -> float | None:
    """Median without the first run, which pays for warming up."""
    return statistics.median(seconds[1:]) if len(seconds) > 1 else None


def _runtime_name() -> str:
    return f"onnxruntime {require_onnxruntime().__version__}"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:_LONGEST_MESSAGE] if text else type(error).__name__


def _write_outputs(path: Path, names: Sequence[str], outputs: Sequence[Any], *, force: bool) -> None:
    # Not np.savez: an output may be called "file", like its first parameter.
    with atomic_writer(path, force=force) as stream, zipfile.ZipFile(stream, "w") as archive:
        for name, value in zip(names, outputs, strict=True):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)

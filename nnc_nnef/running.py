"""Running NNEF models: converted to ONNX with their payloads still coded, then run by the loader."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from nnc_codec.errors import InvalidArgumentError
from nnc_codec.formats import RunOptions, UnpackOptions, VerifyOptions
from nnc_codec.report import OutputComparison, RunReport

from .container import sniff
from .convert.settings import ConvertSettings
from .convert.write_onnx import OnnxBuilder
from .model import open_model
from .unpacking import unpack


def run(source: str | os.PathLike[str], options: RunOptions | None = None) -> RunReport:
    """Runs a packed or plain NNEF model with :class:`nnc_onnx.InferenceSession`.

    The converted model lives in a private temporary folder while it runs; its inputs and outputs are called as in
    ``graph.nnef``.

    Args:
        source: NNEF model.
        options: as for ONNX. ``against`` may be an NNEF or an ONNX model.

    Raises:
        ConversionError: an operation without ONNX counterpart.
        InvalidArgumentError: the inputs do not fit the model.
        NNRError: unreadable or damaged files.
    """
    from nnc_onnx.runtime.running import run as run_onnx

    options = options or RunOptions()
    with tempfile.TemporaryDirectory(prefix="onnx-nnc-") as private:
        model = as_onnx(Path(source), Path(private, "model.onnx"))
        changed = options
        if options.against is not None and is_nnef(options.against):
            against = as_onnx(options.against, Path(private, "against.onnx"))
            changed = msgspec.structs.replace(options, against=against)
        report = run_onnx(model, changed)
    named = None if options.against is None else str(options.against)
    return msgspec.structs.replace(report, format="nnef", source=str(source), against=named)


def as_onnx(source: Path, output: Path) -> Path:
    """Writes the ONNX form of an NNEF model, payloads untouched where they can be carried, and returns `output`."""
    with open_model(source) as model:
        OnnxBuilder(source, model, ConvertSettings(payloads="raw")).write(output, force=False)
    return output


def is_nnef(path: Path) -> bool:
    """Whether `path` looks like an NNEF container and not like another model file."""
    try:
        return sniff(path) is not None
    except OSError:
        return False


def compare_packed_and_plain(source: Path, options: VerifyOptions) -> tuple[OutputComparison, ...]:
    """Outputs of the packed model, decoded lazily, and of the unpacked one on the same inputs.

    Both sessions run without graph optimizations and prepacking: onnxruntime treats constant weights differently
    there, which changes last bits for reasons that have nothing to do with the packed model.

    Raises:
        InvalidArgumentError: onnxruntime is missing, or the inputs do not fit.
        ConversionError: the model cannot be run.
    """
    from nnc_onnx.runtime.loader import InferenceSession
    from nnc_onnx.runtime.running import compare_outputs, random_inputs, read_inputs, run_once, session_options
    from nnc_onnx.runtime.settings import require_onnxruntime

    runtime = require_onnxruntime()

    def session(path: Path) -> Any:
        settings = session_options()
        settings.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.add_session_config_entry("session.disable_prepacking", "1")
        return InferenceSession(str(path), settings, mode="lazy")

    if options.dims:
        raise InvalidArgumentError("NNEF models have no symbolic dimensions", hint="leave --dim away")
    with tempfile.TemporaryDirectory(prefix="onnx-nnc-") as private:
        plain = Path(private, "plain.nnef")
        unpack(source, plain, UnpackOptions(jobs=options.jobs, limits=options.limits))
        packed = session(as_onnx(source, Path(private, "packed.onnx")))
        inputs = options.inputs
        feed = read_inputs(inputs) if inputs is not None else random_inputs(packed.get_inputs(), options.seed, {})
        outputs = run_once(packed, feed)
        names = [output.name for output in packed.get_outputs()]
        del packed
        expected = run_once(session(as_onnx(plain, Path(private, "plain.onnx"))), feed)
    return compare_outputs(names, outputs, expected)

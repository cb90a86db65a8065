"""The numeric check that every conversion ends with: source and result compute the same on random inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from nnc_codec.errors import NNRError
from nnc_codec.report import ErrorMeasure, OutputComparison

from ..errors import ConversionError, MismatchError
from .onnx_to_nnef import Port
from .skeleton import INTEGERS

Array = NDArray[Any]

TOLERANCE = 1e-4
"""Largest difference that passes, relative to the largest magnitude of the reference output."""

_PASS_THROUGH = frozenset({"Cast", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice"})


def random_inputs(
    ports: Sequence[Port], model: ModelProto, seed: int = 0, *, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, Array]:
    """Inputs by ONNX name: normally distributed floats, and integers that are legal indices where they index.

    Args:
        ports: graph inputs.
        model: tells what integer inputs index.
        seed: decides the numbers.
        shapes: of weights that are not initializers of `model`.
    """
    known = {**(shapes or {}), **{proto.name: tuple(proto.dims) for proto in model.graph.initializer}}
    rng = np.random.default_rng(seed)
    inputs: dict[str, Array] = {}
    for port in ports:
        dtype = helper.tensor_dtype_to_np_dtype(port.elem_type)
        if port.elem_type in INTEGERS:
            bound = _index_bound(model, port.onnx, known)
            inputs[port.onnx] = np.asarray(rng.integers(0, bound, port.shape), dtype)
        elif port.elem_type == TensorProto.BOOL:
            inputs[port.onnx] = np.asarray(rng.integers(0, 2, port.shape), bool)
        else:
            inputs[port.onnx] = np.asarray(rng.standard_normal(port.shape), dtype)
    return inputs


def _index_bound(model: ModelProto, name: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Smallest table that `name` indexes, looked for through operations that only move data."""
    bound, names = 8, {name}
    found = []
    for node in model.graph.node:
        if names & set(node.input):
            if node.op_type == "Gather" and node.input[1] in names and node.input[0] in shapes:
                axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
                shape = shapes[node.input[0]]
                found.append(shape[axis] if -len(shape) <= axis < len(shape) else 0)
            elif node.op_type in _PASS_THROUGH:
                names.update(node.output)
    return max(1, min([size for size in found if size > 0], default=bound))


def run_onnx(model: bytes | str, inputs: dict[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
    """Outputs of an ONNX model, packed or plain, without optimizations.

    Args:
        model: path or serialized model.
        inputs: by name; those the model does not have are left out.
        outputs: names of the outputs wanted; all by default.

    Raises:
        ConversionError: the model cannot be run.
    """
    try:
        import onnxruntime
    except ImportError:
        return _run_reference(model, inputs, outputs)
    from nnc_onnx.runtime.loader import InferenceSession

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
        known = {entry.name for entry in session.get_inputs()}
        feed = {name: value for name, value in inputs.items() if name in known}
        return [np.asarray(value) for value in session.run(list(outputs) if outputs else None, feed)]
    except NNRError:
        raise
    except Exception as error:
        # onnxruntime's exception classes are not public.
        raise ConversionError(f"the model cannot be run for the check: {error}"[:1000]) from error


def _run_reference(model: bytes | str, inputs: dict[str, Array], outputs: Sequence[str] | None) -> list[Array]:
    from onnx.reference import ReferenceEvaluator

    from nnc_onnx.reference import OPERATORS

    try:
        evaluator = ReferenceEvaluator(model, new_ops=list(OPERATORS))
        feed = {name: value for name, value in inputs.items() if name in evaluator.input_names}
        return [np.asarray(value) for value in evaluator.run(list(outputs) if outputs else None, feed)]
    except NNRError:
        raise
    except Exception as error:
        # Kernels of the evaluator raise anything.
        hint = "install onnxruntime"
        raise ConversionError(f"the model cannot be run for the check: {error}"[:1000], hint=hint) from error


def sensitivity(run: Callable[[dict[str, Array]], list[Array]], inputs: dict[str, Array]) -> list[float]:
    """By how much rounding errors move each output of a model: its change when inputs change by one part in 10**6.

    A model that turns such a change into a visible one cannot be held to a tighter bound by any other runtime.
    """
    rng = np.random.default_rng(1)
    moved = {
        name: np.asarray(value * (1 + 1e-6 * rng.standard_normal(value.shape)), value.dtype)
        if value.dtype.kind == "f"
        else value
        for name, value in inputs.items()
    }
    pairs = zip(run(inputs), run(moved), strict=True)
    return [_largest(a, b) if a.dtype.kind == "f" else 0.0 for a, b in pairs]


def _largest(one: Array, other: Array) -> float:
    finite = np.isfinite(one) & np.isfinite(other)
    return float(np.abs(one[finite].astype(np.float64) - other[finite]).max()) if finite.any() else 0.0


def compare(
    names: Sequence[str],
    reference: Sequence[Array],
    result: Sequence[Array],
    *,
    moves: Sequence[float] = (),
    tolerance: float = TOLERANCE,
) -> tuple[OutputComparison, ...]:
    """Compares outputs one by one.

    Args:
        names: of the outputs.
        reference: what the source computes.
        result: what the converted model computes.
        moves: :func:`sensitivity` of the source; four times as much is allowed, but never a tenth of the output.
        tolerance: allowed difference relative to the largest magnitude.

    Raises:
        MismatchError: one differs in shape, in a whole number or truth value, or by more than `tolerance`.
    """
    if len(reference) != len(result):
        raise MismatchError(f"{len(result)} outputs where the source has {len(reference)}")
    bounds = list(moves) or [0.0] * len(reference)
    return tuple(_compare(*item, tolerance) for item in zip(names, reference, result, bounds, strict=True))


def _compare(name: str, reference: Array, result: Array, moved: float, tolerance: float) -> OutputComparison:
    if reference.shape != result.shape:
        raise MismatchError(f"output {name!r} has shape {result.shape}, the source's has {reference.shape}")
    exact = reference.dtype.kind != "f"
    wanted, given = reference.astype(np.float64), result.astype(np.float64)
    same_nonfinite = np.array_equal(wanted[~np.isfinite(wanted)], given[~np.isfinite(wanted)], equal_nan=True)
    finite = np.isfinite(wanted)
    difference = np.abs(wanted[finite] - given[finite])
    worst = float(difference.max()) if difference.size else 0.0
    scale = float(np.abs(wanted[finite]).max()) if finite.any() else 0.0
    allowed = 0.0 if exact else max(tolerance * max(scale, 1e-6), min(4 * moved, 0.1 * scale))
    if not same_nonfinite:
        raise MismatchError(f"output {name!r} is infinite or not a number in other places than the source's")
    # Written so that a NaN in the result fails.
    if not worst <= allowed:
        raise MismatchError(
            f"output {name!r} differs by {worst:.3g} where values reach {scale:.3g}",
            hint="this model cannot be converted faithfully; please report it",
        )
    power = float(wanted[finite] @ wanted[finite])
    noise = float(difference @ difference)
    relative = float(np.sqrt(noise / power)) if power else 0.0
    snr = float(-20 * np.log10(relative)) if relative else None
    error = ErrorMeasure(max_abs=worst, rel_rms=relative, snr_db=snr)
    return OutputComparison(
        name=name, shape=tuple(wanted.shape), dtype=str(reference.dtype), identical=worst == 0.0, error=error
    )

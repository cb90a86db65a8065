"""What differs between two models, tensor by tensor, and how each difference is coded."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np

from nnc_codec.abilities import DiffOptions
from nnc_codec.differences import Array, Uncodable, add, bits_of, difference
from nnc_codec.params import TensorParams
from nnc_codec.quality import choose_quality
from nnc_codec.quantize import qp_for_step, step_of
from nnc_codec.report import ErrorMeasure
from nnc_codec.updates import Coding

from ..coding import measure
from .weights import Weight, Weights

_DENSITY = 2

STEP_PER_RMS = 1.0
"""Largest step of a weight's difference in units of its rms: about 1.6 bits a weight for Gaussian differences, of
which 85 per cent of the energy arrives. Sparse differences have a small rms beside their peaks and arrive closer."""

FINE_STEP_PER_RMS = 2.0**-8
"""The same for vectors and small tensors, which packing leaves plain."""


class Changes(NamedTuple):
    """What a new model has that the base has not.

    Attributes:
        differences: to be coded, by name.
        codings: how.
        carried: tensors whose difference cannot be coded, with the reason.
    """

    differences: dict[str, Array]
    codings: dict[str, Coding]
    carried: dict[str, str]


def compare(base: Weights, new: Weights, options: DiffOptions, executor: Executor) -> Changes:
    """Every difference between two models of the same tensors, with the way to code it."""
    elements = sum(math.prod(weight.shape) for weight in new.tensors.values() if weight.is_weight)

    def examine(name: str) -> tuple[Array, TensorParams] | Uncodable | None:
        old, fresh = base.tensors[name], new.tensors[name]
        if old.identity.sha256 == fresh.identity.sha256:
            return None
        change = difference(old.values, fresh.values)
        if change is None or isinstance(change, Uncodable):
            return change
        params = _params(old, fresh, change, options, elements)
        return params if isinstance(params, Uncodable) else (change, params)

    changes = Changes({}, {}, {})
    for number, (name, found) in enumerate(zip(new.tensors, executor.map(examine, new.tensors), strict=True)):
        if isinstance(found, Uncodable):
            changes.carried[name] = found.reason
        elif found is not None:
            changes.differences[name], params = found
            changes.codings[name] = Coding(params, number)
    return changes


def _params(old: Weight, new: Weight, change: Array, options: DiffOptions, elements: int) -> TensorParams | Uncodable:
    if not new.element.is_float:
        return TensorParams()
    if new.must_be_exact:
        exact = np.array_equal(bits_of(add(old.values, change)), bits_of(new.values))
        return TensorParams(method="raw") if exact else Uncodable("must be exact and is not the sum of two floats")
    if options.qp is not None:
        return TensorParams(qp=options.qp, method=options.method)
    rms = float(np.sqrt(np.mean(np.square(change, dtype=np.float64))))
    if not new.is_weight:
        return _with_step(rms * FINE_STEP_PER_RMS, TensorParams(method="uniform"))
    with np.errstate(over="ignore"):
        values = np.asarray(new.values, np.float32)
    step = rms * STEP_PER_RMS
    if np.isfinite(values).all():
        direct = choose_quality(
            values.reshape(new.shape), method=options.method, qp_density=_DENSITY, total_elements=elements
        )
        if direct.method != options.method:
            # The values lie on a grid, so the difference does if the base does, and comes back exactly.
            return TensorParams(qp=direct.qp, method=direct.method)
        step = min(step, step_of(direct.qp, _DENSITY))
    return _with_step(step, TensorParams(method=options.method))


def _with_step(step: float, params: TensorParams) -> TensorParams:
    qp = qp_for_step(step, _DENSITY)
    # Differences below the smallest step of the standard are sent as they are.
    return TensorParams(method="raw") if step_of(qp, _DENSITY) > step else TensorParams(qp=qp, method=params.method)


def error_of(new: Weight, result: Weight) -> ErrorMeasure:
    """How far the result is from the new model; values that are no numbers are left out."""
    with np.errstate(invalid="ignore"):
        numbers = np.isfinite(new.values.astype(np.float64)) & np.isfinite(result.values.astype(np.float64))
    if not numbers.any():
        return ErrorMeasure(max_abs=0.0, rel_rms=0.0)
    return measure(new.values[numbers], result.values[numbers])

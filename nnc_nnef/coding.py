"""Coding one variable: choose a quality, encode, decode again, measure."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

import nnc_codec
from nnc_codec.errors import NNRError
from nnc_codec.formats import PackOptions
from nnc_codec.params import EncodeParams, Method
from nnc_codec.quality import choose_quality
from nnc_codec.quantize import step_of
from nnc_codec.report import ErrorMeasure
from nnc_onnx.coding import encode_smallest, integer_params, leaves_choice, measure, params_of, payload_type
from nnc_onnx.graph.roles import is_vector_shape

from .dat import TensorHeader
from .units import Unit, cut

Array = NDArray[Any]

EXACT_ITEMS = ((0, 32), (0, 16))
"""NNEF item types and bits of variables that :func:`exact_unit` takes."""

EXACT_BYTES = 16 << 10
"""Floats that stay exact go into the bitstream up to this size."""

INDEX_OVERHEAD = 200
"""Bytes that an entry of the index takes."""


class Coded(msgspec.Struct, frozen=True, kw_only=True):
    """A coded variable; the fields of :class:`nnc_codec.report.TensorReport`, and its unit."""

    unit: Unit
    payload_type: str
    error: ErrorMeasure
    decode_seconds: float
    method: Method | None = None
    qp: int | None = None
    step: float | None = None


def reason_to_stay(label: str, header: TensorHeader, options: PackOptions) -> str | None:
    """Why a variable stays plain; None if it is to be coded."""
    dtype = header.dtype
    if dtype is None:
        return f"item type {header.item_type} of vendor {header.vendor:#06x} cannot be coded"
    if dtype.kind == "b" or dtype.itemsize == 8:
        return f"item type {dtype} cannot be coded"
    if any(header.parameters):
        return "its header has item-type parameters of NNEF 1.0.2"
    if not header.shape:
        return "scalar"
    if header.volume == 0:
        return "empty"
    if any(fnmatchcase(label, pattern) for pattern in options.exclude):
        return "excluded"
    if any(fnmatchcase(label, pattern) for pattern in options.include):
        return None
    if is_vector_shape(header.shape):
        return "vector"
    if header.volume < options.min_elements:
        return f"fewer than {options.min_elements} elements"
    return None


def exact_unit(label: str, array: Array, *, qp_density: int = 2) -> Unit | None:
    """A data unit with exact values for a small float tensor; None if it is better off in a file of its own.

    A file in a tar takes two blocks of 512 bytes at least, more than most vectors have.
    """
    if array.dtype.kind != "f" or array.dtype.itemsize > 4 or not 0 < array.nbytes <= EXACT_BYTES or not array.ndim:
        return None
    if not np.isfinite(array).all():
        return None
    params = EncodeParams(method="raw", qp_density=qp_density, topology=False)
    unit = cut(nnc_codec.encode({label: array}, params))
    decoded = nnc_codec.decode_single(unit.bitstream, array.dtype, array.shape)
    return unit if decoded.tobytes() == array.tobytes() else None


def code_variable(label: str, array: Array, options: PackOptions, total_elements: int) -> Coded | str:
    """Codes one variable, or says why it has to stay plain.

    Args:
        label: becomes the name in the data unit.
        array: its values; floats are quantized, integers stay exact.
        options: how to code it.
        total_elements: values of all variables that are coded.

    Raises:
        NNRError: it does not decode to what was coded.
    """
    integer = array.dtype.kind in "iu"
    params = integer_params(array, options) if integer else _float_params(array, options, total_elements)
    if isinstance(params, str):
        return params
    if integer or not leaves_choice(options):
        bitstream = nnc_codec.encode({label: array}, params)
    else:
        bitstream, params = encode_smallest(label, array, params, array)
    if len(bitstream) + INDEX_OVERHEAD >= array.nbytes:
        return "coding would not make it smaller"
    start = time.perf_counter()
    decoded = nnc_codec.decode_single(bitstream, array.dtype, array.shape)
    seconds = time.perf_counter() - start
    error = measure(array, decoded)
    kind = payload_type(not integer, params.method)
    coded = Coded(unit=cut(bitstream), payload_type=kind, error=error, decode_seconds=seconds)
    if integer:
        if error.max_abs != 0:
            raise NNRError("decoded integers differ from the coded ones", tensor=label)
        return coded
    step = step_of(params.qp, params.qp_density)
    return msgspec.structs.replace(coded, method=params.method, qp=params.qp, step=step)


def _float_params(array: Array, options: PackOptions, total_elements: int) -> EncodeParams | str:
    values = np.asarray(array, np.float32)
    if not np.isfinite(values).all():
        return "it contains NaN or infinity"
    if options.qp is not None:
        return params_of(options, options.qp, options.method)
    quality = choose_quality(
        values, method=options.method, qp_density=options.qp_density, total_elements=total_elements
    )
    return params_of(options, quality.qp, quality.method)

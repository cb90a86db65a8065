"""Coding one tensor: choose a quality, encode, decode again, measure."""

from __future__ import annotations

import math
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

import nnc_codec
from nnc_codec.errors import NNRError
from nnc_codec.exact import PREMIUM, grid_exponent
from nnc_codec.formats import PackOptions
from nnc_codec.params import EncodeParams, Method
from nnc_codec.quality import FINE_UNARY_LENGTH, choose_quality, exact_quality, fine_quality
from nnc_codec.quantize import step_of
from nnc_codec.report import ErrorMeasure

from .manifest import payload_digest
from .plan import PlannedTensor
from .sparsify import share_of_zeros
from .tensors import to_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

CARRIAGE_OVERHEAD = 320
"""Bytes that a decode node, its names, its value_info and its manifest entry take beside the payload."""

MEMBER_OVERHEAD = 12
"""Bytes that a tensor of a group takes beside its data unit: its shape, its place, its name a second time."""

MAX_DEFAULT_ERROR = 0.1
"""Relative rms error above which a tensor stays plain unless the user chose the qp; usual are 0.01 to 0.04."""

_HEAD_BYTES = 12
"""Start unit and parameter set, which a group has once."""

LEAST_TABLE_ELEMENTS = 1 << 16
"""Smaller tables are decoded whole in less time than it is worth to speak of."""

LEAST_BLOCK_ROW_ELEMENTS = 4096
"""Elements that one look-up decodes at least. Every block row costs an entry point and a start of all contexts anew:
0.4 to 1.3 % of the table's bits at this size, twice as much at half of it."""

_CHUNK = 1 << 16


class Coded(msgspec.Struct, frozen=True, kw_only=True):
    """A coded tensor.

    Attributes:
        payload: the NNR bitstream: STR, MPS, one NDU.
        crc32: of `payload`.
        sha256: of `payload`, as the manifest has it.
        payload_type: ``"FLOAT"``, ``"RAW_FLOAT"`` or ``"INT"``.
        method: quantization method; ``None`` for integers.
        qp: quantization parameter; ``None`` for integers.
        step: quantization step size; ``None`` for integers.
        error: difference between decoded and original values.
        decode_seconds: time the check took to decode.
        sparsity: share of the decoded values that are zero; ``None`` for integers.
    """

    payload: bytes
    crc32: int
    sha256: str
    payload_type: str
    error: ErrorMeasure
    decode_seconds: float
    method: Method | None = None
    qp: int | None = None
    step: float | None = None
    sparsity: float | None = None


def code_tensor(planned: PlannedTensor, folder: Path, options: PackOptions, total_elements: int) -> Coded | str:
    """Code one tensor, or say why it has to stay plain.

    Args:
        planned: a tensor that is to be coded.
        folder: where its external data lie.
        options: how to code it.
        total_elements: values of all tensors that are coded.

    Raises:
        InvalidModelError, ExternalDataError: its values cannot be read.
        NNRError: it does not decode to what was coded.
    """
    original = to_array(planned.proto, folder)
    array = original if planned.sparse is None else planned.sparse
    element = planned.element
    if element is None:
        return "element type cannot be coded"
    if element.is_float:
        outcome = _float_params(array, options, total_elements, planned)
    else:
        outcome = integer_params(array, options)
    if isinstance(outcome, str):
        return outcome
    source = array
    if planned.values is not None:
        source = planned.values
        outcome = msgspec.structs.replace(outcome, lambda_=0.0)
    if planned.sparse is not None:
        outcome = msgspec.structs.replace(outcome, keep_zeros=True)
    if planned.is_table:
        outcome = msgspec.structs.replace(outcome, scan_order=table_scan_order(planned.shape))
    in_group = planned.elements < options.group_below
    if in_group:
        outcome = msgspec.structs.replace(outcome, node_id=False)
    if element.is_float and leaves_choice(options):
        payload, outcome = encode_smallest(planned.name, source, outcome, array)
    else:
        payload = nnc_codec.encode({planned.name: source}, outcome)
    size = len(payload) + CARRIAGE_OVERHEAD
    if in_group:
        size = len(payload) - len(planned.name.encode()) - _HEAD_BYTES + MEMBER_OVERHEAD
    if size >= planned.nbytes:
        return "coding would not make it smaller"
    start = time.perf_counter()
    decoded = nnc_codec.decode_single(payload, element.dtype, planned.shape)
    decode_seconds = time.perf_counter() - start
    error = measure(original, decoded)
    coded = Coded(
        payload=payload,
        crc32=zlib.crc32(payload),
        sha256=payload_digest(payload),
        payload_type=payload_type(element.is_float, outcome.method),
        error=error,
        decode_seconds=decode_seconds,
        sparsity=share_of_zeros(decoded) if element.is_float else None,
    )
    if not element.is_float:
        if error.max_abs != 0:
            raise NNRError("decoded integers differ from the coded ones", tensor=planned.name)
        return coded
    if outcome.method == "raw":
        return msgspec.structs.replace(coded, method=outcome.method)
    if options.qp is None and planned.chosen is None:
        lost = error if planned.sparse is None else measure(array, decoded)
        if lost.rel_rms > MAX_DEFAULT_ERROR:
            return "coding would lose too much"
    step = step_of(outcome.qp, outcome.qp_density)
    return msgspec.structs.replace(coded, method=outcome.method, qp=outcome.qp, step=step)


def encode_smallest(
    name: str, source: NDArray[Any], params: EncodeParams, original: NDArray[Any]
) -> tuple[bytes, EncodeParams]:
    """Code a float tensor as asked, or exactly by a codebook where that is as small.

    Args:
        name: of the tensor.
        source: what to code.
        params: how to code it with a loss.
        original: the values that a codebook is to give back, finite.

    Returns:
        The bitstream, and the parameters that made it.
    """
    payload = nnc_codec.encode({name: source}, params)
    values = np.asarray(original, np.float32)
    already = params.method == "uniform" and grid_exponent(values) is not None
    most = PREMIUM * len(payload)
    exact = None if already else exact_quality(values, qp_density=params.qp_density, most_bytes=most)
    if exact is None:
        return payload, params
    listed = msgspec.structs.replace(params, qp=exact.qp, nonweight_qp=exact.qp, method=exact.method, lambda_=0.0)
    other = nnc_codec.encode({name: original}, listed)
    return (other, listed) if len(other) <= most else (payload, params)


def leaves_choice(options: PackOptions) -> bool:
    """Whether tensors may be coded in another way than lossily with a step that was asked for."""
    return options.qp is None and options.method in ("dq", "uniform")


def payload_type(is_float: bool, method: Method) -> str:
    """``nnr_compressed_data_unit_payload_type`` of a tensor in the standard's words."""
    if not is_float:
        return "INT"
    return "RAW_FLOAT" if method == "raw" else "FLOAT"


def _float_params(
    array: NDArray[Any], options: PackOptions, total_elements: int, planned: PlannedTensor
) -> EncodeParams | str:
    chosen = planned.chosen
    with np.errstate(over="ignore"):
        values = np.asarray(array, np.float32)
    if not np.isfinite(values).all():
        if np.isfinite(array).all():
            return "its values exceed float32"
        return "it contains NaN or infinity"
    if chosen is not None and chosen.qp is not None:
        params = params_of(options, chosen.qp, chosen.method or options.method, chosen.lambda_ or 0.0)
        length = chosen.cabac_unary_length
        return params if length is None else msgspec.structs.replace(params, cabac_unary_length=length)
    if planned.care != "usual" and (planned.role != "weight" or options.qp is not None):
        reciprocal = planned.care == "reciprocal"
        qp, method = fine_quality(values, reciprocal=reciprocal, qp_density=options.qp_density)
        return msgspec.structs.replace(params_of(options, qp, method), cabac_unary_length=FINE_UNARY_LENGTH)
    if options.qp is None:
        qp, method = choose_quality(
            values,
            method=options.method,
            qp_density=options.qp_density,
            total_elements=total_elements,
        )
    else:
        qp, method = options.qp, options.method
    return params_of(options, qp, method)


def integer_params(array: NDArray[Any], options: PackOptions) -> EncodeParams | str:
    """How to code integers, which stay exact, or why that cannot be done."""
    bounds = np.iinfo(np.int32)
    if int(array.min()) < bounds.min or int(array.max()) > bounds.max:
        return "its integers exceed 32 bits"
    return params_of(options, 0, "uniform")


def params_of(options: PackOptions, qp: int, method: Method, lambda_: float = 0.0) -> EncodeParams:
    """Options of the encoder for one tensor."""
    return EncodeParams(
        qp=qp, nonweight_qp=qp, qp_density=options.qp_density, method=method, lambda_=lambda_, topology=False
    )


def table_scan_order(shape: tuple[int, ...]) -> int:
    """``scan_order`` of a tensor that is looked up by rows: the lowest block rows that are large enough; 0 for none."""
    rows, columns = shape[0], math.prod(shape[1:])
    if rows * columns < LEAST_TABLE_ELEMENTS or columns < 2:
        return 0
    return next((order for order in range(1, 4) if (4 << order) * columns >= LEAST_BLOCK_ROW_ELEMENTS), 4)


def measure(original: NDArray[Any], decoded: NDArray[Any]) -> ErrorMeasure:
    """Difference between two arrays of one shape and finite values, computed in float64 piece by piece."""
    worst = noise = power = 0.0
    left, right = original.reshape(-1), decoded.reshape(-1)
    for start in range(0, left.size, _CHUNK):
        reference = left[start : start + _CHUNK].astype(np.float64)
        difference = right[start : start + _CHUNK].astype(np.float64) - reference
        worst = max(worst, float(np.abs(difference).max()))
        noise += float(difference @ difference)
        power += float(reference @ reference)
    if noise == 0:
        return ErrorMeasure(max_abs=worst, rel_rms=0.0)
    if power == 0:
        return ErrorMeasure(max_abs=worst, rel_rms=sys.float_info.max)
    return ErrorMeasure(max_abs=worst, rel_rms=math.sqrt(noise / power), snr_db=10 * math.log10(power / noise))

"""One data unit: quantize its tensors, code the payload, write the header."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from . import quantize, syntax
from .blocks import Role
from .codebook import bits_of, build_codebook
from .elements import as_source, format_of, is_float
from .errors import InvalidArgumentError, NNRError
from .params import NO_OVERRIDE, EncodeParams, Method
from .payload import Integers, Past
from .payload_encoder import Source, Tools, decodes_back, encode_payload
from .syntax.context import Context
from .syntax.data_unit import CabacEntryPoint, CabacEntryPointList, Codebook, CompressedDataUnitHeader
from .syntax.enums import NnrUnitType, PayloadType, ScanOrder
from .syntax.topology import TopologyElementsIdsList
from .syntax.units import UnitHeader

MIN_COMPANION_BITS = 8
"""Bit depth below which vectors are not pressed."""


@dataclass(frozen=True)
class Part:
    """A tensor on its way into a data unit."""

    name: str
    role: Role
    array: npt.NDArray[Any]
    parameter_id: int
    qp: int
    past: Past = field(default_factory=Past)


@dataclass(frozen=True)
class UnitPlan:
    """What one data unit will hold.

    Attributes:
        parts: its tensors in payload order.
        names: their names in header order.
        shape: shape of the full weight.
        cpt: ``compressed_parameter_types``.
        rank, rows: of a decomposed weight.
        put_node_depth: node depth; ``None`` outside a sequence of updates means 0.
        parent: the unit is a difference to a parent.
        temporal: contexts depend on the previous update.
        history: history-dependent significance may be used.
    """

    parts: tuple[Part, ...]
    names: tuple[str, ...]
    shape: tuple[int, ...]
    cpt: int = 0
    rank: int = 0
    rows: int = 0
    put_node_depth: int = 0
    parent: bool = False
    temporal: bool = False
    history: bool = False


@dataclass(frozen=True)
class Coded:
    """A finished unit: its bytes (empty if a zero update was left out) and the integers in it, by name."""

    data: bytes
    integers: dict[str, Integers]


@dataclass(frozen=True)
class _Quantized:
    part: Part
    source: npt.NDArray[Any]
    integers: Integers
    qp: int | None
    dq: bool
    codebook: Codebook | None = None


def encode_unit(plan: UnitPlan, options: EncodeParams, context: Context) -> Coded:
    """Code one unit, or the units its parts need if they cannot share one.

    Raises:
        InvalidArgumentError: with the tensor's name.
    """
    options = _with_entry_points(plan, options)
    quantized = [_quantize(part, options) for part in plan.parts]
    shares = (
        len({q.dq for q in quantized}) == 1
        and all(q.qp is not None for q in quantized)
        and all(q.codebook is None or q.part.role.startswith("weight") for q in quantized)
        and len({q.codebook is None for q in quantized if q.part.role.startswith("weight")}) == 1
    )
    if len(quantized) == 1 or shares:
        return _code(plan, quantized, options, context)
    # Members with different quantizers go into units of their own, which keep the block's mask.
    coded = []
    for q in quantized:
        alone = replace(plan, parts=(q.part,), names=(q.part.name,), shape=q.source.shape, rank=0, rows=0)
        coded.append(_code(alone, [q], options, context))
    return Coded(b"".join(c.data for c in coded), {n: i for c in coded for n, i in c.integers.items()})


def _with_entry_points(plan: UnitPlan, options: EncodeParams) -> EncodeParams:
    """The options of a unit: a large tensor of its own that nothing else refers to is coded in blocks."""
    if options.scan_order or not options.entry_points_from or len(plan.parts) > 1 or plan.parent:
        return options
    array = plan.parts[0].array
    if array.ndim < 2 or array.size < options.entry_points_from:
        return options
    return msgspec.structs.replace(options, scan_order=int(ScanOrder.BLOCKS_64))


def _quantize(part: Part, options: EncodeParams) -> _Quantized:
    try:
        return _quantize_part(part, options)
    except NNRError as error:
        if error.tensor is None:
            error.tensor = part.name
        raise


def _quantize_part(part: Part, options: EncodeParams) -> _Quantized:
    source = as_source(part.name, part.array)
    own = options.per_tensor.get(part.name, NO_OVERRIDE)
    method: Method = own.method or options.method
    if not is_float(part.array.dtype):
        return _Quantized(part, source, source.reshape(-1), None, False)
    if method == "raw":
        return _Quantized(part, source, np.empty(0, np.int32), None, False)
    rows = source.shape[0]
    unary_length = own.cabac_unary_length or options.cabac_unary_length
    matrix = rows > 1 and source.size > rows
    qp, low, high = part.qp, -(2**31), 2**31 - 1
    if options.bit_depth is not None:
        depth = options.bit_depth if source.ndim >= 2 else max(options.bit_depth, MIN_COMPANION_BITS)
        qp, low, high = quantize.bit_depth_qp(source, depth, options.qp_density)

    scan_order = options.scan_order if matrix else 0

    def levels(at: int, dependent: bool) -> tuple[Integers, int]:
        weights = source
        if options.bit_depth is not None and dependent:
            # Multiples clipped after the trellis would not be reachable in their states: clip what goes in.
            step = np.float32(quantize.step_of(at, options.qp_density))
            weights = source.clip(low * step, high * step)
        integers, used = quantize.quantize(
            weights, at, options.qp_density, rows=rows, scan_order=scan_order, dependent=dependent,
            lambda_=options.lambda_ if own.lambda_ is None else own.lambda_, unary_length=unary_length,
            keep_zeros=options.keep_zeros,
        )  # fmt: skip
        if options.bit_depth is not None and not dependent:
            integers = integers.clip(low, high)
        return integers, used

    def plain(dependent: bool) -> _Quantized:
        integers, used = levels(qp, dependent)
        return _Quantized(part, source, integers, used, dependent)

    def listed(dependent: bool) -> _Quantized:
        # Without the trellis half the step gives about the same error.
        integers, used = levels(qp - (1 << options.qp_density) * dependent, False)
        codebook, indices = build_codebook(integers, rows=rows, unary_length=unary_length)
        return _Quantized(part, source, indices, used, False, codebook)

    dependent = method == "dq"
    if method == "codebook":
        return listed(False)
    if not options.codebook_if_smaller or not part.role.startswith("weight"):
        return plain(dependent)
    candidates = (plain(dependent), listed(dependent))
    return min(candidates, key=lambda q: _bits(q, options, unary_length))


def _bits(q: _Quantized, options: EncodeParams, unary_length: int) -> int:
    """Payload and codebook of one tensor in bits."""
    tools = Tools(dq=q.dq, unary_length=unary_length, param_opt=options.param_opt, qp_bits=6 + options.qp_density)
    payload, _ = encode_payload([_source(q)], tools)
    return 8 * len(payload) + (0 if q.codebook is None else bits_of(q.codebook))


def _source(q: _Quantized) -> Source:
    """The tensor for the payload encoder; the base QP in the parameter set is 0, so its QP is the delta."""
    rows = q.source.shape[0]
    return Source(q.part.name, rows, q.source.size // rows, q.integers, q.qp, q.codebook, q.part.past)


def _code(plan: UnitPlan, quantized: list[_Quantized], options: EncodeParams, context: Context) -> Coded:
    integers = {q.part.name: q.integers for q in quantized}
    # Raw floats have no integers.
    if plan.parent and not any((q.integers if q.integers.size else q.source).any() for q in quantized):
        return Coded(b"", {})
    first = quantized[0]
    own = options.per_tensor.get(plan.names[0], NO_OVERRIDE)
    floats = all(is_float(q.part.array.dtype) for q in quantized)
    unary_length = own.cabac_unary_length or options.cabac_unary_length
    raw = floats and first.qp is None
    # A single row or column has no blocks, and readers would disagree about its entry points.
    blocks = any(q.source.shape[0] > 1 and q.source.size > q.source.shape[0] for q in quantized)
    header = _header(plan, options)
    header["cabac_unary_length_minus1"] = unary_length - 1
    payload_type = (
        PayloadType.NNR_PT_BLOCK if len(quantized) > 1
        else PayloadType.NNR_PT_RAW_FLOAT if raw
        else PayloadType.NNR_PT_FLOAT if floats
        else PayloadType.NNR_PT_INT
    )  # fmt: skip
    data_format = format_of(first.part.array.dtype) if len(quantized) == 1 else None
    if data_format is not None:
        header |= {"nnr_decompressed_data_format_present_flag": 1, "nnr_decompressed_data_format": data_format}
    if raw:
        return Coded(_write(header, payload_type, first.source.astype("<f4").tobytes(), context), {})
    tools = Tools(
        dq=first.dq,
        unary_length=unary_length,
        scan_order=options.scan_order if blocks else 0,
        row_skipping=options.row_skipping if own.row_skipping is None else own.row_skipping,
        param_opt=options.param_opt,
        parent_present=plan.parent,
        temporal=plan.temporal,
        qp_bits=6 + options.qp_density,
    )
    sources = [_source(q) for q in quantized]
    payload, entries = _payload(sources, tools, try_history=plan.history)
    # In a scan of several blocks a row, skipped rows can leave another quantization state behind than the zeros the
    # trellis counted on.
    if tools.dq and tools.row_skipping and tools.scan_order and not decodes_back(payload, sources, tools):
        payload, entries = _payload(sources, replace(tools, row_skipping=False), try_history=plan.history)
    for q in quantized:
        if q.codebook is not None:
            header["codebook_dc" if q.part.role == "weight_h" else "codebook"] = q.codebook
            header["codebook_present_flag"] = 1
    header |= {"dq_flag": int(tools.dq), "scan_order": tools.scan_order}
    if tools.scan_order:
        header["cabac_entry_point_list"] = entry_point_list(entries)
    return Coded(_write(header, payload_type, payload, context), integers)


def _payload(sources: list[Source], tools: Tools, *, try_history: bool) -> tuple[bytes, list[tuple[int, int, int]]]:
    """Payload and entry points; with history-dependent significance if there is a history and it makes it shorter."""
    plain = encode_payload(sources, tools)
    if not try_history or any(source.past.history is None for source in sources):
        return plain
    other = encode_payload(sources, replace(tools, hist_on=True))
    return other if len(other[0]) < len(plain[0]) else plain


def _header(plan: UnitPlan, options: EncodeParams) -> dict[str, Any]:
    header: dict[str, Any] = {
        "nnr_multiple_topology_elements_present_flag": int(len(plan.names) > 1),
        "input_parameters_present_flag": 1,
        "tensor_dimensions_flag": 1,
        "cabac_unary_length_flag": 1,
        "compressed_parameter_types": plan.cpt,
        "count_tensor_dimensions": len(plan.shape),
        "tensor_dimensions": plan.shape,
    }
    if plan.rank:
        header |= {"decomposition_rank": plan.rank, "g_number_of_rows": plan.rows}
    if len(plan.names) > 1:
        header["topology_elements_ids_list"] = TopologyElementsIdsList(
            count_topology_elements_minus2=len(plan.names) - 2, topology_elem_id_list=plan.names
        )
    else:
        header["topology_elem_id"] = plan.names[0]
    if options.node_id:
        header |= {
            "node_id_present_flag": 1,
            "device_id": options.device_id,
            "parameter_id": plan.parts[-1].parameter_id,
            "put_node_depth": plan.put_node_depth,
        }
    if plan.parent:
        header |= {"parent_node_id_present_flag": 1, "temporal_context_modeling_flag": int(plan.temporal)}
        header["parent_device_id"] = 0
    return header


def entry_point_list(entries: list[tuple[int, int, int]]) -> CabacEntryPointList:
    """Entry points with their distances coded as the syntax wants them: the first plain, then as differences."""
    points = []
    previous = 0
    for index, (distance, window, state) in enumerate(entries):
        points.append(
            CabacEntryPoint(
                cabac_offset_list=window,
                dq_state_list=state,
                bit_offset_delta1=distance if index == 0 else 0,
                bit_offset_delta2=distance - previous if index else 0,
            )
        )
        previous = distance
    return CabacEntryPointList(entry_points=tuple(points))


def _write(header: dict[str, Any], payload_type: PayloadType, payload: bytes, context: Context) -> bytes:
    unit = UnitHeader(
        nnr_unit_type=NnrUnitType.NNR_NDU,
        compressed_data_unit_header=CompressedDataUnitHeader(
            nnr_compressed_data_unit_payload_type=payload_type, **header
        ),
    )
    return syntax.write_unit(unit, payload, context)


def check_name(name: str) -> None:
    """Names end with a zero byte in the stream.

    Raises:
        InvalidArgumentError: empty, or with NUL inside.
    """
    if not name or "\0" in name:
        raise InvalidArgumentError("a tensor name must not be empty or contain NUL", tensor=name)

"""Tensors to a bitstream: start unit, model parameter set, topology unit, one data unit per tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import quantize, syntax
from .elements import as_source, format_of, is_float
from .errors import InvalidArgumentError, NNRError
from .params import EncodeParams, Method, TensorParams
from .parallel import pool_of
from .payload import Source, Tools, encode_payload
from .syntax.context import Context
from .syntax.data_unit import CabacEntryPoint, CabacEntryPointList, CompressedDataUnitHeader
from .syntax.enums import NnrUnitType, PayloadType, QuantizationMethodFlags, TopologyStorageFormat
from .syntax.parameter_sets import ModelParameterSet
from .syntax.topology import TopologyUnitHeader, TopologyUnitPayload
from .syntax.units import StartUnitHeader, UnitHeader

Progress = Callable[[str, int], None]
"""Called with a tensor's name and its size in bytes once it is coded."""


def encode(
    tensors: Mapping[str, npt.NDArray[Any]],
    params: EncodeParams | None = None,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Code tensors into one NNR bitstream.

    Float tensors (float16, bfloat16, float32, float64) are quantized into FLOAT units; integer tensors within 32 bits
    become INT units and stay exact. The bytes depend on the tensors and ``params`` alone.

    Args:
        tensors: name -> array with at least one dimension and one element. Names are unique UTF-8 strings.
        params: options; the defaults are those of :class:`EncodeParams`.
        executor: where tensors are coded; ``None`` uses threads, one per processor.
        progress: called after each tensor.

    Returns:
        The bitstream: STR, MPS, [TPL], one NDU per tensor in the order given.

    Raises:
        InvalidArgumentError: a tensor or an option cannot be coded; says which.
        UnsupportedError: a method that is not available.
    """
    options = params or EncodeParams()
    unknown = sorted(options.per_tensor.keys() - tensors.keys())
    if unknown:
        raise InvalidArgumentError(f"per_tensor names {unknown[0]!r}, which is not among the tensors")
    context, head = bitstream_head(options)
    jobs = [_Job(index, name, array, options, context) for index, (name, array) in enumerate(tensors.items())]
    units = [b""] * len(jobs)
    order = sorted(jobs, key=lambda job: -np.asarray(job.array).size)
    with pool_of(executor, len(jobs)) as pool:
        for job, unit in zip(order, pool.map(_Job.run, order), strict=True):
            units[job.index] = unit
            if progress is not None:
                progress(job.name, int(np.asarray(job.array).nbytes))
    return head + b"".join(units)


def bitstream_head(options: EncodeParams) -> tuple[Context, bytes]:
    """The units before the first data unit, and the context that data units are written in after them."""
    start = UnitHeader(nnr_unit_type=NnrUnitType.NNR_STR, start_unit_header=StartUnitHeader(general_profile_idc=1))
    mps = ModelParameterSet(
        topology_carriage_flag=int(options.topology),
        mps_sparsification_flag=0,
        mps_pruning_flag=0,
        mps_unification_flag=0,
        mps_decomposition_performance_map_flag=0,
        mps_quantization_method_flags=QuantizationMethodFlags.NNR_QSU,
        mps_topology_indexed_reference_flag=0,
        nnr_reserved_zero_1bit=0,
        nnr_reserved_zero_2bits=0,
        mps_qp_density=options.qp_density,
        mps_quantization_parameter=0,
    )
    units: list[tuple[UnitHeader, Any]] = [(start, None), (UnitHeader(nnr_unit_type=NnrUnitType.NNR_MPS), mps)]
    if options.topology:
        topology = TopologyUnitHeader(
            topology_storage_format=TopologyStorageFormat.NNR_TPL_UNREC, topology_compression_format=0
        )
        header = UnitHeader(nnr_unit_type=NnrUnitType.NNR_TPL, topology_unit_header=topology)
        units.append((header, TopologyUnitPayload(topology_data=b"\0")))
    context, head = Context(), b""
    for header, payload in units:
        unit = syntax.write_unit(header, payload, context)
        context = context.after(syntax.read_unit(unit, 0, context))
        head += unit
    return context, head


@dataclass(frozen=True)
class _Job:
    index: int
    name: str
    array: npt.NDArray[Any]
    options: EncodeParams
    context: Context

    def run(self) -> bytes:
        try:
            return encode_unit(self.name, np.asarray(self.array), self.index, self.options, self.context)
        except NNRError as error:
            if error.tensor is None:
                error.tensor = self.name
            raise


def encode_unit(
    name: str, array: npt.NDArray[Any], parameter_id: int, options: EncodeParams, context: Context
) -> bytes:
    """One tensor as a data unit."""
    if not name or "\0" in name:
        raise InvalidArgumentError("a tensor name must not be empty or contain NUL", tensor=name)
    own = options.per_tensor.get(name, TensorParams())
    source = as_source(name, array)
    floats = is_float(array.dtype)
    method: Method = own.method or options.method
    unary_length = own.cabac_unary_length or options.cabac_unary_length
    rows, columns = source.shape[0], source.size // source.shape[0]
    # A single row or column has no blocks; readers would disagree about its entry points.
    scan_order = options.scan_order if rows > 1 and columns > 1 else 0
    header: dict[str, Any] = {
        "input_parameters_present_flag": 1,
        "topology_elem_id": name,
        "tensor_dimensions_flag": 1,
        "cabac_unary_length_flag": 1,
        "count_tensor_dimensions": source.ndim,
        "tensor_dimensions": source.shape,
        "cabac_unary_length_minus1": unary_length - 1,
    }
    if options.node_id:
        header |= {"node_id_present_flag": 1, "device_id": 0, "parameter_id": parameter_id, "put_node_depth": 0}
    data_format = format_of(array.dtype)
    if data_format is not None:
        header |= {"nnr_decompressed_data_format_present_flag": 1, "nnr_decompressed_data_format": data_format}
    if floats and method == "raw":
        payload = source.astype("<f4").tobytes()
        return _write(header, PayloadType.NNR_PT_RAW_FLOAT, payload, context)
    tools = Tools(
        dq=floats and method == "dq",
        unary_length=unary_length,
        scan_order=scan_order,
        row_skipping=options.row_skipping if own.row_skipping is None else own.row_skipping,
        param_opt=options.param_opt,
        qp_bits=6 + options.qp_density,
    )
    if floats:
        qp = own.qp if own.qp is not None else default_qp(options, source.ndim)
        integers, qp = quantize.quantize(
            source, qp, options.qp_density, rows=rows, scan_order=scan_order, dependent=tools.dq
        )
        tensor = Source(name, rows, columns, integers, qp)
    else:
        tensor = Source(name, rows, columns, source.reshape(-1))
    payload, entries = encode_payload([tensor], tools)
    header |= {"dq_flag": int(tools.dq), "scan_order": scan_order}
    if scan_order:
        header["cabac_entry_point_list"] = entry_point_list(entries)
    return _write(header, PayloadType.NNR_PT_FLOAT if floats else PayloadType.NNR_PT_INT, payload, context)


def default_qp(options: EncodeParams, dimensions: int) -> int:
    """QP of a tensor without an override: weights have two or more dimensions."""
    if dimensions >= 2:
        return options.qp
    return options.nonweight_qp if options.nonweight_qp is not None else options.qp - 2 * (1 << options.qp_density)


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
            nnr_compressed_data_unit_payload_type=payload_type, nnr_multiple_topology_elements_present_flag=0, **header
        ),
    )
    return syntax.write_unit(unit, payload, context)

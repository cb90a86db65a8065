"""Small bitstreams made by hand, and what every bitstream must fulfil."""

from __future__ import annotations

from pathlib import Path

from nnc_codec.syntax import (
    CompressedDataUnitHeader,
    Context,
    LayerParameterSet,
    LayerParameterSetUnitHeader,
    ModelParameterSet,
    StartUnitHeader,
    Unit,
    UnitHeader,
    scan_units,
    trace_units,
    write_unit,
)

DATA = Path(__file__).parents[1] / "data"
STR, MPS, LPS, TPL, QNT, NDU, AGG = range(7)


def rewritten(data: bytes, unit: Unit, context: Context) -> bytes:
    coded = data[unit.payload_offset : unit.end]
    payload = unit.payload if unit.payload is not None else None if unit.type == STR else coded
    return write_unit(unit.header, payload, context, long_form=unit.long_form)


def assert_traced(data: bytes, context: Context | None = None) -> None:
    """Every bit of the bitstream belongs to exactly one element of the trace."""
    position = 0
    for entries in trace_units(data, context):
        for entry in entries:
            assert entry.bit_offset == position
            position += entry.width
    assert position == 8 * len(data)


def start(profile: int = 1) -> bytes:
    header = UnitHeader(nnr_unit_type=STR, start_unit_header=StartUnitHeader(general_profile_idc=profile))
    return write_unit(header)


def after(data: bytes, **limits: int) -> Context:
    context = Context(**limits)  # type: ignore[arg-type]
    for unit, _ in scan_units(data, context):
        context = unit.context_after(context)
    return context


def parameter_set(profile: int = 1, **values: object) -> ModelParameterSet:
    reserved: dict[str, int] = {"nnr_reserved_zero_7bits": 0}
    if profile:
        reserved = {"nnr_reserved_zero_2bits": 0}
        if not values.get("mps_parent_signalling_enabled_flag"):
            reserved["nnr_reserved_zero_1bit"] = 0
    defaults: dict[str, object] = dict.fromkeys(
        (
            "topology_carriage_flag",
            "mps_sparsification_flag",
            "mps_pruning_flag",
            "mps_unification_flag",
            "mps_decomposition_performance_map_flag",
            "mps_topology_indexed_reference_flag",
        ),
        0,
    )
    steps = {"mps_quantization_method_flags": 1, "mps_qp_density": 2, "mps_quantization_parameter": 0}
    return ModelParameterSet(**{**defaults, **steps, **reserved, **values})  # type: ignore[arg-type]


def opened(profile: int = 1, **values: object) -> bytes:
    front = start(profile)
    return front + write_unit(UnitHeader(nnr_unit_type=MPS), parameter_set(profile, **values), after(front))


def data_unit(**values: object) -> UnitHeader:
    defaults: dict[str, object] = {
        "nnr_compressed_data_unit_payload_type": 1,
        "nnr_multiple_topology_elements_present_flag": 0,
        "topology_elem_id": "w",
        "tensor_dimensions_flag": 1,
        "count_tensor_dimensions": 2,
        "tensor_dimensions": (2, 3),
    }
    header = CompressedDataUnitHeader(**{**defaults, **values})  # type: ignore[arg-type]
    return UnitHeader(nnr_unit_type=NDU, compressed_data_unit_header=header)


def layer_parameter_set(density: int = 3) -> tuple[UnitHeader, LayerParameterSet]:
    header = UnitHeader(
        nnr_unit_type=LPS,
        layer_parameter_set_unit_header=LayerParameterSetUnitHeader(lps_self_contained_flag=1),
    )
    payload = LayerParameterSet(
        lps_sparsification_flag=0,
        lps_pruning_flag=0,
        lps_unification_flag=0,
        lps_quantization_method_flags=1,
        lps_qp_density=density,
        lps_quantization_parameter=-17,
    )
    return header, payload

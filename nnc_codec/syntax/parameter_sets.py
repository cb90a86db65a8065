"""Model and layer parameter sets."""

from __future__ import annotations

from .enums import QuantizationMethodFlags
from .fields import Structure, align, flt, i, local, nested, st, structure, u
from .maps import (
    DecompositionPerformanceMap,
    PruningPerformanceMap,
    SparsificationPerformanceMap,
    UnificationPerformanceMap,
)


@structure(exports=(
    "mps_unification_flag", "mps_quantization_method_flags", "mps_topology_indexed_reference_flag",
    "mps_parent_signalling_enabled_flag", "mps_qp_density", "mps_quantization_parameter",
), counter="model_parameter_sets")  # fmt: skip
class ModelParameterSet(Structure):
    """Payload of a model parameter set unit; the two editions differ after the indexed-reference flag."""

    edition_2 = local("general_profile_idc == 1")
    topology_carriage_flag: int = u(1, meaning="the bitstream carries a topology unit")
    mps_sparsification_flag: int = u(1)
    mps_pruning_flag: int = u(1)
    mps_unification_flag: int = u(1)
    mps_decomposition_performance_map_flag: int = u(1)
    mps_quantization_method_flags: int = u(3, meaning=QuantizationMethodFlags)
    mps_topology_indexed_reference_flag: int = u(1, meaning="tensors are named by index")
    nnr_reserved_zero_7bits: int | None = u(7, when="not edition_2", default=None, reserved=0)
    base_model_id_present_flag: int = u(1, when="edition_2", default=0)
    validation_set_performance_present_flag: int = u(1, when="edition_2", default=0)
    metric_type_performance_map_valid_flag: int = u(1, when="edition_2", default=0)
    mps_parent_signalling_enabled_flag: int = u(1, when="edition_2", default=0, meaning="data units name their parents")
    nnr_pre_flag: int = u(1, when="mps_parent_signalling_enabled_flag", default=0)
    nnr_reserved_zero_1bit: int | None = u(
        1, when="edition_2 and not mps_parent_signalling_enabled_flag", default=None, reserved=0
    )
    nnr_reserved_zero_2bits: int | None = u(2, when="edition_2", default=None, reserved=0)
    base_model_id: str | None = st(when="base_model_id_present_flag", default=None)
    performance_metric_type: str | None = st(
        when="validation_set_performance_present_flag or metric_type_performance_map_valid_flag", default=None
    )
    mps_qp_density: int | None = u(
        3, when="mps_quantization_method_flags & 3", default=None, meaning="the step doubles every 2**density"
    )
    mps_quantization_parameter: int | None = i(13, when="mps_quantization_method_flags & 3", default=None)
    sparsification_performance_map: SparsificationPerformanceMap | None = nested(
        SparsificationPerformanceMap, when="mps_sparsification_flag", default=None
    )
    pruning_performance_map: PruningPerformanceMap | None = nested(
        PruningPerformanceMap, when="mps_pruning_flag", default=None
    )
    unification_performance_map: UnificationPerformanceMap | None = nested(
        UnificationPerformanceMap, when="mps_unification_flag", default=None
    )
    decomposition_performance_map: DecompositionPerformanceMap | None = nested(
        DecompositionPerformanceMap, when="mps_decomposition_performance_map_flag", default=None
    )
    validation_set_performance: float | None = flt(when="validation_set_performance_present_flag", default=None)
    unit_end = align()


@structure()
class LayerParameterSetUnitHeader(Structure):
    """``nnr_layer_parameter_set_unit_header()``."""

    lps_self_contained_flag: int = u(1)
    nnr_reserved_zero_7bits: int = u(7, default=0, reserved=0)


@structure(exports=(
    "lps_unification_flag", "lps_quantization_method_flags", "lps_qp_density", "lps_quantization_parameter",
))  # fmt: skip
class LayerParameterSet(Structure):
    """Payload of a layer parameter set unit; it holds for the data units up to the next one."""

    nnr_reserved_zero_1bit: int = u(1, default=0, reserved=0)
    lps_sparsification_flag: int = u(1)
    lps_pruning_flag: int = u(1)
    lps_unification_flag: int = u(1)
    lps_quantization_method_flags: int = u(3, meaning=QuantizationMethodFlags)
    nnr_reserved_zero_1bit_2: int = u(1, default=0, reserved=0)
    lps_qp_density: int | None = u(3, when="lps_quantization_method_flags & 3", default=None)
    lps_quantization_parameter: int | None = i(13, when="lps_quantization_method_flags & 3", default=None)
    sparsification_performance_map: SparsificationPerformanceMap | None = nested(
        SparsificationPerformanceMap, when="lps_sparsification_flag", default=None
    )
    pruning_performance_map: PruningPerformanceMap | None = nested(
        PruningPerformanceMap, when="lps_pruning_flag", default=None
    )
    unification_performance_map: UnificationPerformanceMap | None = nested(
        UnificationPerformanceMap, when="lps_unification_flag", default=None
    )
    unit_end = align()

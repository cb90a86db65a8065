"""Model and layer parameter sets of both editions."""

from __future__ import annotations

import pytest
from syntax_streams import after, layer_parameter_set, opened, parameter_set

from nnc_codec.syntax import ModelParameterSet, read_unit, write_unit
from nnc_codec.syntax.maps import (
    DecompositionEntry,
    DecompositionPerformanceMap,
    PruningEntry,
    PruningPerformanceMap,
    SparsificationEntry,
    SparsificationPerformanceMap,
    UnificationEntry,
    UnificationPerformanceMap,
)


@pytest.mark.parametrize(
    ("profile", "values", "expected"),
    [
        (0, {"topology_carriage_flag": 1}, "0008068100400080"),
        (1, {"topology_carriage_flag": 1}, "0008068100400080"),
        (1, {"topology_carriage_flag": 1, "mps_parent_signalling_enabled_flag": 1}, "0008068108400080"),
        (
            1,
            {"topology_carriage_flag": 1, "mps_parent_signalling_enabled_flag": 1, "nnr_pre_flag": 1},
            "000806810c400080",
        ),
    ],
)
def test_usual_model_parameter_sets(profile: int, values: dict[str, object], expected: str) -> None:
    assert opened(profile, **values)[4:].hex() == expected


@pytest.mark.parametrize("profile", [0, 1])
def test_a_model_parameter_set_with_everything(profile: int) -> None:
    values: dict[str, object] = {
        "mps_sparsification_flag": 1,
        "mps_pruning_flag": 1,
        "mps_unification_flag": 1,
        "mps_decomposition_performance_map_flag": 1,
        "mps_quantization_parameter": -4096,
        "sparsification_performance_map": SparsificationPerformanceMap(
            spm_count_thresholds=2,
            entries=(
                SparsificationEntry(
                    sparsification_threshold=0.5,
                    non_zero_ratio=0.25,
                    spm_nn_accuracy=0.75,
                    spm_count_classes=2,
                    spm_class_bitmask=300,
                    spm_nn_class_accuracy=(0.5, -0.0),
                ),
            ),
        ),
        "pruning_performance_map": PruningPerformanceMap(
            ppm_count_pruning_ratios=3,
            entries=tuple(
                PruningEntry(
                    pruning_ratio=ratio,
                    ppm_nn_accuracy=1.0,
                    ppm_count_classes=0,
                    ppm_class_bitmask=0,
                    ppm_nn_class_accuracy=(),
                )
                for ratio in (0.5, 0.25)
            ),
        ),
        "unification_performance_map": UnificationPerformanceMap(
            upm_count_thresholds=2,
            entries=(
                UnificationEntry(
                    count_reshaped_tensor_dimension=3,
                    reshaped_tensor_dimensions=(64, 1000),
                    count_super_block_dimension=2,
                    super_block_dimensions=(8,),
                    count_block_dimension=0,
                    block_dimensions=(),
                    unification_threshold=2.0,
                    upm_nn_accuracy=0.5,
                    upm_count_classes=1,
                    upm_class_bitmask=1,
                    upm_nn_class_accuracy=(0.125,),
                ),
            ),
        ),
        "decomposition_performance_map": DecompositionPerformanceMap(
            dpm_count_thresholds=2,
            entries=(
                DecompositionEntry(
                    mse_threshold=0.5,
                    dpm_nn_accuracy=0.5,
                    nn_reduction_ratio=0.5,
                    dpm_count_classes=1,
                    dpm_nn_class_accuracy=(1.0,),
                ),
            ),
        ),
    }
    if profile:
        values |= {
            "base_model_id_present_flag": 1,
            "validation_set_performance_present_flag": 1,
            "mps_parent_signalling_enabled_flag": 1,
            "base_model_id": "modèle",
            "performance_metric_type": "top1",
            "validation_set_performance": 0.6875,
        }
    data = opened(profile, **values)
    unit = read_unit(data, 4, after(data[:4]))
    assert unit.payload == parameter_set(profile, **values)
    assert not unit.warnings


def test_no_map_entries_are_the_same_as_one_too_few() -> None:
    for count in (0, 1):
        maps = SparsificationPerformanceMap(spm_count_thresholds=count, entries=())
        data = opened(mps_sparsification_flag=1, sparsification_performance_map=maps)
        payload = read_unit(data, 4, after(data[:4])).payload
        assert isinstance(payload, ModelParameterSet)
        assert payload.sparsification_performance_map == maps


def test_a_layer_parameter_set_replaces_the_quantization_parameter() -> None:
    data = opened()
    context = after(data)
    data += write_unit(*layer_parameter_set(), context)
    assert (context.qp_density, context.quantization_parameter) == (2, 0)
    assert (after(data).qp_density, after(data).quantization_parameter) == (3, -17)

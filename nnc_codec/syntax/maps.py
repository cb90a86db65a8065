"""Performance maps of the parameter sets: how accuracy depends on a threshold. Decoding does not use them.

Every map counts its entries plus one, and a count of 0 means no entry, like 1.
"""

from __future__ import annotations

from .fields import Structure, align, flt, nested, structure, u, ue


@structure()
class SparsificationEntry(Structure):
    """One threshold of the sparsification map."""

    sparsification_threshold: float = flt()
    non_zero_ratio: float = flt()
    spm_nn_accuracy: float = flt()
    spm_count_classes: int = u(8)
    spm_class_bitmask: int = ue(7)
    spm_nn_class_accuracy: tuple[float, ...] = flt(count="spm_count_classes")


@structure()
class SparsificationPerformanceMap(Structure):
    """``sparsification_performance_map()``."""

    spm_count_thresholds: int = u(8)
    entries: tuple[SparsificationEntry, ...] = nested(SparsificationEntry, count="max(spm_count_thresholds, 1) - 1")


@structure()
class PruningEntry(Structure):
    """One ratio of the pruning map."""

    pruning_ratio: float = flt()
    ppm_nn_accuracy: float = flt()
    ppm_count_classes: int = u(8)
    ppm_class_bitmask: int = ue(7)
    ppm_nn_class_accuracy: tuple[float, ...] = flt(count="ppm_count_classes")


@structure()
class PruningPerformanceMap(Structure):
    """``pruning_performance_map()``."""

    ppm_count_pruning_ratios: int = u(8)
    entries: tuple[PruningEntry, ...] = nested(PruningEntry, count="max(ppm_count_pruning_ratios, 1) - 1")


@structure()
class UnificationEntry(Structure):
    """One threshold of the unification map; dimension lists hold one item less than their count.

    The class accuracies are counted by ``upm_count_classes`` as in the other maps. NNCodec counts them by
    ``upm_class_bitmask``, so where the two differ the reading of the standard is not confirmed.
    """

    count_reshaped_tensor_dimension: int = ue(1)
    reshaped_tensor_dimensions: tuple[int, ...] = ue(7, count="max(count_reshaped_tensor_dimension, 1) - 1")
    reshaped_end = align()
    count_super_block_dimension: int = u(8)
    super_block_dimensions: tuple[int, ...] = u(8, count="max(count_super_block_dimension, 1) - 1")
    count_block_dimension: int = u(8)
    block_dimensions: tuple[int, ...] = u(8, count="max(count_block_dimension, 1) - 1")
    unification_threshold: float = flt()
    upm_nn_accuracy: float = flt()
    upm_count_classes: int = u(8)
    upm_class_bitmask: int = ue(7)
    upm_nn_class_accuracy: tuple[float, ...] = flt(count="upm_count_classes")


@structure()
class UnificationPerformanceMap(Structure):
    """``unification_performance_map()``."""

    upm_count_thresholds: int = u(8)
    entries: tuple[UnificationEntry, ...] = nested(UnificationEntry, count="max(upm_count_thresholds, 1) - 1")


@structure()
class DecompositionEntry(Structure):
    """One threshold of the decomposition map."""

    mse_threshold: float = flt()
    dpm_nn_accuracy: float = flt()
    nn_reduction_ratio: float = flt()
    dpm_count_classes: int = u(16)
    dpm_nn_class_accuracy: tuple[float, ...] = flt(count="dpm_count_classes")


@structure()
class DecompositionPerformanceMap(Structure):
    """``decomposition_performance_map()``."""

    dpm_count_thresholds: int = u(8)
    entries: tuple[DecompositionEntry, ...] = nested(DecompositionEntry, count="max(dpm_count_thresholds, 1) - 1")

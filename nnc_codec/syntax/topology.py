"""Topology units, lists of tensor names, pruning information, joined tensors."""

from __future__ import annotations

from .enums import PruningRepresentationType, TopologyCompressionFormat, TopologyStorageFormat
from .fields import Structure, align, bits, data, limited, local, nested, st, structure, u, ue


@structure("indexed")
class TopologyElementsIdsList(Structure):
    """``topology_elements_ids_list(indexed)``: two or more tensors by name, or by index into a list."""

    count_topology_elements_minus2: int = ue(
        7, require=limited("count_topology_elements_minus2 + 2 <= max_tensors", "too many tensors")
    )
    before_names = align(when="not indexed")
    topology_elem_id_list: tuple[str, ...] = st(
        when="not indexed", count="count_topology_elements_minus2 + 2", default=()
    )
    topology_elem_id_index_list: tuple[int, ...] = ue(
        7,
        when="indexed",
        count="count_topology_elements_minus2 + 2",
        default=(),
        range=(0, "reference_count - 1"),
    )
    after_indices = align(when="indexed")


@structure()
class TopologyUnitHeader(Structure):
    """``nnr_topology_unit_header()``."""

    topology_storage_format: int = u(8, meaning=TopologyStorageFormat)
    topology_compression_format: int = u(8, meaning=TopologyCompressionFormat)


@structure()
class PruningBitmask(Structure):
    """Bit mask of the pruning topology container."""

    count_bits: int = u(32)
    bit_mask: bytes = bits("count_bits")
    mask_end = align()


@structure()
class PruningDictionaryEntry(Structure):
    """Dimensions that one tensor lost or kept."""

    topology_elem_id_index: int | None = ue(7, when="mps_topology_indexed_reference_flag", default=None)
    topology_elem_id: str | None = st(when="not mps_topology_indexed_reference_flag", default=None)
    count_dims: int = ue(1, range=(0, "max_dims"))
    dim: tuple[int, ...] = ue(7, count="count_dims")
    entry_end = align(when="not mps_topology_indexed_reference_flag")


@structure()
class PruningTopologyContainer(Structure):
    """``nnr_pruning_topology_container()``."""

    nnr_rep_type: int = u(2, meaning=PruningRepresentationType, range=(0, 1))
    prune_flag: int = u(1)
    order_flag: int = u(1)
    sparse_flag: int = u(1)
    nnr_reserved_zero_3bits: int = u(3, default=0, reserved=0)
    bitmask: PruningBitmask | None = nested(PruningBitmask, when="nnr_rep_type == NNR_TPL_BMSK", default=None)
    count_ids: int = u(8, when="nnr_rep_type == NNR_TPL_DICT", default=0)
    entries: tuple[PruningDictionaryEntry, ...] = nested(
        PruningDictionaryEntry, when="nnr_rep_type == NNR_TPL_DICT", count="count_ids", default=()
    )
    sparse_bitmask: PruningBitmask | None = nested(
        PruningBitmask, when="nnr_rep_type == NNR_TPL_DICT and sparse_flag", default=None
    )


@structure("topology_storage_format")
class TopologyUnitPayload(Structure):
    """Payload of a topology unit.

    ``topology_data`` is every byte up to the end of the unit. Writers that treat it as a string end it with a
    zero byte; :attr:`text` leaves that byte out.
    """

    is_list = local("topology_storage_format == NNR_TPL_REFLIST")
    is_pruning = local("topology_storage_format == NNR_TPL_PRUN")
    nnr_pruning_topology_container: PruningTopologyContainer | None = nested(
        PruningTopologyContainer, when="is_pruning", default=None,
        unverified="the syntax of the pruning container is not confirmed",
    )  # fmt: skip
    topology_elements_ids_list: TopologyElementsIdsList | None = nested(
        TopologyElementsIdsList, when="is_list", default=None, args={"indexed": "0"}
    )
    topology_data: bytes | None = data(when="not is_list and not is_pruning", default=None)

    @property
    def text(self) -> bytes:
        """``topology_data`` without the final zero byte."""
        return (self.topology_data or b"").removesuffix(b"\0")


@structure()
class TensorDimensionShift(Structure):
    """One dimension that moves."""

    shift_index: int = ue(7)
    shift_value: int = ue(1)


@structure()
class TensorDimensionShifts(Structure):
    """The dimensions of one tensor that move."""

    number_of_shifts: int = ue(1, range=(0, "max_dims"))
    shifts: tuple[TensorDimensionShift, ...] = nested(TensorDimensionShift, count="number_of_shifts")


@structure("count_tensors")
class TopologyTensorDimensionMapping(Structure):
    """``topology_tensor_dimension_mapping()``: how several tensors were joined into one."""

    concatentation_axis_index: int = u(8, range=(0, "max_dims - 1"))
    split_index: tuple[int, ...] = ue(7, count="count_tensors - 1")
    tensors: tuple[TensorDimensionShifts, ...] = nested(TensorDimensionShifts, count="count_tensors")

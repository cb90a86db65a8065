"""The compressed data unit's header: everything before the arithmetic-coded payload or the raw floats."""

from __future__ import annotations

from .enums import CompressedParameterTypes, DecompressedDataFormat, ParentNodeIdType, PayloadType, ScanOrder
from .fields import (
    Structure,
    again,
    align,
    bits,
    corrupt_unless,
    ie,
    limited,
    local,
    nested,
    st,
    structure,
    u,
    ue,
    unsupported_unless,
)
from .topology import TopologyElementsIdsList, TopologyTensorDimensionMapping

_INT32_MAX = (1 << 31) - 1
_UINT32_MAX = (1 << 32) - 1
_HASH_REASON = "over which bytes of the parent the hash goes is not confirmed"


@structure()
class Codebook(Structure):
    """``codebook()``: strictly increasing integers in units of the step, coded as gaps around one of them."""

    codebook_egk: int = u(4, meaning="Exp-Golomb order of the gaps")
    codebook_size: int = ue(
        2, range=(1, _INT32_MAX), require=limited("codebook_size <= max_codebook_size", "codebook too large")
    )
    codebook_centre_offset: int = ie(
        2,
        require=(
            corrupt_unless("(codebook_size >> 1) + codebook_centre_offset >= 0", "the zero entry is before the first"),
            corrupt_unless(
                "(codebook_size >> 1) + codebook_centre_offset < codebook_size",
                "the zero entry is after the last",
            ),
        ),
    )
    centre = local("(codebook_size >> 1) + codebook_centre_offset")
    codebook_zero_value: int = ie(7, range=(-_INT32_MAX - 1, _INT32_MAX))
    codebook_delta_left: tuple[int, ...] = ue(
        "codebook_egk",
        count="centre",
        require=corrupt_unless(
            f"codebook_zero_value - centre - total(codebook_delta_left) >= -{_INT32_MAX} - 1",
            "entry below the range of 32 bits",
        ),
    )
    codebook_delta_right: tuple[int, ...] = ue(
        "codebook_egk",
        count="codebook_size - 1 - centre",
        require=corrupt_unless(
            f"codebook_zero_value + codebook_size - 1 - centre + total(codebook_delta_right) <= {_INT32_MAX}",
            "entry above the range of 32 bits",
        ),
    )

    @property
    def zero_index(self) -> int:
        """Index of the entry that is coded as level 0."""
        return (self.codebook_size >> 1) + self.codebook_centre_offset

    @property
    def entries(self) -> tuple[int, ...]:
        """The codebook, ascending."""
        below = [self.codebook_zero_value]
        for delta in self.codebook_delta_left:
            below.append(below[-1] - 1 - delta)
        values = below[::-1]
        for delta in self.codebook_delta_right:
            values.append(values[-1] + 1 + delta)
        return tuple(values)


@structure("dq_flag", "index")
class CabacEntryPoint(Structure):
    """One entry of ``cabac_entry_point_list()``: the decoder's registers at the start of a block row."""

    cabac_offset_list: int = u(8, meaning="window of the arithmetic decoder")
    dq_state_list: int = u(3, when="dq_flag", default=0, meaning="state of dependent quantization")
    bit_offset_delta1: int = ue(11, when="index == 0", default=0, meaning="bits since the tensor's first level")
    bit_offset_delta2: int = ie(7, when="index > 0", default=0, meaning="change of the distance in bits")


@structure("dq_flag", "count")
class CabacEntryPointList(Structure):
    """``cabac_entry_point_list()``: one entry for every block row but the first, tensor after tensor."""

    entry_points: tuple[CabacEntryPoint, ...] = nested(
        CabacEntryPoint, count="count", args={"dq_flag": "dq_flag", "index": "index"}
    )

    @property
    def bit_offset_list(self) -> tuple[int, ...]:
        """Distance in bits of every entry point from the one before it."""
        offsets: list[int] = []
        for point in self.entry_points:
            previous = offsets[-1] if offsets else 0
            offsets.append(previous + point.bit_offset_delta1 + point.bit_offset_delta2)
        return tuple(offsets)


@structure()
class CompressedDataUnitHeader(Structure):
    """``nnr_compressed_data_unit_header()``, both editions.

    Not confirmed by a text at hand and therefore refused while ``Context.strict``: several tensors joined in
    one unit, hash parents (which bytes are hashed), a first dimension that moves (its direction), and entry
    points of a lone factor of a decomposed weight (whose rows count).
    """

    edition_2 = local("general_profile_idc == 1")
    nnr_compressed_data_unit_payload_type: int = u(
        5,
        meaning=PayloadType,
        require=(
            unsupported_unless("nnr_compressed_data_unit_payload_type <= NNR_PT_BLOCK", "reserved payload type"),
            corrupt_unless(
                "nnr_compressed_data_unit_payload_type == NNR_PT_INT"
                " or nnr_compressed_data_unit_payload_type == NNR_PT_RAW_FLOAT"
                " or (mps_quantization_method_flags | lps_quantization_method_flags) & 3",
                "quantized data without a quantization parameter in the parameter sets",
            ),
        ),
    )
    is_block = local("nnr_compressed_data_unit_payload_type == NNR_PT_BLOCK")
    has_steps = local("nnr_compressed_data_unit_payload_type == NNR_PT_FLOAT or is_block")
    nnr_multiple_topology_elements_present_flag: int = u(
        1,
        meaning="several tensors",
        require=(
            corrupt_unless("nnr_multiple_topology_elements_present_flag or not is_block", "a block of one tensor"),
            unsupported_unless(
                "not nnr_multiple_topology_elements_present_flag or is_block or not strict",
                "how several tensors are joined into one is not confirmed",
            ),
        ),
    )
    nnr_decompressed_data_format_present_flag: int = u(1, default=0)
    input_parameters_present_flag: int = u(1, default=1)
    topology_elements_ids_list: TopologyElementsIdsList | None = nested(
        TopologyElementsIdsList,
        when="nnr_multiple_topology_elements_present_flag",
        default=None,
        args={"indexed": "mps_topology_indexed_reference_flag"},
    )
    topology_elem_id_index: int | None = ue(
        7,
        when="not nnr_multiple_topology_elements_present_flag and mps_topology_indexed_reference_flag",
        default=None,
        range=(0, "reference_count - 1"),
    )
    topology_elem_id: str | None = st(
        when="not nnr_multiple_topology_elements_present_flag and not mps_topology_indexed_reference_flag",
        default=None,
        meaning="tensor name",
    )
    base = local("out_of_band(topology_elem_id, topology_elem_id_index, topology_elements_ids_list)")

    node_id_present_flag: int = u(1, when="edition_2", default=0)
    device_id: int | None = ue(1, when="node_id_present_flag", default=None)
    parameter_id: int | None = ue(5, when="node_id_present_flag", default=None)
    put_node_depth: int | None = ue(4, when="node_id_present_flag", default=None, meaning="0 is the base model")
    parent_node_id_present_flag: int = u(1, when="edition_2 and mps_parent_signalling_enabled_flag", default=0)
    parent_node_id_type: int = u(
        2,
        when="parent_node_id_present_flag",
        default=0,
        meaning=ParentNodeIdType,
        require=unsupported_unless("parent_node_id_type <= ICNN_NDU_PL_SHA512", "reserved type of parent node id"),
    )
    temporal_context_modeling_flag: int = u(1, when="parent_node_id_present_flag", default=0)
    parent_by_id = local("parent_node_id_present_flag and parent_node_id_type == ICNN_NDU_ID")
    parent_device_id: int | None = ue(1, when="parent_by_id", default=None)
    parameter_id_again = again(when="parent_by_id and not node_id_present_flag")
    put_node_depth_again = again(when="parent_by_id and not node_id_present_flag")
    parent_node_payload_sha256: bytes | None = bits(
        256,
        when="parent_node_id_present_flag and parent_node_id_type == ICNN_NDU_PL_SHA256",
        default=None,
        unverified=_HASH_REASON,
    )
    parent_node_payload_sha512: bytes | None = bits(
        512,
        when="parent_node_id_present_flag and parent_node_id_type == ICNN_NDU_PL_SHA512",
        default=None,
        unverified=_HASH_REASON,
    )

    codebook_present_flag: int = u(1, when="has_steps", default=0)
    codebook: Codebook | None = nested(Codebook, when="codebook_present_flag", default=None)
    dq_flag: int = u(
        1,
        when="nnr_compressed_data_unit_payload_type != NNR_PT_RAW_FLOAT",
        default=0,
        meaning="dependent quantization; without effect on integers",
    )
    nnr_decompressed_data_format: int | None = u(
        7, when="nnr_decompressed_data_format_present_flag", default=None, meaning=DecompressedDataFormat
    )

    tensor_dimensions_flag: int = u(
        1,
        when="input_parameters_present_flag",
        default=0,
        require=unsupported_unless(
            "tensor_dimensions_flag or base.known",
            "the dimensions come from a base model, which was not given",
        ),
    )
    cabac_unary_length_flag: int = u(1, when="input_parameters_present_flag", default=0)
    compressed_parameter_types: int = u(
        4,
        when="input_parameters_present_flag",
        default=0,
        inferred="base.compressed_parameter_types",
        meaning=CompressedParameterTypes,
        require=corrupt_unless(
            "not is_block or topology_elements_ids_list.count_topology_elements_minus2 + 1"
            " == (compressed_parameter_types & 1) + ((compressed_parameter_types >> 1) & 1)"
            " + 4 * ((compressed_parameter_types >> 2) & 1) + ((compressed_parameter_types >> 3) & 1)",
            "does not match the number of tensors in the block",
        ),
    )
    decomposed = local("(compressed_parameter_types & NNR_CPT_DC) != 0")
    decomposition_rank: int = ue(
        3,
        when="input_parameters_present_flag and decomposed",
        default=0,
        inferred="base.decomposition_rank",
        range=(0, _UINT32_MAX),
        require=corrupt_unless("not decomposed or decomposition_rank >= 1", "rank 0"),
    )
    g_number_of_rows: int = ue(
        3,
        when="input_parameters_present_flag and decomposed",
        default=0,
        inferred="base.g_number_of_rows",
        range=(0, _UINT32_MAX),
        require=corrupt_unless("not decomposed or g_number_of_rows >= 1", "no rows"),
    )
    count_tensor_dimensions: int = ue(
        1,
        when="tensor_dimensions_flag",
        default=0,
        inferred="length(base.tensor_dimensions)",
        require=(
            limited("count_tensor_dimensions <= max_dims", "more dimensions than Limits.max_dims"),
            corrupt_unless(
                "count_tensor_dimensions >= 1 or nnr_compressed_data_unit_payload_type == NNR_PT_RAW_FLOAT",
                "coded data without a dimension",
            ),
        ),
    )
    tensor_dimensions: tuple[int, ...] = ue(
        7,
        when="tensor_dimensions_flag",
        count="count_tensor_dimensions",
        default=(),
        inferred="base.tensor_dimensions",
        range=(1, _UINT32_MAX),
        require=(
            limited("product(tensor_dimensions) <= max_elements", "more elements than Limits.max_elements"),
            corrupt_unless(
                "not is_block or not decomposed or rows_divide(tensor_dimensions, g_number_of_rows)",
                "the rows of G do not divide the weight",
            ),
            limited(
                "not is_block or not decomposed"
                " or larger_factor(tensor_dimensions, g_number_of_rows, decomposition_rank) <= max_elements",
                "a factor has more elements than Limits.max_elements",
            ),
        ),
    )
    topology_tensor_dimension_mapping: TopologyTensorDimensionMapping | None = nested(
        TopologyTensorDimensionMapping,
        when="input_parameters_present_flag and not is_block and nnr_multiple_topology_elements_present_flag",
        default=None,
        args={"count_tensors": "topology_elements_ids_list.count_topology_elements_minus2 + 2"},
        unverified="the syntax of the dimension mapping is not confirmed",
    )
    cabac_unary_length_minus1: int = u(
        8,
        when="cabac_unary_length_flag",
        default=9,
        inferred="base.cabac_unary_length_minus1",
        meaning="greater-than flags of a level, minus 1",
    )

    codebook_dc: Codebook | None = nested(
        Codebook, when="is_block and decomposed and codebook_present_flag", default=None
    )
    first_tensor_dimension_shift: int = ue(
        1,
        when="count_tensor_dimensions > 1 and edition_2",
        default=0,
        require=unsupported_unless(
            "first_tensor_dimension_shift == 0 or not strict",
            "in which direction the dimension moves is not confirmed",
        ),
    )
    scan_order: int = u(
        4,
        when="count_tensor_dimensions > 1",
        default=0,
        range=(0, 4),
        meaning=ScanOrder,
        require=(
            unsupported_unless(
                "scan_order == 0 or is_block or not decomposed or not strict",
                "entry points of a lone factor of a decomposed weight are not confirmed",
            ),
            limited(
                "scan_order == 0 or max(first(tensor_dimensions), g_number_of_rows + decomposition_rank)"
                " >> (scan_order + 2) <= max_entry_points",
                "too many entry points",
            ),
        ),
    )
    block_shift = local("scan_order + 2")
    cabac_entry_point_list: CabacEntryPointList | None = nested(
        CabacEntryPointList,
        when="scan_order > 0",
        default=None,
        args={
            "dq_flag": "dq_flag",
            "count": "((g_number_of_rows - 1) >> block_shift) + ((decomposition_rank - 1) >> block_shift)"
            " if is_block and decomposed else (first(tensor_dimensions) - 1) >> block_shift",
        },
    )
    header_end = align()

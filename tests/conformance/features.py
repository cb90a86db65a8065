"""What a stream exercises: read off its syntax where it shows, stated in the manifest where only the payload knows."""

from __future__ import annotations

import nnc_codec
from nnc_codec.syntax import CompressedDataUnitHeader, NnrUnitType, PayloadType
from nnc_codec.syntax import CompressedParameterTypes as Cpt

FEATURES = {
    "edition 2": "`general_profile_idc` = 1",
    "edition 1": "`general_profile_idc` = 0",
    "edition 1, NNCodec 0.x": "profile 0 with 32 ESC indices, recognised by how the codeword ends",
    "short unit size": "15-bit `nnr_unit_size`",
    "long unit size": "31-bit `nnr_unit_size`",
    "NNR_PT_FLOAT": "quantized tensor",
    "NNR_PT_INT": "integer tensor",
    "NNR_PT_RAW_FLOAT": "raw float32 tensor",
    "NNR_PT_BLOCK": "several tensors in a unit",
    "uniform quantization": "`dq_flag` = 0",
    "dependent quantization": "`dq_flag` = 1, 8 states",
    "codebook": "`codebook_present_flag` = 1",
    "codebook of one entry": "no coded levels at all",
    "qp_density other than 2": "`mps_qp_density` or `lps_qp_density`",
    "base QP": "`mps_quantization_parameter` or `lps_quantization_parameter` other than 0",
    "cabac_unary_length other than 11": "`cabac_unary_length_minus1`",
    "parameter sets": "start states of context models chosen (`shift_idx_minus_1`)",
    "row skipping": "`row_skip_enabled_flag`",
    "scan order 1": "blocks of 8 x 8, entry points",
    "scan order 2": "blocks of 16 x 16, entry points",
    "scan order 3": "blocks of 32 x 32, entry points",
    "scan order 4": "blocks of 64 x 64, entry points",
    "vector": "one dimension",
    "five dimensions": "or more",
    "all-zero tensor": "",
    "full int32 range": "",
    "bit depth": "integers limited by the encoder",
    "local scaling": "`NNR_CPT_LS`",
    "bias": "`NNR_CPT_BI`",
    "batch normalization": "`NNR_CPT_BN`",
    "folded batch normalization": "sent as local scaling and bias",
    "decomposition": "`NNR_CPT_DC`, G and H",
    "block in separate units": "members with quantizers of their own keep the block's mask",
    "opt_qp": "QP by share and spread of a weight",
    "node id": "`node_id_present_flag` = 1",
    "parent by node id": "`parent_node_id_type` = ICNN_NDU_ID",
    "temporal context": "`temporal_context_modeling_flag` = 1",
    "history-dependent significance": "`hist_dep_sig_prob_enabled_flag`",
    "left-out zero updates": "no data unit for a tensor that did not change",
    "decompressed data format": "`nnr_decompressed_data_format`",
    "layer parameter set": "NNR_LPS",
    "topology data": "NNR_TPL with ONNX, NNEF or other data",
    "reference list": "NNR_TPL of format REFLIST, tensors named by index",
    "quantization data": "NNR_QNT",
    "performance maps": "in the parameter sets",
    "base model id and validation performance": "in the model parameter set",
    "predictive residual flag": "`nnr_pre_flag`, transported",
    "reserved unit type": "skipped by its size",
    "error": "streams that must be refused",
}
"""In the order of the table, with a remark."""


def features_of(bitstream: nnc_codec.Bitstream) -> set[str]:
    """What the syntax of a stream shows."""
    found: set[str] = set()
    for unit in bitstream.units:
        found.add("long unit size" if unit.long_form else "short unit size")
        start, topology = unit.header.start_unit_header, unit.header.topology_unit_header
        if start is not None:
            found.add("edition 2" if start.general_profile_idc == 1 else "edition 1")
        if topology is not None and topology.topology_storage_format == 6:
            found.add("reference list")
        elif topology is not None and getattr(unit.payload, "topology_data", b"") not in (b"", b"\0"):
            found.add("topology data")
        if unit.type == NnrUnitType.NNR_LPS:
            found.add("layer parameter set")
        if unit.type == NnrUnitType.NNR_QNT:
            found.add("quantization data")
        if unit.type > NnrUnitType.NNR_AGG:
            found.add("reserved unit type")
        if unit.type in (NnrUnitType.NNR_MPS, NnrUnitType.NNR_LPS):
            found |= _of_parameters(unit.payload.to_dict() if unit.payload is not None else {})
        if unit.data_unit is not None:
            found |= _of_data_unit(unit.data_unit)
    return found


def _of_parameters(values: dict[str, object]) -> set[str]:
    found = set()
    for name, value in values.items():
        if name.endswith("_qp_density") and value != 2:
            found.add("qp_density other than 2")
        if name.endswith("_quantization_parameter") and value:
            found.add("base QP")
        if name.endswith("performance_map") and value:
            found.add("performance maps")
        if name == "nnr_pre_flag" and value:
            found.add("predictive residual flag")
        if name in ("base_model_id", "validation_set_performance"):
            found.add("base model id and validation performance")
    return found


def _of_data_unit(header: CompressedDataUnitHeader) -> set[str]:
    kind = PayloadType(header.nnr_compressed_data_unit_payload_type)
    found = {kind.name}
    if header.codebook_present_flag and header.codebook is not None:
        found.add("codebook of one entry" if header.codebook.codebook_size == 1 else "codebook")
    elif kind in (PayloadType.NNR_PT_FLOAT, PayloadType.NNR_PT_BLOCK):
        found.add("dependent quantization" if header.dq_flag else "uniform quantization")
    if kind != PayloadType.NNR_PT_RAW_FLOAT and header.cabac_unary_length_minus1 != 10:
        found.add("cabac_unary_length other than 11")
    if header.scan_order:
        found.add(f"scan order {header.scan_order}")
    if len(header.tensor_dimensions) == 1:
        found.add("vector")
    if len(header.tensor_dimensions) >= 5:
        found.add("five dimensions")
    mask = header.compressed_parameter_types
    names = {
        Cpt.NNR_CPT_LS: "local scaling",
        Cpt.NNR_CPT_BI: "bias",
        Cpt.NNR_CPT_BN: "batch normalization",
        Cpt.NNR_CPT_DC: "decomposition",
    }
    found |= {name for bit, name in names.items() if mask & bit}
    if mask and kind != PayloadType.NNR_PT_BLOCK:
        found.add("block in separate units")
    if header.node_id_present_flag:
        found.add("node id")
    if header.parent_node_id_present_flag:
        found.add("parent by node id")
    if header.temporal_context_modeling_flag:
        found.add("temporal context")
    if header.nnr_decompressed_data_format_present_flag:
        found.add("decompressed data format")
    return found


def features_of_options(name: str, options: dict[str, object]) -> set[str]:
    """What a stream made by NNCodec with these options exercises beyond what its syntax shows."""
    found = set()
    if options.get("row_skipping"):
        found.add("row skipping")
    if options.get("param_opt", True):
        found.add("parameter sets")
    if options.get("int_quant_bw"):
        found.add("bit depth")
    if options.get("bnf"):
        found.add("folded batch normalization")
    if options.get("opt_qp"):
        found.add("opt_qp")
    if options.get("history"):
        found.add("history-dependent significance")
    if options.get("compress_differences"):
        found.add("left-out zero updates")
    if name.startswith("zero"):
        found.add("all-zero tensor")
    if name == "int_wide":
        found.add("full int32 range")
    return found

"""Enumerations of ISO/IEC 15938-17, with the standard's names.

Values read from a bitstream stay plain integers, because reserved values are legal there; the enumerations
compare equal to them and give them their names.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag


class NnrUnitType(IntEnum):
    """``nnr_unit_type``; 7 to 31 are reserved, 32 to 63 unspecified."""

    NNR_STR = 0
    NNR_MPS = 1
    NNR_LPS = 2
    NNR_TPL = 3
    NNR_QNT = 4
    NNR_NDU = 5
    NNR_AGG = 6


class PayloadType(IntEnum):
    """``nnr_compressed_data_unit_payload_type``; 4 to 31 are reserved."""

    NNR_PT_INT = 0
    NNR_PT_FLOAT = 1
    NNR_PT_RAW_FLOAT = 2
    NNR_PT_BLOCK = 3


class CompressedParameterTypes(IntFlag):
    """``compressed_parameter_types``: which tensors a block holds beside its weight."""

    NNR_CPT_DC = 1
    NNR_CPT_LS = 2
    NNR_CPT_BN = 4
    NNR_CPT_BI = 8


class QuantizationMethodFlags(IntFlag):
    """``mps_quantization_method_flags`` and ``lps_quantization_method_flags``."""

    NNR_QSU = 1
    NNR_QCB = 2


class ParentNodeIdType(IntEnum):
    """``parent_node_id_type``; 3 is reserved."""

    ICNN_NDU_ID = 0
    ICNN_NDU_PL_SHA256 = 1
    ICNN_NDU_PL_SHA512 = 2


class DecompressedDataFormat(IntEnum):
    """``nnr_decompressed_data_format``."""

    TENSOR_INT32 = 0
    TENSOR_FLOAT32 = 1
    TENSOR_INT2 = 2
    TENSOR_INT3 = 3
    TENSOR_INT4 = 4
    TENSOR_INT8 = 5
    TENSOR_INT16 = 6
    TENSOR_INT64 = 7
    TENSOR_FLOAT16 = 8
    TENSOR_FLOAT64 = 9


class TopologyStorageFormat(IntEnum):
    """``topology_storage_format``."""

    NNR_TPL_UNREC = 0
    NNR_TPL_NNEF = 1
    NNR_TPL_ONNX = 2
    NNR_TPL_PYT = 3
    NNR_TPL_TEF = 4
    NNR_TPL_PRUN = 5
    NNR_TPL_REFLIST = 6


class TopologyCompressionFormat(IntEnum):
    """``topology_compression_format`` and ``quantization_compression_format``."""

    NNR_PT_RAW = 0
    NNR_DFL = 1


class PruningRepresentationType(IntEnum):
    """``nnr_rep_type`` of the pruning topology container."""

    NNR_TPL_BMSK = 0
    NNR_TPL_DICT = 1


class ScanOrder(IntEnum):
    """``scan_order``: rows, or square blocks of the given side."""

    ROWS = 0
    BLOCKS_8 = 1
    BLOCKS_16 = 2
    BLOCKS_32 = 3
    BLOCKS_64 = 4


ENUMS: tuple[type[IntEnum] | type[IntFlag], ...] = (
    NnrUnitType,
    PayloadType,
    CompressedParameterTypes,
    QuantizationMethodFlags,
    ParentNodeIdType,
    DecompressedDataFormat,
    TopologyStorageFormat,
    TopologyCompressionFormat,
    PruningRepresentationType,
)

CONSTANTS: dict[str, int] = {member.name: int(member) for enum in ENUMS for member in enum if member.name}

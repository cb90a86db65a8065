"""NNR units: size, header, and the payloads that have a syntax of their own."""

from __future__ import annotations

from .data_unit import CompressedDataUnitHeader
from .enums import NnrUnitType, TopologyCompressionFormat
from .fields import Structure, corrupt_unless, data, local, nested, structure, u, unsupported_unless
from .parameter_sets import LayerParameterSetUnitHeader
from .topology import TopologyUnitHeader


@structure()
class UnitSize(Structure):
    """``nnr_unit_size()``: bytes of the whole unit, these two or four included."""

    nnr_unit_size_flag: int = u(1, meaning="size in 31 bits")
    nnr_unit_size: int = u("31 if nnr_unit_size_flag else 15", range=("5 if nnr_unit_size_flag else 3", (1 << 31) - 1))


@structure(exports=("general_profile_idc",), counter="start_units")
class StartUnitHeader(Structure):
    """``nnr_start_unit_header()``; profile 0 is the syntax of edition 1, profile 1 that of edition 2."""

    general_profile_idc: int = u(
        8, require=unsupported_unless("general_profile_idc <= 1", "only the profiles 0 and 1 are known")
    )


@structure()
class QuantizationUnitHeader(Structure):
    """``nnr_quantization_unit_header()``."""

    quantization_storage_format: int = u(8)
    quantization_compression_format: int = u(8, meaning=TopologyCompressionFormat)


@structure()
class QuantizationUnitPayload(Structure):
    """Payload of a quantization unit: every byte up to its end."""

    quantization_data: bytes = data()


@structure()
class AggregatedUnit(Structure):
    """Where a unit inside an aggregate unit starts."""

    nnr_unit_type: int = u(6, meaning=NnrUnitType)
    nnr_unit_entry_point: int = u(34)


@structure()
class AggregatedUnitParameters(Structure):
    """What an aggregate unit says about the quantization of one of its units."""

    unified = local("mps_unification_flag or lps_unification_flag")
    quant_bitdepth: int = u(5)
    ctu_scan_order: int = u(1, when="unified", default=0)
    nnr_reserved_zero_bits: int = u("2 if unified else 3", default=0, reserved=0)


@structure()
class AggregateUnitHeader(Structure):
    """``nnr_aggregate_unit_header()``; not confirmed, so refused while ``Context.strict``."""

    nnr_aggregate_unit_type: int = u(8)
    entry_points_present_flag: int = u(1)
    nnr_reserved_zero_7bits: int = u(7, default=0, reserved=0)
    num_of_nnr_units_minus2: int = u(16)
    units: tuple[AggregatedUnit, ...] = nested(
        AggregatedUnit, when="entry_points_present_flag", count="num_of_nnr_units_minus2 + 2", default=()
    )
    parameters_of_units: tuple[AggregatedUnitParameters, ...] = nested(
        AggregatedUnitParameters, count="num_of_nnr_units_minus2 + 2"
    )


@structure()
class AggregateUnitPayload(Structure):
    """Payload of an aggregate unit: whole units, one after the other.

    They are read with :func:`.unit.scan_units` in the context of the aggregate unit.
    """

    aggregated_units: bytes = data()


@structure()
class UnitHeader(Structure):
    """``nnr_unit_header()`` with the header of the unit's type."""

    nnr_unit_type: int = u(
        6,
        meaning=NnrUnitType,
        require=(
            corrupt_unless("nnr_unit_type == NNR_STR or start_units > 0", "the first unit is not a start unit"),
            corrupt_unless("nnr_unit_type != NNR_STR or start_units == 0", "a second start unit"),
            corrupt_unless("nnr_unit_type != NNR_MPS or model_parameter_sets == 0", "a second model parameter set"),
            corrupt_unless(
                "nnr_unit_type < NNR_LPS or nnr_unit_type > NNR_AGG or model_parameter_sets > 0",
                "comes before the model parameter set",
            ),
        ),
    )
    independently_decodable_flag: int = u(1, default=1)
    partial_data_counter_present_flag: int = u(1, default=0)
    partial_data_counter: int | None = u(
        8,
        when="partial_data_counter_present_flag",
        default=None,
        require=unsupported_unless(
            "nnr_unit_type != NNR_NDU or not strict",
            "how data units split over several are joined is not confirmed",
        ),
    )
    start_unit_header: StartUnitHeader | None = nested(StartUnitHeader, when="nnr_unit_type == NNR_STR", default=None)
    layer_parameter_set_unit_header: LayerParameterSetUnitHeader | None = nested(
        LayerParameterSetUnitHeader, when="nnr_unit_type == NNR_LPS", default=None
    )
    topology_unit_header: TopologyUnitHeader | None = nested(
        TopologyUnitHeader, when="nnr_unit_type == NNR_TPL", default=None
    )
    quantization_unit_header: QuantizationUnitHeader | None = nested(
        QuantizationUnitHeader, when="nnr_unit_type == NNR_QNT", default=None
    )
    compressed_data_unit_header: CompressedDataUnitHeader | None = nested(
        CompressedDataUnitHeader, when="nnr_unit_type == NNR_NDU", default=None
    )
    aggregate_unit_header: AggregateUnitHeader | None = nested(
        AggregateUnitHeader,
        when="nnr_unit_type == NNR_AGG",
        default=None,
        unverified="the syntax of aggregate units is not confirmed",
    )

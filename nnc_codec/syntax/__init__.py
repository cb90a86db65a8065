"""The syntax of ISO/IEC 15938-17: units, parameter sets and data unit headers as frozen values.

Everything is described once, in :mod:`.units`, :mod:`.parameter_sets`, :mod:`.maps`, :mod:`.topology` and
:mod:`.data_unit`; see :mod:`.fields` for how. Arithmetic-coded payloads are not looked into.
"""

from __future__ import annotations

from .codec import read, size_in_bits, write
from .context import Context, OutOfBand
from .data_unit import CabacEntryPoint, CabacEntryPointList, Codebook, CompressedDataUnitHeader
from .enums import (
    CompressedParameterTypes,
    DecompressedDataFormat,
    NnrUnitType,
    ParentNodeIdType,
    PayloadType,
    QuantizationMethodFlags,
    ScanOrder,
    TopologyCompressionFormat,
    TopologyStorageFormat,
)
from .fields import Structure
from .parameter_sets import LayerParameterSet, LayerParameterSetUnitHeader, ModelParameterSet
from .topology import TopologyElementsIdsList, TopologyUnitHeader, TopologyUnitPayload
from .trace import TraceEntry
from .unit import Payload, Unit, read_unit, scan_units, trace_units, unit_type_name, write_unit
from .units import (
    AggregateUnitHeader,
    AggregateUnitPayload,
    QuantizationUnitHeader,
    QuantizationUnitPayload,
    StartUnitHeader,
    UnitHeader,
    UnitSize,
)

__all__ = [
    "AggregateUnitHeader",
    "AggregateUnitPayload",
    "CabacEntryPoint",
    "CabacEntryPointList",
    "Codebook",
    "CompressedDataUnitHeader",
    "CompressedParameterTypes",
    "Context",
    "DecompressedDataFormat",
    "LayerParameterSet",
    "LayerParameterSetUnitHeader",
    "ModelParameterSet",
    "NnrUnitType",
    "OutOfBand",
    "ParentNodeIdType",
    "Payload",
    "PayloadType",
    "QuantizationMethodFlags",
    "QuantizationUnitHeader",
    "QuantizationUnitPayload",
    "ScanOrder",
    "StartUnitHeader",
    "Structure",
    "TopologyCompressionFormat",
    "TopologyElementsIdsList",
    "TopologyStorageFormat",
    "TopologyUnitHeader",
    "TopologyUnitPayload",
    "TraceEntry",
    "Unit",
    "UnitHeader",
    "UnitSize",
    "read",
    "read_unit",
    "scan_units",
    "size_in_bits",
    "trace_units",
    "unit_type_name",
    "write",
    "write_unit",
]

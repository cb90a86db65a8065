"""Units of every type, also those that NNCodec never writes."""

from __future__ import annotations

import pytest
from syntax_streams import (
    AGG,
    LPS,
    MPS,
    NDU,
    QNT,
    STR,
    TPL,
    after,
    assert_traced,
    data_unit,
    layer_parameter_set,
    opened,
    rewritten,
)

from nnc_codec.errors import InvalidArgumentError, UnsupportedError
from nnc_codec.syntax import (
    AggregateUnitHeader,
    AggregateUnitPayload,
    Context,
    OutOfBand,
    QuantizationUnitHeader,
    QuantizationUnitPayload,
    TopologyElementsIdsList,
    TopologyUnitHeader,
    TopologyUnitPayload,
    Unit,
    UnitHeader,
    read_unit,
    scan_units,
    write_unit,
)
from nnc_codec.syntax.units import AggregatedUnitParameters


@pytest.mark.parametrize("content", [b"", b"\0", b"graph {}", b"graph {}\0", bytes(range(256)) * 200])
@pytest.mark.parametrize("storage", [0, 1, 2, 3, 4, 9])
def test_topology_data_is_any_bytes(content: bytes, storage: int) -> None:
    front = opened()
    topology = TopologyUnitHeader(topology_storage_format=storage, topology_compression_format=0)
    header = UnitHeader(nnr_unit_type=TPL, topology_unit_header=topology)
    data = front + write_unit(header, TopologyUnitPayload(topology_data=content), after(front))
    unit = read_unit(data, len(front), after(front))
    assert isinstance(unit.payload, TopologyUnitPayload)
    assert unit.payload.topology_data == content
    assert unit.payload.text == (content[:-1] if content.endswith(b"\0") else content)
    assert unit.long_form == (len(content) > 32000)


def test_quantization_units_keep_their_bytes() -> None:
    front = opened()
    header = UnitHeader(
        nnr_unit_type=QNT,
        quantization_unit_header=QuantizationUnitHeader(
            quantization_storage_format=7, quantization_compression_format=1
        ),
    )
    payload = QuantizationUnitPayload(quantization_data=b"graph.quant\0")
    data = front + write_unit(header, payload, after(front))
    assert read_unit(data, len(front), after(front)).payload == payload


def names_of(unit: Unit, context: Context) -> tuple[str, ...]:
    header = unit.data_unit
    assert header is not None
    return context.names(header.topology_elem_id, header.topology_elem_id_index, header.topology_elements_ids_list)


def test_tensors_named_by_index() -> None:
    front = opened(mps_topology_indexed_reference_flag=1)
    topology = TopologyUnitHeader(topology_storage_format=6, topology_compression_format=0)
    names = TopologyElementsIdsList(count_topology_elements_minus2=1, topology_elem_id_list=("a", "b", "c"))
    listed = TopologyUnitPayload(topology_elements_ids_list=names)
    header = UnitHeader(nnr_unit_type=TPL, topology_unit_header=topology)
    front += write_unit(header, listed, after(front))
    context = after(front)
    assert context.reference_list == ("a", "b", "c")
    data = front + write_unit(data_unit(topology_elem_id=None, topology_elem_id_index=2), b"\x80\0", context)
    unit = read_unit(data, len(front), context)
    assert names_of(unit, context) == ("c",)
    with pytest.raises(InvalidArgumentError, match=r"topology_elem_id_index: 3 is outside 0\.\.2"):
        write_unit(data_unit(topology_elem_id=None, topology_elem_id_index=3), b"\x80\0", context)
    block = data_unit(
        nnr_compressed_data_unit_payload_type=3,
        nnr_multiple_topology_elements_present_flag=1,
        topology_elem_id=None,
        topology_elements_ids_list=TopologyElementsIdsList(
            count_topology_elements_minus2=0, topology_elem_id_index_list=(1, 0)
        ),
        input_parameters_present_flag=1,
        compressed_parameter_types=8,
    )
    unit = read_unit(front + write_unit(block, b"\x80\0", context), len(front), context)
    assert names_of(unit, context) == ("b", "a")


def test_dimensions_from_the_base_model() -> None:
    front = opened(mps_parent_signalling_enabled_flag=1)
    known = OutOfBand(known=True, tensor_dimensions=(9, 5), cabac_unary_length_minus1=4)
    context = Context(base={"w": known})
    for unit, _ in scan_units(front, context):
        context = unit.context_after(context)
    header = data_unit(tensor_dimensions_flag=0, count_tensor_dimensions=0, tensor_dimensions=(), scan_order=0)
    coded = write_unit(header, b"\x80\0", context)
    read = read_unit(front + coded, len(front), context).data_unit
    assert read is not None
    assert (read.tensor_dimensions, read.cabac_unary_length_minus1) == ((9, 5), 4)
    with pytest.raises(UnsupportedError, match="base model, which was not given"):
        read_unit(front + coded, len(front), after(front))


def test_the_parents_node_id_is_coded_once() -> None:
    front = opened(mps_parent_signalling_enabled_flag=1)
    context = after(front)
    node = {"parameter_id": 77, "put_node_depth": 3, "parent_device_id": 5, "parent_node_id_present_flag": 1}
    own = data_unit(node_id_present_flag=1, device_id=5, **node)
    parent_only = data_unit(node_id_present_flag=0, **node)
    for header in (own, parent_only):
        data = front + write_unit(header, b"\x80\0", context)
        assert read_unit(data, len(front), context).header == header
    nameless = data_unit(parameter_id=77)
    with pytest.raises(InvalidArgumentError, match="parameter_id: has a value"):
        write_unit(nameless, b"\x80\0", context)


def test_hash_parents_need_a_lenient_reader() -> None:
    front = opened(mps_parent_signalling_enabled_flag=1)
    header = data_unit(
        parent_node_id_present_flag=1, parent_node_id_type=1, parent_node_payload_sha256=bytes(range(32))
    )
    lenient = after(front, strict=False)
    data = front + write_unit(header, b"\x80\0", lenient)
    assert read_unit(data, len(front), lenient).header == header
    with pytest.raises(UnsupportedError, match="parent_node_payload_sha256"):
        read_unit(data, len(front), after(front))


def test_aggregated_units_are_read_in_the_context_around_them() -> None:
    front = opened()
    context = after(front, strict=False)
    inside = b"".join(write_unit(data_unit(topology_elem_id=name), b"\x80\0", context) for name in "ab")
    header = UnitHeader(
        nnr_unit_type=AGG,
        aggregate_unit_header=AggregateUnitHeader(
            nnr_aggregate_unit_type=0,
            entry_points_present_flag=0,
            num_of_nnr_units_minus2=0,
            parameters_of_units=(
                AggregatedUnitParameters(quant_bitdepth=8),
                AggregatedUnitParameters(quant_bitdepth=3),
            ),
        ),
    )
    data = front + write_unit(header, AggregateUnitPayload(aggregated_units=inside), context)
    unit = read_unit(data, len(front), context)
    assert isinstance(unit.payload, AggregateUnitPayload)
    names = [
        inner.data_unit.topology_elem_id
        for inner, _ in scan_units(unit.payload.aggregated_units, context)
        if inner.data_unit is not None
    ]
    assert names == ["a", "b"]
    assert_traced(data, Context(strict=False))
    with pytest.raises(UnsupportedError, match=r"aggregate_unit_header: the syntax .* not confirmed"):
        list(scan_units(data))


def test_the_trace_covers_units_of_every_type() -> None:
    data = opened(topology_carriage_flag=1)
    data += write_unit(*layer_parameter_set(), after(data))
    topology = TopologyUnitHeader(topology_storage_format=1, topology_compression_format=1)
    header = UnitHeader(nnr_unit_type=TPL, topology_unit_header=topology, partial_data_counter_present_flag=1,
                        partial_data_counter=4)  # fmt: skip
    data += write_unit(header, TopologyUnitPayload(topology_data=b"graph"), after(data))
    data += write_unit(data_unit(), b"\x80\0", after(data))
    raw = data_unit(nnr_compressed_data_unit_payload_type=2, count_tensor_dimensions=0, tensor_dimensions=())
    data += write_unit(raw, b"\0\0\x80?", after(data))
    data += bytes.fromhex("0005 82 aa bb")
    assert_traced(data)
    assert [unit.type for unit, _ in scan_units(data)] == [STR, MPS, LPS, TPL, NDU, NDU, 32]


def test_the_size_form() -> None:
    front = opened()
    context = after(front)
    body = len(write_unit(data_unit(), b"\x80\0", context)) - 2
    longest = b"\x80" * (32767 - body)
    assert len(write_unit(data_unit(), longest, context)) == 32767
    above = write_unit(data_unit(), longest + b"\0", context)
    assert len(above) == 32770
    assert above[:4] == (32770 | 1 << 31).to_bytes(4, "big")
    forced = write_unit(data_unit(), b"\x80\0", context, long_form=True)
    unit = read_unit(front + forced, len(front), context)
    assert unit.long_form
    assert rewritten(front + forced, unit, context) == forced


def test_unknown_unit_types_are_skipped_with_a_warning() -> None:
    front = opened()
    data = front + bytes.fromhex("0005 82 aa bb")
    (*_, (unit, context)) = list(scan_units(data))
    assert (unit.type, unit.payload_offset, unit.end) == (32, len(front) + 3, len(front) + 5)
    assert unit.warnings == (f"bit {8 * len(front) + 24}: nnr_unit_type: reserved; the unit is skipped",)
    assert rewritten(data, unit, context) == data[len(front) :]

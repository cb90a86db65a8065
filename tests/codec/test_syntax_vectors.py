"""The conformance vectors and three annotated streams, element by element."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from syntax_streams import DATA, assert_traced, rewritten

from nnc_codec.syntax import ModelParameterSet, StartUnitHeader, TopologyUnitPayload, TraceEntry, read_unit, scan_units

STREAMS = sorted(DATA.glob("vectors/*.nnr")) + sorted(DATA.glob("examples/*.nnc"))


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_vectors_read_and_write_to_the_same_bytes(path: Path) -> None:
    data = path.read_bytes()
    copies = []
    for unit, context in scan_units(data):
        assert not unit.warnings
        copies.append(rewritten(data, unit, context))
        trace: list[TraceEntry] = []
        assert read_unit(data, unit.offset, context, index=unit.index, trace=trace) == unit
    assert b"".join(copies) == data
    assert_traced(data)


def elements(path: str, prefix: str) -> Iterator[tuple[str, object]]:
    """The traced elements of all data units, below the unit header."""
    data = (DATA / "examples" / path).read_bytes()
    for unit, context in scan_units(data):
        trace: list[TraceEntry] = []
        read_unit(data, unit.offset, context, trace=trace)
        for entry in trace:
            if entry.path.startswith(prefix):
                bits = int.from_bytes(data, "big") >> (8 * len(data) - entry.bit_offset - entry.width)
                yield (
                    entry.path.removeprefix(prefix),
                    entry.value,
                    f"{bits & ((1 << entry.width) - 1):0{entry.width}b}",
                )


NDU_PREFIX = "nnr_unit_header.compressed_data_unit_header."


def test_walk_through_a() -> None:
    data = (DATA / "examples/A.nnc").read_bytes()
    units = [unit for unit, _ in scan_units(data)]
    assert [(u.type, u.offset, u.size) for u in units] == [(0, 0, 4), (1, 4, 8), (3, 12, 6), (5, 18, 22)]
    assert units[0].header.start_unit_header == StartUnitHeader(general_profile_idc=1)
    mps = units[1].payload
    assert isinstance(mps, ModelParameterSet)
    assert (mps.topology_carriage_flag, mps.mps_quantization_method_flags) == (1, 1)
    assert (mps.mps_qp_density, mps.mps_quantization_parameter) == (2, 0)
    assert units[2].payload == TopologyUnitPayload(topology_data=b"\0")
    assert units[3].payload_offset == 32
    assert list(elements("A.nnc", NDU_PREFIX)) == [
        ("nnr_compressed_data_unit_payload_type", 1, "00001"),
        ("nnr_multiple_topology_elements_present_flag", 0, "0"),
        ("nnr_decompressed_data_format_present_flag", 0, "0"),
        ("input_parameters_present_flag", 1, "1"),
        ("topology_elem_id", "0", "0011000000000000"),
        ("node_id_present_flag", 1, "1"),
        ("device_id", 0, "10"),
        ("parameter_id", 0, "100000"),
        ("put_node_depth", 0, "10000"),
        ("codebook_present_flag", 0, "0"),
        ("dq_flag", 0, "0"),
        ("tensor_dimensions_flag", 1, "1"),
        ("cabac_unary_length_flag", 1, "1"),
        ("compressed_parameter_types", 0, "0000"),
        ("count_tensor_dimensions", 2, "0100"),
        ("tensor_dimensions[0]", 2, "10000010"),
        ("tensor_dimensions[1]", 3, "10000011"),
        ("cabac_unary_length_minus1", 10, "00001010"),
        ("first_tensor_dimension_shift", 0, "10"),
        ("scan_order", 0, "0000"),
        ("header_end", 0x80, "10000000"),
    ]


def test_walk_through_b() -> None:
    assert list(elements("B.nnc", NDU_PREFIX))[4:] == [
        ("topology_elements_ids_list.count_topology_elements_minus2", 0, "10000000"),
        ("topology_elements_ids_list.before_names", 0x80, "10000000"),
        (
            "topology_elements_ids_list.topology_elem_id_list[0]",
            "fc.weight",
            f"{0x66632E77656967687400:080b}",
        ),
        ("topology_elements_ids_list.topology_elem_id_list[1]", "fc.bias", f"{0x66632E6269617300:064b}"),
        ("node_id_present_flag", 1, "1"),
        ("device_id", 0, "10"),
        ("parameter_id", 0, "100000"),
        ("put_node_depth", 0, "10000"),
        ("codebook_present_flag", 1, "1"),
        ("codebook.codebook_egk", 6, "0110"),
        ("codebook.codebook_size", 4, "01000"),
        ("codebook.codebook_centre_offset", 0, "100"),
        ("codebook.codebook_zero_value", 29, "10111001"),
        ("codebook.codebook_delta_left[0]", 22, "1010110"),
        ("codebook.codebook_delta_left[1]", 47, "1101111"),
        ("codebook.codebook_delta_right[0]", 130, "011000010"),
        ("dq_flag", 0, "0"),
        ("tensor_dimensions_flag", 1, "1"),
        ("cabac_unary_length_flag", 1, "1"),
        ("compressed_parameter_types", 8, "1000"),
        ("count_tensor_dimensions", 2, "0100"),
        ("tensor_dimensions[0]", 12, "10001100"),
        ("tensor_dimensions[1]", 60, "10111100"),
        ("cabac_unary_length_minus1", 10, "00001010"),
        ("first_tensor_dimension_shift", 0, "10"),
        ("scan_order", 1, "0001"),
        ("cabac_entry_point_list.entry_points[0].cabac_offset_list", 105, "01101001"),
        ("cabac_entry_point_list.entry_points[0].bit_offset_delta1", 980, "101111010100"),
        ("header_end", 1, "1"),
    ]
    data = (DATA / "examples/B.nnc").read_bytes()
    header = read_unit(data, 18, [context for _, context in scan_units(data)][-1]).data_unit
    assert header is not None and header.codebook is not None
    assert header.codebook.zero_index == 2
    assert header.codebook.entries == (-42, 6, 29, 160)


def test_walk_through_c() -> None:
    base = (DATA / "examples/C0.nnc").read_bytes()
    found = [
        (h.topology_elem_id, h.nnr_compressed_data_unit_payload_type, h.parameter_id, h.put_node_depth,
         h.dq_flag, h.tensor_dimensions, unit.size, unit.end - unit.payload_offset)
        for unit, _ in scan_units(base) if (h := unit.data_unit) is not None
    ]  # fmt: skip
    assert found == [
        ("a.weight", 1, 0, 1, 1, (3, 4), 29, 8),
        ("a.bias", 1, 1, 1, 1, (3,), 24, 7),
        ("steps", 0, 2, 1, 0, (1,), 20, 5),
    ]
    update = (DATA / "examples/C1.nnc").read_bytes()
    units = [unit for unit, _ in scan_units(update)]
    mps = units[1].payload
    assert isinstance(mps, ModelParameterSet)
    assert (mps.mps_parent_signalling_enabled_flag, mps.nnr_pre_flag) == (1, 0)
    header = units[3].data_unit
    assert header is not None
    assert (header.put_node_depth, header.parent_node_id_present_flag, header.parent_node_id_type) == (
        2,
        1,
        0,
    )
    assert (header.temporal_context_modeling_flag, header.parent_device_id, header.dq_flag) == (1, 0, 1)
    assert [u.data_unit.topology_elem_id for u in units if u.data_unit] == ["a.weight", "steps"]

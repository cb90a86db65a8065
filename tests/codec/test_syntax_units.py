"""Whole units: the conformance vectors, three annotated streams, and units NNCodec never writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nnc_codec.errors import (
    CorruptError,
    InvalidArgumentError,
    LimitExceededError,
    TruncatedError,
    UnsupportedError,
)
from nnc_codec.limits import Limits
from nnc_codec.syntax import (
    Codebook,
    CompressedDataUnitHeader,
    Context,
    LayerParameterSet,
    LayerParameterSetUnitHeader,
    ModelParameterSet,
    OutOfBand,
    QuantizationUnitHeader,
    QuantizationUnitPayload,
    StartUnitHeader,
    TopologyElementsIdsList,
    TopologyUnitHeader,
    TopologyUnitPayload,
    TraceEntry,
    Unit,
    UnitHeader,
    read_unit,
    scan_units,
    trace_units,
    write_unit,
)
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

DATA = Path(__file__).parents[1] / "data"
STREAMS = sorted(DATA.glob("vectors/*.nnr")) + sorted(DATA.glob("examples/*.nnc"))
STR, MPS, LPS, TPL, QNT, NDU, AGG = range(7)


def rewritten(data: bytes, unit: Unit, context: Context) -> bytes:
    coded = data[unit.payload_offset : unit.end]
    payload = unit.payload if unit.payload is not None else None if unit.type == STR else coded
    return write_unit(unit.header, payload, context, long_form=unit.long_form)


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_vectors_read_and_write_to_the_same_bytes(path: Path) -> None:
    data = path.read_bytes()
    copies = []
    for unit, context in scan_units(data):
        assert not unit.warnings
        copies.append(rewritten(data, unit, context))
        trace: list[TraceEntry] = []
        assert read_unit(data, unit.offset, context, trace=trace) == unit
        position = 8 * unit.offset
        for entry in trace:
            assert entry.bit_offset == position
            position += entry.width
        assert position == 8 * unit.end
    assert b"".join(copies) == data


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


def start(profile: int = 1) -> bytes:
    header = UnitHeader(nnr_unit_type=STR, start_unit_header=StartUnitHeader(general_profile_idc=profile))
    return write_unit(header)


def after(data: bytes, **limits: int) -> Context:
    context = Context(**limits)  # type: ignore[arg-type]
    for unit, _ in scan_units(data, context):
        context = context.after(unit)
    return context


def parameter_set(profile: int = 1, **values: object) -> ModelParameterSet:
    reserved: dict[str, int] = {"nnr_reserved_zero_7bits": 0}
    if profile:
        reserved = {"nnr_reserved_zero_2bits": 0}
        if not values.get("mps_parent_signalling_enabled_flag"):
            reserved["nnr_reserved_zero_1bit"] = 0
    defaults: dict[str, object] = dict.fromkeys(
        (
            "topology_carriage_flag",
            "mps_sparsification_flag",
            "mps_pruning_flag",
            "mps_unification_flag",
            "mps_decomposition_performance_map_flag",
            "mps_topology_indexed_reference_flag",
        ),
        0,
    )
    steps = {"mps_quantization_method_flags": 1, "mps_qp_density": 2, "mps_quantization_parameter": 0}
    return ModelParameterSet(**{**defaults, **steps, **reserved, **values})  # type: ignore[arg-type]


def opened(profile: int = 1, **values: object) -> bytes:
    front = start(profile)
    return front + write_unit(UnitHeader(nnr_unit_type=MPS), parameter_set(profile, **values), after(front))


def data_unit(**values: object) -> UnitHeader:
    defaults: dict[str, object] = {
        "nnr_compressed_data_unit_payload_type": 1,
        "nnr_multiple_topology_elements_present_flag": 0,
        "topology_elem_id": "w",
        "tensor_dimensions_flag": 1,
        "count_tensor_dimensions": 2,
        "tensor_dimensions": (2, 3),
    }
    header = CompressedDataUnitHeader(**{**defaults, **values})  # type: ignore[arg-type]
    return UnitHeader(nnr_unit_type=NDU, compressed_data_unit_header=header)


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
    header = UnitHeader(
        nnr_unit_type=LPS,
        layer_parameter_set_unit_header=LayerParameterSetUnitHeader(lps_self_contained_flag=1),
    )
    payload = LayerParameterSet(
        lps_sparsification_flag=0,
        lps_pruning_flag=0,
        lps_unification_flag=0,
        lps_quantization_method_flags=1,
        lps_qp_density=3,
        lps_quantization_parameter=-17,
    )
    data += write_unit(header, payload, context)
    assert (context.qp_density, context.quantization_parameter) == (2, 0)
    assert (after(data).qp_density, after(data).quantization_parameter) == (3, -17)


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
    return context.names(
        header.topology_elem_id, header.topology_elem_id_index, header.topology_elements_ids_list
    )


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
        context = context.after(unit)
    header = data_unit(
        tensor_dimensions_flag=0, count_tensor_dimensions=0, tensor_dimensions=(), scan_order=0
    )
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


def test_limits_hold_before_anything_is_allocated() -> None:
    limits = Limits(max_dims=3, max_elements=1000, max_name_bytes=5, max_unit_bytes=60, max_units=4)
    context = Context.from_limits(limits)
    lenient = after(opened())
    for header, payload, message in (
        (data_unit(count_tensor_dimensions=4, tensor_dimensions=(1, 1, 1, 1)), b"\x80\0", "max_dims"),
        (data_unit(tensor_dimensions=(40, 26)), b"\x80\0", "max_elements"),
        (data_unit(topology_elem_id="longer"), b"\x80\0", "longer than 5 bytes"),
        (data_unit(), b"\x80" * 60, "a unit of"),
    ):
        with pytest.raises(LimitExceededError, match=message):
            list(scan_units(opened() + write_unit(header, payload, lenient), context))
    two = write_unit(data_unit(), b"\x80\0", lenient)
    with pytest.raises(LimitExceededError, match="more than 4 units"):
        list(scan_units(opened() + 3 * two, context))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", CorruptError, "empty"),
        (b"\0", TruncatedError, "nnr_unit_size"),
        (b"\0\2", CorruptError, "2 is outside 3"),
        (b"\0\4\2", TruncatedError, "4 bytes where 3 are left"),
        (bytes.fromhex("0004 0202"), UnsupportedError, "general_profile_idc"),
        (bytes.fromhex("0005 020100"), CorruptError, "1 bytes after the syntax"),
        (bytes.fromhex("0008 068100400080"), CorruptError, "not a start unit"),
        (bytes.fromhex("00040201 00040201"), CorruptError, "second start unit"),
        (opened() + opened()[4:], CorruptError, "second model parameter set"),
        (start() + bytes.fromhex("0006 0e000000"), CorruptError, "before the model parameter set"),
    ],
)
def test_broken_order_and_framing(data: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        list(scan_units(data))


BLOCK = {
    "nnr_compressed_data_unit_payload_type": 3,
    "nnr_multiple_topology_elements_present_flag": 1,
    "topology_elem_id": None,
    "topology_elements_ids_list": TopologyElementsIdsList(
        count_topology_elements_minus2=0, topology_elem_id_list=("w", "b")
    ),
}
TINY_CODEBOOK = Codebook(
    codebook_egk=0,
    codebook_size=1,
    codebook_centre_offset=0,
    codebook_zero_value=0,
    codebook_delta_left=(),
    codebook_delta_right=(),
)


@pytest.mark.parametrize(
    ("values", "payload", "message"),
    [
        ({"nnr_compressed_data_unit_payload_type": 3}, b"\x80\0", "block of one tensor"),
        ({**BLOCK, "compressed_parameter_types": 2 | 8}, b"\x80\0", "number of tensors in the block"),
        ({"nnr_compressed_data_unit_payload_type": 2}, b"\0" * 20, "20 bytes for 6 values"),
        ({}, b"\x80", "hold no codeword"),
        ({"tensor_dimensions": (2, 0)}, b"\x80\0", "tensor_dimensions: 0 is outside"),
        ({"count_tensor_dimensions": 0, "tensor_dimensions": ()}, b"\x80\0", "without a dimension"),
        ({"scan_order": 5}, b"\x80\0", "scan_order: 5 is outside 0..4"),
        (
            {"codebook_present_flag": 1, "codebook": TINY_CODEBOOK.replace(codebook_centre_offset=1)},
            b"\x80\0",
            "zero entry is after the last",
        ),
        (
            {
                "codebook_present_flag": 1,
                "codebook": TINY_CODEBOOK.replace(
                    codebook_size=2, codebook_zero_value=-(1 << 31), codebook_delta_left=(0,)
                ),
            },
            b"\x80\0",
            "below the range of 32 bits",
        ),
        (
            {
                **BLOCK,
                "topology_elements_ids_list": TopologyElementsIdsList(
                    count_topology_elements_minus2=0, topology_elem_id_list=("g", "h")
                ),
                "compressed_parameter_types": 1,
                "decomposition_rank": 1,
                "g_number_of_rows": 4,
            },
            b"\x80\0",
            "rows of G do not divide",
        ),
    ],
)
def test_headers_that_contradict_themselves(values: dict[str, object], payload: bytes, message: str) -> None:
    header = data_unit(cabac_unary_length_flag=0, **values)
    with pytest.raises(InvalidArgumentError, match=message):
        write_unit(header, payload, after(opened()))


def test_quantized_data_need_a_quantization_parameter() -> None:
    front = opened(mps_quantization_method_flags=0, mps_qp_density=None, mps_quantization_parameter=None)
    coded = write_unit(data_unit(), b"\x80\0", after(opened()))
    with pytest.raises(CorruptError, match="without a quantization parameter"):
        list(scan_units(front + coded))
    integers = data_unit(nnr_compressed_data_unit_payload_type=0)
    list(scan_units(front + write_unit(integers, b"\x80\0", after(front))))


def test_the_trace_of_a_damaged_bitstream_ends_at_the_damage() -> None:
    data = bytearray((DATA / "examples/A.nnc").read_bytes())
    whole = [entry for entries in trace_units(data) for entry in entries]
    data[21] = 0b11111_0_0_1
    seen: list[TraceEntry] = []
    with pytest.raises(UnsupportedError):
        for entries in trace_units(data):
            seen += entries
    assert len(seen) < len(whole)
    assert [entry.path for entry in seen] == [entry.path for entry in whole[: len(seen)]]
    assert seen[-1].path.endswith("nnr_compressed_data_unit_payload_type")
    assert seen[-1].value == 31
    assert seen[-1].meaning == "reserved"


def test_a_trace_line_reads_well() -> None:
    data = (DATA / "examples/A.nnc").read_bytes()
    lines = [entry.text for entries in trace_units(data) for entry in entries]
    assert lines[2] == "        16      6  nnr_unit_header.nnr_unit_type = 0  (NNR_STR)"
    long = TraceEntry("payload.topology_data", 0, 8000, b"\x01" * 1000, "")
    assert long.text.endswith("01... (1000 bytes)")
    assert len(long.text) < 140
    assert long.to_dict()["value"] == "01" * 1000


def test_errors_say_where() -> None:
    front = opened()
    coded = bytearray(write_unit(data_unit(), b"\x80\0", after(front)))
    coded[3] = 0b11111_0_0_1
    with pytest.raises(UnsupportedError) as caught:
        list(scan_units(front + coded))
    assert caught.value.unit == 2
    assert caught.value.bit_offset == 8 * (len(front) + 3)
    assert "NNR_NDU: nnr_compressed_data_unit_payload_type: reserved payload type" in str(caught.value)

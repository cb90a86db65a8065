"""What is refused, with which error, and where it says the fault is."""

from __future__ import annotations

import pytest
from syntax_streams import after, data_unit, opened, start

from nnc_codec.errors import CorruptError, InvalidArgumentError, LimitExceededError, TruncatedError, UnsupportedError
from nnc_codec.limits import Limits
from nnc_codec.syntax import Codebook, Context, TopologyElementsIdsList, scan_units, write_unit


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


def test_errors_say_where() -> None:
    front = opened()
    coded = bytearray(write_unit(data_unit(), b"\x80\0", after(front)))
    coded[3] = 0b11111_0_0_1
    with pytest.raises(UnsupportedError) as caught:
        list(scan_units(front + coded))
    assert caught.value.unit == 2
    assert caught.value.bit_offset == 8 * (len(front) + 3)
    assert "NNR_NDU: nnr_compressed_data_unit_payload_type: reserved payload type" in str(caught.value)

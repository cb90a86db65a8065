"""Where NNCodec 2.1.3 fails or writes something else than it means, and what this codec does instead.

The first line of each docstring says what NNCodec does, the line after the blank one what ours does;
docs/conformance.md lists them.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import reference
from nnr_vectors import encode_params
from syntax_streams import AGG, QNT, TPL, after, data_unit, layer_parameter_set, opened, start

import nnc_codec
from nnc_codec import (
    CorruptError,
    EncodeParams,
    InvalidArgumentError,
    TruncatedError,
    UnsupportedError,
    UpdateState,
)
from nnc_codec.params import Block
from nnc_codec.syntax import (
    AggregateUnitHeader,
    AggregateUnitPayload,
    QuantizationUnitHeader,
    QuantizationUnitPayload,
    TopologyElementsIdsList,
    TopologyUnitHeader,
    TopologyUnitPayload,
    UnitHeader,
    write_unit,
)
from nnc_codec.syntax.maps import (
    SparsificationEntry,
    SparsificationPerformanceMap,
    UnificationEntry,
    UnificationPerformanceMap,
)
from nnc_codec.syntax.units import AggregatedUnitParameters

Failure = (Exception, SystemExit)
"""NNCodec asserts, raises KeyError, ValueError, NotImplementedError or ends the process."""


def gauss(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def with_unit_before_data(data: bytes, unit: bytes) -> bytes:
    """`unit` after the parameter set."""
    end = nnc_codec.open(data).units[1].end
    return data[:end] + unit + data[end:]


pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")


def reference_fails(data: bytes) -> None:
    with pytest.raises(Failure):
        reference.decode(data)


def error(expected: dict[str, np.ndarray], decoded: dict[str, np.ndarray]) -> float:
    return sum(float(np.square(expected[n] - decoded[n], dtype=np.float64).sum()) for n in expected)


# Quantizers and the entropy coder.


def test_rows_skipped_in_blocks_with_dependent_quantization() -> None:
    """Skipped rows in a block scan shift the quantization state unnoticed: other weights are written than were chosen.

    The payload is decoded after encoding; where it differs, the rows of that tensor are coded without skipping.
    """
    array = gauss(64, 70)
    array[np.random.default_rng(1).random(64) < 0.5] = 0
    options = {"qp": -12, "scan_order": 1, "row_skipping": True}
    tensors = {"w": array}
    theirs = error(tensors, reference.decode(reference.encode(tensors, options)))
    ours = error(tensors, reference.decode(nnc_codec.encode(tensors, encode_params(options))))
    plain = error(tensors, nnc_codec.decode(nnc_codec.encode(tensors, EncodeParams(qp=-12, scan_order=1))))
    assert ours == plain
    assert theirs > 2 * ours


def test_bit_depth_with_dependent_quantization() -> None:
    """Integers are clipped to the bit depth after the trellis: later weights decode to others than were chosen.

    The weights are clipped before the trellis, so that every integer is reachable.
    """
    array = gauss(60, 50)
    array[3, 3] = 30  # beyond the percentile that sets the step
    tensors = {"w": array}
    options = {"int_quant_bw": 8}
    theirs = nnc_codec.decode(reference.encode(tensors, options))
    ours = nnc_codec.decode(nnc_codec.encode(tensors, encode_params(options)))
    array = np.clip(array, -8, 8)
    assert error({"w": array[5:]}, {"w": ours["w"][5:]}) < error({"w": array[5:]}, {"w": theirs["w"][5:]})


def test_one_bit() -> None:
    """A bit depth of 1 divides by zero; the qp becomes the largest or smallest there is.

    The step is the 99.95th percentile of the magnitudes.
    """
    tensors = {"w": gauss(30, 40)}
    options = {"int_quant_bw": 1, "use_dq": False}
    # Infinity cast to an integer: the value depends on the machine.
    theirs = nnc_codec.open(reference.encode(tensors, options))["w"]
    assert theirs.qp is not None and abs(theirs.qp) > 100
    ours = nnc_codec.open(nnc_codec.encode(tensors, encode_params(options)))["w"]
    assert ours.step == pytest.approx(float(np.percentile(np.abs(tensors["w"]), 99.95)), rel=0.3)
    assert set(np.unique(ours.decode() / ours.step)) == {-1.0, 0.0}


@pytest.mark.parametrize("use_dq", [False, True])
def test_large_powers_of_two(use_dq: bool) -> None:
    """Weights that are a large power of two at too fine a step raise "Prevention of integer-overflow failed".

    The qp is raised to the smallest one at which they fit.
    """
    tensors = {"w": np.array([[2.0**40, 1.0], [0.0, -(2.0**40)]], np.float32)}
    with pytest.raises(Failure):
        reference.encode(tensors, {"qp": -38, "use_dq": use_dq})
    data = nnc_codec.encode(tensors, encode_params({"qp": -38, "use_dq": use_dq}))
    decoded = nnc_codec.decode(data)["w"]
    reference.same({"w": decoded}, reference.decode(data))
    assert decoded[0, 0] == pytest.approx(2.0**40, rel=1e-6)


def test_not_a_number() -> None:
    """NaN becomes some number without notice; infinity raises.

    Both are refused with the name of the tensor.
    """
    array = gauss(8, 8)
    array[2, 2] = np.nan
    assert np.isfinite(reference.decode(reference.encode({"w": array}, {}))["w"]).all()
    with pytest.raises(InvalidArgumentError, match="NaN"):
        nnc_codec.encode({"w": array})


def test_qp_outside_its_field() -> None:
    """A qp that does not fit its field is written modulo 2**(6 + qp_density): -129 becomes +127.

    It is refused.
    """
    tensors = {"w": gauss(8, 8) * np.float32(1e-12)}
    assert nnc_codec.open(reference.encode(tensors, {"qp": -129}))["w"].qp == 127
    with pytest.raises(InvalidArgumentError, match="outside"):
        nnc_codec.encode(tensors, EncodeParams(qp=-129))


def test_wide_integers() -> None:
    """Its tensor interface casts 64-bit integers to 32 bits, whatever they are.

    Integers beyond 32 bits are refused, others of any type are exact and keep their type.
    """
    from nncodec import tensor

    wide = np.array([2**40 + 5, 1, 2], np.int64)
    assert tensor.decode(bytearray(tensor.encode(wide))).tolist() == [5, 1, 2]
    with pytest.raises(InvalidArgumentError, match="32 bits"):
        nnc_codec.encode({"w": wide})
    assert nnc_codec.decode(nnc_codec.encode({"w": wide[1:]}))["w"].dtype == np.int64


@pytest.mark.parametrize("shape", [(1, 100), (100, 1), (100,)])
def test_block_scan_of_a_single_row(shape: tuple[int, ...]) -> None:
    """A block scan of a single row or column raises KeyError.

    Such tensors are written with scan_order 0.
    """
    tensors = {"w": gauss(*shape)}
    if len(shape) > 1:
        with pytest.raises(Failure):
            reference.encode(tensors, {"scan_order": 1})
    data = nnc_codec.encode(tensors, EncodeParams(scan_order=1))
    reference.same(nnc_codec.decode(data), reference.decode(data))


def test_empty_tensors() -> None:
    """Tensors without elements or dimensions end in ZeroDivisionError or IndexError.

    They are refused with the name of the tensor.
    """
    for array in (np.ones((0, 3), np.float32), np.ones((), np.float32)):
        with pytest.raises(Failure):
            reference.encode({"w": array}, {})
        with pytest.raises(InvalidArgumentError, match="'w'"):
            nnc_codec.encode({"w": array})


def test_names_with_suffixes_of_factors() -> None:
    """Tensors whose names contain _G or _H are taken for factors of a decomposition.

    Names mean nothing; factors are known by their place in the block.
    """
    for name in ("w_G", "lstm_GRU.weight"):
        tensors = {name: gauss(4, 5)}
        with pytest.raises(Failure):
            reference.encode(tensors, {})
        assert list(nnc_codec.decode(nnc_codec.encode(tensors))) == [name]


def test_opt_qp_without_a_weight() -> None:
    """opt_qp fails when no tensor has two dimensions.

    There is nothing to optimise then.
    """
    tensors = {"b": gauss(30)}
    with pytest.raises(Failure):
        reference.encode(tensors, {"opt_qp": True})
    data = nnc_codec.encode(tensors, encode_params({"opt_qp": True}))
    assert data == reference.encode(tensors, {})


def test_codebook_for_short_gain() -> None:
    """Choosing between codebook and trellis, it adds the bits of the codebook to the bytes of the payload.

    Bits are compared with bits.
    """
    array = np.random.default_rng(0).choice(gauss(17), (24, 24)).astype(np.float32)
    options = {"qp": -16, "codebook_mode": 2}
    theirs, ours = (
        reference.encode({"w": array}, options),
        nnc_codec.encode({"w": array}, encode_params(options)),
    )
    assert nnc_codec.open(theirs)["w"].method == "dq"
    assert nnc_codec.open(ours)["w"].method == "codebook"
    assert len(ours) < len(theirs)
    reference.same(nnc_codec.decode(ours), reference.decode(ours))


# Units, headers, parameter sets.


@pytest.mark.parametrize("storage_format", [1, 2])
def test_topology_of_nnef_and_onnx(storage_format: int) -> None:
    """Topology units that carry NNEF or ONNX raise NotImplementedError.

    They are read and written.
    """
    data = nnc_codec.encode({"w": gauss(4, 5)}, EncodeParams(topology=False))
    header = TopologyUnitHeader(topology_storage_format=storage_format, topology_compression_format=0)
    unit = write_unit(
        UnitHeader(nnr_unit_type=TPL, topology_unit_header=header),
        TopologyUnitPayload(topology_data=b"graph network() -> () {}"),
        after(data),
    )
    carried = with_unit_before_data(data, unit)
    reference_fails(carried)
    assert nnc_codec.decode(carried)["w"].tobytes() == nnc_codec.decode(data)["w"].tobytes()
    payload = nnc_codec.open(carried).units[2].payload
    assert isinstance(payload, TopologyUnitPayload) and payload.topology_data == b"graph network() -> () {}"


def test_tensors_named_by_index() -> None:
    """References by index into a list of names are not implemented.

    They are resolved through the topology unit of format REFLIST.
    """
    front = opened(mps_topology_indexed_reference_flag=1)
    listed = TopologyElementsIdsList(count_topology_elements_minus2=1, topology_elem_id_list=("a", "b", "c"))
    front += write_unit(
        UnitHeader(
            nnr_unit_type=TPL,
            topology_unit_header=TopologyUnitHeader(topology_storage_format=6, topology_compression_format=0),
        ),
        TopologyUnitPayload(topology_elements_ids_list=listed),
        after(front),
    )
    plain = nnc_codec.open(nnc_codec.encode({"w": gauss(2, 3)}, EncodeParams(method="uniform")))
    unit = plain.units[-1]
    named = unit.header.compressed_data_unit_header
    assert named is not None
    header = unit.header.replace(
        compressed_data_unit_header=named.replace(topology_elem_id=None, topology_elem_id_index=2)
    )
    data = front + write_unit(header, plain.unit_bytes(unit.index)[unit.payload_offset - unit.offset :], after(front))
    reference_fails(data)
    assert nnc_codec.decode(data)["c"].tobytes() == plain["w"].decode().tobytes()


def test_layer_parameter_sets() -> None:
    """Layer parameter sets end in KeyError.

    Their density and base QP hold for the data units that follow.
    """
    data = nnc_codec.encode({"w": gauss(4, 5)}, EncodeParams(qp=-16, topology=False))
    header, payload = layer_parameter_set(density=2)
    layer = write_unit(header, payload.replace(lps_quantization_parameter=8), after(opened()))
    carried = with_unit_before_data(data, layer)
    reference_fails(carried)
    assert nnc_codec.open(carried)["w"].qp == -8
    assert (nnc_codec.decode(carried)["w"] == 4 * nnc_codec.decode(data)["w"]).all()


def test_quantization_units() -> None:
    """Quantization units raise.

    Their bytes are kept and handed out.
    """
    data = nnc_codec.encode({"w": gauss(4, 5)}, EncodeParams(topology=False))
    header = QuantizationUnitHeader(quantization_storage_format=1, quantization_compression_format=0)
    unit = write_unit(
        UnitHeader(nnr_unit_type=QNT, quantization_unit_header=header),
        QuantizationUnitPayload(quantization_data=b"w: linear()"),
        after(data),
    )
    carried = with_unit_before_data(data, unit)
    reference_fails(carried)
    assert nnc_codec.decode(carried)["w"].tobytes() == nnc_codec.decode(data)["w"].tobytes()


def test_aggregate_units() -> None:
    """Aggregate units raise.

    They are refused, for their syntax is not confirmed, unless strict=False asks for the most plausible reading.
    """
    front = opened()
    lenient = after(front, strict=False)
    units = [
        nnc_codec.open(nnc_codec.encode({name: gauss(4, 5)}, EncodeParams(topology=False))).unit_bytes(2)
        for name in "ab"
    ]
    header = AggregateUnitHeader(
        nnr_aggregate_unit_type=0,
        entry_points_present_flag=0,
        num_of_nnr_units_minus2=0,
        parameters_of_units=(
            AggregatedUnitParameters(quant_bitdepth=8),
            AggregatedUnitParameters(quant_bitdepth=8),
        ),
    )
    unit = write_unit(
        UnitHeader(nnr_unit_type=AGG, aggregate_unit_header=header),
        AggregateUnitPayload(aggregated_units=b"".join(units)),
        lenient,
    )
    reference_fails(front + unit)
    with pytest.raises(UnsupportedError, match="not confirmed"):
        nnc_codec.open(front + unit)
    assert nnc_codec.open(front + unit, strict=False).units[-1].type_name == "NNR_AGG"


def test_split_data_units() -> None:
    """Data units with a partial data counter end in an assertion.

    They are refused, for how the parts are joined is not confirmed.
    """
    data = nnc_codec.encode({"w": gauss(4, 5)}, EncodeParams(topology=False))
    unit = nnc_codec.open(data).units[-1]
    header = unit.header.replace(partial_data_counter_present_flag=1, partial_data_counter=0)
    split = data[: unit.offset] + write_unit(header, data[unit.payload_offset :], after(opened(), strict=False))
    reference_fails(split)
    with pytest.raises(UnsupportedError, match="not confirmed"):
        nnc_codec.decode(split)


def test_raw_floats() -> None:
    """Raw floats cannot be written, and under NumPy 1 a unit after them cannot be read.

    They are written and read anywhere.
    """
    arrays = {"a": gauss(4, 5), "b": gauss(3), "c": gauss(2, 2)}
    data = nnc_codec.encode(arrays, EncodeParams(method="raw"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference_fails(data)
        last = nnc_codec.encode({"a": arrays["a"]}, EncodeParams(method="raw"))
        reference.same(nnc_codec.decode(last), reference.decode(last))
    assert all(nnc_codec.decode(data)[n].tobytes() == arrays[n].tobytes() for n in arrays)


def test_floats_in_parameter_sets() -> None:
    """Performance maps cannot be written (floats end in TypeError); the unification map is read with a wrong count.

    All maps are written and read; where the counts differ, class accuracies are counted by the classes.
    """
    data = nnc_codec.encode({"w": gauss(4, 5)}, EncodeParams(topology=False, node_id=False))
    tail = data[nnc_codec.open(data).units[1].end :]
    entry = SparsificationEntry(
        sparsification_threshold=0.5,
        non_zero_ratio=0.25,
        spm_nn_accuracy=0.75,
        spm_count_classes=2,
        spm_class_bitmask=3,
        spm_nn_class_accuracy=(0.5, 1.0),
    )
    sparse = SparsificationPerformanceMap(spm_count_thresholds=2, entries=(entry,))
    carried = opened(mps_sparsification_flag=1, sparsification_performance_map=sparse) + tail
    reference.same(nnc_codec.decode(carried), reference.decode(carried))
    unified = UnificationPerformanceMap(
        upm_count_thresholds=2,
        entries=(
            UnificationEntry(
                count_reshaped_tensor_dimension=1,
                reshaped_tensor_dimensions=(),
                count_super_block_dimension=1,
                super_block_dimensions=(),
                count_block_dimension=1,
                block_dimensions=(),
                unification_threshold=0.5,
                upm_nn_accuracy=0.5,
                upm_count_classes=1,
                upm_class_bitmask=7,
                upm_nn_class_accuracy=(0.5,),
            ),
        ),
    )
    carried = opened(mps_unification_flag=1, unification_performance_map=unified) + tail
    reference_fails(carried)
    assert nnc_codec.decode(carried)["w"].shape == (4, 5)


def test_decomposed_weights() -> None:
    """Blocks with a decomposed weight decode inside, but the public function fails to rebuild it.

    Both factors are decoded; composing them is a step of its own.
    """
    tensors = {"u": gauss(12, 3), "v": gauss(3, 20), "b": gauss(12)}
    options = EncodeParams(blocks=(Block(weight="w", g="u", h="v", bias="b"),), qp=-20)
    data = nnc_codec.encode(tensors, options)
    reference_fails(data)
    decoded = nnc_codec.decode(data)
    assert {name: value.shape for name, value in decoded.items()} == {"b": (12,), "u": (12, 3), "v": (3, 20)}
    assert error(tensors, decoded) / sum(a.size for a in tensors.values()) < (2.0**-5) ** 2


def test_block_updates_without_dimensions() -> None:
    """In updates it leaves the dimensions of blocks out and then cannot decode them itself.

    Dimensions are always written.
    """
    tensors = {"w.weight": gauss(6, 5), "w.bias": gauss(6)}
    options = {
        "block_id_and_param_type": {
            "block_identifier": dict.fromkeys(tensors, "B"),
            "parameter_type": {"w.weight": "weight", "w.bias": "bias"},
        }
    }
    theirs = reference.encode(tensors, options, reference.State(False))
    with pytest.raises(Failure):
        reference.decode(theirs, reference.State(False))
    with pytest.raises(UnsupportedError, match="base model"):
        nnc_codec.decode(theirs, base=UpdateState())
    ours = nnc_codec.encode(tensors, encode_params(options), base=UpdateState())
    reference.same(nnc_codec.decode(ours, base=UpdateState()), reference.decode(ours, reference.State(False)))


def test_hash_parents() -> None:
    """Parents named by a hash are read and ignored.

    They are refused unless strict=False, for what is hashed is not confirmed.
    """
    front = opened(mps_parent_signalling_enabled_flag=1)
    plain = nnc_codec.open(nnc_codec.encode({"w": gauss(2, 3)}, EncodeParams(node_id=False)))
    unit = plain.units[-1]
    header = unit.header.compressed_data_unit_header
    assert header is not None
    hashed = header.replace(
        parent_node_id_present_flag=1, parent_node_id_type=1, parent_node_payload_sha256=bytes(range(32))
    )
    payload = plain.unit_bytes(unit.index)[unit.payload_offset - unit.offset :]
    lenient = after(front, strict=False)
    data = front + write_unit(unit.header.replace(compressed_data_unit_header=hashed), payload, lenient)
    with pytest.raises(UnsupportedError, match="not confirmed"):
        nnc_codec.open(data)
    read = nnc_codec.open(data, strict=False).units[-1].data_unit
    assert read is not None and read.parent_node_payload_sha256 == bytes(range(32))


# What a decoder lets pass.


def test_an_update_without_its_past() -> None:
    """A unit with temporal context is decoded without it when there is no state, and ends in garbage.

    It is refused at once.
    """
    state = UpdateState(temporal_context=True)
    nnc_codec.encode({"w": gauss(20, 20)}, base=state)
    data = nnc_codec.encode({"w": gauss(20, 20, seed=1)}, base=state)
    with pytest.raises(Failure):
        reference.decode(data)
    with pytest.raises(UnsupportedError, match="temporal_context_modeling_flag"):
        nnc_codec.decode(data)


def test_a_name_twice() -> None:
    """Of two units with the same name the last one wins.

    The stream is refused.
    """
    data = nnc_codec.encode({"w": gauss(4, 5)})
    unit = nnc_codec.open(data).units[-1]
    twice = data + data[unit.offset :]
    assert reference.decode(twice)["w"].shape == (4, 5)
    with pytest.raises(CorruptError, match="twice"):
        nnc_codec.decode(twice)


@pytest.mark.parametrize("profile", [2, 255])
def test_profiles_that_do_not_exist(profile: int) -> None:
    """Unknown profiles are read as edition 1.

    They are refused.
    """
    data = bytearray(reference.encode({"w": gauss(4, 5)}, {}))
    data[3] = profile
    with pytest.raises((UnsupportedError, CorruptError), match="general_profile_idc"):
        nnc_codec.open(bytes(data))


def test_a_damaged_end_of_the_payload() -> None:
    """A wrong stop bit at the end of a payload is only printed.

    It is an error: the codeword does not end where the unit does.
    """
    data = bytearray(reference.encode({"w": gauss(20, 20)}, {}))
    last = data[-1]
    data[-1] ^= last & -last  # the stop bit
    data[-1] |= (last & -last) >> 1 or 1
    with pytest.raises(CorruptError):
        nnc_codec.decode(bytes(data))


def test_a_shortened_payload() -> None:
    """Behind the end of a shortened payload it reads whatever lies in memory.

    Truncation is an error.
    """
    data = nnc_codec.encode({"w": gauss(40, 40)}, EncodeParams(topology=False))
    unit = nnc_codec.open(data).units[-1]
    payload = data[unit.payload_offset : unit.end - 300]
    short = data[: unit.offset] + write_unit(unit.header, payload, after(opened()))
    with pytest.raises(TruncatedError):
        nnc_codec.decode(short)


def test_files_without_a_start() -> None:
    """Order and number of units are asserted, so that running Python with -O accepts anything.

    Every rule is checked and broken ones raise with unit and bit offset.
    """
    data = reference.encode({"w": gauss(4, 5)}, {})
    for broken in (data[4:], data + start(), start() + data):
        with pytest.raises(CorruptError):
            nnc_codec.open(broken)


def test_data_unit_of_a_reserved_type() -> None:
    """Reserved payload types are decoded like FLOAT without a QP.

    They are refused.
    """
    unit = data_unit()
    front = opened()
    coded = bytearray(front + write_unit(unit, b"\x80\0", after(front)))
    coded[len(front) + 3] = 7 << 3
    with pytest.raises((UnsupportedError, CorruptError), match="payload_type"):
        nnc_codec.open(bytes(coded))

"""Options are values; limits are checked before anything is allocated; bytes depend on nothing else."""

from __future__ import annotations

import dataclasses
import resource
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnr_vectors import stream

import nnc_codec
from nnc_codec import EncodeParams, LimitExceededError, Limits, NNRError, TensorParams
from nnc_codec.encoder import bitstream_head
from nnc_codec.params import Block
from nnc_codec.syntax import (
    Codebook,
    CompressedDataUnitHeader,
    NnrUnitType,
    PayloadType,
    UnitHeader,
    write_unit,
)

tensor_params = st.builds(
    TensorParams,
    qp=st.none() | st.integers(-1000, 1000),
    method=st.none() | st.sampled_from(("dq", "uniform", "codebook", "raw")),
    row_skipping=st.none() | st.booleans(),
    cabac_unary_length=st.none() | st.integers(1, 256),
)
blocks = st.builds(Block, weight=st.text(), bias=st.none() | st.text())
encode_params = st.builds(
    EncodeParams,
    qp=st.integers(-1000, 1000),
    nonweight_qp=st.none() | st.integers(-1000, 1000),
    qp_density=st.integers(0, 7),
    method=st.sampled_from(("dq", "uniform", "codebook", "raw")),
    codebook_if_smaller=st.booleans(),
    bit_depth=st.none() | st.integers(1, 31),
    cabac_unary_length=st.integers(1, 256),
    scan_order=st.integers(0, 4),
    row_skipping=st.booleans(),
    param_opt=st.booleans(),
    lambda_=st.floats(0, 1e6),
    topology=st.booleans(),
    node_id=st.booleans(),
    blocks=st.lists(blocks, max_size=2).map(tuple),
    per_tensor=st.dictionaries(st.text(), tensor_params, max_size=3),
)


@given(encode_params)
def test_options_survive_repr_and_json(params: EncodeParams) -> None:
    names = {"EncodeParams": EncodeParams, "TensorParams": TensorParams, "Block": Block}
    assert eval(repr(params), names) == params
    assert msgspec.json.decode(msgspec.json.encode(params), type=EncodeParams) == params


@given(st.builds(Limits, max_elements=st.integers(0, 2**40), max_dims=st.integers(0, 16)))
def test_limits_survive_repr_and_json(limits: Limits) -> None:
    assert eval(repr(limits), {"Limits": Limits}) == limits
    assert msgspec.json.decode(msgspec.json.encode(limits), type=Limits) == limits


def test_options_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        EncodeParams().qp = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Limits().max_dims = 3  # type: ignore[misc]


def tensors() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(2)
    shapes = [(200, 30), (7,), (64, 16, 3, 3), (1, 50), (50, 1), (30, 30), (2,), (90, 90)]
    return {f"t{i}": generator.standard_normal(s).astype(np.float32) for i, s in enumerate(shapes)} | {
        "ints": generator.integers(-5, 6, (40, 40))
    }


@pytest.mark.parametrize(
    "params",
    [
        EncodeParams(),
        EncodeParams(method="codebook", qp=-8, nonweight_qp=-8),
        EncodeParams(scan_order=1, row_skipping=True),
        EncodeParams(bit_depth=6, method="uniform"),
        EncodeParams(blocks=(Block(weight="t5", bias="b5"),)),
    ],
    ids=["dq", "codebook", "scan 1", "bit depth", "block"],
)
def test_bytes_do_not_depend_on_the_workers(params: EncodeParams) -> None:
    source = tensors() | {"b5": np.ones(30, np.float32)}
    expected = nnc_codec.encode(source, params)
    decoded = {name: value.tobytes() for name, value in nnc_codec.decode(expected).items()}
    assert nnc_codec.encode(source, params) == expected
    for workers in (1, 8):
        with ThreadPoolExecutor(workers) as pool:
            assert nnc_codec.encode(source, params, executor=pool) == expected
            again = nnc_codec.decode(expected, executor=pool)
            assert {name: value.tobytes() for name, value in again.items()} == decoded
            assert list(again) == list(decoded)


def test_processes_can_be_the_workers() -> None:
    with ProcessPoolExecutor(2) as pool:
        assert nnc_codec.encode(tensors(), executor=pool) == nnc_codec.encode(tensors())


def test_an_error_in_a_worker_reaches_the_caller() -> None:
    source = tensors() | {"bad": np.array([np.nan], np.float32)}
    for executor in (None, ThreadPoolExecutor(3), ProcessPoolExecutor(1)):
        with pytest.raises(nnc_codec.InvalidArgumentError) as caught:
            nnc_codec.encode(source, executor=executor)
        assert caught.value.tensor == "bad"
        if executor is not None:
            executor.shutdown()


def test_progress_is_told_every_tensor_once() -> None:
    told: list[tuple[str, int]] = []
    nnc_codec.encode(tensors(), progress=lambda name, size: told.append((name, size)))
    assert sorted(told) == sorted((name, array.nbytes) for name, array in tensors().items())


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_elements=10499),
        Limits(max_total_elements=10500),
        Limits(max_tensors=2),
        Limits(max_units=5),
        Limits(max_dims=3),
        Limits(max_name_bytes=0),
        Limits(max_unit_bytes=1000),
        Limits(max_expansion=1),
    ],
    ids=repr,
)
def test_each_limit_stops_a_stream_above_it(limits: Limits) -> None:
    data = stream("scan1_u")  # w 150 x 70, b 70, c 20 x 7 x 3 x 3
    assert len(nnc_codec.decode(data)) == 3
    with pytest.raises(LimitExceededError):
        nnc_codec.decode(data, limits=limits)


def test_the_single_call_keeps_to_its_limits() -> None:
    data = nnc_codec.open(stream("scan1_u")).split()
    with pytest.raises(LimitExceededError):
        nnc_codec.decode_single(data["w"], np.float32, (150, 70), limits=Limits(max_elements=10499))
    with pytest.raises(LimitExceededError):
        nnc_codec.decode_single(data["c"], np.float32, (20, 7, 3, 3), limits=Limits(max_dims=3))


def bomb(dims: list[int], payload: bytes = b"\x8d\x00\x43\x20", codebook: bool = False) -> bytes:
    """A small file that claims a large tensor."""
    context, head = bitstream_head(EncodeParams())
    listed = Codebook(
        codebook_egk=0,
        codebook_size=1,
        codebook_centre_offset=0,
        codebook_zero_value=0,
        codebook_delta_left=(),
        codebook_delta_right=(),
    )
    header = CompressedDataUnitHeader(
        nnr_compressed_data_unit_payload_type=PayloadType.NNR_PT_FLOAT,
        nnr_multiple_topology_elements_present_flag=0,
        input_parameters_present_flag=1,
        topology_elem_id="w",
        tensor_dimensions_flag=1,
        cabac_unary_length_flag=1,
        count_tensor_dimensions=len(dims),
        tensor_dimensions=tuple(dims),
        cabac_unary_length_minus1=10,
        **({"codebook_present_flag": 1, "codebook": listed} if codebook else {}),
    )
    unit = UnitHeader(nnr_unit_type=NnrUnitType.NNR_NDU, compressed_data_unit_header=header)
    return head + write_unit(unit, payload, dataclasses.replace(context, max_elements=2**62))


@pytest.mark.parametrize("dims", [[2**20, 2**20], [2**31, 1], [2**31 - 1, 2], [2**16] * 4, [2**30], [2**28, 4]])
@pytest.mark.parametrize("codebook", [False, True])
def test_bombs_are_refused_without_allocating(dims: list[int], codebook: bool) -> None:
    data = bomb(dims, codebook=codebook)
    assert len(data) < 100
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(NNRError):
        nnc_codec.decode(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_honest_streams_of_zeros_are_no_bombs() -> None:
    array = np.zeros((4000, 1000), np.float32)
    for params in (EncodeParams(), EncodeParams(row_skipping=True), EncodeParams(method="codebook")):
        data = nnc_codec.encode({"w": array}, params)
        assert len(data) < 6000
        assert not nnc_codec.decode(data)["w"].any()

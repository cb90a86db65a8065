"""Vectors and small tensors share a bitstream, and stay what they are in every way of reading them."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, helper, numpy_helper

import nnc_codec
from nnc_codec.errors import NNRError
from nnc_codec.formats import ConvertOptions, PackOptions, UnpackOptions, VerifyOptions
from nnc_onnx import carriage
from nnc_onnx.errors import CarriageError
from nnc_onnx.inspection import inspect
from nnc_onnx.nnr.convert import to_nnr, to_onnx
from nnc_onnx.packing import pack
from nnc_onnx.unpacking import unpack
from nnc_onnx.verification import verify


def network(dtype: type = np.float32, seed: int = 0) -> ModelProto:
    """Conv with bias, BatchNormalization, a second Conv with a table of integers beside it."""
    random = np.random.default_rng(seed)

    def tensor(name: str, *shape: int, spread: float = 1.0, least: float | None = None) -> onnx.TensorProto:
        values = random.standard_normal(shape) * spread
        return graphs.tensor(name, (np.abs(values) + least if least is not None else values).astype(dtype))

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c0", "scale", "shift", "mean", "var"], ["n0"]),
        helper.make_node("Mul", ["n0", "gain"], ["g0"]),
        helper.make_node("Relu", ["g0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["y"]),
    ]
    tensors = [
        tensor("w0", 48, 3, 3, 3, spread=0.2),
        tensor("b0", 48),
        tensor("scale", 48, least=0.5),
        tensor("shift", 48),
        tensor("mean", 48, spread=0.1),
        graphs.tensor("var", (10.0 ** random.uniform(-4, 1, 48)).astype(dtype)),
        tensor("gain", 1, 48, 1, 1, least=0.1),
        tensor("w1", 96, 48, 1, 1, spread=0.1),
        tensor("b1", 96),
    ]
    inputs = [helper.make_tensor_value_info("x", kind, ["n", 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", kind, ["n", 96, 8, 8])]
    return graphs.model(nodes, inputs, outputs, tensors)


def written(model: ModelProto, folder: Path, **options: object) -> Path:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    pack(folder / "m.onnx", folder / "m.nnc.onnx", PackOptions(force=True, **options))
    return folder / "m.nnc.onnx"


def group_of(model: ModelProto) -> tuple[NodeProto, onnx.TensorProto]:
    """The only group node and its payload."""
    (node,) = (node for node in model.graph.node if node.op_type in carriage.BY_GROUP_OP_NAME)
    (payload,) = (tensor for tensor in model.graph.initializer if tensor.name == node.input[0])
    return node, payload


def values_of(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def edited(path: Path, edit: Callable[[ModelProto], None]) -> Path:
    model = onnx.load(path)
    edit(model)
    target = path.with_name("edited.onnx")
    target.write_bytes(model.SerializeToString())
    return target


def test_small_tensors_are_units_of_one_bitstream(tmp_path: Path) -> None:
    model = onnx.load(written(network(), tmp_path))
    node, payload = group_of(model)
    assert list(node.output) == ["w0", "b0", "scale", "shift", "mean", "var", "gain", "b1"]
    assert [decode.output for _, _, decode in carriage.decode_nodes(model) if decode.member is None] == ["w1"]
    decoded = nnc_codec.decode(payload.raw_data)
    assert list(decoded) == [str(index) for index in range(8)]
    assert decoded["0"].shape == (48, 3, 3, 3) and decoded["6"].shape == (1, 48, 1, 1)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, strict_mode=True)


def test_values_come_back_closely_and_in_their_order(tmp_path: Path) -> None:
    packed = written(network(), tmp_path)
    unpack(packed, tmp_path / "p.onnx")
    before, after = values_of(tmp_path / "m.onnx"), values_of(tmp_path / "p.onnx")
    assert list(before) == list(after)
    for name, values in before.items():
        error = np.sqrt(np.mean((after[name] - values) ** 2) / np.mean(values**2))
        assert error < (0.05 if name.startswith("w") else 0.003), name
    # What is divided by keeps even its small values.
    ratio = (after["var"] + 1e-5) / (before["var"] + 1e-5)
    assert np.sqrt(np.mean((ratio - 1) ** 2)) < 0.005
    assert verify(packed, VerifyOptions(against=tmp_path / "m.onnx")).ok


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_every_float_type_has_its_group(dtype: type, tmp_path: Path) -> None:
    packed = written(network(dtype), tmp_path)
    node, _ = group_of(onnx.load(packed))
    assert node.op_type == {np.float16: "NNRDecodeGroupFloat16", np.float64: "NNRDecodeGroupDouble"}[dtype]
    unpack(packed, tmp_path / "p.onnx")
    assert {values.dtype for values in values_of(tmp_path / "p.onnx").values()} == {np.dtype(dtype)}


def test_integers_are_exact_and_short_lists_stay(tmp_path: Path) -> None:
    steps = np.cumsum(np.ones(300, np.int64))
    made = graphs.model(
        [
            helper.make_node("Gather", ["steps", "i"], ["a"]),
            helper.make_node("Add", ["a", "few"], ["y"]),
        ],
        [graphs.value("i", graphs.INT64, [4])],
        [graphs.value("y", graphs.INT64, [4])],
        [graphs.tensor("steps", steps), graphs.tensor("few", np.arange(4))],
    )
    packed = written(made, tmp_path)
    node, _ = group_of(onnx.load(packed))
    assert (node.op_type, list(node.output)) == ("NNRDecodeGroupInt64", ["steps"])
    unpack(packed, tmp_path / "p.onnx")
    assert values_of(tmp_path / "p.onnx")["steps"].tolist() == steps.tolist()


def test_nothing_is_grouped_on_request(tmp_path: Path) -> None:
    model = onnx.load(written(network(), tmp_path, group_below=0))
    assert [decode.output for _, _, decode in carriage.decode_nodes(model)] == ["w0", "w1"]


def test_groups_avoid_names_that_are_there(tmp_path: Path) -> None:
    made = network()
    made.graph.node[0].output[0] = made.graph.node[1].input[0] = "group.nnr"
    node, _ = group_of(onnx.load(written(made, tmp_path)))
    assert node.input[0] == "group.nnr2"


@pytest.mark.parametrize("mode", ["lazy", "cache", "eager", "native"])
def test_sessions_compute_what_the_unpacked_model_does(mode: str, tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    from nnc_onnx.runtime.library import get_library_path
    from nnc_onnx.runtime.loader import InferenceSession

    packed = written(network(), tmp_path)
    unpack(packed, tmp_path / "p.onnx")

    def options() -> object:
        made = ort.SessionOptions()
        made.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        made.add_session_config_entry("session.disable_prepacking", "1")
        return made

    cpu = ["CPUExecutionProvider"]
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    expected = ort.InferenceSession(str(tmp_path / "p.onnx"), options(), cpu).run(None, {"x": x})[0]
    if mode == "native":
        settings = options()
        settings.register_custom_ops_library(get_library_path())
        session = ort.InferenceSession(str(packed), settings, cpu)
    else:
        session = InferenceSession(packed, options(), cpu, mode=mode)
    for _ in range(3):
        assert session.run(None, {"x": x})[0].tobytes() == expected.tobytes()


def native_error(path: Path) -> str:
    """What the run-time library says when it has to decode a group."""
    ort = pytest.importorskip("onnxruntime")
    from nnc_onnx.runtime.library import get_library_path

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(get_library_path())
    with pytest.raises(Exception, match="NNC-E") as caught:
        session = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        session.run(None, {"x": np.zeros((1, 3, 8, 8), np.float32)})
    return str(caught.value)


def test_a_damaged_payload_is_found(tmp_path: Path) -> None:
    def flip(model: ModelProto) -> None:
        _, payload = group_of(model)
        middle = len(payload.raw_data) // 2
        payload.raw_data = (
            payload.raw_data[:middle] + bytes([payload.raw_data[middle] ^ 16]) + payload.raw_data[middle + 1 :]
        )

    path = edited(written(network(), tmp_path), flip)
    assert {finding.code for finding in verify(path).findings} == {"NNC-E212"}
    with pytest.raises(CarriageError, match="CRC-32"):
        unpack(path, tmp_path / "p.onnx")
    assert "CRC-32" in native_error(path)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([-4, 48, 3, 3], "shapes"),
        ([-(1 << 40)], "shapes"),
        ([1 << 62, 1 << 62], "shapes"),
        ([-2, -1, 5], "shapes"),
        ([48], "shape"),
    ],
)
def test_wrong_shapes_are_refused(shapes: list[int], message: str, tmp_path: Path) -> None:
    def edit(model: ModelProto) -> None:
        node, _ = group_of(model)
        attribute = next(item for item in node.attribute if item.name == "shapes")
        del attribute.ints[:]
        attribute.ints.extend(shapes)

    path = edited(written(network(), tmp_path), edit)
    with pytest.raises(CarriageError):
        unpack(path, tmp_path / "p.onnx")
    assert message in native_error(path)


def test_shapes_that_are_not_those_of_the_units_are_refused(tmp_path: Path) -> None:
    def edit(model: ModelProto) -> None:
        node, _ = group_of(model)
        attribute = next(item for item in node.attribute if item.name == "shapes")
        shapes = carriage.unpack_shapes(attribute.ints)
        del attribute.ints[:]
        attribute.ints.extend(carriage.pack_shapes([shapes[0], (24, 2), *shapes[2:]]))

    path = edited(written(network(), tmp_path), edit)
    with pytest.raises(CarriageError, match="shape"):
        unpack(path, tmp_path / "p.onnx")
    assert "shape" in native_error(path)


def test_missing_units_are_refused(tmp_path: Path) -> None:
    def edit(model: ModelProto) -> None:
        node, payload = group_of(model)
        stream = nnc_codec.open(payload.raw_data)
        payload.raw_data = b"".join(stream.unit_bytes(unit.index) for unit in stream.units[:-1])
        payload.dims[0] = len(payload.raw_data)
        next(item for item in node.attribute if item.name == "crc32").i = zlib.crc32(payload.raw_data)
        del model.metadata_props[:]

    path = edited(written(network(), tmp_path), edit)
    with pytest.raises(CarriageError, match="data units"):
        unpack(path, tmp_path / "p.onnx")
    assert "data units" in native_error(path)


def test_no_damage_behind_a_right_checksum_ends_otherwise_than_in_a_typed_error(tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    from nnc_onnx.runtime.library import get_library_path

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(get_library_path())
    packed = written(network(), tmp_path)
    random = np.random.default_rng(0)
    for _ in range(60):

        def edit(model: ModelProto) -> None:
            node, payload = group_of(model)
            data = bytearray(payload.raw_data)
            data[random.integers(len(data))] ^= 1 << random.integers(8)
            payload.raw_data = bytes(data)
            next(item for item in node.attribute if item.name == "crc32").i = zlib.crc32(data)

        path = edited(packed, edit)
        with contextlib.suppress(NNRError):
            unpack(path, tmp_path / "p.onnx", UnpackOptions(force=True))
        try:
            session = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
            session.run(None, {"x": np.zeros((1, 3, 8, 8), np.float32)})
        except Exception as error:
            assert "NNC-E" in str(error)


def test_outputs_that_tools_have_cut_are_not_missed(tmp_path: Path) -> None:
    """GraphSurgeon and others drop or empty the names of outputs that nothing reads any more."""

    def edit(model: ModelProto) -> None:
        node, _ = group_of(model)
        model.graph.node[-1].input.pop()
        del node.output[-1]
        node.output[0] = ""
        model.graph.initializer.append(graphs.tensor("w0", np.ones((48, 3, 3, 3), np.float32)))

    path = edited(written(network(), tmp_path), edit)
    ort = pytest.importorskip("onnxruntime")
    from nnc_onnx.runtime.library import get_library_path

    options = ort.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    session = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    assert session.run(None, {"x": np.zeros((1, 3, 8, 8), np.float32)})[0].shape == (1, 96, 8, 8)
    assert verify(path).ok
    unpack(path, tmp_path / "p.onnx")
    assert set(values_of(tmp_path / "p.onnx")) == {"w0", "scale", "shift", "mean", "var", "gain", "w1", "b0"}


def test_inspection_shows_members(tmp_path: Path) -> None:
    packed = written(network(), tmp_path)
    tensors = {tensor.name: tensor for tensor in inspect(packed).tensors}
    assert (tensors["scale"].treatment, tensors["scale"].detail["unit"]) == ("coded", 2)
    _, payload = group_of(onnx.load(packed))
    members = [tensor for tensor in tensors.values() if "unit" in tensor.detail]
    assert sum(tensor.stored_bytes for tensor in members) + 12 == len(payload.raw_data)


def test_groups_live_where_their_readers_are(tmp_path: Path) -> None:
    """Tensors of a branch are decoded in that branch only."""
    path = written(graphs.branches(local_names=True), tmp_path, group_below=1 << 20)
    model = onnx.load(path)
    places = {where for where, _, decode in carriage.decode_nodes(model) if decode.member is not None}
    assert {where[-1].partition(".")[2] for where in places if where} >= {"then_branch", "else_branch"}
    assert verify(path, VerifyOptions(against=tmp_path / "m.onnx")).ok


def test_units_travel_to_nnr_files_and_back(tmp_path: Path) -> None:
    packed = written(network(), tmp_path)
    to_nnr(packed, tmp_path / "m.nnr", ConvertOptions())
    assert set(nnc_codec.open(tmp_path / "m.nnr")) == set(values_of(tmp_path / "m.onnx"))
    to_onnx(tmp_path / "m.nnr", tmp_path / "again.onnx", ConvertOptions())
    unpack(packed, tmp_path / "p.onnx")
    unpack(tmp_path / "again.onnx", tmp_path / "q.onnx")
    left, right = values_of(tmp_path / "p.onnx"), values_of(tmp_path / "q.onnx")
    assert {name: values.tobytes() for name, values in left.items()} == {
        name: values.tobytes() for name, values in right.items()
    }


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5).map(tuple), max_size=9))
def test_shapes_survive_their_attribute(shapes: list[tuple[int, ...]]) -> None:
    assert carriage.unpack_shapes(carriage.pack_shapes(shapes)) == shapes


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=9))
def test_any_attribute_is_shapes_or_refused(packed: list[int]) -> None:
    try:
        shapes = carriage.unpack_shapes(packed)
    except CarriageError:
        return
    assert carriage.unpack_shapes(carriage.pack_shapes(shapes)) == shapes

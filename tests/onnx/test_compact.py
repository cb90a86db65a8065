"""Compact graphs compute the same, and become byte for byte what they were."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from onnx import ModelProto, TensorProto, helper

from nnc_codec.formats import PackOptions, VerifyOptions
from nnc_onnx import carriage
from nnc_onnx.compact import TABLE_KEY, compact, restore
from nnc_onnx.compact.names import short_names
from nnc_onnx.deflated_text import deflate_text, inflate_text
from nnc_onnx.errors import CarriageError
from nnc_onnx.inspection import inspect
from nnc_onnx.packing import pack, pack_model
from nnc_onnx.unpacking import unpack, unpack_model
from nnc_onnx.verification import verify

ALWAYS = -float("inf")


def wordy(layers: int = 40) -> ModelProto:
    """A chain with long names, Constant nodes and attributes that repeat their defaults."""
    nodes, tensors = [], []
    last = "x"
    for layer in range(layers):
        scope = f"/backbone/features/stage.{layer // 8}/block.{layer}"
        nodes += [
            helper.make_node(
                "Conv", [last, f"w{layer}"], [f"{scope}/conv/Conv_output_0"], name=f"{scope}/conv/Conv",
                dilations=[1, 1], group=1, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1],
            ),
            graphs.constant(f"{scope}/act/Constant_output_0", np.array(0.1, np.float32), f"{scope}/act/Constant"),
            helper.make_node(
                "Mul", [f"{scope}/conv/Conv_output_0", f"{scope}/act/Constant_output_0"],
                [f"{scope}/act/Mul_output_0"], name=f"{scope}/act/Mul",
            ),
            helper.make_node(
                "LeakyRelu", [f"{scope}/act/Mul_output_0"], [f"{scope}/act/LeakyRelu_output_0"],
                name=f"{scope}/act/LeakyRelu", alpha=0.01 if layer % 2 else 0.02,
            ),
        ]  # fmt: skip
        tensors.append(graphs.tensor(f"w{layer}", graphs.weights(8, 8, 3, 3, seed=layer)))
        last = f"{scope}/act/LeakyRelu_output_0"
    nodes.append(helper.make_node("Identity", [last], ["y"], name="the end"))
    shape: list[int | str] = ["n", 8, 8, 8]
    return graphs.model(nodes, [graphs.value("x", shape=shape)], [graphs.value("y", shape=shape)], tensors)


def serialized(model: ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def copy(model: ModelProto) -> ModelProto:
    copied = ModelProto()
    copied.CopyFrom(model)
    return copied


def saved(model: ModelProto, folder: Path) -> Path:
    (folder / "m.onnx").write_bytes(serialized(model))
    return folder / "m.onnx"


@pytest.mark.parametrize("name", graphs.ALL)
@pytest.mark.parametrize("group_below", [0, 1 << 20])
def test_every_packed_graph_comes_back_exactly(name: str, group_below: int) -> None:
    packed, _ = pack_model(graphs.ALL[name](), PackOptions(keep_names=True, group_below=group_below))
    small = copy(packed)
    compact(small, ALWAYS)
    assert TABLE_KEY in carriage.metadata(small)
    onnx.checker.check_model(small, full_check=True)
    assert list(small.graph.input) == list(packed.graph.input)
    assert list(small.graph.output) == list(packed.graph.output)
    assert not [node.op_type for node in small.graph.node if node.name]
    restore(small)
    assert serialized(small) == serialized(packed)


def test_long_names_make_way(tmp_path: Path) -> None:
    source = saved(wordy(), tmp_path)
    pack(source, tmp_path / "long.onnx", PackOptions(keep_names=True))
    pack(source, tmp_path / "short.onnx")
    long, short = (tmp_path / name for name in ("long.onnx", "short.onnx"))
    assert short.stat().st_size < long.stat().st_size - 8000
    model = onnx.load(short)
    assert "Constant" not in {node.op_type for node in model.graph.node}
    assert max(len(name) for node in model.graph.node for name in node.output) <= 3
    assert {item.name for node in model.graph.node if node.op_type == "Conv" for item in node.attribute} == {"pads"}
    assert {len(node.attribute) for node in model.graph.node if node.op_type == "LeakyRelu"} == {0, 1}


def test_all_tools_see_the_old_graph(tmp_path: Path) -> None:
    source = saved(wordy(), tmp_path)
    packed = tmp_path / "m.nnc.onnx"
    pack(source, packed)
    assert TABLE_KEY in carriage.metadata(onnx.load(packed))
    assert {tensor.name for tensor in inspect(packed).tensors} >= {f"w{layer}" for layer in range(40)}
    pytest.importorskip("onnxruntime")
    assert verify(packed, VerifyOptions(against=source, run=True, dims={"n": 2})).ok
    unpack(packed, tmp_path / "plain.onnx")
    before, after = onnx.load(source), onnx.load(tmp_path / "plain.onnx")
    for tensor in (*before.graph.initializer, *after.graph.initializer):
        tensor.ClearField("raw_data")
    assert serialized(before) == serialized(after)


def test_constants_come_back_as_they_were() -> None:
    """Names of nodes and of the tensors in them, whether coded alone, in a group or not at all."""
    made = graphs.constants()
    for group_below in (0, 1 << 20):
        plain = unpack_model(pack_model(made, PackOptions(group_below=group_below))[0])
        assert [(node.op_type, node.name, list(node.output)) for node in plain.graph.node] == [
            (node.op_type, node.name, list(node.output)) for node in made.graph.node
        ]
        assert [node.attribute[0].t.name for node in plain.graph.node if node.op_type == "Constant"] == [
            node.attribute[0].t.name for node in made.graph.node if node.op_type == "Constant"
        ]


def test_small_savings_are_not_taken() -> None:
    packed, _ = pack_model(graphs.mlp(), PackOptions(keep_names=True))
    small = copy(packed)
    assert compact(small, 1 << 20) == 0
    assert serialized(small) == serialized(packed)
    assert serialized(pack_model(graphs.mlp())[0]) == serialized(packed)


def test_remarks_move_and_come_back() -> None:
    made = wordy()
    for index, node in enumerate(made.graph.node):
        node.doc_string = f"line {index} of a stack trace"
        if hasattr(node, "metadata_props"):
            node.metadata_props.add(key="namespace", value=f"model.layer.{index}")
    packed, _ = pack_model(made, PackOptions(keep_names=True))
    small, _ = pack_model(made)
    assert not any(node.doc_string for node in small.graph.node if node.op_type == "Conv")
    assert small.ByteSize() < packed.ByteSize() - 20000
    small.graph.node[-1].doc_string = "mine"
    restore(small)
    assert small.graph.node[-1].doc_string == "mine"
    small.graph.node[-1].doc_string = packed.graph.node[-1].doc_string
    assert serialized(small) == serialized(packed)


def test_training_information_keeps_its_names() -> None:
    made = wordy()
    made.training_info.add().initialization_binding.add(key="w0", value="w0")
    assert compact(made, ALWAYS) == 0 and TABLE_KEY not in carriage.metadata(made)


def test_names_that_are_short_already_do_not_collide() -> None:
    made = graphs.model(
        [
            helper.make_node("Relu", ["a"], ["a long name"], name="first"),
            helper.make_node("Relu", ["a long name"], ["d"], name="a"),
            helper.make_node("Relu", ["d"], ["b"], name="third"),
        ],
        [graphs.value("a", shape=[2])],
        [graphs.value("b", shape=[2])],
    )
    small = copy(made)
    compact(small, ALWAYS)
    assert [list(node.output) for node in small.graph.node] == [["c"], ["d"], ["b"]]
    onnx.checker.check_model(small, full_check=True)
    restore(small)
    assert serialized(small) == serialized(made)


def test_short_names_are_distinct_and_avoid_what_is_taken() -> None:
    names = short_names({"a", "zz"})
    first = [next(names) for _ in range(5000)]
    assert len(set(first)) == 5000 and not {"a", "zz"} & set(first)
    assert all(name[0].isalpha() and len(name) <= 3 for name in first)


def test_what_tools_have_changed_is_left_alone() -> None:
    """A node that was removed, one with a new name and one with another attribute."""
    small, _ = pack_model(wordy())
    assert TABLE_KEY in carriage.metadata(small)
    leaky = next(node for node in small.graph.node if node.op_type == "LeakyRelu" and not node.attribute)
    leaky.name = "mine"
    leaky.attribute.append(helper.make_attribute("alpha", 0.5))
    del small.graph.initializer[-1]
    plain = unpack_model(small)
    changed = next(node for node in plain.graph.node if node.name == "mine")
    assert changed.attribute[0].f == 0.5 and changed.output[0].endswith("/act/LeakyRelu_output_0")


@pytest.mark.parametrize("damage", ["cut", "flip", "no text", "json", "bomb"])
def test_a_damaged_table_is_an_error(damage: str) -> None:
    small, _ = pack_model(wordy())
    entry = next(item for item in small.metadata_props if item.key == TABLE_KEY)
    middle = len(entry.value) // 2
    entry.value = {
        "cut": entry.value[:middle],
        "flip": entry.value[:middle] + ("A" if entry.value[middle] != "A" else "B") + entry.value[middle + 1 :],
        "no text": "\u00e4\u00f6",
        "json": deflate_text(b'{"names": 3}'),
        "bomb": deflate_text(b"[" * (1 << 20)),
    }[damage]
    with pytest.raises(CarriageError):
        restore(small)


@pytest.mark.parametrize(
    "table",
    [
        '{"constants": {"outputs": [5], "gaps": [0], "names": [""], "tensors": [null]}}',
        '{"constants": {"outputs": [0], "gaps": [0]}}',
        '{"names": {"values": ["x"]}, "constants": {"outputs": [0], "gaps": [-1], "names": [""], "tensors": [null]}}',
        '{"names": {"values": ["x"]}, "attributes": {"nodes": [7]}}',
        '{"names": {"values": ["x"]}, "attributes": {"nodes": [1], "patterns": [[0, 9]]}}',
        '{"attributes": {"kinds": ["%%%"]}}',
        '{"twins": {"names": ["v"], "kept": [0], "gaps": [1], "nodes": [0], "inputs": [1]}}',
        '{"names": {"values": ["w0"]}, "twins": {"names": ["v"], "kept": [0], "gaps": [1]}}',
        '{"names": {"values": ["w0"]}, "twins": {"names": ["v"], "kept": [0], "gaps": [-1], "counts": [0]}}',
    ],
)
def test_a_table_that_refers_to_nothing_is_an_error(table: str) -> None:
    made = wordy(2)
    made.metadata_props.add(key=TABLE_KEY, value=deflate_text(table.encode()))
    with pytest.raises(CarriageError):
        restore(made)


def test_text_has_a_limit() -> None:
    text = deflate_text(bytes(1000))
    assert inflate_text(text, 1000, "it") == bytes(1000)
    with pytest.raises(CarriageError, match="more than 999"):
        inflate_text(text, 999, "it")
    with pytest.raises(CarriageError, match="damaged"):
        inflate_text(text + text, 1 << 20, "it")


def test_scalars_in_branches_stay_in_their_branches() -> None:
    """Two branches with Constant nodes of one name, which cannot be told apart, and one with a name of its own."""

    def branch(name: str, extra: bool) -> onnx.GraphProto:
        nodes = [
            graphs.constant("same", np.array(2.0 if extra else 3.0, np.float32), f"{name} constant"),
            helper.make_node("Mul", ["x", "same"], [f"{name} product"], name="product"),
        ]
        last = f"{name} product"
        if extra:
            nodes.append(graphs.constant("own", np.array(5.0, np.float32), "own constant"))
            nodes.append(helper.make_node("Add", [last, "own"], ["sum"]))
            last = "sum"
        return helper.make_graph(nodes, name, [], [graphs.value(last, shape=[2])])

    made = graphs.model(
        [helper.make_node("If", ["flag"], ["y"], then_branch=branch("then", True), else_branch=branch("else", False))],
        [graphs.value("x", shape=[2]), graphs.value("flag", TensorProto.BOOL, [])],
        [graphs.value("y", shape=[2])],
    )
    small = copy(made)
    compact(small, ALWAYS)
    onnx.checker.check_model(small, full_check=True)
    ort = pytest.importorskip("onnxruntime")
    for flag in (True, False):
        feed = {"x": np.ones(2, np.float32), "flag": np.array(flag)}
        results = [
            ort.InferenceSession(serialized(model), providers=["CPUExecutionProvider"]).run(None, feed)[0]
            for model in (made, small)
        ]
        assert results[0].tolist() == results[1].tolist()
    restore(small)
    assert serialized(small) == serialized(made)


def test_names_that_look_like_short_ones_come_back():
    """An old name can be what another value, a payload above all, is called in between."""
    generator = np.random.default_rng(0)
    tensors = {name: generator.standard_normal((64, 64)).astype(np.float32) for name in ("W", "V", "a.nnr")}
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["d"]),
        helper.make_node("MatMul", ["d", "V"], ["e"]),
        helper.make_node("Tanh", ["e"], ["f"]),
        helper.make_node("MatMul", ["f", "a.nnr"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 64]) for name in "xy"]
    graph = helper.make_graph(
        nodes, "g", values[:1], values[1:], [onnx.numpy_helper.from_array(a, name) for name, a in tensors.items()]
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    packed, _ = pack_model(made, PackOptions(group_below=0))
    names = [name for node in packed.graph.node for name in node.output]
    names += [tensor.name for tensor in packed.graph.initializer]
    assert len(set(names)) == len(names)
    assert {"d", "e", "f", "W.nnr", "V.nnr", "a.nnr.nnr"} <= set(names)


def repetitive(layers: int = 12) -> ModelProto:
    """Nodes that all have initializers and Constant nodes of their own, most of them equal."""
    nodes, tensors = [], []
    last = "x"
    for layer in range(layers):
        tensors.append(graphs.tensor(f"bound{layer}", np.float32(6)))
        tensors.append(graphs.tensor(f"factor{layer}", np.float32(layer % 3)))
        nodes += [
            graphs.constant(f"low{layer}", np.array(-0.5, np.float32)),
            helper.make_node("Clip", [last, f"low{layer}", f"bound{layer}"], [f"c{layer}"]),
            helper.make_node("Mul", [f"c{layer}", f"factor{layer}"], [f"m{layer}"]),
            helper.make_node("Add", [f"m{layer}", f"factor{layer}"], [f"a{layer}"]),
        ]
        last = f"a{layer}"
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    return graphs.model(nodes, [graphs.value("x", shape=[2])], [graphs.value("y", shape=[2])], tensors)


def test_equal_constants_become_one_and_come_back():
    made = repetitive()
    small = copy(made)
    assert compact(small, ALWAYS)
    assert len(small.graph.initializer) == 5
    onnx.checker.check_model(small, full_check=True)
    ort = pytest.importorskip("onnxruntime")
    feed = {"x": np.array([-3, 0.7], np.float32)}
    results = [
        ort.InferenceSession(serialized(model), providers=["CPUExecutionProvider"]).run(None, feed)[0]
        for model in (made, small)
    ]
    assert results[0].tolist() == results[1].tolist()
    restore(small)
    assert serialized(small) == serialized(made)


def test_equal_constants_that_mean_something_elsewhere_stay():
    made = repetitive()
    made.graph.value_info.append(graphs.value("bound1", shape=[]))
    made.graph.output.append(graphs.value("bound2", shape=[]))
    small = copy(made)
    compact(small, ALWAYS)
    assert sum(tensor.float_data[:] == [6] or tensor.raw_data == np.float32(6).tobytes()
               for tensor in small.graph.initializer) == 3  # fmt: skip
    restore(small)
    assert serialized(small) == serialized(made)


def test_equal_constants_of_nodes_that_tools_have_removed_stay_away():
    small = repetitive()
    compact(small, ALWAYS)
    clip = next(node for node in small.graph.node if node.op_type == "Clip" and "x" not in node.input)
    clip.op_type = "Identity"
    del clip.input[1:]
    restore(small)
    onnx.checker.check_model(small, full_check=True)
    left = {tensor.name for tensor in small.graph.initializer} | {n.output[0] for n in small.graph.node}
    assert len({f"bound{layer}" for layer in range(12)} & left) == 11


def test_a_table_cannot_multiply_large_tensors():
    names = {"values": ["w", "m0", "m1"]}
    twins = {"names": ["v"], "kept": [0], "gaps": [1], "nodes": [2], "inputs": [1]}
    made = graphs.model(
        [helper.make_node("MatMul", ["x", "a"], ["b"]), helper.make_node("MatMul", ["b", "a"], ["c"]),
         helper.make_node("Identity", ["c"], ["y"])],
        [graphs.value("x", shape=[2, 64])], [graphs.value("y", shape=[2, 64])],
        [graphs.tensor("a", graphs.weights(64, 64))],
    )  # fmt: skip
    table = msgspec.json.encode({"names": names, "twins": twins})
    made.metadata_props.add(key=TABLE_KEY, value=deflate_text(table))
    with pytest.raises(CarriageError, match="names a large tensor"):
        restore(made)


def test_kernels_of_known_weights_need_no_attribute():
    small = wordy(3)
    compact(small, ALWAYS)
    assert not any(item.name == "kernel_shape" for node in small.graph.node for item in node.attribute)
    inferred = onnx.shape_inference.infer_shapes(small, strict_mode=True)
    assert [dim.dim_value for dim in inferred.graph.value_info[0].type.tensor_type.shape.dim][1:] == [8, 8, 8]
    restore(small)
    assert serialized(small) == serialized(wordy(3))


def test_kernels_of_computed_weights_keep_their_attribute():
    made = graphs.model(
        [helper.make_node("Identity", ["w"], ["v"]),
         helper.make_node("Conv", ["x", "v"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
        [graphs.value("x", shape=["n", 8, 8, 8])], [graphs.value("y", shape=["n", 8, 8, 8])],
        [graphs.tensor("w", graphs.weights(8, 8, 3, 3))],
    )  # fmt: skip
    compact(made, ALWAYS)
    assert any(item.name == "kernel_shape" for item in made.graph.node[1].attribute)


def test_long_names_of_weights_make_way_where_they_are_worth_it(tmp_path: Path) -> None:
    made = wordy()
    for number, item in enumerate(made.graph.initializer):
        item.name = made.graph.node[4 * number].input[1] = f"backbone/{'very/' * 10}long/{item.name}"
    source = saved(made, tmp_path)
    pack(source, tmp_path / "short.onnx", PackOptions(group_below=0))
    outputs = [node.output[0] for node in onnx.load(tmp_path / "short.onnx").graph.node]
    assert max(map(len, outputs)) <= 3
    assert inspect(tmp_path / "short.onnx").tensors[0].name.endswith("long/w0")
    pack(source, tmp_path / "long.onnx", PackOptions(keep_names=True, group_below=0))
    plain = [unpack_model(onnx.load(tmp_path / name)) for name in ("short.onnx", "long.onnx")]
    assert serialized(plain[0]) == serialized(plain[1])


def test_nodes_called_as_their_outputs_are_not_listed() -> None:
    small = wordy(2)
    compact(small, ALWAYS)
    text = next(item.value for item in small.metadata_props if item.key == TABLE_KEY)
    table = msgspec.json.decode(inflate_text(text, 1 << 20, "table"))
    assert "/backbone/features/stage.0/block.1/conv/Conv" not in table["names"]["nodes"]
    assert set(table["constants"]["names"]) == {None}
    restore(small)
    assert serialized(small) == serialized(wordy(2))

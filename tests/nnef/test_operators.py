"""Every ONNX operator that can be converted computes the same in NNEF's reference interpreter, and back in ONNX."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import BOOL, FLOAT, INT64, check_both_ways, one_node

from nnc_codec.errors import InvalidArgumentError
from nnc_nnef.convert import ConvertSettings, to_nnef
from nnc_nnef.convert.onnx_to_nnef import convert_graph
from nnc_nnef.errors import ConversionError, ShapeError

pytest.importorskip("onnxruntime")

X = ("x", (2, 6, 8, 10), FLOAT)
RNG = np.random.default_rng(3)


def w(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 0.4).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


CASES = {
    **{kind.lower(): one_node(kind, [X]) for kind in (
        "Relu", "Sigmoid", "Tanh", "Softplus", "Selu", "Elu", "Abs", "Sign", "Sin", "Cos", "Exp", "Neg", "Ceil",
            "Floor",
        "Erf", "HardSigmoid", "HardSwish", "Softsign", "LeakyRelu", "Identity", "ThresholdedRelu",
            "GlobalAveragePool",
        "GlobalMaxPool", "Sinh", "Cosh", "Asinh", "Atan")},
    "mish": one_node("Mish", [X], opset=18),
    "gelu": one_node("Gelu", [X], opset=20),
    "gelu tanh": one_node("Gelu", [X], opset=20, approximate="tanh"),
    "elu 0.5": one_node("Elu", [X], alpha=0.5),
    "selu other": one_node("Selu", [X], alpha=1.5, gamma=1.2),
    "celu": one_node("Celu", [X], alpha=2.0),
    "prelu": one_node("PRelu", [X, ("s", w(6, 1, 1))]),
    "reciprocal": one_node("Reciprocal", [X]),
    "add broadcast": one_node("Add", [X, ("b", w(8, 1))]),
    "sub constant first": one_node("Sub", [("b", w(6, 1, 1)), X]),
    "pow": one_node("Pow", [X, ("e", np.float32(2.0))]),
    "mod ints": one_node("Mod", [("a", (3, 5), INT64), ("b", i64(3))], out_type=INT64),
    "fmod": one_node("Mod", [X, ("b", np.float32(0.7))], fmod=1),
    "max of three": one_node("Max", [X, ("a", w(10)), ("b", np.float32(0.1))]),
    "sum of three": one_node("Sum", [X, ("a", w(10)), ("b", w(8, 1))]),
    "mean of two": one_node("Mean", [X, ("a", w(10))]),
    "clip both": one_node("Clip", [X, ("lo", np.float32(-0.3)), ("hi", np.float32(0.4))]),
    "clip low": one_node("Clip", [X, ("lo", np.float32(-0.3))]),
    "clip high": one_node("Clip", [X, "", ("hi", np.float32(0.4))]),
    "clip attributes": one_node("Clip", [X], opset=6, min=-0.2, max=0.5),
    "where": one_node("Where", [("c", (2, 1, 8, 1), BOOL), X, ("b", w(10))]),
    "where infinite": one_node("Where", [("c", (2, 6, 8, 10), BOOL), X, ("b", np.float32(-np.inf))]),
    "equal": one_node("Equal", [("a", (4, 5), INT64), ("b", i64(1, 2, 3, 4, 5))], out_type=BOOL),
    "xor": one_node("Xor", [("a", (4, 5), BOOL), ("b", (5,), BOOL)], out_type=BOOL),
    "equal of truth values": one_node("Equal", [("a", (4, 5), BOOL), ("b", (5,), BOOL)], out_type=BOOL),
    "not": one_node("Not", [("a", (4, 5), BOOL)], out_type=BOOL),
    "integer add": one_node("Add", [("a", (4, 5), INT64), ("b", i64(7))], out_type=INT64),
    "integer division truncates": one_node(
        "Div", [("a", (4, 5), INT64), ("b", i64(-3, 2, -2, 5, 3))], out_type=INT64),
    "integer reduce": one_node("ReduceSum", [("a", (4, 5), INT64), ("axes", i64(1))], out_type=INT64),
    "cast to float": one_node("Cast", [("a", (4, 5), INT64)], to=FLOAT),
    "cast to bool": one_node("Cast", [("a", (4, 5), INT64)], to=BOOL, out_type=BOOL),
    "transpose": one_node("Transpose", [X], perm=[0, 2, 3, 1]),
    "transpose of six axes": one_node("Transpose", [("x", (2, 3, 2, 3, 2, 4), FLOAT)], perm=[3, 0, 5, 2, 1, 4]),
    "flatten 2": one_node("Flatten", [X], axis=2),
    "flatten 0": one_node("Flatten", [X], axis=0),
    "reshape": one_node("Reshape", [X, ("s", i64(0, -1, 5))]),
    "squeeze old": one_node("Squeeze", [("x", (1, 4, 1, 3), FLOAT)], opset=11, axes=[0, 2]),
    "unsqueeze old": one_node("Unsqueeze", [("x", (4, 3), FLOAT)], opset=11, axes=[0, -1]),
    "unsqueeze": one_node("Unsqueeze", [("x", (4, 3), FLOAT), ("axes", i64(1))]),
    "expand": one_node("Expand", [("x", (6, 1, 10), FLOAT), ("s", i64(2, 1, 8, 1))]),
    "tile": one_node("Tile", [("x", (2, 3), FLOAT), ("r", i64(2, 3))]),
    "concat": one_node("Concat", [X, ("b", w(2, 1, 8, 10))], axis=-3),
    "split equal": one_node("Split", [X], opset=11, axis=1, split=[1, 2, 3], outputs=3),
    "split input": one_node("Split", [X, ("s", i64(4, 2))], axis=1, outputs=2),
    "split count": one_node("Split", [("x", (7, 2), FLOAT)], opset=18, axis=0, num_outputs=3, outputs=3),
    "slice old": one_node("Slice", [X], opset=9, starts=[1, -3], ends=[5, 1000], axes=[1, 3]),
    "slice steps": one_node("Slice", [X, ("b", i64(0, 1)), ("e", i64(8, 9)), ("a", i64(2, 3)), ("s", i64(3, 2))]),
    "slice backwards": one_node(
        "Slice", [X, ("b", i64(-1)), ("e", i64(-(1 << 62))), ("a", i64(3)), ("s", i64(-2))]),
    "gather rows": one_node("Gather", [("t", w(40, 30)), ("i", (3, 5), INT64)]),
    "gather scalar": one_node("Gather", [X, ("i", np.asarray(-2, np.int64))], axis=1),
    "gather constants": one_node("Gather", [X, ("i", i64(5, 0, -1, 2))], axis=3),
    "gather elements": one_node("GatherElements", [X, ("i", (2, 6, 8, 4), INT64)], axis=3),
    "scatter elements": one_node(
        "ScatterElements", [("x", (4, 5), FLOAT), ("i", i64(1, 3).reshape(1, 2)), ("u", (1, 2), FLOAT)], axis=1),
    "scatter nd": one_node("ScatterND", [("x", (4, 5), FLOAT), ("i", i64(1, 3).reshape(2, 1)), ("u", (2, 5), FLOAT)]),
    "pad constant": one_node("Pad", [X, ("p", i64(0, 0, 1, 2, 0, 0, 3, 0)), ("v", np.float32(0.5))]),
    "pad reflect": one_node("Pad", [X, ("p", i64(0, 0, 1, 2, 0, 0, 3, 1))], mode="reflect"),
    "pad edge": one_node("Pad", [X, ("p", i64(0, 0, 1, 2, 0, 0, 3, 1))], mode="edge"),
    "pad negative": one_node("Pad", [X, ("p", i64(0, 0, -1, 2, 0, 0, 3, -2))]),
    "pad axes": one_node("Pad", [X, ("p", i64(1, 2)), "", ("a", i64(3))], opset=18),
    "pad old": one_node("Pad", [X], opset=10, pads=[0, 0, 1, 1, 0, 0, 2, 2]),
    "depth to space dcr": one_node("DepthToSpace", [("x", (2, 12, 3, 4), FLOAT)], blocksize=2),
    "depth to space crd": one_node("DepthToSpace", [("x", (2, 12, 3, 4), FLOAT)], blocksize=2, mode="CRD"),
    "space to depth": one_node("SpaceToDepth", [("x", (2, 3, 4, 6), FLOAT)], blocksize=2),
    "trilu": one_node("Trilu", [("x", (2, 5, 5), FLOAT)], upper=0),
    "one hot": one_node("OneHot", [("i", (3, 4), INT64), ("d", i64(9)), ("v", w(2))], axis=1),
    "cumsum": one_node("CumSum", [X, ("a", np.asarray(2, np.int64))]),
    "cumsum reverse exclusive": one_node("CumSum", [X, ("a", np.asarray(3, np.int64))], reverse=1, exclusive=1),
    **{f"reduce {kind.lower()}": one_node(f"Reduce{kind}", [X], axes=[-1, 1], keepdims=0, opset=12) for kind in (
        "Mean", "Sum", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp")},
    "reduce mean by input": one_node("ReduceMean", [X, ("axes", i64(3, 2))], opset=18),
    "reduce all": one_node("ReduceMax", [X], keepdims=1),
    "reduce to scalar": one_node("ReduceMean", [X], keepdims=0),
    "reduce prod": one_node("ReduceProd", [X], axes=[1], opset=13),
    "argmax": one_node("ArgMax", [X], axis=-1, keepdims=0, out_type=INT64),
    "argmin": one_node("ArgMin", [X], axis=1, out_type=INT64),
    **{f"softmax opset {o} axis {a}": one_node("Softmax", [X], opset=o, axis=a) for o in (11, 12, 13) for a in (-1, 1,
        2)},
    "softmax default 11": one_node("Softmax", [X], opset=11),
    "softmax default 13": one_node("Softmax", [X], opset=13),
    "log softmax 11": one_node("LogSoftmax", [X], opset=11, axis=2),
    "layer norm": one_node("LayerNormalization", [X, ("s", w(8, 10)), ("b", w(8, 10))], axis=2),
    "group norm": one_node("GroupNormalization", [X, ("s", w(6)), ("b", w(6))], opset=21, num_groups=3),
    "instance norm": one_node("InstanceNormalization", [X, ("s", w(6)), ("b", w(6))]),
    "mean variance norm": one_node("MeanVarianceNormalization", [X]),
    "lp norm": one_node("LpNormalization", [X], axis=1),
    "lrn": one_node("LRN", [X], size=3, alpha=0.3, beta=0.6, bias=1.2),
    "batch norm": one_node(
        "BatchNormalization", [X, ("s", w(6)), ("b", w(6)), ("m", w(6)), ("v", np.abs(w(6)) + 0.5)], epsilon=1e-3),
    "gemm linear": one_node("Gemm", [("x", (3, 7), FLOAT), ("w", w(5, 7)), ("b", w(5))], transB=1),
    "gemm scaled": one_node(
        "Gemm", [("x", (7, 3), FLOAT), ("w", w(7, 5)), ("b", w(3, 1))], transA=1, alpha=0.5, beta=2.0),
    "gemm without bias": one_node("Gemm", [("x", (3, 7), FLOAT), ("w", w(7, 5))]),
    "matmul": one_node("MatMul", [("x", (2, 3, 4, 5), FLOAT), ("w", w(5, 6))]),
    "matmul batched": one_node("MatMul", [("x", (2, 3, 4, 5), FLOAT), ("z", (3, 5, 6), FLOAT)]),
    "matmul matrix first": one_node("MatMul", [("w", w(6, 4)), ("x", (2, 3, 4, 5), FLOAT)]),
    "matmul vector": one_node("MatMul", [("x", (2, 3, 5), FLOAT), ("w", w(5))]),
    "vector matmul": one_node("MatMul", [("w", w(3)), ("x", (2, 3, 5), FLOAT)]),
    "conv same upper": one_node(
        "Conv", [X, ("w", w(4, 6, 3, 4))], auto_pad="SAME_UPPER", strides=[2, 3]),
    "conv same lower": one_node("Conv", [X, ("w", w(4, 6, 2, 2)), ("b", w(4))], auto_pad="SAME_LOWER"),
    "conv grouped dilated": one_node("Conv", [X, ("w", w(6, 3, 3, 3))], group=2, dilations=[2, 1], pads=[2, 1, 2, 1]),
    "conv asymmetric": one_node("Conv", [X, ("w", w(4, 6, 3, 3))], pads=[0, 1, 2, 1]),
    "conv 1d": one_node("Conv", [("x", (1, 3, 20), FLOAT), ("w", w(4, 3, 5))], pads=[2, 2]),
    "conv 3d": one_node("Conv", [("x", (1, 2, 4, 5, 6), FLOAT), ("w", w(3, 2, 2, 3, 3))]),
    "deconv": one_node("ConvTranspose", [("x", (1, 4, 5, 6), FLOAT), ("w", w(4, 3, 3, 3))], strides=[2, 2],
                       pads=[1, 1, 1, 1], output_padding=[1, 0]),
    "deconv grouped": one_node("ConvTranspose", [("x", (1, 4, 5, 6), FLOAT), ("w", w(4, 2, 3, 3))], group=2),
    "max pool ceil": one_node("MaxPool", [X], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "max pool dilated": one_node("MaxPool", [X], kernel_shape=[2, 2], dilations=[2, 2], pads=[1, 0, 0, 1]),
    "average pool": one_node("AveragePool", [X], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "average pool with padding": one_node(
        "AveragePool", [X], kernel_shape=[3, 2], pads=[1, 1, 1, 0], count_include_pad=1),
    "average pool ceil": one_node("AveragePool", [X], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "quantize": one_node("QuantizeLinear", [X, ("s", np.float32(0.05)), ("z", np.uint8(120))],
        out_type=TensorProto.UINT8),
}  # fmt: skip

for mode, coordinates, factor, size in (
    ("nearest", "asymmetric", 2.0, None), ("nearest", "half_pixel", 3.0, None), ("nearest", "align_corners", None,
        (13, 7)),
    ("linear", "half_pixel", 2.0, None), ("linear", "align_corners", 2.0, None), ("linear", "half_pixel", None, (5,
        17)),
    ("linear", "asymmetric", 1.5, None), ("cubic", "half_pixel", 2.0, None), ("linear", "pytorch_half_pixel", 0.5,
        None),
):  # fmt: skip
    sizes = ["", ("n", i64(2, 6, *size))] if size else [("s", np.asarray([1, 1, factor, factor], np.float32))]
    CASES[f"resize {mode} {coordinates} {factor or size}"] = one_node(
        "Resize", [X, "", *sizes], mode=mode, coordinate_transformation_mode=coordinates
    )
CASES["upsample"] = one_node("Upsample", [X, ("s", np.asarray([1, 1, 2, 3], np.float32))], opset=9, mode="nearest")


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    graph = check_both_ways(CASES[name])
    assert "KHR_enable_fragment_definitions" not in graph.text or "erf" in graph.text


def test_quantized_weights_stay_integers() -> None:
    levels = RNG.integers(-128, 127, (300, 64)).astype(np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0),
        helper.make_node("Gemm", ["x", "w"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", FLOAT, (2, 64))], [helper.make_tensor_value_info("y", FLOAT,
            None)],
        [numpy_helper.from_array(levels, "q"), numpy_helper.from_array(np.abs(w(300)) + 0.01, "s"),
         numpy_helper.from_array(np.full(300, 3, np.int8), "z")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    converted = check_both_ways(model)
    assert any(v.source == "q" for v in converted.variables)


def recurrent(kind: str, direction: str, layout: int = 0, **attribs: object) -> onnx.ModelProto:
    gates, ways = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 2 if direction == "bidirectional" else 1
    hidden, size, batch, steps = 5, 4, 3, 6
    x = (batch, steps, size) if layout else (steps, batch, size)
    state = (batch, ways, hidden) if layout else (ways, batch, hidden)
    inputs = [("x", x, FLOAT), ("W", w(ways, gates * hidden, size)), ("R", w(ways, gates * hidden, hidden)),
              ("B", w(ways, 2 * gates * hidden)), "", ("h", state, FLOAT)]  # fmt: skip
    if kind == "LSTM":
        inputs += [("c", state, FLOAT), ("P", w(ways, 3 * hidden))]
    return one_node(
        kind, inputs, outputs=3 if kind == "LSTM" else 2, hidden_size=hidden, direction=direction, **attribs
    )


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_with_all_outputs(kind: str, direction: str) -> None:
    check_both_ways(recurrent(kind, direction))


def test_gru_linear_before_reset() -> None:
    check_both_ways(recurrent("GRU", "bidirectional", linear_before_reset=1))


def test_other_activations() -> None:
    check_both_ways(recurrent("RNN", "forward", activations=["Relu"]))
    with pytest.raises(ConversionError, match="Softsign"):
        convert_graph(recurrent("RNN", "forward", activations=["Softsign"]))


def test_round_takes_halves_to_even() -> None:
    values = np.asarray([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49, -3.2]], np.float32)
    node = helper.make_node("Round", ["s"], ["y"])
    add = helper.make_node("Add", ["x", "v"], ["s"])
    graph = helper.make_graph(
        [add, node], "g", [helper.make_tensor_value_info("x", FLOAT, (1, 8))],
        [helper.make_tensor_value_info("y", FLOAT, None)], [numpy_helper.from_array(values, "v")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    check_both_ways(model, fixed_inputs={}, seed=1)


def branching(condition: bool) -> onnx.ModelProto:
    def branch(name: str, kind: str, weight: np.ndarray) -> onnx.GraphProto:
        nodes = [helper.make_node(kind, ["x", "k"], ["t"]), helper.make_node("Tanh", ["t"], ["z"])]
        return helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info("z", FLOAT, None)], [numpy_helper.from_array(weight, "k")]
        )

    nodes = [
        helper.make_node("Equal", ["mode", "one"], ["c"]),
        helper.make_node(
            "If", ["c"], ["y"], then_branch=branch("t", "Add", w(4)), else_branch=branch("e", "Mul", w(4))
        ),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", FLOAT, (2, 4)), helper.make_tensor_value_info("mode", INT64, ())],
        [helper.make_tensor_value_info("y", FLOAT, None)], [numpy_helper.from_array(np.asarray(1, np.int64), "one")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("mode", [0, 1])
def test_if_with_constant_condition(mode: int) -> None:
    graph = check_both_ways(branching(True), fixed_inputs={"mode": np.asarray(mode, np.int64)})
    assert ("add(" in graph.text) == (mode == 1)


def test_a_number_fixes_an_input(tmp_path: Path) -> None:
    source, target = tmp_path / "m.onnx", tmp_path / "m.nnef.tar"
    onnx.save(branching(True), source)
    to_nnef(source, target, ConvertSettings(fixed_inputs={"mode": 1}))
    with tarfile.open(target) as archive:
        assert b"add(" in archive.extractfile("graph.nnef").read()
    for wrong, words in (({"mode": 0.5}, "does not hold"), ({"node": 1}, "no input 'node'")):
        with pytest.raises(InvalidArgumentError, match=words):
            to_nnef(source, target, ConvertSettings(fixed_inputs=wrong, force=True))


def test_if_with_open_condition_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"condition is not constant.*If"):
        convert_graph(branching(True))


@pytest.mark.parametrize(
    ("model", "op"),
    [
        (one_node("NonZero", [X], out_type=INT64), "NonZero"),
        (one_node("TopK", [X, ("k", i64(3))], outputs=2), "TopK"),
        (one_node("Einsum", [X], equation="abcd->dcba"), "Einsum"),
        (one_node("IsNaN", [X], out_type=BOOL), "IsNaN"),
    ],
)
def test_unknown_operators_are_refused_by_name(model: onnx.ModelProto, op: str) -> None:
    with pytest.raises(ConversionError, match=op) as caught:
        convert_graph(model)
    assert caught.value.op == op
    assert caught.value.node


def test_foreign_domains_are_refused() -> None:
    model = one_node("Relu", [X])
    model.graph.node[0].domain = "com.example"
    model.opset_import.add(domain="com.example", version=1)
    with pytest.raises(ConversionError, match=r"com\.example"):
        convert_graph(model)


def test_open_dimensions_need_sizes() -> None:
    model = one_node("Relu", [("x", ("n", 3, "h"), FLOAT)])
    with pytest.raises(ShapeError, match="dimension 2"):
        convert_graph(model)
    graph = convert_graph(model, dims={"h": 7})
    assert graph.inputs[0].shape == (1, 3, 7)
    assert any("fixed to 1" in note for note in graph.notes)
    with pytest.raises(ShapeError, match="contradicts"):
        convert_graph(model, input_shapes={"x": (1, 4, 7)})


def test_names_become_legal_and_unique() -> None:
    x = ("in:0", (2, 3), FLOAT)
    model = one_node("Gemm", [x, ("w:0", w(64, 3).repeat(20, 0)), ("for", w(1280))], transB=1)
    graph = check_both_ways(model)
    assert graph.inputs[0].nnef == "in_0"
    assert len({v.label.casefold() for v in graph.variables}) == len(graph.variables) == 2


def test_inputs_that_nothing_reads_are_left_out_and_reported() -> None:
    model = one_node("Relu", [X])
    model.graph.input.insert(0, helper.make_tensor_value_info("unread", FLOAT, (1, 2)))
    graph = check_both_ways(model)
    assert [port.onnx for port in graph.inputs] == ["x"]
    assert any("unread" in note for note in graph.notes)


def test_scalar_inputs() -> None:
    check_both_ways(one_node("Mul", [X, ("gain", (), FLOAT)]))

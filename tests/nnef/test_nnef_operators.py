"""NNEF graphs become ONNX graphs that compute what the reference interpreter computes, operator by operator."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support import run_nnef, to_onnx_proto

from nnc_nnef.convert.check import compare, run_onnx
from nnc_nnef.errors import ConversionError, GraphTextError

pytest.importorskip("onnxruntime")

FRAGMENTS = "extension KHR_enable_fragment_definitions;\nextension KHR_enable_operator_expressions;\n"
IMAGE, MATRIX, TOKENS = (2, 4, 6, 8), (3, 5), (2, 3, 4)

# name: (shape of x, statement for y, variables)
CASES: dict[str, tuple[tuple[int, ...], str, dict[str, np.ndarray]]] = {
    **{kind: (MATRIX, f"y = {kind}(x);", {}) for kind in (
        "relu", "sigmoid", "tanh", "softplus", "elu", "selu", "gelu", "silu", "abs", "sign", "sin", "cos", "exp",
            "neg",
        "ceil", "floor", "round", "sqr", "copy", "rcp", "rsqr", "asinh", "atan")},
    "softabs": (MATRIX, "y = softabs(x, epsilon = 0.1);", {}),
    "elu alpha": (MATRIX, "y = elu(x, alpha = 0.3);", {}),
    "selu other": (MATRIX, "y = selu(x, alpha = 1.2, lambda = 1.1);", {}),
    "leaky_relu": (MATRIX, "y = leaky_relu(x, alpha = 0.2);", {}),
    "log2 and sqrt": (MATRIX,
        "p = abs(x); q = add(p, 0.5); r = log2(q); s = rsqrt(q); t = sqrt(q); u = add(r, s); y = add(u, t);", {}),
    "literal first": (MATRIX, "y = div(1.0, x);", {}),
    "broadcast from the front": (IMAGE, "v = variable<scalar>(shape = [1, 4], label = 'v'); y = mul(x, v);", {"v": (1,
        4)}),
    "comparison": (MATRIX, "a = lt(x, 0.1); b = ne(x, 0.0); c = and(a, b); y = select(c, x, 1.5);", {}),
    "clamp": (MATRIX, "y = clamp(x, -0.2, 0.4);", {}),
    "clamp by tensors": (MATRIX, "v = variable<scalar>(shape = [3, 5], label = 'v'); y = clamp(x, v, 0.9);", {"v": (3,
        5)}),
    "slice to the end": (IMAGE, "y = slice(x, axes = [2, 3], begin = [1, -3], end = [0, 0]);", {}),
    "slice with stride": (IMAGE, "y = slice(x, axes = [3], begin = [1], end = [7], stride = [2]);", {}),
    "reshape in part": (IMAGE, "y = reshape(x, axis_start = 1, axis_count = 2, shape = [-1]);", {}),
    "reshape keeping": (IMAGE, "y = reshape(x, shape = [0, 2, -1]);", {}),
    "transpose in part": (IMAGE, "y = transpose(x, axes = [1, 0]);", {}),
    "squeeze and unsqueeze": (IMAGE, "a = unsqueeze(x, axes = [0, 3]); y = squeeze(a, axes = [0]);", {}),
    "split by ratios": (IMAGE,
        "[a, b] = split(x, axis = 1, ratios = [1, 3]); c = relu(b); y = concat([c, a], axis = 1);", {}),
    "stack and unstack": (TOKENS, "[a, b, c] = unstack(x, axis = 1); y = stack([c, a, b], axis = 2);", {}),
    "tile": (MATRIX, "y = tile(x, repeats = [2, 3]);", {}),
    "pad": (IMAGE, "y = pad(x, padding = [(0, 0), (0, 0), (1, 2), (0, 1)], border = 'reflect');", {}),
    "pad with value": (IMAGE, "y = pad(x, padding = [(0, 1), (0, 0), (1, 2), (0, 1)], value = 0.5);", {}),
    "sum_reduce": (IMAGE, "y = sum_reduce(x, axes = [1, 3]);", {}),
    "sum_reduce normalized": (IMAGE, "y = sum_reduce(x, axes = [1, 3], normalize = true);", {}),
    "max_reduce": (IMAGE, "y = max_reduce(x, axes = [0]);", {}),
    "any_reduce": (IMAGE, "a = gt(x, 1.5); b = any_reduce(a, axes = [3]); y = select(b, 1.0, 0.0);", {}),
    "all_reduce": (IMAGE, "a = gt(x, -1.5); b = all_reduce(a, axes = [3]); y = select(b, 1.0, 0.0);", {}),
    "moments": (IMAGE, "m, v = moments(x, axes = [2, 3]); y = add(m, v);", {}),
    "softmax": (IMAGE, "y = softmax(x, axes = [2]);", {}),
    "softmax over two axes": (IMAGE, "y = softmax(x, axes = [1, 2]);", {}),
    "matmul transposed": (TOKENS, "v = variable<scalar>(shape = [2, 5, 3], label = 'v');"
                          " y = matmul(x, v, transposeA = true, transposeB = true);", {"v": (2, 5, 3)}),
    "linear without bias": (MATRIX, "v = variable<scalar>(shape = [4, 5], label = 'v'); y = linear(x, v);", {"v": (4,
        5)}),
    "linear literal bias": (MATRIX, "v = variable<scalar>(shape = [4, 5], label = 'v'); y = linear(x, v, 0.5);",
        {"v": (4, 5)}),
    "conv automatic padding": (IMAGE, "v = variable<scalar>(shape = [3, 4, 3, 2], label = 'v');"
                               " y = conv(x, v, stride = [2, 1]);", {"v": (3, 4, 3, 2)}),
    "conv depthwise": (IMAGE, "v = variable<scalar>(shape = [4, 1, 3, 3], label = 'v');"
                       " y = conv(x, v, groups = 0, padding = [(1, 1), (0, 2)]);", {"v": (4, 1, 3, 3)}),
    "deconv": (IMAGE, "v = variable<scalar>(shape = [4, 3, 3, 3], label = 'v');"
               " y = deconv(x, v, stride = [2, 2], padding = [(1, 1), (1, 1)]);", {"v": (4, 3, 3, 3)}),
    "deconv to a shape": (IMAGE, "v = variable<scalar>(shape = [4, 3, 3, 3], label = 'v');"
                          " y = deconv(x, v, stride = [2, 2], "
                              "padding = [(1, 1), (1, 1)], output_shape = [2, 3, 12, 15]);",
                          {"v": (4, 3, 3, 3)}),
    "max_pool": (IMAGE, "y = max_pool(x, size = [1, 1, 3, 2], stride = [1, 1, 2, 2], border = 'ignore');", {}),
    "avg_pool": (IMAGE, "y = avg_pool(x, size = [1, 1, 3, 3], "
        "padding = [(0, 0), (0, 0), (1, 1), (1, 0)], border = 'constant');", {}),
    "avg_pool ignoring": (IMAGE,
        "y = avg_pool(x, size = [1, 1, 3, 3], padding = [(0, 0), (0, 0), (1, 1), (1, 0)], border = 'ignore');", {}),
    "box": (IMAGE, "y = box(x, size = [1, 1, 2, 3], padding = [(0, 0), (0, 0), (0, 1), (1, 1)]);", {}),
    "box normalized": (IMAGE,
        "y = box(x, size = [1, 1, 2, 3], normalize = true, padding = [(0, 0), (0, 0), (0, 0), (0, 0)]);", {}),
    "batch norm": (IMAGE, "v = variable<scalar>(shape = [1, 4], label = 'v'); w = abs(v);"
                   " y = batch_normalization(x, v, w, v, v, epsilon = 0.01);", {"v": (1, 4)}),
    "batch norm of literals": (IMAGE, "y = batch_normalization(x, 0.1, 1.2, 0.0, 1.0, epsilon = 0.01);", {}),
    "l2 norm": (IMAGE, "y = l2_normalization(x, axes = [1]);", {}),
    "l2 norm with epsilon": (IMAGE, "y = l2_normalization(x, axes = [1, 2], bias = 0.5, epsilon = 0.1);", {}),
    "l1 norm": (IMAGE, "y = l1_normalization(x, axes = [1], epsilon = 0.1);", {}),
    "lrn": (IMAGE, "y = local_response_normalization(x, size = [1, 3, 1, 1], alpha = 0.5, beta = 0.6, bias = 1.1);",
        {}),
    "nearest_upsample": (IMAGE, "y = nearest_upsample(x, factor = [2, 3]);", {}),
    "nearest_downsample": (IMAGE, "y = nearest_downsample(x, factor = [3, 2]);", {}),
    "area_downsample": (IMAGE, "y = area_downsample(x, factor = [2, 2]);", {}),
    "multilinear_upsample": (IMAGE, "y = multilinear_upsample(x, factor = [2, 2]);", {}),
    "constant filled": (MATRIX, "c = constant(shape = [3, 5], value = [0.25]); y = add(x, c);", {}),
    "add_n": (MATRIX, "a = relu(x); y = add_n([x, a, a]);", {}),
    "argmax": (MATRIX, "a = argmax_reduce(x, axes = [1]); y = cast<scalar>(a);", {}),
}  # fmt: skip


def graph(shape: tuple[int, ...], body: str, head: str = "") -> str:
    return (
        f"version 1.0;\n{head}graph g(x) -> (y)\n{{\n    x = external<scalar>(shape = {list(shape)});\n    {body}\n}}\n"
    )


def check(text: str, shape: tuple[int, ...], values: dict[str, np.ndarray]) -> onnx.ModelProto:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    model = to_onnx_proto(text, values)
    onnx.checker.check_model(model, full_check=True)
    compare(["y"], run_nnef(text, values, [x]), run_onnx(model.SerializeToString(), {"x": x}))
    return model


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    shape, body, shapes = CASES[name]
    rng = np.random.default_rng(1)
    check(graph(shape, body), shape, {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()})


def test_halves_round_away_from_zero() -> None:
    values = {"v": np.asarray([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]], np.float32)}
    text = graph(
        (1, 6), "v = variable<scalar>(shape = [1, 6], label = 'v'); a = mul(x, 0.0); b = add(v, a); y = round(b);"
    )
    model = to_onnx_proto(text, values)
    (y,) = run_onnx(model.SerializeToString(), {"x": np.zeros((1, 6), np.float32)})
    assert y.tolist() == [[-3, -2, -1, 1, 2, 3]]


def test_fragments_of_the_file_are_expanded() -> None:
    head = FRAGMENTS + (
        "fragment gate(x: tensor<scalar>, scale: scalar = 2.0) -> (y: tensor<scalar>) { y = sigmoid(x) * scale - x; }\n"
    )
    model = check(graph(MATRIX, "y = gate(x, scale = 3.0);", head), MATRIX, {})
    assert {node.op_type for node in model.graph.node} == {"Sigmoid", "Mul", "Sub"}


def test_an_erf_of_another_meaning_is_not_taken_for_erf() -> None:
    head = FRAGMENTS + "fragment erf(x: tensor<scalar>) -> (y: tensor<scalar>) { y = x * 0.5; }\n"
    model = check(graph(MATRIX, "y = erf(x);", head), MATRIX, {})
    assert "Erf" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8", "int32"])
def test_stored_types_are_kept_and_widened_in_the_graph(dtype: str) -> None:
    value = np.arange(15).reshape(3, 5).astype(dtype)
    if value.dtype.kind == "f":
        body = "v = variable<scalar>(shape = [3, 5], label = 'v'); y = add(x, v);"
    else:
        body = "v = variable<integer>(shape = [3, 5], label = 'v'); c = cast<scalar>(v); y = add(x, c);"
    model = check(graph(MATRIX, body), MATRIX, {"v": value})
    stored = {proto.name: proto.data_type for proto in model.graph.initializer}
    assert stored["v"] == onnx.helper.np_dtype_to_tensor_dtype(value.dtype)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("y = max_pool(x, size = [1, 1, 3, 3], border = 'constant');", "max pooling over padding"),
        ("y = max_pool(x, size = [1, 1, 3, 3], border = 'replicate');", "border"),
        ("y = pad(x, padding = [(0, 0), (0, 0), (1, 1), (1, 1)], border = 'reflect-even');", "border"),
        ("y, i = max_pool_with_index(x, size = [1, 1, 2, 2]);", "max_pool_with_index"),
        ("y = debox(x, size = [1, 1, 2, 2]);", "debox"),
        ("y = avg_pool(x, size = [1, 2, 2, 2], border = 'constant');", "channels"),
    ],
)
def test_what_onnx_cannot_say_is_refused(body: str, match: str) -> None:
    with pytest.raises(ConversionError, match=match):
        to_onnx_proto(graph(IMAGE, body), {})


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ("v = variable<scalar>(shape = [3, 5], label = 'v'); y = add(x, v);", {}),
        ("v = variable<scalar>(shape = [3, 6], label = 'v'); y = add(x, v);", {"v": np.zeros((3, 5), np.float32)}),
        ("y = matmul(x, x);", {}),
        ("y = reshape(x, shape = [7, -1]);", {}),
        ("c = constant(shape = [1000000, 1000000], value = [0.0]); y = add(x, c);", {}),
        ("y = nothing(x);", {}),
        ("y = relu(z);", {}),
    ],
)
def test_contradictory_graphs_are_refused(body: str, values: dict[str, np.ndarray]) -> None:
    with pytest.raises(GraphTextError):
        to_onnx_proto(graph(MATRIX, body), values)


def test_inputs_that_nothing_reads_stay() -> None:
    text = "version 1.0;\ngraph g(a, x, b) -> (y) { a = external<scalar>(shape = [3]);"
    text += " x = external<scalar>(shape = [2, 3]);"
    text += " b = external<integer>(shape = [1]); y = relu(x); }"
    model = to_onnx_proto(text, {})
    onnx.checker.check_model(model, full_check=True)
    assert sorted(info.name for info in model.graph.input) == ["a", "b", "x"]

"""Small graphs, one per way in which weights sit in real ONNX files."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

IR_VERSION = 8  # the newest that every supported onnxruntime reads
OPSET = 17

FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64


def weights(*shape: int, seed: int = 0, scale: float = 0.05) -> np.ndarray:
    """Gaussian weights, the same in every run."""
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * scale).astype(np.float32)


def tensor(name: str, array: np.ndarray) -> TensorProto:
    """An initializer."""
    return numpy_helper.from_array(np.asarray(array), name)


def value(name: str, onnx_type: int = FLOAT, shape: list[int | str] | None = None) -> onnx.ValueInfoProto:
    """A graph input or output."""
    return helper.make_tensor_value_info(name, onnx_type, shape)


def constant(name: str, array: np.ndarray, node_name: str = "") -> NodeProto:
    """A Constant node."""
    return helper.make_node("Constant", [], [name], name=node_name or None, value=tensor(name + "_value", array))


def model(
    nodes: list[NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    initializers: list[TensorProto] = (),
    *,
    ir_version: int = IR_VERSION,
    opset: int = OPSET,
    extra_opsets: list[tuple[str, int]] = (),
) -> ModelProto:
    """A model around one graph."""
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(*item) for item in extra_opsets]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="tests")
    made.metadata_props.add(key="purpose", value="test")
    return made


def mlp(layers: int = 3, width: int = 64, **kwargs: object) -> ModelProto:
    """MatMul, Add, Relu, `layers` times."""
    nodes, tensors = [], []
    last = "x"
    for layer in range(layers):
        tensors += [
            tensor(f"w{layer}", weights(width, width, seed=layer, scale=0.2)),
            tensor(f"b{layer}", weights(width, seed=layer)),
        ]
        nodes += [
            helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"], name=f"matmul{layer}"),
            helper.make_node("Add", [f"m{layer}", f"b{layer}"], [f"a{layer}"], name=f"add{layer}"),
            helper.make_node("Relu", [f"a{layer}"], [f"r{layer}"], name=f"relu{layer}"),
        ]
        last = f"r{layer}"
    return model(nodes, [value("x", shape=["n", width])], [value(last, shape=["n", width])], tensors, **kwargs)


def constants() -> ModelProto:
    """Weights in Constant nodes, as PaddlePaddle exports them."""
    return model(
        [
            constant("w0", weights(64, 64), "first constant"),
            constant("axes", np.array([1], np.int64)),
            helper.make_node("MatMul", ["x", "w0"], ["m"]),
            constant("w1", weights(64, 32, seed=1)),
            helper.make_node("MatMul", ["m", "w1"], ["n"]),
            helper.make_node("Unsqueeze", ["n", "axes"], ["y"]),
        ],
        [value("x", shape=["b", 64])],
        [value("y", shape=["b", 1, 32])],
    )


def shared() -> ModelProto:
    """One initializer read by two nodes and through an Identity, and a second one with the same values."""
    same = weights(64, 64)
    return model(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Identity", ["w"], ["v"]),
            helper.make_node("MatMul", ["a", "v"], ["b"]),
            helper.make_node("MatMul", ["b", "copy"], ["c"]),
            helper.make_node("MatMul", ["c", "w"], ["y"]),
        ],
        [value("x", shape=[2, 64])],
        [value("y", shape=[2, 64])],
        [tensor("w", same), tensor("copy", same)],
    )


def branches(*, local_names: bool = False) -> ModelProto:
    """An If; each branch has a weight of its own in the outer graph, or both a local one of the same name."""

    def branch(name: str, weight: str, seed: int) -> GraphProto:
        local = [tensor("w", weights(64, 64, seed=seed))] if local_names else []
        return helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "w" if local_names else weight], [f"{name}_m"]),
                helper.make_node("Add", [f"{name}_m", "both"], [f"{name}_o"]),
            ],
            name,
            [],
            [value(f"{name}_o", shape=[64, 64])],
            local,
        )

    outer = [] if local_names else [tensor("w_then", weights(64, 64)), tensor("w_else", weights(64, 64, seed=1))]
    return model(
        [
            helper.make_node(
                "If",
                ["cond"],
                ["y"],
                then_branch=branch("then", "w_then", 2),
                else_branch=branch("else", "w_else", 3),
            )
        ],
        [value("cond", TensorProto.BOOL, []), value("x", shape=[64, 64])],
        [value("y", shape=[64, 64])],
        [*outer, tensor("both", weights(64, 64, seed=9))],
    )


def loop(*, local: bool) -> ModelProto:
    """A Loop whose body multiplies with a weight of the outer graph or (`local`) of its own."""
    weight = tensor("w", weights(64, 64, scale=0.1))
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state_in", "w"], ["product"]),
            helper.make_node("Tanh", ["product"], ["state_out"]),
            helper.make_node("Identity", ["cond_in"], ["cond_out"]),
        ],
        "body",
        [value("i", INT64, []), value("cond_in", TensorProto.BOOL, []), value("state_in", shape=[2, 64])],
        [value("cond_out", TensorProto.BOOL, []), value("state_out", shape=[2, 64])],
        [weight] if local else [],
    )
    return model(
        [
            helper.make_node("Relu", ["x"], ["start"]),
            helper.make_node("Loop", ["count", "", "start"], ["y"], body=body),
        ],
        [value("x", shape=[2, 64])],
        [value("y", shape=[2, 64])],
        [tensor("count", np.array(3, np.int64)), *([] if local else [weight])],
    )


def scan() -> ModelProto:
    """A Scan over the first axis with a captured weight."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["row", "w"], ["product"]),
            helper.make_node("Add", ["product", "sum_in"], ["sum_out"]),
            helper.make_node("Identity", ["sum_out"], ["out"]),
        ],
        "body",
        [value("sum_in", shape=[1, 64]), value("row", shape=[1, 64])],
        [value("sum_out", shape=[1, 64]), value("out", shape=[1, 64])],
    )
    return model(
        [helper.make_node("Scan", ["zero", "x"], ["last", "y"], body=body, num_scan_inputs=1)],
        [value("zero", shape=[1, 64]), value("x", shape=[5, 1, 64])],
        [value("last", shape=[1, 64]), value("y", shape=[5, 1, 64])],
        [tensor("w", weights(64, 64, scale=0.1))],
    )


def lstm() -> ModelProto:
    """Two LSTM layers; the initial state of the second is shallower than its data input."""
    hidden = 32
    nodes, tensors = [], []
    last = "x"
    for layer in range(2):
        tensors += [
            tensor(f"w{layer}", weights(1, 4 * hidden, hidden, seed=layer, scale=0.2)),
            tensor(f"r{layer}", weights(1, 4 * hidden, hidden, seed=10 + layer, scale=0.2)),
            tensor(f"b{layer}", weights(1, 8 * hidden, seed=20 + layer)),
        ]
        nodes += [
            helper.make_node(
                "LSTM",
                [last, f"w{layer}", f"r{layer}", f"b{layer}", "", "h0", "c0"],
                [f"y{layer}"],
                hidden_size=hidden,
            ),
            helper.make_node("Squeeze", [f"y{layer}", "axes"], [f"s{layer}"]),
        ]
        last = f"s{layer}"
    return model(
        nodes,
        [
            value("x", shape=[4, 1, hidden]),
            value("h0", shape=[1, 1, hidden]),
            value("c0", shape=[1, 1, hidden]),
        ],
        [value(last, shape=[4, 1, hidden])],
        [*tensors, tensor("axes", np.array([1], np.int64))],
    )


def quantized() -> ModelProto:
    """int8 weights behind DequantizeLinear, and uint8 weights of MatMulInteger."""
    generator = np.random.default_rng(5)
    signed = np.clip(generator.normal(0, 12, (64, 64)).round(), -128, 127).astype(np.int8)
    unsigned = np.clip(generator.normal(128, 9, (64, 64)).round(), 0, 255).astype(np.uint8)
    return model(
        [
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["w"], axis=1),
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("DynamicQuantizeLinear", ["a"], ["aq", "as", "az"]),
            helper.make_node("MatMulInteger", ["aq", "u", "az", "uz"], ["y"]),
        ],
        [value("x", shape=[2, 64])],
        [value("y", TensorProto.INT32, [2, 64])],
        [
            tensor("q", signed),
            tensor("scale", np.full(64, 0.01, np.float32)),
            tensor("zero", np.zeros(64, np.int8)),
            tensor("u", unsigned),
            tensor("uz", np.array(128, np.uint8)),
        ],
    )


def embedding() -> ModelProto:
    """A lookup table with indices computed from an int64 table, and a graph output that is an initializer."""
    indices = np.random.default_rng(3).integers(0, 200, (64, 64))
    return model(
        [
            helper.make_node("Gather", ["positions", "ids"], ["picked"], axis=0),
            helper.make_node("Gather", ["table", "picked"], ["y"], axis=0),
        ],
        [value("ids", INT64, [3])],
        [value("y", shape=[3, 64, 32]), value("exported", shape=[64, 64])],
        [
            tensor("table", weights(200, 32)),
            tensor("positions", indices),
            tensor("exported", weights(64, 64, seed=4)),
        ],
    )


def typed(dtype: str) -> ModelProto:
    """One MatMul in float16, float64 or (through a Cast) bfloat16."""
    array = weights(64, 64)
    if dtype == "bfloat16":
        import ml_dtypes

        stored = array.astype(ml_dtypes.bfloat16)
        w = TensorProto(name="w", data_type=TensorProto.BFLOAT16, dims=[64, 64], raw_data=stored.tobytes())
        return model(
            [
                helper.make_node("Cast", ["w"], ["wf"], to=FLOAT),
                helper.make_node("MatMul", ["x", "wf"], ["y"]),
            ],
            [value("x", shape=[2, 64])],
            [value("y", shape=[2, 64])],
            [w],
        )
    onnx_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", onnx_type, [2, 64])],
        [value("y", onnx_type, [2, 64])],
        [tensor("w", array.astype(dtype))],
    )


def not_for_coding() -> ModelProto:
    """Large enough tensors that must stay what they are, one per reason."""
    nan = weights(64, 64)
    nan[3, 3] = np.nan
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["x2"]),
        helper.make_node("MatMul", ["x2", "overridable"], ["a"]),
        helper.make_node("MatMul", ["a", "nan"], ["b"]),
        helper.make_node("Mul", ["b", "scalar"], ["c"]),
        helper.make_node("Add", ["c", "bias"], ["d"]),
        helper.make_node("Where", ["mask", "d", "c"], ["e"]),
        helper.make_node("Concat", ["e", "empty"], ["y"], axis=0),
    ]
    return model(
        nodes,
        [value("x", shape=[64, 64]), value("overridable", shape=[64, 64])],
        [value("y", shape=[64, 64])],
        [
            tensor("shape", np.array([64, 64], np.int64)),
            tensor("overridable", weights(64, 64)),
            tensor("nan", nan),
            tensor("scalar", np.array(2, np.float32)),
            tensor("bias", weights(64)),
            tensor("mask", np.ones((64, 64), np.bool_)),
            tensor("empty", np.zeros((0, 64), np.float32)),
            tensor("unread", weights(64, 64, seed=8)),
            tensor("noise", np.frombuffer(np.random.default_rng(1).bytes(4096), np.uint8).reshape(64, 64)),
        ],
    )


def old_ir() -> ModelProto:
    """IR version 3: initializers are graph inputs too."""
    made = mlp(2, ir_version=3)
    for initializer in made.graph.initializer:
        made.graph.input.append(value(initializer.name, shape=list(initializer.dims)))
    return made


ALL = {
    "mlp": mlp,
    "constants": constants,
    "shared": shared,
    "branches": branches,
    "branches_local": lambda: branches(local_names=True),
    "loop": lambda: loop(local=False),
    "loop_local": lambda: loop(local=True),
    "scan": scan,
    "lstm": lstm,
    "quantized": quantized,
    "embedding": embedding,
    "float16": lambda: typed("float16"),
    "float64": lambda: typed("float64"),
    "bfloat16": lambda: typed("bfloat16"),
    "old_ir": old_ir,
}
"""Every graph that can be packed and run."""

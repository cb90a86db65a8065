"""Plain ONNX models with random weights, for benchmarks of the run time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IR_VERSION = 8
OPSET = 17

CHAIN_LAYERS, CHAIN_WIDE, CHAIN_NARROW = 24, 4096, 1024
TABLE_ROWS, TABLE_WIDTH, TABLE_OUTPUTS = 60_000, 512, 64


def save_chain(path: Path) -> Path:
    """24 times MatMul and Relu, 1024 x 4096 and back: 384 MiB of weights beside the model."""
    generator = np.random.default_rng(0)
    nodes, weights = [], []
    for layer in range(CHAIN_LAYERS):
        shape = (CHAIN_NARROW, CHAIN_WIDE) if layer % 2 == 0 else (CHAIN_WIDE, CHAIN_NARROW)
        values = (generator.standard_normal(shape) * 0.05).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"W{layer}"))
        nodes.append(helper.make_node("MatMul", [f"x{layer}", f"W{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"x{layer + 1}"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", CHAIN_NARROW])
        for name in ("x0", f"x{CHAIN_LAYERS}")
    ]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.save_model(model, str(path), save_as_external_data=True, location=path.name + ".data")
    return path


def save_table(path: Path) -> Path:
    """A table of 60,000 rows of 512 numbers, of which Gather takes some, and one layer behind it."""
    generator = np.random.default_rng(0)
    table = (generator.standard_normal((TABLE_ROWS, TABLE_WIDTH)) * 0.05).astype(np.float32)
    layer = (generator.standard_normal((TABLE_WIDTH, TABLE_OUTPUTS)) * 0.05).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"]), helper.make_node("MatMul", ["rows", "layer"], ["y"])],
        "embedding",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", TABLE_OUTPUTS])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(layer, "layer")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.save_model(model, str(path))
    return path


class _Resnet:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._generator = np.random.default_rng(0)

    def constant(self, values: np.ndarray) -> str:
        """Name of a new float32 initializer."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(self, op_type: str, inputs: list[str], **attributes: object) -> str:
        """Output of a new node."""
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [output], **attributes))
        return output

    def conv(self, value: str, into: int, out: int, size: int, stride: int = 1, gain: float = 1.0) -> str:
        """Convolution and batch normalization."""
        scale = np.sqrt(2 / (into * size * size))
        kernel = self.constant(self._generator.standard_normal((out, into, size, size)) * scale)
        pad = size // 2
        value = self.node("Conv", [value, kernel], kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4)
        ones, zeros = np.ones(out), np.zeros(out)
        near_one = ones + 0.1 * self._generator.standard_normal(out)
        statistics = [near_one * gain, 0.1 * self._generator.standard_normal(out), zeros, near_one**2]
        return self.node("BatchNormalization", [value, *map(self.constant, statistics)])

    def block(self, value: str, into: int, width: int, stride: int) -> str:
        """Bottleneck with its shortcut."""
        out = 4 * width
        inner = self.node("Relu", [self.conv(value, into, width, 1)])
        inner = self.node("Relu", [self.conv(inner, width, width, 3, stride)])
        inner = self.conv(inner, width, out, 1, gain=0.3)
        shortcut = value if into == out and stride == 1 else self.conv(value, into, out, 1, stride)
        return self.node("Relu", [self.node("Add", [inner, shortcut])])


def save_resnet50(path: Path) -> Path:
    """The graph of ResNet-50 with batch normalization: 25.6 million weights."""
    made = _Resnet()
    value = made.node("Relu", [made.conv("x", 3, 64, 7, 2)])
    value = made.node("MaxPool", [value], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    into = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(blocks):
            value = made.block(value, into, width, 2 if stage and not block else 1)
            into = 4 * width
    value = made.node("Flatten", [made.node("GlobalAveragePool", [value])])
    weight = made.constant(np.random.default_rng(1).standard_normal((1000, into)) / np.sqrt(into))
    made.nodes.append(helper.make_node("Gemm", [value, weight, made.constant(np.zeros(1000))], ["y"], transB=1))
    graph = helper.make_graph(
        made.nodes,
        "resnet50",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 224, 224])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1000])],
        made.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.save_model(model, str(path))
    return path

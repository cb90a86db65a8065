"""Model files for the command line's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def write_model(path: Path, *, layers: int = 2, width: int = 64, seed: int = 0) -> Path:
    """A small MatMul network."""
    generator = np.random.default_rng(seed)
    nodes, tensors, last = [], [], "x"
    for layer in range(layers):
        weight = (generator.standard_normal((width, width)) * 0.1).astype(np.float32)
        tensors.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Tanh", [f"m{layer}"], [f"t{layer}"]))
        last = f"t{layer}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["batch", width])],
        [value(last, TensorProto.FLOAT, ["batch", width])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path

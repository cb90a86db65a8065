"""Small models and runners that the NNEF tests share."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nnc_nnef import dat
from nnc_nnef.archive_writer import from_bytes, write_archive
from nnc_nnef.convert.check import compare, random_inputs, run_onnx, sensitivity
from nnc_nnef.convert.nnef_to_onnx import Stored, convert_text
from nnc_nnef.convert.onnx_to_nnef import NnefGraph, convert_graph
from nnc_nnef.labels import member_of
from nnc_nnef.session import interpretable, used_operations, with_lowering

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def one_node(
    kind: str,
    inputs: Sequence[tuple[str, Sequence[int], int] | tuple[str, np.ndarray] | str],
    *,
    opset: int = 17,
    outputs: int = 1,
    out_type: int = FLOAT,
    **attribs: Any,
) -> onnx.ModelProto:
    """A model of one node; inputs are (name, shape, type), constants (name, array), or absent ('')."""
    names, infos, constants = [], [], []
    for entry in inputs:
        if isinstance(entry, str):
            names.append(entry)
        elif len(entry) == 3:
            names.append(entry[0])
            infos.append(helper.make_tensor_value_info(entry[0], entry[2], entry[1]))
        else:
            names.append(entry[0])
            constants.append(numpy_helper.from_array(np.asarray(entry[1]), entry[0]))
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(kind, names, results, name="the_node", **attribs)
    infos_out = [helper.make_tensor_value_info(name, out_type, None) for name in results]
    graph = helper.make_graph([node], "one", infos, infos_out, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def variables_of(graph: NnefGraph) -> dict[str, np.ndarray]:
    """Values of a plain converted graph."""
    return {
        v.label: np.asarray(v.value) if v.source is None
        else numpy_helper.to_array(graph.weights[v.source].proto).reshape(v.shape)
        for v in graph.variables
    }  # fmt: skip


_POOL: list[ProcessPoolExecutor] = []


def run_nnef(text: str, variables: Mapping[str, np.ndarray], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The reference interpreter in one long-lived worker: these models are ours, and a start costs time."""
    if not _POOL:
        _POOL.append(ProcessPoolExecutor(1))
    try:
        return _POOL[0].submit(_interpret, text, dict(variables), list(inputs)).result()
    except BrokenProcessPool:
        _POOL.clear()
        raise


def _interpret(text: str, variables: dict[str, np.ndarray], inputs: list[np.ndarray]) -> list[np.ndarray]:
    import nnef

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        write_model(path, {label: interpretable(value) for label, value in variables.items()}, text=text)

        def run(lowered: list[str]) -> list[np.ndarray]:
            with nnef.Session(str(path), lowered=lowered) as session:
                return list(session(*[np.asarray(interpretable(value), order="C") for value in inputs]))

        return with_lowering(used_operations(text), run)


def check_both_ways(model: onnx.ModelProto, seed: int = 0, **kwargs: Any) -> NnefGraph:
    """ONNX -> NNEF against the reference interpreter, and back to ONNX against onnxruntime."""
    graph = convert_graph(model, **kwargs)
    inputs = random_inputs(graph.inputs, model, seed)
    fixed = {**kwargs.get("fixed_inputs", {}), **random_inputs(graph.unread, model)}
    data = model.SerializeToString()

    def run(feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return run_onnx(data, {**fixed, **feed})

    reference = run(inputs)
    moves = sensitivity(run, inputs)
    names = [port.onnx for port in graph.outputs]
    variables = variables_of(graph)
    result = run_nnef(graph.text, variables, [inputs[port.onnx] for port in graph.inputs])
    compare(names, reference, result, moves=moves)
    back = to_onnx_proto(graph.text, variables)
    onnx.checker.check_model(back, full_check=True)
    onnx_names = {port.nnef: port.onnx for port in graph.inputs}
    feed = {}
    for info in back.graph.input:
        dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        feed[info.name] = inputs[onnx_names[info.name]].astype(dtype)
    compare(names, reference, run_onnx(back.SerializeToString(), feed), moves=moves)
    return graph


def to_onnx_proto(text: str, variables: Mapping[str, np.ndarray], quant: str | None = None) -> onnx.ModelProto:
    """The ONNX form of an NNEF text with its values embedded."""
    stored = {label: Stored(tuple(value.shape), str(value.dtype)) for label, value in variables.items()}
    graph = convert_text(text, quant, stored)
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for name, (label, shape, _) in graph.weights.items():
        model.graph.initializer.append(numpy_helper.from_array(variables[label].reshape(shape), name))
    return model


GRAPH = """version 1.0;

graph net(x) -> (y)
{
    x = external<scalar>(shape = [1, 64]);
    w1 = variable<scalar>(shape = [96, 64], label = 'fc1/weight');
    b1 = variable<scalar>(shape = [1, 96], label = 'fc1/bias');
    w2 = variable<scalar>(shape = [64, 96], label = 'fc2.weight');
    h = relu(linear1);
    y = matmul(h, w2, transposeB = true);
}
"""
GRAPH = GRAPH.replace("    h = relu(linear1);", "    linear1 = linear(x, w1, b1);\n    h = relu(linear1);")


def sample_variables(seed: int = 0) -> dict[str, np.ndarray]:
    """Values for :data:`GRAPH`."""
    rng = np.random.default_rng(seed)
    shapes = {"fc1/weight": (96, 64), "fc1/bias": (1, 96), "fc2.weight": (64, 96)}
    return {label: (rng.standard_normal(shape) * 0.1).astype(np.float32) for label, shape in shapes.items()}


def write_model(
    path: Path, variables: Mapping[str, np.ndarray] | None = None, *, text: str = GRAPH, extra: Mapping[str, bytes] = {}
) -> Path:
    """A plain NNEF model."""
    values = sample_variables() if variables is None else variables
    members = [from_bytes("graph.nnef", text.encode())]
    members += [from_bytes(member_of(label), dat.build(value)) for label, value in values.items()]
    members += [from_bytes(name, data) for name, data in extra.items()]
    write_archive(path, members)
    return path

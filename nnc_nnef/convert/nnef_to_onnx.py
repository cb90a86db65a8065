"""NNEF to ONNX: the parsed graph through nnef-tools' converter, variables traced through it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from nnc_codec.errors import NNRError

from ..errors import CarryError, ConversionError, GraphTextError
from ..labels import check_label
from ..parse import parse_graph
from .fragments import DEFINITIONS
from .onnx_to_nnef import Port
from .quantization import Affine, affine
from .skeleton import OPSET
from .trace import Placeholders
from .transforms_back import PRIMITIVE_ONLY, custom_functions, custom_transforms, expressible

Array = NDArray[Any]
_MAX_ROUNDS = 16
_IR_VERSION = 8


class Stored(msgspec.Struct, frozen=True):
    """What the archive says of a variable: the shape its graph declares, and the type its values have."""

    shape: tuple[int, ...]
    dtype: str


class Widened(msgspec.Struct, frozen=True):
    """A stored tensor that the graph reads in another type.

    Attributes:
        stored: its name.
        inner: name of what the graph reads.
        elem_type: type the graph reads.
        affine: how stored levels become values, if they are levels.
    """

    stored: str
    inner: str
    elem_type: int
    affine: Affine | None

    def write(self, nodes: list[onnx.NodeProto], constants: list[TensorProto]) -> None:
        """Writes the nodes between stored and read form."""
        steps: list[tuple[str, Array | None]] = [("Cast", None)]
        if self.affine is not None:
            steps += [("Sub", self.affine.zero), ("Mul", self.affine.scale), ("Add", self.affine.shift)]
            steps = [(op, value) for op, value in steps if op in ("Cast", "Mul") or np.any(value)]
        name = self.stored
        for number, (op, value) in enumerate(steps):
            output = self.inner if number == len(steps) - 1 else f"{self.inner}.{op.lower()}"
            inputs = [name]
            if value is not None:
                inputs.append(f"{output}_by")
                constants.append(numpy_helper.from_array(np.asarray(value, np.float32), inputs[1]))
            node = helper.make_node(op, inputs, [output], name=f"{output}_node")
            if op == "Cast":
                node.attribute.append(helper.make_attribute("to", self.elem_type))
            nodes.append(node)
            name = output


class OnnxGraph(msgspec.Struct, frozen=True):
    """A converted model without the values of its variables.

    Attributes:
        model: nodes, inputs, outputs and small constants.
        weights: tensor name in the model -> (variable label, shape there, numpy type name).
        inputs: graph inputs.
        outputs: graph outputs.
        affine: how stored levels become values, by variable label.
        notes: what the user should know.
    """

    model: Any
    weights: Mapping[str, tuple[str, tuple[int, ...], str]]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    affine: Mapping[str, Affine]
    notes: tuple[str, ...]


def convert_text(text: str, quant: str | None, stored: Mapping[str, Stored]) -> OnnxGraph:
    """Converts the structure of an NNEF model.

    Args:
        text: ``graph.nnef``.
        quant: ``graph.quant``, if there is one.
        stored: variables of the archive by label.

    Raises:
        GraphTextError: the text is refused or contradicts itself or the archive.
        ConversionError: an operation without ONNX counterpart.
        CarryError: the converter did something to a variable that its payload cannot follow.
    """
    graph = _parse(text, quant)
    placeholders = Placeholders()
    by_tensor = _attach(graph, stored, placeholders)
    _infer_shapes(graph)
    converted = _translate(graph)
    return _finish(converted, graph, placeholders, by_tensor)


def _parse(text: str, quant: str | None) -> Any:
    standard_erf = "0.3275911" in text and "1.061405429" in text
    lowered: set[str] = set()
    for _ in range(_MAX_ROUNDS):
        graph = parse_graph(text, quant, lowered=sorted(lowered))
        missing = {op.name for op in graph.operations if not expressible(op, standard_erf=standard_erf)}
        for op in graph.operations:
            if op.name in missing and (op.name in PRIMITIVE_ONLY or op.name in lowered):
                first = str(next(iter(op.outputs.values()), ""))
                raise ConversionError("the operation has no ONNX counterpart", op=op.name, node=first)
        if not missing:
            return graph
        lowered |= missing
    raise ConversionError(f"fragments nested deeper than {_MAX_ROUNDS}")


def _attach(graph: Any, stored: Mapping[str, Stored], placeholders: Placeholders) -> dict[str, str]:
    """Gives every variable a placeholder; returns labels by tensor name."""
    import nnef

    labels: dict[str, str] = {}
    seen: set[str] = set()
    for op in graph.operations:
        if op.name == "constant":
            _expand_constant(op, graph)
        if op.name != "variable":
            continue
        label, shape = check_label(op.attribs["label"]), tuple(op.attribs["shape"])
        entry = stored.get(label)
        if entry is None:
            raise GraphTextError(f"variable {label!r} is not in the archive")
        if entry.shape != shape:
            raise GraphTextError(f"variable {label!r} has shape {shape} in the graph, {entry.shape} in the archive")
        if label.casefold() in seen:
            raise CarryError("two variables share one label", reason="label-collision", tensor=label)
        seen.add(label.casefold())
        name = str(op.outputs["output"])
        array = placeholders.make(label, shape, np.dtype(entry.dtype))
        tensor = graph.tensors[name]
        graph.tensors[name] = nnef.Tensor(tensor.name, tensor.dtype, list(shape), array, tensor.quantization)
        labels[name] = label
    return labels


def _expand_constant(op: Any, graph: Any) -> None:
    shape, value = op.attribs["shape"], op.attribs["value"]
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if (
        count > 1 << 24
        or any(size <= 0 for size in shape)
        or (isinstance(value, list) and len(value) not in (1, count))
    ):
        raise GraphTextError(f"constant of shape {shape} with {len(value) if isinstance(value, list) else 1} values")
    kind = {"scalar": np.float32, "integer": np.int64, "logical": np.bool_}.get(op.dtype or "scalar", np.float32)
    op.attribs["value"] = np.broadcast_to(np.asarray(value, kind), (count,)).reshape(shape).copy()


def _infer_shapes(graph: Any) -> None:
    import nnef

    try:
        nnef.infer_shapes(graph, custom_shapes={name: (lambda x, **_: x) for name in DEFINITIONS})
    except Exception as error:
        # Shape functions are assertions and arithmetic on whatever the file says.
        raise GraphTextError(f"shapes of graph.nnef do not fit together: {error}"[:1000]) from error


def _translate(graph: Any) -> Any:
    from nnef_tools.conversion.nnef_to_onnx import Converter
    from nnef_tools.io.nnef.reader import _build_graph

    converter = Converter(custom_transforms=custom_transforms(), custom_functions=custom_functions())
    try:
        return converter(_build_graph(graph))
    except NNRError:
        raise
    except Exception as error:
        # Its own error class covers what it foresees; assertions and lookups fail on the rest.
        raise ConversionError(f"nnef-tools cannot convert the graph: {error!r}"[:1000]) from error


def _finish(graph: Any, source: Any, placeholders: Placeholders, labels: Mapping[str, str]) -> OnnxGraph:
    from nnef_tools.io.onnx.writer import build_graph

    weights: dict[str, tuple[str, tuple[int, ...], str]] = {}
    taken = {tensor.name for tensor in graph.tensors if tensor.name and placeholders.find(tensor.data) is None}
    widened: list[Widened] = []
    maps = _affine_maps(source, labels, placeholders)
    notes: list[str] = []
    for op in graph.operations:
        for key, value in op.attribs.items():
            if placeholders.find(value) is not None:
                raise CarryError(f"a variable became attribute {key!r} of {op.type!r}", reason="attribute")
    for tensor in graph.tensors:
        # The maps above carry what graph.quant says of variables; annotations would repeat it in another dialect.
        tensor.quant = {}
        traced = placeholders.find(tensor.data)
        if traced is None:
            continue
        if traced.change != "same":
            raise CarryError("the conversion changed the variable's layout", reason=traced.change, tensor=traced.name)
        name = traced.name if traced.name not in taken else _free(traced.name, taken)
        taken.add(name)
        dtype = np.dtype(tensor.data.dtype)
        weights[name] = (traced.name, tuple(tensor.data.shape), dtype.name)
        levels = maps.get(traced.name)
        wide = np.dtype(np.float32) if levels is not None else _computed_type(dtype)
        tensor.data = None
        if wide != dtype:
            inner = _free(f"{name}.{wide.name}", taken)
            taken.add(inner)
            widened.append(Widened(name, inner, helper.np_dtype_to_tensor_dtype(wide), levels))
            tensor.name, tensor.dtype = inner, wide.type
        else:
            tensor.name = name
    missing = [label for label in labels.values() if label not in {entry[0] for entry in weights.values()}]
    quantized = [name for name, tensor in source.tensors.items() if tensor.quantization and name not in labels]
    if quantized:
        notes.append(f"graph.quant of {len(quantized)} activations is left out; ONNX computes them in floating point")
    unread = _unread(source, labels)
    for label in missing:
        if label not in unread:
            raise CarryError("the variable is absent from the converted graph", reason="dropped", tensor=label)
        notes.append(f"variable {label!r} is read by nothing and was dropped")
    proto = onnx.GraphProto()
    build_graph(graph, proto)
    inputs = _ports(source, source.inputs, graph.inputs)
    outputs = _ports(source, source.outputs, graph.outputs)
    present = {info.name for info in proto.input}
    for port in inputs:
        if port.onnx not in present:
            proto.input.append(helper.make_tensor_value_info(port.onnx, port.elem_type, port.shape))
    model = _to_opset(proto, widened, {*weights, *(item.inner for item in widened)})
    return OnnxGraph(model, weights, inputs, outputs, maps, tuple(notes))


def _free(name: str, taken: set[str]) -> str:
    count, free = 1, name
    while free in taken:
        count += 1
        free = f"{name}_{count}"
    return free


def _computed_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which ONNX computes with values stored in `dtype`."""
    if dtype.kind == "f":
        return np.dtype(np.float32)
    return np.dtype(np.int64) if dtype.kind in "iu" else dtype


def _unread(graph: Any, labels: Mapping[str, str]) -> set[str]:
    text = " ".join(str(list(op.inputs.values())) for op in graph.operations)
    read = set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text)) | {str(name) for name in graph.outputs}
    return {label for name, label in labels.items() if name not in read}


_ELEMENT = {"scalar": TensorProto.FLOAT, "integer": TensorProto.INT64, "logical": TensorProto.BOOL}


def _ports(source: Any, names: Any, tensors: Any) -> tuple[Port, ...]:
    """Inputs or outputs in the order of the NNEF graph; the converter drops inputs that nothing reads."""
    converted = {tensor.name: tensor for tensor in tensors}
    ports = []
    for name in map(str, names):
        shape = converted[name].shape if name in converted else source.tensors[name].shape
        ports.append(Port(name, name, tuple(shape), _ELEMENT[source.tensors[name].dtype]))
    return tuple(ports)


def _affine_maps(source: Any, labels: Mapping[str, str], placeholders: Placeholders) -> dict[str, Affine]:
    """Maps for variables that the graph takes for scalars and the archive stores as integers."""
    maps = {}
    for name, label in labels.items():
        tensor = source.tensors[name]
        if tensor.dtype == "scalar" and np.dtype(tensor.data.dtype).kind in "iu":
            maps[label] = affine(tensor.quantization or {}, len(tensor.shape), label)
    return maps


def _to_opset(graph: Any, widened: list[Widened], weights: set[str]) -> ModelProto:
    """Opset 13: axes as inputs, constants no longer inputs, integers 64 bits wide, stored types cast on use."""
    constants = {proto.name for proto in graph.initializer}
    kept = [info for info in graph.input if info.name not in constants and info.name not in weights]
    nodes: list[onnx.NodeProto] = []
    extra: list[TensorProto] = []
    for item in widened:
        item.write(nodes, extra)
    for node in graph.node:
        key = {"Squeeze": "axes", "Unsqueeze": "axes", "ReduceSum": "axes", "Split": "split"}.get(node.op_type)
        if key is not None:
            attribute = next(a for a in node.attribute if a.name == key)
            name = f"{node.output[0]}_{key}"
            extra.append(numpy_helper.from_array(np.asarray(attribute.ints, np.int64), name))
            node.input.append(name)
            node.attribute.remove(attribute)
        nodes.append(node)
    initializers = [_wide(proto) for proto in graph.initializer] + extra
    result = helper.make_graph(nodes, graph.name or "graph", kept, list(graph.output), initializers)
    return helper.make_model(
        result, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION, producer_name="onnx-nnc"
    )


def _wide(proto: TensorProto) -> TensorProto:
    if proto.data_type != TensorProto.INT32:
        return proto
    return numpy_helper.from_array(numpy_helper.to_array(proto).astype(np.int64), proto.name)

"""An ONNX graph without its weights, on which all rewriting happens.

Every large constant becomes an opaque weight: a name with a shape and a type, no values. No pass can touch, copy or
fold what it cannot see, so a packed payload survives all of them. Small constants stay visible, for shapes and
parameters are computed from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..errors import ConversionError, ShapeError

OPSET = 13
Array = NDArray[Any]

_VISIBLE_WEIGHTS = 1024
_VISIBLE_INTEGERS = 1 << 16
_INDEX_TYPES = frozenset({TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL})


class Weight(msgspec.Struct, frozen=True):
    """An opaque constant.

    Attributes:
        shape: as the ONNX graph sees it.
        elem_type: ``TensorProto`` data type.
        proto: the initializer that holds the values; None if they come from a payload.
    """

    shape: tuple[int, ...]
    elem_type: int
    proto: Any = None


class Skeleton:
    """A rewritable graph: nodes, visible constants, opaque weights, inputs and outputs.

    Attributes:
        name: of the graph.
        opset: version of the default domain the nodes are written in.
        nodes: in topological order.
        constants: visible constants by tensor name.
        weights: opaque constants by tensor name.
        inputs: graph inputs, name -> (shape, elem_type), all dimensions fixed.
        unread: inputs that were dropped because nothing reads them.
        outputs: names of the graph outputs.
        notes: what the user should know about the conversion.
    """

    def __init__(self, name: str, opset: int) -> None:
        self.name = name
        self.opset = opset
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.weights: dict[str, Weight] = {}
        self.inputs: dict[str, tuple[tuple[int, ...], int]] = {}
        self.unread: dict[str, tuple[tuple[int, ...], int]] = {}
        self.outputs: list[str] = []
        self.notes: list[str] = []
        self.shapes: dict[str, tuple[int | None, ...]] = {}
        self.types: dict[str, int] = {}
        self._used: set[str] = set()

    def claim(self, names: Iterable[str]) -> None:
        """Marks names as taken for :meth:`fresh`."""
        self._used.update(names)

    def fresh(self, hint: str) -> str:
        """A tensor name not used so far."""
        name, count = hint, 0
        while name in self._used:
            count += 1
            name = f"{hint}_{count}"
        self._used.add(name)
        return name

    def constant(self, value: Array | Sequence[int] | float, hint: str, dtype: str | None = None) -> str:
        """Adds a visible constant and returns its name."""
        name = self.fresh(hint)
        self.constants[name] = np.asarray(value, dtype)
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        """Static shape of a tensor.

        Raises:
            ShapeError: it is not known.
        """
        shape = self.shapes.get(name)
        if shape is None or any(size is None for size in shape):
            raise ShapeError(
                f"tensor {name!r} has no fixed shape", hint="give the sizes of the model's inputs (input_shapes=)"
            )
        return tuple(size for size in shape if size is not None)

    def add_initializer(self, proto: TensorProto, *, rename: str | None = None) -> None:
        """Takes an initializer as a visible constant or an opaque weight."""
        name = rename or proto.name
        shape = tuple(proto.dims)
        volume = int(np.prod(shape, dtype=np.int64)) if shape else 1
        limit = _VISIBLE_INTEGERS if proto.data_type in _INDEX_TYPES else _VISIBLE_WEIGHTS
        if volume <= limit and proto.data_location != TensorProto.EXTERNAL:
            self.constants[name] = numpy_helper.to_array(proto)
        else:
            self.weights[name] = Weight(shape, proto.data_type, proto)
        self.claim([name])

    def infer(self) -> None:
        """Recomputes `shapes` and `types` of all tensors."""
        try:
            inferred = onnx.shape_inference.infer_shapes(self.to_model(), data_prop=True)
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
            raise ConversionError(f"the graph's shapes contradict each other: {error}"[:1000]) from error
        self.shapes, self.types = {}, {}
        graph = inferred.graph
        for info in (*graph.input, *graph.value_info, *graph.output):
            tensor = info.type.tensor_type
            self.types[info.name] = tensor.elem_type
            if tensor.HasField("shape"):
                self.shapes[info.name] = tuple(
                    dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim
                )
        for name, value in self.constants.items():
            self.shapes[name] = value.shape
            self.types[name] = helper.np_dtype_to_tensor_dtype(value.dtype)

    def to_model(self, *, typed_outputs: bool = False) -> ModelProto:
        """The graph as a model; opaque weights are inputs after the real ones.

        Args:
            typed_outputs: give outputs and all inner tensors the types and shapes of the last :meth:`infer`.
        """
        inputs = [helper.make_tensor_value_info(name, kind, shape) for name, (shape, kind) in self.inputs.items()]
        inputs += [
            helper.make_tensor_value_info(name, weight.elem_type, weight.shape) for name, weight in self.weights.items()
        ]
        outputs = [self._info(name, typed=typed_outputs) for name in self.outputs]
        used = {name for node in self.nodes for name in node.input} | set(self.outputs)
        graph = helper.make_graph(
            self.nodes,
            self.name or "graph",
            inputs,
            outputs,
            [numpy_helper.from_array(value, name) for name, value in self.constants.items() if name in used],
        )
        if typed_outputs:
            known = set(self.inputs) | set(self.weights) | set(self.outputs)
            graph.value_info.extend(
                self._info(name, typed=True) for name in self.shapes if name not in known and name in self.types
            )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def _info(self, name: str, *, typed: bool) -> onnx.ValueInfoProto:
        if typed and name in self.types:
            return helper.make_tensor_value_info(name, self.types[name], self.shape(name))
        info = onnx.ValueInfoProto(name=name)
        info.type.tensor_type.elem_type = self.types.get(name, TensorProto.UNDEFINED)
        return info


FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
INTEGERS = frozenset(
    {
        TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16,
        TensorProto.INT32, TensorProto.UINT32, TensorProto.INT64, TensorProto.UINT64,
    }
)  # fmt: skip


def build_skeleton(
    model: ModelProto,
    *,
    opaque: Mapping[str, Weight] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    fixed_inputs: Mapping[str, Array] | None = None,
) -> Skeleton:
    """Takes a model apart.

    Args:
        model: a checked ONNX model; not modified.
        opaque: weights whose values are elsewhere (outputs of decode nodes that the caller has removed).
        input_shapes: sizes of inputs with open dimensions, by input name.
        dims: sizes of symbolic dimensions, by symbol.
        fixed_inputs: inputs that become constants.

    Raises:
        ShapeError: a dimension other than the first stays open.
        ConversionError: a construct that has no counterpart (sparse initializer, function, foreign domain).
    """
    graph = model.graph
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    if graph.sparse_initializer:
        name = graph.sparse_initializer[0].values.name
        raise ConversionError("sparse initializers cannot be converted", op="SparseTensor", node=name)
    if model.functions:
        raise ConversionError("model-local functions cannot be converted", hint="inline them with onnx.inliner")
    skeleton = Skeleton(graph.name, opset)
    skeleton.claim(all_names(graph))
    skeleton.weights.update(opaque or {})
    for proto in graph.initializer:
        skeleton.add_initializer(proto)
    constant = set(skeleton.constants) | set(skeleton.weights)
    for info in graph.input:
        if info.name in (fixed_inputs or {}):
            skeleton.constants[info.name] = np.asarray((fixed_inputs or {})[info.name])
        elif info.name in constant and model.ir_version >= 4:
            skeleton.notes.append(f"input {info.name!r} has a default value and becomes a constant")
        elif info.name not in constant:
            skeleton.inputs[info.name] = _fixed_shape(info, input_shapes or {}, dims or {}, skeleton.notes)
    skeleton.nodes = list(graph.node)
    skeleton.outputs = [info.name for info in graph.output]
    skeleton.types.update({info.name: info.type.tensor_type.elem_type for info in graph.output})
    check_domains(skeleton)
    lift_constants(skeleton)
    return skeleton


def check_domains(skeleton: Skeleton) -> None:
    """Refuses operations outside the default domain.

    Raises:
        ConversionError: there is one.
    """
    for node in skeleton.nodes:
        if node.domain not in ("", "ai.onnx"):
            raise ConversionError(
                f"operations of domain {node.domain!r} cannot be converted", op=node.op_type, node=where(node)
            )


def all_names(graph: GraphProto) -> set[str]:
    """Names of all tensors in a graph and its subgraphs."""
    names = {info.name for info in (*graph.input, *graph.output, *graph.initializer)}
    for node in graph.node:
        names.update(node.input)
        names.update(node.output)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= all_names(inner)
    return names


def _fixed_shape(
    info: onnx.ValueInfoProto,
    input_shapes: Mapping[str, Sequence[int]],
    dims: Mapping[str, int],
    notes: list[str],
) -> tuple[tuple[int, ...], int]:
    if not info.type.HasField("tensor_type"):
        raise ConversionError("only tensor inputs can be converted", op="input", node=info.name)
    tensor = info.type.tensor_type
    if info.name in input_shapes:
        shape = tuple(int(size) for size in input_shapes[info.name])
        declared = [dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim]
        if tensor.HasField("shape") and (
            len(declared) != len(shape) or any(d not in (None, s) for d, s in zip(declared, shape, strict=True))
        ):
            raise ShapeError(f"shape {shape} given for input {info.name!r} contradicts the model's {declared}")
        return shape, tensor.elem_type
    if not tensor.HasField("shape"):
        raise ShapeError(f"input {info.name!r} has no shape", hint="give it with input_shapes=")
    sizes: list[int] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.dim_value > 0:
            sizes.append(dim.dim_value)
        elif dim.dim_param in dims:
            sizes.append(dims[dim.dim_param])
        elif axis == 0:
            sizes.append(1)
            notes.append(f"input {info.name!r}: first dimension {dim.dim_param or '?'} fixed to 1")
        else:
            raise ShapeError(
                f"dimension {axis} ({dim.dim_param or 'unnamed'}) of input {info.name!r} is open; NNEF fixes shapes",
                hint="give sizes by input (input_shapes=) or by symbol (dims=)",
            )
    return tuple(sizes), tensor.elem_type


def lift_constants(skeleton: Skeleton) -> None:
    """Turns ``Constant`` nodes into constants or weights."""
    kept = []
    for node in skeleton.nodes:
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            kept.append(node)
            continue
        attribute = node.attribute[0]
        if attribute.name == "value":
            skeleton.add_initializer(attribute.t, rename=node.output[0])
        elif attribute.name in ("value_float", "value_floats"):
            value = helper.get_attribute_value(attribute)
            skeleton.constants[node.output[0]] = np.asarray(value, np.float32)
        elif attribute.name in ("value_int", "value_ints"):
            value = helper.get_attribute_value(attribute)
            skeleton.constants[node.output[0]] = np.asarray(value, np.int64)
        else:
            raise ConversionError(f"constant of kind {attribute.name}", op="Constant", node=node.output[0])
    skeleton.nodes = kept


def attributes(node: NodeProto) -> dict[str, Any]:
    """Attributes of a node; strings as text."""
    values = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        values[attribute.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return values


def where(node: NodeProto) -> str:
    """What to call a node in messages."""
    return node.name or (node.output[0] if node.output else "")

"""ONNX to NNEF: the lowered skeleton through nnef-tools' converter, weights traced through it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import ModelProto, helper

from nnc_codec.errors import NNRError

from ..container import GRAPH
from ..errors import CarryError, ConversionError
from ..labels import make_label
from .fragments import DEFINITIONS
from .lower import lower
from .skeleton import Array, Skeleton, Weight
from .trace import Placeholders

_KEYWORDS = frozenset(
    "version extension graph fragment tensor integer scalar logical string true false for in if else yield lengthof "
    "shape_of range_of length_of".split()
)


class Port(msgspec.Struct, frozen=True):
    """An input or output of the graph under both of its names."""

    onnx: str
    nnef: str
    shape: tuple[int, ...]
    elem_type: int


class Variable(msgspec.Struct, frozen=True):
    """A variable of the converted graph.

    Attributes:
        label: in NNEF.
        shape: in NNEF; same number of elements as the source.
        source: name of the weight in ONNX, if its values are taken over as they are.
        value: the values, if they are small or new.
    """

    label: str
    shape: tuple[int, ...]
    source: str | None = None
    value: Any = None


class NnefGraph(msgspec.Struct, frozen=True):
    """A converted model without the values of its weights.

    Attributes:
        text: ``graph.nnef``.
        variables: in the order of the graph.
        inputs: real inputs.
        outputs: graph outputs.
        unread: inputs of the ONNX model that nothing reads; NNEF does not have them.
        weights: the opaque weights that variables refer to.
        notes: what the user should know.
    """

    text: str
    variables: tuple[Variable, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    unread: tuple[Port, ...]
    weights: Mapping[str, Weight]
    notes: tuple[str, ...]


def convert_graph(
    model: ModelProto,
    *,
    opaque: Mapping[str, Weight] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    fixed_inputs: Mapping[str, Array] | None = None,
) -> NnefGraph:
    """Converts the structure of a model; arguments as for :func:`nnc_nnef.convert.lower.lower`.

    Raises:
        ConversionError: an operation, type or shape without NNEF counterpart, named with its node.
        CarryError: the converter did something to a weight that its payload cannot follow.
    """
    skeleton = lower(model, opaque=opaque, input_shapes=input_shapes, dims=dims, fixed_inputs=fixed_inputs)
    _make_finite(skeleton)
    placeholders = Placeholders()
    source = _to_nnef_tools(skeleton, placeholders)
    target = _translate(source, skeleton)
    inputs, outputs = _name_tensors(target, skeleton)
    variables = _variables(target, placeholders, set(skeleton.weights))
    unread = tuple(Port(name, "", shape, kind) for name, (shape, kind) in skeleton.unread.items())
    return NnefGraph(
        _print(target),
        tuple(variables),
        inputs,
        outputs,
        unread,
        skeleton.weights,
        tuple(dict.fromkeys(skeleton.notes)),
    )


def _make_finite(skeleton: Skeleton) -> None:
    # A scalar constant becomes a literal, and NNEF has no literal for infinity; an array keeps it.
    for name, value in skeleton.constants.items():
        if value.ndim == 0 and value.dtype.kind == "f" and not np.isfinite(value):
            readers = [node for node in skeleton.nodes if name in node.input]
            if any(node.op_type == "Pad" for node in readers):
                limit = np.finfo(np.float32)
                skeleton.constants[name] = np.clip(value, limit.min, limit.max)
                skeleton.notes.append("padding with infinity is written as the largest float32")
            else:
                skeleton.constants[name] = value.reshape(1)
                skeleton.shapes[name] = (1,)


def _to_nnef_tools(skeleton: Skeleton, placeholders: Placeholders) -> Any:
    from nnef_tools.io.onnx.reader import onnx_model_to_graph

    graph = onnx_model_to_graph(skeleton.to_model(typed_outputs=True))
    weights = skeleton.weights
    for tensor in graph.tensors:
        if tensor.name in weights:
            weight = weights[tensor.name]
            dtype = helper.tensor_dtype_to_np_dtype(weight.elem_type)
            tensor.data = placeholders.make(tensor.name, weight.shape, dtype)
        elif tensor.name in skeleton.constants and tensor.producer is None and len(tensor.shape):
            value = skeleton.constants[tensor.name]
            tensor.data = _compact(value, tensor.name)
            placeholders.remember(tensor.name, tensor.data)
            tensor.dtype = tensor.data.dtype.type
    graph.inputs = [tensor for tensor in graph.inputs if tensor.name not in weights]
    return graph


def _compact(value: Array, name: str) -> Array:
    """Integers as int32: readers hold NNEF integers in that type."""
    if value.dtype.kind in "iu" and value.dtype.itemsize > 4:
        if value.size and (value.min() < -(1 << 31) or value.max() >= 1 << 31):
            raise ConversionError(f"integer constant {name!r} does not fit 32 bits", node=name)
        return value.astype(np.int32)
    return np.array(value, order="C")


def _translate(source: Any, skeleton: Skeleton) -> Any:
    from nnef_tools.conversion.onnx_to_nnef import Converter

    from .transforms import custom_functions, custom_transforms

    class Repaired(Converter):  # type: ignore[misc]
        """nnef-tools' converter without its habit of skipping every other scalar constant."""

        @staticmethod
        def inline_scalar_constants(graph: Any) -> None:
            for op in [op for op in graph.operations if op.type == "constant" and not op.output.shape]:
                op.output.data = np.asarray(op.attribs["value"], op.output.dtype).reshape(())
                graph.remove_operation(op, unlink=True)

    converter = Repaired(custom_transforms=custom_transforms(), custom_functions=custom_functions(), keep_io_names=True)
    try:
        graph = converter(source)
    except NNRError:
        raise
    except Exception as error:
        # Its own error class covers what it foresees; assertions and lookups fail on the rest.
        raise ConversionError(f"nnef-tools cannot convert the graph: {error!r}"[:1000]) from error
    if len(graph.outputs) != len(skeleton.outputs) or len(graph.inputs) != len(skeleton.inputs):
        raise ConversionError("an output or input was lost in conversion")
    return graph


def _name_tensors(graph: Any, skeleton: Skeleton) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    taken: set[str] = set()

    def claim(hint: str) -> str:
        name = re.sub(r"[^A-Za-z0-9_]+", "_", hint)
        if not name or not (name[0].isalpha() or name[0] == "_") or name in _KEYWORDS:
            name = f"_{name}"
        base, count = name, 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        return name

    graph.name = claim(graph.name or "graph")
    ports: list[tuple[Port, ...]] = []
    for tensors, names in ((graph.inputs, list(skeleton.inputs)), (graph.outputs, skeleton.outputs)):
        group = []
        for tensor, onnx_name in zip(tensors, names, strict=True):
            tensor.name = claim(onnx_name)
            group.append(Port(onnx_name, tensor.name, tuple(tensor.shape), skeleton.types[onnx_name]))
            if tensor.name != onnx_name:
                skeleton.notes.append(f"{onnx_name!r} is called {tensor.name!r} in NNEF")
        ports.append(tuple(group))
    fixed = {*graph.inputs, *graph.outputs}
    counts: dict[str, int] = {}
    for op in graph.operations:
        for tensor in op.outputs:
            if tensor not in fixed:
                counts[op.type] = counts.get(op.type, 0) + 1
                tensor.name = claim(f"{op.type}{counts[op.type]}")
    return ports[0], ports[1]


def _variables(graph: Any, placeholders: Placeholders, weights: set[str]) -> list[Variable]:
    taken: set[str] = set()
    variables = []
    seen: dict[str, str] = {}
    for op in graph.operations:
        for key, value in op.attribs.items():
            if op.type != "variable" and placeholders.find(value) is not None:
                raise CarryError(f"a weight became attribute {key!r} of {op.type!r}", reason="attribute")
        if op.type != "variable":
            continue
        traced = placeholders.find(op.output.data)
        shape = tuple(int(size) for size in op.output.shape)
        if traced is None:
            known = placeholders.name_of(op.output.data)
            label = make_label(known or op.output.name, taken)
            variables.append(Variable(label, shape, None, np.asarray(op.output.data)))
        else:
            if traced.change != "same":
                raise CarryError("the conversion transposed the weight", reason=traced.change, tensor=traced.name)
            label = make_label(traced.name, taken)
            if traced.name in seen:
                raise CarryError("the weight appears as two variables", reason="duplicated", tensor=traced.name)
            seen[traced.name] = label
            variables.append(Variable(label, shape, traced.name))
        taken.add(label.casefold())
        op.attribs["label"] = label
        op.attribs["shape"] = list(shape)
        # The writer of nnef-tools stores the array; the values are written elsewhere.
        op.output.data = np.zeros(0, np.float32)
    lost = sorted(weights - seen.keys())
    if lost:
        raise CarryError("the conversion lost the weight or changed its values", reason="dropped", tensor=lost[0])
    return variables


def _print(graph: Any) -> str:
    from nnef_tools.io.nnef import Writer

    graph.sort()
    with tempfile.TemporaryDirectory(prefix="onnx-nnc-") as folder:
        Writer(fragments=DEFINITIONS)(graph, folder)
        return Path(folder, GRAPH).read_text(encoding="ascii")

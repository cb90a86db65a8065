"""Constant folding on a skeleton: everything that follows from shapes and small constants is computed.

Nodes are evaluated with ``onnx.reference``, so folding needs no run time. graphsurgeon's folder needs
onnxruntime, and does not reach a fixpoint in one pass on exporters' shape arithmetic.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from ..errors import ConversionError
from .skeleton import Array, Skeleton, attributes, check_domains, lift_constants, where

_MAX_FOLDED = 1 << 20
_NEVER = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial",
                    "Bernoulli", "QuantizeLinear", "DequantizeLinear"})  # fmt: skip
_MAX_ROUNDS = 64


def fold(skeleton: Skeleton) -> None:
    """Folds until nothing changes, then removes what no output needs; leaves shapes inferred.

    Raises:
        ConversionError: an ``If`` whose condition is not constant.
    """
    for _ in range(_MAX_ROUNDS):
        skeleton.infer()
        if not _fold_once(skeleton):
            break
    _absorb_output_copies(skeleton)
    remove_unused(skeleton)
    for node in skeleton.nodes:
        if node.op_type == "If":
            raise ConversionError(
                "the condition is not constant", op="If", node=where(node),
                hint="fix the input it depends on (fixed_inputs=)",
            )  # fmt: skip
    skeleton.infer()


def _fold_once(skeleton: Skeleton) -> bool:
    aliases: dict[str, str] = {}
    kept: list[NodeProto] = []
    changed = False
    for original in skeleton.nodes:
        node = _redirect(original, aliases)
        source = _alias(skeleton, node)
        if source is not None and node.output[0] not in skeleton.outputs:
            aliases[node.output[0]] = source
            changed = True
        elif node.op_type == "If" and node.input[0] in skeleton.constants:
            kept.extend(_inline(skeleton, node))
            changed = True
        elif (values := _evaluate(skeleton, node)) is not None:
            skeleton.constants.update(values)
            changed = True
        else:
            kept.append(node)
    skeleton.nodes = kept
    # Inlined branches bring constants and foreign operations of their own.
    check_domains(skeleton)
    lift_constants(skeleton)
    return changed


def _redirect(node: NodeProto, aliases: dict[str, str]) -> NodeProto:
    if not any(name in aliases for name in node.input) and not any(a.HasField("g") for a in node.attribute):
        return node
    copy = NodeProto()
    copy.CopyFrom(node)
    _rename_inputs([copy], aliases)
    return copy


def _rename_inputs(nodes: list[NodeProto], names: dict[str, str]) -> None:
    for node in nodes:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_inputs(list(attribute.g.node), names)
                for info in attribute.g.output:
                    info.name = names.get(info.name, info.name)


def _alias(skeleton: Skeleton, node: NodeProto) -> str | None:
    if node.op_type == "Identity" or (node.op_type == "Dropout" and len([n for n in node.output if n]) == 1):
        return str(node.input[0])
    if node.op_type == "Cast" and skeleton.types.get(node.input[0]) == attributes(node).get("to"):
        return str(node.input[0])
    if node.op_type in ("Reshape", "Expand", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Tile"):
        before, after = skeleton.shapes.get(node.input[0]), skeleton.shapes.get(node.output[0])
        identity = node.op_type not in ("Transpose",) or attributes(node).get("perm") == sorted(
            attributes(node).get("perm", [1, 0])
        )
        if identity and before is not None and before == after and None not in before:
            return str(node.input[0])
    return None


def _evaluate(skeleton: Skeleton, node: NodeProto) -> dict[str, Array] | None:
    """Values of all outputs, or None if the node cannot or should not be folded."""
    if node.op_type in ("Shape", "Size"):
        return _shape_of(skeleton, node)
    if node.op_type in _NEVER or node.domain not in ("", "ai.onnx") or any(a.HasField("g") for a in node.attribute):
        return None
    if not all(not name or name in skeleton.constants for name in node.input):
        return None
    for name in node.output:
        shape = skeleton.shapes.get(name)
        if shape is not None and None not in shape and int(np.prod([s or 1 for s in shape])) > _MAX_FOLDED:
            return None
    inputs = {name: skeleton.constants[name] for name in node.input if name}
    graph_inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output if name]
    model = helper.make_model(
        helper.make_graph([node], "fold", graph_inputs, outputs),
        opset_imports=[helper.make_opsetid("", skeleton.opset)], ir_version=8,
    )  # fmt: skip
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, inputs)
    except Exception as error:
        # The evaluator raises whatever its kernels raise; any of it means the model is wrong at this node.
        raise ConversionError(f"cannot be evaluated: {error}", op=node.op_type, node=where(node)) from error
    return {name: np.asarray(value) for name, value in zip([n for n in node.output if n], results, strict=True)}


def _shape_of(skeleton: Skeleton, node: NodeProto) -> dict[str, Array] | None:
    shape = skeleton.shapes.get(node.input[0])
    if shape is None or None in shape:
        return None
    if node.op_type == "Size":
        return {node.output[0]: np.asarray(np.prod([s or 0 for s in shape], dtype=np.int64))}
    values = attributes(node)
    sizes = np.asarray(shape, np.int64)
    return {node.output[0]: sizes[values.get("start", 0) : values.get("end", len(shape))]}


def _inline(skeleton: Skeleton, node: NodeProto) -> list[NodeProto]:
    taken = bool(skeleton.constants[node.input[0]].reshape(-1)[0])
    branch = attributes(node)["then_branch" if taken else "else_branch"]
    inner = [proto.name for proto in branch.initializer]
    inner += [name for child in branch.node for name in child.output if name]
    # Two branches may use the same names for different tensors.
    names = {name: skeleton.fresh(f"{name}_{where(node)}") for name in inner}
    for proto in branch.initializer:
        skeleton.add_initializer(proto, rename=names[proto.name])
    copies = []
    for child in branch.node:
        copy = NodeProto()
        copy.CopyFrom(child)
        copy.output[:] = [names.get(name, name) for name in child.output]
        copies.append(copy)
    _rename_inputs(copies, names)
    for info, name in zip(branch.output, node.output, strict=True):
        if name:
            source = names.get(info.name, info.name)
            copies.append(helper.make_node("Identity", [source], [name], name=f"{where(node)}_{name}"))
    return copies


def _absorb_output_copies(skeleton: Skeleton) -> None:
    """Lets a node write a graph output itself where an Identity would copy it there."""
    writers = {name: node for node in skeleton.nodes for name in node.output}
    names: dict[str, str] = {}
    for node in skeleton.nodes:
        if node.op_type == "Identity" and node.output[0] in skeleton.outputs:
            source = node.input[0]
            if source in writers and source not in skeleton.outputs and source not in names:
                names[source] = node.output[0]
    if not names:
        return
    kept = []
    for node in skeleton.nodes:
        if node.op_type == "Identity" and names.get(node.input[0]) == node.output[0]:
            continue
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.output[:] = [names.get(name, name) for name in node.output]
        _rename_inputs([copy], names)
        kept.append(copy)
    skeleton.nodes = kept


def remove_unused(skeleton: Skeleton) -> None:
    """Drops nodes, constants and weights that no output depends on."""
    needed = set(skeleton.outputs)
    kept = []
    for node in reversed(skeleton.nodes):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed.update(_reads(node))
    skeleton.nodes = kept[::-1]
    skeleton.constants = {name: value for name, value in skeleton.constants.items() if name in needed}
    skeleton.weights = {name: value for name, value in skeleton.weights.items() if name in needed}


def _reads(node: NodeProto) -> set[str]:
    names = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                names |= _reads(inner)
            names.update(info.name for info in attribute.g.output)
    return names

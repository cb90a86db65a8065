"""Short names for values and none for nodes.

Names of graph inputs and outputs stay, for callers use them, and so do those of tensors with a payload of their own,
for messages use them; unless these are so long that they alone are worth it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from .. import carriage
from ..graph.walk import iter_graphs

if TYPE_CHECKING:
    import onnx

_LONG = 1024
_USUAL_ENDING = "_output_0"

_FIRST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LATER = _FIRST + "0123456789_"


class Names(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the values and nodes of a model are called.

    Attributes:
        values: the old name by number of the new one; ``None`` stands for the name of a payload that follows from that
            of its tensor.
        taken: short names that were not given because the model uses them.
        nodes: by number of its first output, the name of the node that makes it, empty where it is the usual one;
            shorter than `values` if the last ones have none.
        others: the same for nodes whose first output keeps its name.
    """

    values: tuple[str | None, ...] = ()
    taken: tuple[str, ...] = ()
    nodes: tuple[str | None, ...] = ()
    others: dict[str, str] = {}


def short_names(taken: frozenset[str] | set[str]) -> Iterator[str]:
    """Names of one letter, then two characters and so on, except those in `taken`."""
    words = [""]
    while True:
        longer = [word + letter for word in words for letter in (_LATER if word else _FIRST)]
        yield from (word for word in longer if word not in taken)
        words = longer


def shorten(model: onnx.ModelProto, least: float) -> Names:
    """Rename values and take the names of nodes away.

    Args:
        model: changed in place.
        least: bytes in names of tensors with a payload of their own from which on those are shortened too.

    Returns:
        What :func:`rename_back` needs.
    """
    kept = _kept(model, least)
    order: dict[str, None] = {}
    for _, graph in iter_graphs(model.graph):
        for name in _defined(graph):
            if name not in kept:
                order.setdefault(name)
    short = short_names(kept)
    renamed = {name: next(short) for name in order}
    longest = max((len(name) for name in renamed.values()), default=0)
    node_names = _take_node_names(model)
    derived = _derived_payload_names(model)
    _rename(model, renamed.get)
    nodes = [node_names.pop(name, None) for name in renamed]
    nodes = ["" if name and name == usual_node_name(old) else name for old, name in zip(renamed, nodes, strict=True)]
    while nodes and nodes[-1] is None:
        nodes.pop()
    return Names(
        values=tuple(None if name in derived else name for name in renamed),
        taken=tuple(sorted(name for name in kept if len(name) <= longest)),
        nodes=tuple(nodes),
        others=node_names,
    )


def rename_back(model: onnx.ModelProto, names: Names) -> None:
    """Give values and nodes their old names, as far as tools have left the new ones in place."""
    short = short_names(set(names.taken))
    old = {next(short): name for name in names.values}
    node_names = dict(names.others)
    for (key, output), name in zip(old.items(), names.nodes, strict=False):
        if name is not None:
            node_names[key] = name or usual_node_name(output or "") or ""
    for _, graph in iter_graphs(model.graph):
        for node in graph.node:
            key = first_output(node)
            if not node.name and key in node_names:
                node.name = node_names[key]
    # All at once: an old name may be another value's short one.
    for _, _, decode in carriage.decode_nodes(model):
        if decode.payload in old and old[decode.payload] is None:
            old[decode.payload] = (old.get(decode.output) or decode.output) + carriage.PAYLOAD_SUFFIX
    _rename(model, old.get)


def usual_node_name(output: str) -> str | None:
    """What exporters of PyTorch call the node with this first output; ``None`` where that is not to be seen."""
    stem = output.removesuffix(_USUAL_ENDING)
    return stem if stem and stem != output else None


def _kept(model: onnx.ModelProto, least: float) -> set[str]:
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    decoded = {decode.output for _, _, decode in carriage.decode_nodes(model) if decode.member is None}
    occurrences = (
        name
        for _, graph in iter_graphs(model.graph)
        for names in (
            *((*node.input, *node.output) for node in graph.node),
            [value.name for value in graph.value_info],
        )
        for name in names
        if name in decoded
    )
    return kept if sum(map(len, occurrences)) >= max(least, _LONG) else kept | decoded


def _defined(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that `graph` defines, in the order of nodes first: neighbours in the table then resemble each other."""
    for node in graph.node:
        yield from filter(None, node.output)
    yield from (tensor.name for tensor in graph.initializer if tensor.name)
    yield from (value.name for value in graph.input if value.name)


def first_output(node: onnx.NodeProto) -> str:
    """Name of the first output that is not left out; empty if there is none."""
    return next((name for name in node.output if name), "")


def _take_node_names(model: onnx.ModelProto) -> dict[str, str]:
    """Clear the names of nodes; returns them by first output. Where branches share one, all or none have a name."""
    found: dict[str, set[str]] = {}
    nodes = [node for _, graph in iter_graphs(model.graph) for node in graph.node]
    for node in nodes:
        found.setdefault(first_output(node), set()).add(node.name)
    names = {key: next(iter(all_)) for key, all_ in found.items() if key and len(all_) == 1 and "" not in all_}
    for node in nodes:
        if first_output(node) in names:
            node.ClearField("name")
    return names


def _derived_payload_names(model: onnx.ModelProto) -> set[str]:
    first: dict[str, str] = {}
    for _, _, decode in carriage.decode_nodes(model):
        first.setdefault(decode.payload, decode.output + carriage.PAYLOAD_SUFFIX)
    return {payload for payload, name in first.items() if payload == name}


def _rename(model: onnx.ModelProto, new: Callable[[str], str | None]) -> None:
    """Replace every name of a value for which `new` has another one."""
    for _, graph in iter_graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.name = new(value.name) or value.name
        for sparse in graph.sparse_initializer:
            sparse.values.name = new(sparse.values.name) or sparse.values.name
        for annotation in graph.quantization_annotation:
            annotation.tensor_name = new(annotation.tensor_name) or annotation.tensor_name
            for entry in annotation.quant_parameter_tensor_names:
                entry.value = new(entry.value) or entry.value
        for node in graph.node:
            for names in (node.input, node.output):
                changed = [new(name) or name for name in names]
                if changed != list(names):
                    del names[:]
                    names.extend(changed)

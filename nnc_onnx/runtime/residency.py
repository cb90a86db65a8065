"""Which tensors of a packed model become constants when it is loaded.

A weight that is a constant of the graph is laid out for the kernels, folded and fused by onnxruntime; one that a node
decodes is not. Both take the same memory once decoded, so a budget is spent on constants first. Their order, and with
it the choice, depends on the graph alone:

1. kernels of grouped convolutions: onnxruntime computes depthwise convolutions several times slower if their kernels
   are no constants, and they are tiny, so these are constants without a budget too, up to :data:`FREE_SHARE`;
2. weights of other convolutions, which lose the blocked layout of the activations around them, small ones first;
3. all others that are read in every run;
4. tables that only Gather reads, of which a run needs a few rows;
5. tensors inside a branch of an If, which may never be needed, are not chosen.

Elsewhere the order is that of the first reader in the graph. A tensor that does not fit is passed over. Those of
classes 2 and 3 that are tiny beside all others are constants without a budget too, up to :data:`TINY_SHARE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from ..graph.usage import Usage, Value
from ..payloads import PackedTensor
from .stage import value_of

if TYPE_CHECKING:
    import onnx

_CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "ConvTranspose", "FusedConv", "QLinearConv"})
_LOOKUPS = frozenset({"Gather"})

# What stands between a weight and the node that computes with it.
_PASSING = frozenset({"Cast", "DequantizeLinear", "Identity", "Reshape", "Transpose"})

_GROUPED, _CONVOLUTION, _ALWAYS, _LOOKUP, _BRANCH = range(5)

FREE_SHARE = 16
"""One part in this many of all decoded bytes may go to kernels of grouped convolutions beyond the budget."""

TINY_SHARE = 64
"""The same for all other weights that every run reads: the layer behind a large table, the first convolutions."""


class Residency(msgspec.Struct, frozen=True, kw_only=True):
    """The choice for one session.

    Attributes:
        constants: the tensors that become constants.
        constant_bytes: their size.
    """

    constants: frozenset[Value]
    constant_bytes: int


def choose_constants(
    usage: Usage, packed: Iterable[PackedTensor], budget: int, *, beside: int = 0, levels: bool = False
) -> Residency:
    """The tensors of `packed` that become constants within `budget` bytes; members of groups are not counted.

    If all fit, all are chosen; else none in branches. With `levels` as many are chosen as leave room for the levels of
    all others: decoding a tensor at every run costs far more than what a constant gains. `beside` are the decoded bytes
    of tensors that are no candidates; shares are of all.
    """
    tensors = [tensor for tensor in packed if tensor.decode.member is None]
    total = sum(tensor.decode.nbytes for tensor in tensors)
    if total <= budget:
        return Residency(constants=frozenset(map(value_of, tensors)), constant_bytes=total)
    left = budget - sum(map(_level_bytes, tensors)) if levels else budget
    free, tiny = (total + beside) // FREE_SHARE, (total + beside) // TINY_SHARE
    chosen: set[Value] = set()
    spent = 0
    for rank, tensor in _in_order(usage, tensors):
        more = tensor.decode.nbytes - (_level_bytes(tensor) if levels else 0)
        if more <= left:
            left -= more
        elif rank == _GROUPED and tensor.decode.nbytes <= free:
            free -= tensor.decode.nbytes
        elif rank in (_CONVOLUTION, _ALWAYS) and tensor.decode.nbytes <= tiny:
            tiny -= tensor.decode.nbytes
        else:
            continue
        spent += tensor.decode.nbytes
        chosen.add(value_of(tensor))
    return Residency(constants=frozenset(chosen), constant_bytes=spent)


def _level_bytes(tensor: PackedTensor) -> int:
    """What the cache of the run-time library needs to hold a tensor as levels: a byte each, lists and rounding."""
    decode = tensor.decode
    return decode.elements + decode.elements // 8 if decode.element.is_float else decode.nbytes


def _in_order(usage: Usage, tensors: Sequence[PackedTensor]) -> list[tuple[int, PackedTensor]]:
    """Candidates with their classes, the most useful ones first; tensors in branches are none."""
    ranked = []
    for position, tensor in enumerate(tensors):
        rank, first = _rank(usage, value_of(tensor))
        size = tensor.decode.nbytes if rank in (_GROUPED, _CONVOLUTION) else 0
        if rank != _BRANCH:
            ranked.append((rank, len(tensor.path), size, first, position, tensor))
    return [(entry[0], entry[-1]) for entry in sorted(ranked, key=lambda entry: entry[:-1])]


def _rank(usage: Usage, value: Value) -> tuple[int, int]:
    """(class of a tensor, position of its first reader in the graph that decodes it)."""
    if any(usage.owners[value.path[:length]].op_type == "If" for length in range(1, len(value.path) + 1)):
        return _BRANCH, 0
    found: set[int] = set()
    first: int | None = None
    pending, seen = [value], {value}
    while pending:
        for use in usage.uses(pending.pop()):
            if use.node is None:
                found.add(_ALWAYS)
                continue
            if use.path == value.path:
                first = use.node_index if first is None else min(first, use.node_index)
            if use.node.op_type in _PASSING and use.position == 0:
                outputs = (usage.resolve(use.path, name) for name in use.node.output)
                derived = {output for output in outputs if output is not None} - seen
                seen |= derived
                pending.extend(derived)
            else:
                found.add(_class_of(use.node))
    return min(found, default=_ALWAYS), first or 0


def _class_of(node: onnx.NodeProto) -> int:
    if node.op_type in _CONVOLUTIONS:
        grouped = any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
        return _GROUPED if grouped else _CONVOLUTION
    return _LOOKUP if node.op_type in _LOOKUPS else _ALWAYS

"""Small tensors that share a bitstream, because one of their own would cost more than their values."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

import nnc_codec
from nnc_codec.bitstream import Bitstream
from nnc_codec.report import ErrorMeasure

from .carriage import PAYLOAD_SUFFIX, ElementType
from .graph.usage import Value
from .graph.walk import GraphPath
from .manifest import GroupEntry, payload_digest, rounded
from .model_coding import PackedTensor

GROUP_NAME = "group"

_Kind = tuple[GraphPath, ElementType, bytes]


class Group(NamedTuple):
    """Tensors that one node decodes.

    Attributes:
        path: graph of the node.
        element: their element type.
        members: the tensors in the order of the node's outputs, each with its data unit as payload.
        payload: a bitstream with one data unit each, called "0", "1" ...
        payload_name: name of the payload initializer.
    """

    path: GraphPath
    element: ElementType
    members: tuple[PackedTensor, ...]
    payload: bytes
    payload_name: str

    @property
    def crc32(self) -> int:
        """CRC-32 of the payload."""
        return zlib.crc32(self.payload)

    @property
    def entry(self) -> GroupEntry:
        """What the manifest says of the group."""
        planned = [item.planned for item in self.members]
        errors = [item.coded.error for item in self.members]
        worst = ErrorMeasure(
            max_abs=max(error.max_abs for error in errors), rel_rms=max(error.rel_rms for error in errors)
        )
        nodes = tuple(tensor.node_name for tensor in planned)
        inner = tuple(tensor.inner_name for tensor in planned)
        return GroupEntry(
            payload=self.payload_name,
            sha256=payload_digest(self.payload),
            positions=tuple(
                tensor.position if tensor.origin == "initializer" else -1 - tensor.position for tensor in planned
            ),
            nodes=nodes if any(nodes) else (),
            inner=inner if any(name is not None for name in inner) else (),
            error=None if worst.max_abs == 0 else rounded(worst),
        )


class Grouping(NamedTuple):
    """Coded tensors, told apart.

    Attributes:
        singles: those with a bitstream of their own.
        groups: the others.
    """

    singles: list[PackedTensor]
    groups: list[Group]


def group_tensors(
    packed: Iterable[PackedTensor], graph_for: Callable[[Value], GraphPath], below: int, taken: set[str]
) -> Grouping:
    """Put the tensors of fewer than `below` elements into groups.

    One group holds tensors of one graph, one element type and one parameter set.

    Args:
        packed: all coded tensors in the model's order.
        graph_for: the graph that decodes a tensor.
        below: number of elements.
        taken: names in the model; those of the groups' payloads are added.
    """
    singles: list[PackedTensor] = []
    together: defaultdict[_Kind, list[tuple[PackedTensor, Bitstream]]] = defaultdict(list)
    for item in packed:
        element = item.planned.element
        stream = nnc_codec.open(item.coded.payload) if item.planned.elements < below else None
        if element is None or stream is None or len(stream) != 1:
            singles.append(item)
            continue
        together[graph_for(item.planned.value), element, _head(stream)].append((item, stream))
    groups = []
    for (path, element, head), members in together.items():
        name = _free_name(taken)
        units = [_unit(stream, str(index)) for index, (_, stream) in enumerate(members)]
        named = tuple(
            item._replace(coded=msgspec.structs.replace(item.coded, payload=unit), payload_name=name)
            for (item, _), unit in zip(members, units, strict=True)
        )
        groups.append(Group(path, element, named, head + b"".join(units), name))
    return Grouping(singles, groups)


def _free_name(taken: set[str]) -> str:
    name, count = GROUP_NAME + PAYLOAD_SUFFIX, 1
    while name in taken:
        count += 1
        name = f"{GROUP_NAME}{PAYLOAD_SUFFIX}{count}"
    taken.add(name)
    return name


def _head(stream: Bitstream) -> bytes:
    return b"".join(stream.unit_bytes(unit.index) for unit in stream.units if unit.data_unit is None)


def _unit(stream: Bitstream, name: str) -> bytes:
    """The stream's data unit under another name."""
    (old,) = stream
    renamed = nnc_codec.open(stream.relabel({old: name}))
    return b"".join(renamed.unit_bytes(unit.index) for unit in renamed.units if unit.data_unit is not None)

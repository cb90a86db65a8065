"""Laying out a packed archive: which members, in which order, with which index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from nnc_codec.report import ErrorMeasure
from nnc_onnx.manifest import Parameters, rounded
from nnc_onnx.version import producer

from .archive_writer import Member, from_bytes
from .container import GRAPH, QUANT
from .index import CODEC, FORMAT, BitstreamEntry, Index, VariableEntry, digest, weights_name
from .units import Unit, group


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """A coded variable to be written.

    Attributes:
        unit: its data unit and head.
        shape: in the graph.
        item: NNEF item type and bits of its plain form.
        error: of the decoded values, if known.
    """

    unit: Unit
    shape: tuple[int, ...]
    item: tuple[int, int]
    error: ErrorMeasure | None = None


def weight_members(
    graph: bytes, payloads: Mapping[str, Payload], *, parameters: Parameters | None = None, first: int = 0
) -> list[Member]:
    """Index and bitstreams of these variables.

    Args:
        graph: ``graph.nnef``.
        payloads: by label; their order is that of the data units.
        parameters: for the index.
        first: number of the first bitstream.

    Returns:
        The index, then one bitstream per parameter set, usually one.
    """
    labels = list(payloads)
    units = [payloads[label].unit for label in labels]
    bitstreams: list[BitstreamEntry] = []
    variables: dict[str, VariableEntry] = {}
    members: list[Member] = []
    for number, positions in enumerate(group(units)):
        head = units[positions[0]].head
        parts = [head]
        offset = len(head)
        for position in positions:
            payload = payloads[labels[position]]
            data = payload.unit.data
            variables[labels[position]] = VariableEntry(
                offset=offset, length=len(data), sha256=digest(data), shape=payload.shape, item=payload.item, bs=number,
                error=_rounded(payload.error),
            )  # fmt: skip
            parts.append(data)
            offset += len(data)
        name = weights_name(first + number)
        members.append(_joined(name, parts))
        bitstreams.append(BitstreamEntry(file=name, prefix=len(head), length=offset, sha256=digest(*parts)))
    ordered = {label: variables[label] for label in labels}
    index = Index(
        format=FORMAT, codec=CODEC, producer=producer(), graph_sha256=digest(graph), bitstreams=tuple(bitstreams),
        variables=ordered, parameters=parameters,
    )  # fmt: skip
    return [from_bytes(f"{weights_name(first)}.json", index.to_json()), *members]


def packed_members(
    graph: bytes,
    quant: bytes | None,
    payloads: Mapping[str, Payload],
    rest: Sequence[Member],
    *,
    parameters: Parameters | None = None,
) -> list[Member]:
    """All members of a packed archive in their order: texts, index, bitstreams, everything else."""
    texts = [from_bytes(GRAPH, graph)] + ([from_bytes(QUANT, quant)] if quant is not None else [])
    return [*texts, *(weight_members(graph, payloads, parameters=parameters) if payloads else []), *rest]


def _joined(name: str, parts: Sequence[bytes]) -> Member:
    def chunks() -> Iterator[bytes]:
        yield from parts

    return Member(name, sum(map(len, parts)), chunks)


def _rounded(error: ErrorMeasure | None) -> ErrorMeasure | None:
    return None if error is None or error.max_abs == 0 else rounded(error)

"""What exporters tell people about nodes: documentation and metadata, stack traces for example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..graph.walk import iter_graphs
from .names import first_output

if TYPE_CHECKING:
    import onnx


class Remark(NamedTuple):
    """What is said about one node.

    Attributes:
        doc_string: its documentation.
        metadata: keys and values of its ``metadata_props``.
    """

    doc_string: str = ""
    metadata: tuple[tuple[str, str], ...] = ()


class Remarks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Remarks as columns of a table.

    Attributes:
        nodes: by number of a node's first output among all names; shorter than those if the last ones have none.
        others: the same for nodes whose first output keeps its name.
    """

    nodes: tuple[Remark | None, ...] = ()
    others: dict[str, Remark] = {}

    @classmethod
    def of(cls, remarks: Mapping[str, Remark], values: Sequence[str | None]) -> Remarks:
        """The table of remarks on the nodes with these first outputs; `values` are the names by number."""
        rest = dict(remarks)
        nodes = [rest.pop(name, None) if name is not None else None for name in values]
        while nodes and nodes[-1] is None:
            nodes.pop()
        return cls(nodes=tuple(nodes), others=rest)

    def by_output(self, values: Sequence[str | None]) -> dict[str, Remark]:
        """The rows of the table."""
        rows = dict(self.others)
        rows.update((name, remark) for name, remark in zip(values, self.nodes, strict=False) if name and remark)
        return rows


def take_remarks(model: onnx.ModelProto) -> dict[str, Remark]:
    """Remove remarks; returns them by first output of the node."""
    nodes = [node for _, graph in iter_graphs(model.graph) for node in graph.node]
    makers = Counter(map(first_output, nodes))
    found: dict[str, Remark] = {}
    for node in nodes:
        key = first_output(node)
        # Releases of onnx before 1.16 know no metadata of nodes.
        metadata = getattr(node, "metadata_props", ())
        if not key or makers[key] > 1 or not (node.doc_string or metadata):
            continue
        found[key] = Remark(node.doc_string, tuple((entry.key, entry.value) for entry in metadata))
        node.ClearField("doc_string")
        if metadata:
            node.ClearField("metadata_props")
    return found


def put_remarks(model: onnx.ModelProto, remarks: Mapping[str, Remark]) -> None:
    """Put remarks back, unless a tool has made new ones."""
    for _, graph in iter_graphs(model.graph):
        for node in graph.node:
            remark = remarks.get(first_output(node))
            if remark is None:
                continue
            if remark.doc_string and not node.doc_string:
                node.doc_string = remark.doc_string
            if remark.metadata and not getattr(node, "metadata_props", True):
                for key, value in remark.metadata:
                    node.metadata_props.add(key=key, value=value)

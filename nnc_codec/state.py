"""What incremental updates leave behind: the nodes of a parameter update tree, per tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .errors import CorruptError, UnsupportedError
from .payload import Flags, Integers, Past
from .syntax.data_unit import CompressedDataUnitHeader


@dataclass(frozen=True)
class Node:
    """The last coded node of one tensor.

    Attributes:
        parameter_id: number of the tensor within the model.
        put_node_depth: depth in the update tree; 1 for the first node of a state.
        integers: its integers, flat in raster order.
        history: 1 where any node so far was not zero.
    """

    parameter_id: int
    put_node_depth: int
    integers: Integers
    history: Flags


@dataclass
class UpdateState:
    """State that an encoder or a decoder of a sequence of updates keeps between them.

    The two sides need an object each: both advance with every bitstream. Tensors that an update does not mention keep
    their node.

    Attributes:
        history: use the history-dependent significance tool (encoder: may, decoder: can).
        temporal_context: encoder only; let contexts depend on the previous update where there is one.
        compress_differences: encoder only; the tensors are differences to a parent. Then updates that are zero
            are left out and the units name their parents.
        predictive: encoder only; say in ``nnr_pre_flag`` that the tensors are residuals of a prediction, which the
            application makes on both sides.
        device_id: of the first unit seen.
    """

    history: bool = False
    temporal_context: bool = False
    compress_differences: bool = True
    predictive: bool = False
    device_id: int | None = None
    nodes: dict[str, Node] = field(default_factory=dict)

    def past(self, name: str) -> Past:
        """What the contexts of a tensor may refer to."""
        node = self.nodes.get(name)
        return Past() if node is None else Past(node.integers, node.history if self.history else None)

    def depth(self, name: str) -> int:
        """``put_node_depth`` of the next node of a tensor."""
        node = self.nodes.get(name)
        return 1 if node is None else node.put_node_depth + 1

    def check(self, header: CompressedDataUnitHeader, names: Mapping[str, int]) -> None:
        """Whether a data unit continues this state.

        Args:
            header: of the unit.
            names: tensor -> number of elements.

        Raises:
            UnsupportedError: it needs the integers of nodes that are not here.
            CorruptError: ids, depth or size contradict the state.
        """
        if not header.temporal_context_modeling_flag:
            return
        for name, size in names.items():
            node = self.nodes.get(name)
            if node is None:
                raise UnsupportedError("temporal_context_modeling_flag needs the previous update", tensor=name)
            if node.integers.size != size:
                raise CorruptError("another shape than in the previous update", tensor=name)
            if not header.node_id_present_flag:
                continue
            if self.device_id is not None and header.device_id != self.device_id:
                raise CorruptError(f"device_id {header.device_id} does not continue {self.device_id}", tensor=name)
            if header.parameter_id != node.parameter_id or header.put_node_depth != node.put_node_depth + 1:
                raise CorruptError("node id does not follow the previous update", tensor=name)

    def record(
        self, name: str, parameter_id: int, device_id: int, integers: Integers, depth: int | None = None
    ) -> None:
        """Advance a tensor by one node; ``depth`` is the node's own if the stream stated it."""
        node = self.nodes.get(name)
        seen = (integers != 0).astype(np.uint8)
        if node is not None and node.history.size == seen.size:
            seen |= node.history
        if self.device_id is None:
            self.device_id = device_id
        self.nodes[name] = Node(parameter_id, self.depth(name) if depth is None else depth, integers, seen)

    def advance(self, header: CompressedDataUnitHeader, integers: Mapping[str, Integers]) -> None:
        """Advance the tensors of a decoded unit."""
        stated = header.put_node_depth if header.node_id_present_flag else None
        for name, values in integers.items():
            self.record(name, header.parameter_id or 0, header.device_id or 0, values, stated)

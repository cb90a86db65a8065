"""An ONNX model as the source of a conversion: its graph without decode nodes, its payloads, its plain weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from nnc_codec.errors import UnsupportedError
from nnc_codec.limits import Limits
from nnc_onnx import carriage
from nnc_onnx.graph.usage import Usage
from nnc_onnx.graph.walk import iter_graphs, local_names
from nnc_onnx.model_io import Model, load
from nnc_onnx.payloads import PackedTensor, decode_payload, packed_tensors, read_payload
from nnc_onnx.tensors import element_count, is_external, to_array

from ..errors import CarryError
from ..units import Unit, cut
from .carry import Carried, take
from .skeleton import Weight

Array = NDArray[Any]

_SMALL = 1 << 16


class OnnxSource:
    """A loaded ONNX model.

    Attributes:
        model: as loaded; :meth:`strip` removes the decode nodes from its proto.
        carried: payloads that will be carried, by tensor name.
        decoded: payloads that will not, with the obstacle.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.limits = limits
        self.model: Model = load(path)
        self.packed = carriage.check_format(self.model.proto) is not None
        self.carried: dict[str, Carried] = {}
        self.decoded: dict[str, CarryError] = {}
        self._tensors: dict[str, PackedTensor] = {}
        usage = Usage(self.model.proto.graph)
        for tensor in packed_tensors(usage) if self.packed else ():
            self._take(tensor, usage)

    def _take(self, tensor: PackedTensor, usage: Usage) -> None:
        name = tensor.decode.output
        payload = read_payload(tensor, self.model)
        if name in self._tensors and self._tensors[name].payload is not tensor.payload:
            # Branches of an If may use one name for two tensors; one graph cannot.
            raise CarryError("two subgraphs use this name for different payloads", reason="subgraph", tensor=name)
        self._tensors[name] = tensor
        try:
            element = tensor.decode.element
            if element.dtype_name == "bfloat16":
                raise CarryError("NNEF has no bfloat16", reason="type", tensor=name)
            if element.dtype_name == "float64":
                raise CarryError("NNEF readers have no float64", reason="type", tensor=name)
            self.carried[name] = take(name, payload, tensor.decode.shape, element.dtype_name, self.limits)
        except CarryError as error:
            self.decoded[name] = error

    def give_up(self, error: CarryError) -> None:
        """Marks the tensor an error names, or all of them, as one that cannot be carried."""
        names = [error.tensor] if error.tensor in self.carried else list(self.carried)
        for name in names:
            self.carried.pop(str(name))
            self.decoded[str(name)] = error

    def opaque(self) -> dict[str, Weight]:
        """The carried tensors as weights of a skeleton."""
        return {
            name: Weight(item.shape, carriage.BY_ONNX_TYPE[self._tensors[name].decode.element.onnx_type].onnx_type)
            for name, item in self.carried.items()
        }

    def values(self, name: str) -> Array:
        """Decoded values of a packed tensor, float32 where NNEF lacks the type."""
        tensor = self._tensors[name]
        values: Array = decode_payload(tensor, read_payload(tensor, self.model), self.limits)
        wide = tensor.decode.element.dtype_name in ("bfloat16", "float64")
        return values.astype(np.float32) if wide else values

    def unit(self, name: str) -> Unit | None:
        """The data unit of a payload that is not carried, for its coding parameters; None if it is not alone."""
        try:
            return cut(read_payload(self._tensors[name], self.model), limits=self.limits)
        except UnsupportedError:
            return None

    def stripped(self) -> onnx.ModelProto:
        """A model without decode nodes: carried tensors are undefined names, decoded ones are initializers."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.model.proto)
        for tensor in proto.graph.initializer:
            # Shapes and parameters are computed from small constants, so those have to be at hand.
            if is_external(tensor) and element_count(tensor) <= _SMALL:
                tensor.CopyFrom(numpy_helper.from_array(to_array(tensor, self.model.folder), tensor.name))
        if not self.packed:
            return proto
        payloads = {tensor.payload.name for tensor in self._tensors.values()}
        for path, graph in list(iter_graphs(proto.graph)):
            nodes = [node for node in graph.node if not carriage.is_decode_node(node)]
            if len(nodes) != len(graph.node):
                del graph.node[:]
                graph.node.extend(nodes)
            kept = [tensor for tensor in graph.initializer if tensor.name not in payloads]
            if len(kept) != len(graph.initializer):
                del graph.initializer[:]
                graph.initializer.extend(kept)
            if path and set(self._tensors) & local_names(graph):
                name = min(set(self._tensors) & local_names(graph))
                raise CarryError("a subgraph hides this tensor behind another", reason="subgraph", tensor=name)
        for name in self.decoded:
            proto.graph.initializer.append(numpy_helper.from_array(self.values(name), name))
        return proto

    def plain(self, proto: TensorProto) -> Array:
        """Values of an initializer, from external data if they are there."""
        return to_array(proto, self.model.folder)

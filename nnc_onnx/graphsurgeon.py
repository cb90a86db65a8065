"""Packing and unpacking as steps on onnx-graphsurgeon graphs.

GraphSurgeon keeps nodes and payloads but neither ``metadata_props`` nor, so, the manifest: a graph packed here runs
and unpacks like any other, and its payloads are protected by their CRC-32 alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nnc_codec.formats import PackOptions, UnpackOptions

from .packing import pack_model
from .unpacking import unpack_model

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def pack_graph(graph: gs.Graph, options: PackOptions | None = None) -> gs.Graph:
    """A graph whose weights are decode nodes and payloads.

    Raises:
        InvalidArgumentError: the graph is packed already.
    """
    import onnx_graphsurgeon as gs

    # Without metadata nothing could bring names back.
    options = msgspec.structs.replace(options or PackOptions(), keep_names=True)
    packed, _ = pack_model(gs.export_onnx(graph), options)
    return gs.import_onnx(packed)


def unpack_graph(graph: gs.Graph, options: UnpackOptions | None = None) -> gs.Graph:
    """The graph with plain weights that a packed one stands for.

    Raises:
        InvalidArgumentError: the graph is not packed.
        CarriageError, NNRError: a tensor cannot be decoded.
    """
    import onnx_graphsurgeon as gs

    return gs.import_onnx(unpack_model(gs.export_onnx(graph), options))

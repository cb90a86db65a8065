"""Reading rows of coded tables instead of decoding them: Decode and Gather become one NNRGather when a model is loaded.

An embedding is the largest tensor of many models, and a run needs a few of its rows. If its payload has entry points,
``NNRGather<Type>(payload, indices)`` of the run-time library decodes the block rows that the indices fall into, and
keeps rows that are asked for again within the session's budget. The carriage does not know this operator: a packed
model has ``NNRDecode<Type>`` and Gather.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ctypes import c_char_p, c_void_p, cast
from typing import TYPE_CHECKING

from ..carriage import DOMAIN, OP_PREFIX
from ..graph.roles import is_table
from ..graph.usage import Usage, Use, Value
from ..payloads import PackedTensor, packed_tensors
from ..tensors import read_bytes
from .library import load_library

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from ..model_io import Model

GATHER_PREFIX = "NNRGather"

LEAST_BLOCK_ROWS = 8
"""With fewer, most look-ups would decode most of the table."""

Table = tuple[str, str]
"""A table by the names of the decoded tensor and of its payload, which stay when nodes are removed."""


def table_of(tensor: PackedTensor) -> Table:
    """What identifies `tensor` as a table."""
    return tensor.decode.output, tensor.decode.payload


def row_tables(usage: Usage, model: Model) -> frozenset[Table]:
    """The tensors of a packed model of which only rows are read and whose payloads can be read by rows.

    Raises:
        CarriageError, UnsupportedCarriageError: a node of the carriage is malformed or unknown.
        ExternalDataError: a payload cannot be read.
    """
    return frozenset(
        table_of(tensor)
        for tensor in packed_tensors(usage)
        if tensor.decode.member is None
        and is_table(usage, Value(tensor.path, tensor.decode.output), len(tensor.decode.shape))
        and _block_rows(tensor, model.folder) >= LEAST_BLOCK_ROWS
    )


def _block_rows(tensor: PackedTensor, folder: Path) -> int:
    """Parts of a payload that can be decoded alone; 0 if its headers cannot be read."""
    data = read_bytes(tensor.payload, folder)
    return int(load_library().onnx_nnc_block_rows(cast(c_void_p(data.ctypes.data), c_char_p), data.nbytes))


def row_rewrite(tables: Iterable[Table]) -> Callable[[onnx.ModelProto], None]:
    """A change of a packed model in place that reads rows of `tables`."""
    wanted = frozenset(tables)

    def rewrite(model: onnx.ModelProto) -> None:
        usage = Usage(model.graph)
        gone: set[Value] = set()
        for tensor in list(packed_tensors(usage)):
            value = Value(tensor.path, tensor.decode.output)
            if table_of(tensor) not in wanted or not is_table(usage, value, len(tensor.decode.shape)):
                continue
            payload = Value(tensor.home, tensor.payload.name)
            uses = usage.uses(value)
            # A subgraph may have something else of the payload's name.
            if any(usage.resolve(use.path, payload.name) != payload for use in uses):
                continue
            for use in uses:
                _replace(use, tensor, usage)
            gone.add(value)
        _remove(usage, gone)

    return rewrite


def _replace(use: Use, tensor: PackedTensor, usage: Usage) -> None:
    from onnx import helper

    node = use.node
    if node is None:
        return
    decode = tensor.decode
    graph = usage.graphs[use.path]
    indices, output = node.input[1], node.output[0]
    _note_shape(graph, indices, output, tensor)
    node.op_type = GATHER_PREFIX + decode.element.op_name.removeprefix(OP_PREFIX)
    node.domain = DOMAIN
    node.input[0] = decode.payload
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("shape", list(decode.shape)))
    node.attribute.append(helper.make_attribute("crc32", decode.crc32))


def _note_shape(graph: onnx.GraphProto, indices: str, output: str, tensor: PackedTensor) -> None:
    """Write down the shape of the rows, which nobody can infer from the new operator."""
    known = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    source = known.get(indices)
    if output in known or source is None or not source.type.tensor_type.HasField("shape"):
        return
    info = graph.value_info.add(name=output)
    info.type.tensor_type.elem_type = tensor.decode.element.onnx_type
    info.type.tensor_type.shape.CopyFrom(source.type.tensor_type.shape)
    for size in tensor.decode.shape[1:]:
        info.type.tensor_type.shape.dim.add(dim_value=size)


def _remove(usage: Usage, gone: set[Value]) -> None:
    """Take the decode nodes of tables and their type information out of all graphs."""
    for path, graph in usage.graphs.items():
        for index in reversed(range(len(graph.node))):
            node = graph.node[index]
            if node.domain == DOMAIN and len(node.output) == 1 and Value(path, node.output[0]) in gone:
                del graph.node[index]
        for index in reversed(range(len(graph.value_info))):
            if Value(path, graph.value_info[index].name) in gone:
                del graph.value_info[index]

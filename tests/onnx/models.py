"""Small packed models built by hand, so that the run time is tested without the packer."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import nnc_codec
from nnc_onnx.carriage import BY_ONNX_TYPE, DOMAIN, FORMAT, FORMAT_KEY, OPSET, DecodeNode, make_node

IR_VERSION = 8  # the newest one that onnxruntime 1.17 and every later release reads
ONNX_OPSET = 17


def weights(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    """Reproducible weights: Gaussian floats, or integers over the type's whole range within int32."""
    generator = np.random.default_rng([seed, *shape])
    if "float" in dtype:
        values = (generator.standard_normal(shape) * 0.05).astype(np.float32)
        if dtype == "bfloat16":
            import ml_dtypes

            return values.astype(ml_dtypes.bfloat16)
        return values.astype(dtype)
    info = np.iinfo(dtype)
    low, high = max(info.min, -(2**20)), min(info.max, 2**20)
    return generator.integers(low, high, shape, endpoint=True).astype(dtype)


def payload(array: np.ndarray, name: str = "W", **params: object) -> bytes:
    """`array` as one NNR bitstream."""
    options = nnc_codec.EncodeParams(topology=False, **params)
    return nnc_codec.encode({name: array}, options)


class Packed:
    """A decode node with its initializer.

    Attributes:
        values: what it decodes to.
    """

    def __init__(
        self,
        name: str,
        array: np.ndarray,
        *,
        after: str | None = None,
        shape: Sequence[int] | None = None,
        crc32: int | None = None,
        bits: bytes | None = None,
    ) -> None:
        onnx_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        bits = payload(array, name) if bits is None else bits
        self.initializer = numpy_helper.from_array(np.frombuffer(bits, np.uint8), f"{name}.nnr")
        self.node = make_node(
            DecodeNode(
                output=name,
                payload=f"{name}.nnr",
                after=after,
                shape=tuple(array.shape if shape is None else shape),
                crc32=zlib.crc32(bits) if crc32 is None else crc32,
                element=BY_ONNX_TYPE[onnx_type],
            )
        )
        self.info = helper.make_tensor_value_info(name, onnx_type, array.shape if shape is None else shape)
        self.array = array

    @property
    def values(self) -> np.ndarray:
        """The decoded tensor."""
        bits = numpy_helper.to_array(self.initializer)
        return nnc_codec.decode_single(bits, self.array.dtype, self.array.shape)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    packed: Sequence[Packed],
    initializers: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """A model with the decode nodes of `packed` before `nodes`."""
    graph = helper.make_graph(
        [item.node for item in packed] + list(nodes),
        "graph",
        list(inputs),
        list(outputs),
        [item.initializer for item in packed] + list(initializers),
        value_info=[item.info for item in packed],
    )
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", ONNX_OPSET), helper.make_opsetid(DOMAIN, OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(made, {FORMAT_KEY: FORMAT})
    return made


def plain(packed_model: onnx.ModelProto, packed: Sequence[Packed]) -> onnx.ModelProto:
    """The same model with the decoded values as ordinary initializers."""
    made = onnx.ModelProto()
    made.CopyFrom(packed_model)
    names = {item.node.output[0]: item for item in packed}
    payloads = {item.initializer.name for item in packed}

    def rewrite(graph: onnx.GraphProto) -> None:
        here = [node.output[0] for node in graph.node if node.domain == DOMAIN]
        nodes = [node for node in graph.node if node.domain != DOMAIN]
        kept = [tensor for tensor in graph.initializer if tensor.name not in payloads]
        kept += [numpy_helper.from_array(names[name].values, name) for name in here]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(kept)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    rewrite(attribute.g)

    rewrite(made.graph)
    del made.opset_import[1:], made.metadata_props[:]
    return made


def linear(array: np.ndarray | None = None, *, after: bool = True, **options: object) -> tuple[onnx.ModelProto, Packed]:
    """``y = x @ W``."""
    array = weights(48, 96) if array is None else array
    item = Packed("W", array, after="x" if after else None, **options)
    onnx_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    made = model(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        [helper.make_tensor_value_info("x", onnx_type, ["n", array.shape[0]])],
        [helper.make_tensor_value_info("y", onnx_type, ["n", array.shape[1]])],
        [item],
    )
    return made, item


def chain(layers: int, wide: int, narrow: int, **params: object) -> tuple[onnx.ModelProto, list[Packed]]:
    """`layers` times MatMul and Relu, alternately [narrow, wide] and [wide, narrow]."""
    inputs = [helper.make_tensor_value_info("x0", TensorProto.FLOAT, ["n", narrow])]
    nodes, packed = [], []
    for layer in range(layers):
        array = weights(*((narrow, wide) if layer % 2 == 0 else (wide, narrow)), seed=layer)
        name = f"W{layer}"
        packed.append(Packed(name, array, after=f"x{layer}", bits=payload(array, name, **params)))
        nodes.append(helper.make_node("MatMul", [f"x{layer}", name], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"x{layer + 1}"]))
    last = wide if layers % 2 else narrow
    outputs = [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, ["n", last])]
    return model(nodes, inputs, outputs, packed), packed


def save_external(made: onnx.ModelProto, path: Path) -> Path:
    """Save with all initializers in ``<path>.data``."""
    onnx.save_model(made, str(path), save_as_external_data=True, location=path.name + ".data", size_threshold=0)
    return path

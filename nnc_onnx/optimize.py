"""A model as onnxruntime simplifies it before any other work: what constants alone decide is computed, batch
normalization goes into the convolutions before it, and nodes without effect go."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nnc_codec.errors import UnsupportedError

from .graph.walk import iter_graphs
from .model_io import Model
from .runtime.settings import require_onnxruntime

if TYPE_CHECKING:
    import onnx

LARGEST = 1 << 30
"""Bytes of the largest model that is taken; the simplified one has its values embedded."""

_LONGEST_REASON = 200
_DEFAULT_DOMAINS = frozenset({"", "ai.onnx"})


class OptimizeError(UnsupportedError):
    """onnxruntime does not simplify the model."""

    code = "NNC-E225"
    exit_code = 1


def optimized(model: Model) -> Model:
    """The model after onnxruntime's basic optimizations, which are the same on every processor.

    Nodes and initializers get names of onnxruntime's choice where they are new; inputs and outputs keep theirs.

    Args:
        model: as loaded from its file.

    Raises:
        RuntimeMissingError, RuntimeTooOldError: there is no onnxruntime to do it.
        OptimizeError: the model is too large, or onnxruntime does not accept it.
    """
    import onnx

    if model.nbytes > LARGEST:
        raise OptimizeError(
            f"models of more than {LARGEST} bytes are not optimized", hint="leave out --optimize, or optimize it before"
        )
    runtime = require_onnxruntime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="onnx-nnc-") as folder:
        target = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(target)
        try:
            runtime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
            proto = onnx.load(target)
        except Exception as error:  # onnxruntime's exceptions have no common base but Exception
            reason = " ".join(str(error).split())[:_LONGEST_REASON]
            raise OptimizeError(f"onnxruntime does not optimize the model: {reason}") from error
    _restore(proto, model.proto)
    return model._replace(proto=proto)


def _restore(proto: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Bring back what onnxruntime drops, take away what it adds, and put initializers in an order of their own."""
    used = {node.domain for graph in _graphs(proto) for node in graph.node}
    used |= {node.domain for function in proto.functions for node in function.node}
    kept = [entry for entry in proto.opset_import if entry.domain in used | _DEFAULT_DOMAINS]
    known = {entry.domain for entry in kept}
    kept += [entry for entry in original.opset_import if entry.domain not in known]
    versions = [(entry.domain, entry.version) for entry in kept]
    del proto.opset_import[:]
    for domain, version in versions:
        proto.opset_import.add(domain=domain, version=version)
    proto.ir_version = original.ir_version
    proto.producer_name, proto.producer_version = original.producer_name, original.producer_version
    proto.doc_string, proto.model_version, proto.domain = original.doc_string, original.model_version, original.domain
    proto.graph.name, proto.graph.doc_string = original.graph.name, original.graph.doc_string
    del proto.metadata_props[:]
    proto.metadata_props.extend(original.metadata_props)
    for old, new in ((original.graph.input, proto.graph.input), (original.graph.output, proto.graph.output)):
        by_name = {value.name: value for value in old}
        for value in new:
            if value.name in by_name:
                value.CopyFrom(by_name[value.name])
    for graph in _graphs(proto):
        ordered = sorted(graph.initializer, key=lambda tensor: str(tensor.name))
        copies = [type(tensor).FromString(tensor.SerializeToString()) for tensor in ordered]
        del graph.initializer[:]
        graph.initializer.extend(copies)


def _graphs(proto: onnx.ModelProto) -> list[onnx.GraphProto]:
    return [graph for _, graph in iter_graphs(proto.graph)]

"""A packed model beside its original: what was not packed must be unchanged, what was must be close."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from nnc_codec.errors import InvalidArgumentError
from nnc_codec.formats import PackOptions, VerificationError
from nnc_codec.report import TensorReport

from . import carriage
from .coding import measure
from .graph.usage import Usage
from .graph.walk import subgraphs
from .model_io import Model, load
from .payloads import PackedTensor
from .plan import PlannedTensor, constant_tensor, plan_tensors
from .tensors import is_external, read_bytes, to_array

if TYPE_CHECKING:
    import onnx

_MANIFEST_PRECISION = 1.01
"""Errors in a manifest have three significant digits."""


class Original(NamedTuple):
    """The model that was packed.

    Attributes:
        model: as loaded.
        tensors: its tensors by name; branches of an If may use the same name.
    """

    model: Model
    tensors: dict[str, list[PlannedTensor]]


def load_original(path: Path) -> Original:
    """Read the model to compare with.

    Raises:
        InvalidArgumentError: it is a packed model itself.
        FileAccessError, InvalidModelError, TruncatedModelError, ExternalDataError: bad files.
    """
    model = load(path)
    if carriage.check_format(model.proto) is not None:
        raise InvalidArgumentError(f"{path} is a packed model, not an original")
    tensors: dict[str, list[PlannedTensor]] = {}
    for tensor in plan_tensors(model.proto, Usage(model.proto.graph), PackOptions()):
        tensors.setdefault(tensor.name, []).append(tensor)
    return Original(model, tensors)


def compare_decoded(report: TensorReport, values: Any, original: Original, max_rel_error: float | None) -> TensorReport:
    """`report` with the error of the decoded `values` against the original.

    Args:
        report: of the decoded tensor; its error is what the manifest says.
        values: the decoded tensor.
        original: the model it came from.
        max_rel_error: largest relative rms error that passes; ``None`` for the manifest's.

    Raises:
        VerificationError: the original has no such tensor, or the error is too large.
    """
    errors = [
        measure(to_array(tensor.proto, original.model.folder), values)
        for tensor in original.tensors.get(report.name, [])
        if tensor.shape == report.shape and tensor.dtype_name == report.dtype
    ]
    if not errors:
        raise VerificationError("the original has no tensor of this name, shape and type", tensor=report.name)
    best = min(errors, key=lambda error: error.rel_rms)
    if report.payload_type == "INT" and best.max_abs != 0:
        raise VerificationError("integers differ from the original's", tensor=report.name)
    allowed = max_rel_error
    if allowed is None and report.error is not None:
        allowed = report.error.rel_rms * _MANIFEST_PRECISION
    if allowed is not None and best.rel_rms > allowed:
        raise VerificationError(f"relative rms error {best.rel_rms:.3g} exceeds {allowed:.3g}", tensor=report.name)
    return msgspec.structs.replace(report, error=best)


def compare_rest(packed: Model, tensors: list[PackedTensor], original: Original) -> Iterator[VerificationError]:
    """What differs from the original apart from packed tensors: plain tensors and nodes."""
    decoded = {tensor.decode.output for tensor in tensors}
    payloads = {tensor.payload.name for tensor in tensors}
    for tensor in plan_tensors(packed.proto, Usage(packed.proto.graph), PackOptions()):
        if tensor.name in payloads:
            continue
        candidates = original.tensors.get(tensor.name, [])
        if not any(_same_values(tensor, packed, other, original.model) for other in candidates):
            yield VerificationError("differs from the original or is not in it", tensor=tensor.name)
    if not _same_nodes(packed.proto.graph, original.model.proto.graph, decoded):
        yield VerificationError("the nodes of the graph are not the original's")


def _same_values(left: PlannedTensor, packed: Model, right: PlannedTensor, original: Model) -> bool:
    if left.proto.data_type != right.proto.data_type or left.shape != right.shape:
        return False
    if left.element is not None:
        one, other = to_array(left.proto, packed.folder), to_array(right.proto, original.folder)
        return one.tobytes() == other.tobytes()
    if is_external(left.proto) or is_external(right.proto):
        first, second = read_bytes(left.proto, packed.folder), read_bytes(right.proto, original.folder)
        return first.tobytes() == second.tobytes()
    return _bare(left.proto) == _bare(right.proto)


def _bare(tensor: onnx.TensorProto) -> bytes:
    copied = type(tensor)()
    copied.CopyFrom(tensor)
    copied.ClearField("name")
    copied.ClearField("doc_string")
    return bytes(copied.SerializeToString(deterministic=True))


def _same_nodes(packed: onnx.GraphProto, original: onnx.GraphProto, decoded: set[str]) -> bool:
    """Whether the nodes are equal one by one, apart from decode nodes and the Constants they replaced."""
    left = [node for node in packed.node if not carriage.is_decode_node(node)]
    right = [node for node in original.node if not (constant_tensor(node) is not None and node.output[0] in decoded)]
    return len(left) == len(right) and all(
        _same_node(one, other, decoded) for one, other in zip(left, right, strict=True)
    )


def _same_node(left: onnx.NodeProto, right: onnx.NodeProto, decoded: set[str]) -> bool:
    bodies, others = list(subgraphs(left)), list(subgraphs(right))
    if not bodies and not others:
        if constant_tensor(left) is not None and constant_tensor(right) is not None:
            # The values were compared already, and their storage may differ.
            return list(left.output) == list(right.output)
        return bool(left == right)
    return (
        left.op_type == right.op_type
        and left.domain == right.domain
        and list(left.input) == list(right.input)
        and list(left.output) == list(right.output)
        and [name for name, _ in bodies] == [name for name, _ in others]
        and all(_same_nodes(one, other, decoded) for (_, one), (_, other) in zip(bodies, others, strict=True))
    )

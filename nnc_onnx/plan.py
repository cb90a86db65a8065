"""Which tensors of a model are coded, which stay plain, and why."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, NamedTuple

from nnc_codec.formats import PackOptions

from .carriage import BY_ONNX_TYPE, ElementType
from .roles import Role, Roles
from .tensors import element_count, stored_nbytes
from .usage import Usage, Value
from .walk import GraphPath

if TYPE_CHECKING:
    import onnx

Origin = Literal["initializer", "constant"]

_FIRST_IR_WITH_OPTIONAL_INPUTS = 4


class PlannedTensor(NamedTuple):
    """A tensor and what is to happen to it.

    Attributes:
        name: its name.
        path: the graph that holds it.
        origin: an initializer, or the value of a Constant node.
        position: index among the initializers, or of the node, in that graph.
        proto: the TensorProto.
        shape: dimensions.
        element: element type, if it is one that can be coded.
        role: what it is to the graph.
        reason: why it stays plain; ``None`` if it is to be coded.
    """

    name: str
    path: GraphPath
    origin: Origin
    position: int
    proto: onnx.TensorProto
    shape: tuple[int, ...]
    element: ElementType | None
    role: Role
    reason: str | None

    @property
    def value(self) -> Value:
        """Identity of the tensor in :class:`Usage`."""
        return Value(self.path, self.name)

    @property
    def elements(self) -> int:
        """Number of values."""
        return element_count(self.proto)

    @property
    def nbytes(self) -> int:
        """Bytes of the plain tensor."""
        return stored_nbytes(self.proto)


def plan_tensors(model: onnx.ModelProto, usage: Usage, options: PackOptions) -> list[PlannedTensor]:
    """Every initializer and tensor-valued Constant of `model` with its treatment, in the model's order.

    Raises:
        InvalidModelError: a tensor has a negative dimension.
    """
    roles = Roles(usage, {function.domain for function in model.functions})
    bound = {
        entry.value
        for training in model.training_info
        for entry in (*training.initialization_binding, *training.update_binding)
    }
    planned: list[PlannedTensor] = []
    for path, graph in usage.graphs.items():
        fixed = set(bound)
        if path or model.ir_version >= _FIRST_IR_WITH_OPTIONAL_INPUTS:
            fixed.update(value.name for value in graph.input)
        for position, tensor in enumerate(graph.initializer):
            planned.append(
                _treat(Value(path, tensor.name), "initializer", position, tensor, fixed, roles, options)
            )
        for position, node in enumerate(graph.node):
            constant = constant_tensor(node)
            if constant is not None:
                value = Value(path, node.output[0])
                planned.append(_treat(value, "constant", position, constant, bound, roles, options))
    return planned


def constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The TensorProto of a Constant node that has one."""
    from onnx import AttributeProto

    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    for attribute in node.attribute:
        if attribute.name == "value" and attribute.type == AttributeProto.TENSOR and node.output[0]:
            tensor: onnx.TensorProto = attribute.t
            return tensor
    return None


def _treat(
    value: Value,
    origin: Origin,
    position: int,
    tensor: onnx.TensorProto,
    fixed: set[str],
    roles: Roles,
    options: PackOptions,
) -> PlannedTensor:
    shape = tuple(tensor.dims)
    element = BY_ONNX_TYPE.get(tensor.data_type)
    role, reader = roles.of(value, shape)
    reason = _must_stay(value, tensor, element, role, reader, fixed)
    if reason is None:
        reason = _preference(value.name, element_count(tensor), role, reader, options)
    return PlannedTensor(value.name, value.path, origin, position, tensor, shape, element, role, reason)


def _must_stay(
    value: Value,
    tensor: onnx.TensorProto,
    element: ElementType | None,
    role: Role,
    reader: str,
    fixed: set[str],
) -> str | None:
    """Reasons that no option overrules, because the model would break or change its meaning."""
    if element is None:
        from onnx import TensorProto

        known = tensor.data_type in TensorProto.DataType.values()
        kind = TensorProto.DataType.Name(tensor.data_type) if known else str(tensor.data_type)
        return f"element type {kind} cannot be coded"
    if not value.name:
        return "it has no name"
    if not tensor.dims:
        return "scalar"
    if element_count(tensor) == 0:
        return "empty"
    if tensor.HasField("segment"):
        return "stored in segments"
    if value.name in fixed:
        return "its value can be replaced by the caller"
    if role == "unused":
        return "nothing reads it"
    if role == "shape":
        return f"shape-like operand ({reader})"
    if role == "quantization":
        return f"quantization parameter ({reader})"
    return None


def _preference(name: str, elements: int, role: Role, reader: str, options: PackOptions) -> str | None:
    """Reasons that ``include`` overrules."""
    if any(fnmatchcase(name, pattern) for pattern in options.exclude):
        return "excluded"
    if any(fnmatchcase(name, pattern) for pattern in options.include):
        return None
    if role == "foreign":
        return f"read by an operator of an unknown domain ({reader})"
    if role == "vector":
        return f"vector ({reader})"
    if elements < options.min_elements:
        return f"fewer than {options.min_elements} elements"
    return None

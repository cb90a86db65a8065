"""Which tensors of a model are coded, which stay plain, and why."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nnc_codec.formats import PackOptions
from nnc_codec.params import TensorParams

from .carriage import BY_ONNX_TYPE, ElementType
from .graph.roles import Role, Roles
from .graph.usage import Usage, Value
from .graph.walk import GraphPath
from .tensors import element_count, stored_nbytes

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

Origin = Literal["initializer", "constant"]

Care = Literal["usual", "fine", "reciprocal"]
"""How closely a tensor is coded if nothing was chosen for it: as a weight; as one that is small and added or multiplied
to many values; as one that is divided by."""

_EXCLUDED = "excluded"

_FEWEST_INTEGERS = 64
"""Shorter lists of integers are indices that shape inference wants to read."""

FIRST_IR_WITH_OPTIONAL_INPUTS = 4
"""From this IR version on an initializer that is a graph input too is a default which the caller can replace."""


class PlannedTensor(NamedTuple):
    """A tensor and what is to happen to it.

    Attributes:
        name: its name.
        path: the graph that holds it.
        origin: an initializer, or the value of a Constant node.
        position: index among the initializers, or of the node, in that graph.
        node_name: name of the Constant node.
        proto: the TensorProto.
        shape: dimensions.
        element: element type, if it is one that can be coded.
        role: what it is to the graph.
        reason: why it is not coded as a weight; ``None`` if it is.
        care: how closely it is coded; tensors with a `reason` stay plain unless this is finer than ``"usual"``.
        chosen: what it is to be coded with; ``None`` leaves that to its statistics.
        is_table: whether the graph takes single rows of it.
        values: what is coded in place of its own values, in its shape; they are coded as closely as `chosen` allows,
            which is exactly for multiples of its step that the quantizer can reach.
        sparse: its values with zeros for those that do least; zeros that the coder keeps.
    """

    name: str
    path: GraphPath
    origin: Origin
    position: int
    node_name: str
    proto: onnx.TensorProto
    shape: tuple[int, ...]
    element: ElementType | None
    role: Role
    reason: str | None
    chosen: TensorParams | None = None
    care: Care = "usual"
    is_table: bool = False
    values: NDArray[Any] | None = None
    sparse: NDArray[Any] | None = None

    @property
    def is_coded(self) -> bool:
        """Whether to try to code it."""
        return self.reason is None or self.care != "usual"

    @property
    def inner_name(self) -> str | None:
        """Name of the tensor in a Constant node if it is not the value's."""
        return None if self.origin == "initializer" or self.proto.name == self.name else str(self.proto.name)

    @property
    def value(self) -> Value:
        """Identity of the tensor in :class:`Usage`."""
        return Value(self.path, self.name)

    @property
    def dtype_name(self) -> str:
        """Element type in numpy's words, or ONNX's where numpy has none."""
        return self.element.dtype_name if self.element else onnx_type_name(self.proto.data_type)

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
        counts = Counter(tensor.name for tensor in graph.initializer)
        counts.update(name for node in graph.node for name in node.output)
        repeated = {name for name, count in counts.items() if count > 1}
        fixed = set(bound)
        if path or model.ir_version >= FIRST_IR_WITH_OPTIONAL_INPUTS:
            fixed.update(value.name for value in graph.input)
        for position, tensor in enumerate(graph.initializer):
            place = _Place(Value(path, tensor.name), "initializer", position, "")
            planned.append(_treat(place, tensor, fixed, repeated, roles, options))
        for position, node in enumerate(graph.node):
            constant = constant_tensor(node)
            if constant is not None:
                place = _Place(Value(path, node.output[0]), "constant", position, node.name)
                planned.append(_treat(place, constant, bound, repeated, roles, options))
    return planned


def onnx_type_name(data_type: int) -> str:
    """Lower-case name of an ``onnx.TensorProto.DataType``."""
    from onnx import TensorProto

    known = data_type in TensorProto.DataType.values()
    return TensorProto.DataType.Name(data_type).lower() if known else f"type {data_type}"


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


class _Place(NamedTuple):
    value: Value
    origin: Origin
    position: int
    node_name: str


def _treat(
    place: _Place,
    tensor: onnx.TensorProto,
    fixed: set[str],
    repeated: set[str],
    roles: Roles,
    options: PackOptions,
) -> PlannedTensor:
    value, origin, position, node_name = place
    shape = tuple(tensor.dims)
    element = BY_ONNX_TYPE.get(tensor.data_type)
    role, reader = roles.of(value, shape)
    reason = _must_stay(value, tensor, element, role, reader, fixed)
    if reason is None and value.name in repeated:
        reason = "its name is defined twice"
    care: Care = "usual"
    if reason is None:
        reason = _preference(value.name, element_count(tensor), role, reader, options)
        if element is not None and reason is not None and options.group_below:
            care = _care(reason, role, reader, element, element_count(tensor))
    table = reason is None and roles.is_table(value, shape)
    return PlannedTensor(
        value.name,
        value.path,
        origin,
        position,
        node_name,
        tensor,
        shape,
        element,
        role,
        reason,
        care=care,
        is_table=table,
    )


def _care(reason: str, role: Role, reader: str, element: ElementType, elements: int) -> Care:
    """How to code a tensor that is no weight; ``"usual"`` leaves it plain."""
    if role not in ("vector", "weight") or reason == _EXCLUDED:
        return "usual"
    if not element.is_float and elements < _FEWEST_INTEGERS:
        return "usual"
    return "reciprocal" if reader == "BatchNormalization input 4" else "fine"


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
        return f"element type {onnx_type_name(tensor.data_type)} cannot be coded"
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
        return _EXCLUDED
    if any(fnmatchcase(name, pattern) for pattern in options.include):
        return None
    if role == "foreign":
        return f"read by an operator of an unknown domain ({reader})"
    if role == "vector":
        return f"vector ({reader})"
    if elements < options.min_elements:
        return f"fewer than {options.min_elements} elements"
    return None

"""What a constant is to the graph: a weight, a vector of a layer, or an operand that a runtime must see.

The role follows from the operators and input positions that read the constant, not from its rank: biases of
ONNX LSTM are two-dimensional and scales of converted Paddle models have shape [1, C, 1, 1].
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from .usage import Usage, Use, Value

Role = Literal["weight", "vector", "shape", "quantization", "foreign", "unused"]


class RoleOf(NamedTuple):
    """A role and what gives it, e.g. ``("shape", "Reshape input 1")``."""

    role: Role
    reader: str


_EVERY_INPUT = frozenset(range(64))

# Operands that decide shapes or algorithms. Runtimes read them when they load the model, and shape inference
# needs their values; decoding them at run time would make shapes dynamic.
_SHAPE_INPUTS: dict[str, frozenset[int]] = {
    "AffineGrid": frozenset({1}),
    "BlackmanWindow": _EVERY_INPUT,
    "CenterCropPad": frozenset({1}),
    "Clip": frozenset({1, 2}),
    "Col2Im": frozenset({1, 2}),
    "ConstantOfShape": frozenset({0}),
    "CumSum": frozenset({1}),
    "DFT": frozenset({1, 2}),
    "Dropout": frozenset({1, 2}),
    "Expand": frozenset({1}),
    "HammingWindow": _EVERY_INPUT,
    "HannWindow": _EVERY_INPUT,
    "If": frozenset({0}),
    "Loop": frozenset({0, 1}),
    "MaxUnpool": frozenset({2}),
    "MelWeightMatrix": _EVERY_INPUT,
    "NonMaxSuppression": frozenset({2, 3, 4}),
    "OneHot": frozenset({1, 2}),
    "Pad": frozenset({1, 2, 3}),
    "Range": _EVERY_INPUT,
    "ReduceL1": frozenset({1}),
    "ReduceL2": frozenset({1}),
    "ReduceLogSum": frozenset({1}),
    "ReduceLogSumExp": frozenset({1}),
    "ReduceMax": frozenset({1}),
    "ReduceMean": frozenset({1}),
    "ReduceMin": frozenset({1}),
    "ReduceProd": frozenset({1}),
    "ReduceSum": frozenset({1}),
    "ReduceSumSquare": frozenset({1}),
    "Reshape": frozenset({1}),
    "Resize": frozenset({1, 2, 3}),
    "STFT": frozenset({1, 3}),
    "SequenceAt": frozenset({1}),
    "Slice": frozenset({1, 2, 3, 4}),
    "Split": frozenset({1}),
    "SplitToSequence": frozenset({1}),
    "Squeeze": frozenset({1}),
    "Tile": frozenset({1}),
    "TopK": frozenset({1}),
    "Trilu": frozenset({1}),
    "Unsqueeze": frozenset({1}),
    "Upsample": frozenset({1}),
}

# Scales and zero points: small, and kernels choose their algorithm by them.
_QUANTIZATION_INPUTS: dict[str, frozenset[int]] = {
    "ConvInteger": frozenset({2, 3}),
    "DequantizeBFP": frozenset({1}),
    "DequantizeLinear": frozenset({1, 2}),
    "DynamicQuantizeLSTM": frozenset({8, 9, 10, 11}),
    "DynamicQuantizeMatMul": frozenset({2, 3}),
    "GatherBlockQuantized": frozenset({2, 3}),
    "MatMulBnb4": frozenset({2}),
    "MatMulInteger": frozenset({2, 3}),
    "MatMulIntegerToFloat": frozenset({2, 3, 4, 5}),
    "MatMulNBits": frozenset({2, 3, 4}),
    "QAttention": frozenset({3, 4, 6, 7}),
    "QGemm": frozenset({1, 2, 4, 5, 7, 8}),
    "QLinearConv": frozenset({1, 2, 4, 5, 6, 7}),
    "QLinearMatMul": frozenset({1, 2, 4, 5, 6, 7}),
    "QuantizeLinear": frozenset({1, 2}),
}

# Per-channel parameters whatever their rank.
_VECTOR_INPUTS: dict[str, frozenset[int]] = {
    "BatchNormalization": frozenset({1, 2, 3, 4}),
    "Conv": frozenset({2}),
    "ConvTranspose": frozenset({2}),
    "DeformConv": frozenset({3}),
    "FusedConv": frozenset({2}),
    "FusedGemm": frozenset({2}),
    "GRU": frozenset({3, 4, 5}),
    "Gemm": frozenset({2}),
    "GroupNormalization": frozenset({1, 2}),
    "InstanceNormalization": frozenset({1, 2}),
    "LSTM": frozenset({3, 4, 5, 6, 7}),
    "LayerNormalization": frozenset({1, 2}),
    "PRelu": frozenset({1}),
    "QLinearConv": frozenset({8}),
    "RMSNormalization": frozenset({1}),
    "RNN": frozenset({3, 4, 5}),
    "SimplifiedLayerNormalization": frozenset({1}),
    "SkipLayerNormalization": frozenset({2, 3, 4}),
}

# Operators that hand their first input on; the constant plays the role of what they produce.
_TRANSPARENT = frozenset({"Cast", "CastLike", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})

_KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "com.microsoft"})
_STRENGTH: dict[Role, int] = {
    "shape": 5,
    "quantization": 4,
    "foreign": 3,
    "weight": 2,
    "vector": 1,
    "unused": 0,
}
_MAX_HOPS = 8


def is_vector_shape(shape: Iterable[int]) -> bool:
    """Whether at most one dimension is larger than 1."""
    return sum(size > 1 for size in shape) <= 1


def implies_shape(usage: Usage, value: Value) -> bool:
    """Whether no reader of `value` needs its shape to tell that of its own outputs."""
    uses = usage.uses(value)
    return bool(uses) and all(
        use.node is not None
        and use.node.domain in _KNOWN_DOMAINS
        and use.position in _VECTOR_INPUTS.get(use.node.op_type, ())
        for use in uses
    )


def is_table(usage: Usage, value: Value, rank: int) -> bool:
    """Whether every reader of `value` is a Gather that takes rows of it."""
    uses = usage.uses(value)
    return bool(uses) and rank > 0 and all(_takes_rows(use, rank) for use in uses)


def _takes_rows(use: Use, rank: int) -> bool:
    node = use.node
    if node is None or node.op_type != "Gather" or node.domain not in ("", "ai.onnx") or use.position != 0:
        return False
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return axis in (0, -rank) and len(node.input) == 2


class Roles:
    """Roles of the constants of one model."""

    def __init__(self, usage: Usage, function_domains: Iterable[str] = ()) -> None:
        self._usage = usage
        self._domains = _KNOWN_DOMAINS | set(function_domains)

    def of(self, value: Value, shape: tuple[int, ...]) -> RoleOf:
        """The most restrictive role that a reader gives `value`."""
        found = RoleOf("unused", "")
        for use in self._usage.uses(value):
            candidate = self._of_use(use, shape, _MAX_HOPS)
            if _STRENGTH[candidate.role] > _STRENGTH[found.role]:
                found = candidate
        return found

    def is_table(self, value: Value, shape: tuple[int, ...]) -> bool:
        """See :func:`is_table`."""
        return is_table(self._usage, value, len(shape))

    def _of_use(self, use: Use, shape: tuple[int, ...], hops: int) -> RoleOf:
        node = use.node
        if node is None:
            return RoleOf("weight", "graph output")
        kind, position = node.op_type, use.position
        reader = f"{kind} input {position}"
        if node.domain not in self._domains:
            return RoleOf("foreign", f"{node.domain}.{reader}")
        if position in _SHAPE_INPUTS.get(kind, ()):
            return RoleOf("shape", reader)
        if position in _QUANTIZATION_INPUTS.get(kind, ()):
            return RoleOf("quantization", reader)
        if position in _VECTOR_INPUTS.get(kind, ()):
            return RoleOf("vector", reader)
        if kind in _TRANSPARENT and position == 0 and hops and node.output:
            through = self._usage.resolve(use.path, node.output[0])
            if through is not None:
                beyond = [self._of_use(further, shape, hops - 1) for further in self._usage.uses(through)]
                return max(beyond, key=lambda item: _STRENGTH[item.role], default=RoleOf("unused", reader))
        return RoleOf("vector" if is_vector_shape(shape) else "weight", reader)

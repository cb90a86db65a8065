"""Corrections to nnef-tools' NNEF-to-ONNX table, aiming at opset 13.

What the table has no faithful entry for is left to the fragments of the NNEF standard: :func:`expressible` says which
operations those are, and the parser replaces them by their definitions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_INT_MAX = (1 << 31) - 1

_UNARY = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus", "not": "Not", "copy": "Identity",
    "abs": "Abs", "sign": "Sign", "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos",
    "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh",
        "exp": "Exp",
    "log": "Log", "neg": "Neg", "selu": "Selu", "sqrt": "Sqrt", "ceil": "Ceil", "floor": "Floor", "rcp": "Reciprocal",
        "erf": "Erf",
}  # fmt: skip
_BINARY = frozenset("add sub mul div pow min max and or eq lt gt le ge".split())
_AS_THEY_ARE = frozenset(
    "external variable constant sqr leaky_relu prelu concat add_n select tile gather cast local_response_normalization "
    "min_reduce max_reduce mean_reduce argmin_reduce argmax_reduce squeeze unsqueeze split".split()
)
_CHANGED = frozenset(
    "round ne elu transpose reshape matmul linear conv deconv max_pool avg_pool box sum_reduce any_reduce all_reduce "
    "batch_normalization softmax clamp pad slice stack unstack nearest_upsample multilinear_upsample "
    "nearest_downsample l2_normalization".split()
)

#: Operations that have no fragment to fall back on and no ONNX counterpart.
PRIMITIVE_ONLY = frozenset(
    "debox argmax_pool sample desample max_pool_with_index update copy_n avg_roi_pool max_roi_pool roi_resample "
    "avg_roi_align max_roi_align max_unpool avg_unpool".split()
)


def expressible(op: Any, *, standard_erf: bool) -> bool:
    """Whether an operation of a parsed graph has a faithful entry in the table; if not it has to be lowered.

    Args:
        op: an ``nnef.Operation``.
        standard_erf: whether the file's fragment ``erf`` is the approximation of the error function we know.
    """
    attribs, inputs = op.attribs, op.inputs
    if op.name == "erf":
        return standard_erf
    if op.name == "selu":
        return bool(attribs.get("alpha") == 1.67326319 and attribs.get("lambda") == 1.05070102)
    if op.name in ("softmax", "argmin_reduce", "argmax_reduce"):
        return len(attribs["axes"]) == 1
    if op.name == "clamp":
        return not any(_is_tensor(inputs[key]) for key in ("a", "b"))
    if op.name == "batch_normalization":
        return all(_is_tensor(inputs[key]) for key in ("mean", "variance", "offset", "scale"))
    if op.name == "l2_normalization":
        return len(attribs["axes"]) == 1 and attribs.get("bias", 0.0) == attribs.get("epsilon", 0.0) == 0.0
    return op.name in _AS_THEY_ARE or op.name in _CHANGED or op.name in _UNARY or op.name in _BINARY


def _is_tensor(value: Any) -> bool:
    import nnef

    return isinstance(value, nnef.Identifier)


def custom_transforms() -> dict[str, Any]:
    """Entries that replace those of nnef-tools."""
    from nnef_tools.conversion.converter import Transform

    one: dict[str, Any] = {"inputs": "!I[0]", "outputs": "!O[0]"}
    table = {name: Transform(type=kind, **one) for name, kind in _UNARY.items()}
    pool_cond = {
        "!size[:2] == [1,1] and stride[:2] == [1,1] and dilation[:2] == [1,1]": "it pools over batch or channels",
        "!border in ('constant', 'ignore')": "its border mode has no ONNX counterpart",
    }
    pool = {
        "auto_pad": "!convert_auto_pad(padding)", "pads": "!convert_pads(padding, truncate=True)",
        "kernel_shape": "!size[2:]", "strides": "!stride[2:]",
    }  # fmt: skip
    average = {
        "!all(d == 1 for d in dilation)": "dilated average pooling has no counterpart in opset 13",
        **pool_cond,
    }
    counted = {**pool, "count_include_pad": '!1 if border == "constant" else 0'}
    conv = {
        "auto_pad": "!convert_auto_pad(padding)", "pads": "!convert_pads(padding)", "strides": "!stride",
        "dilations": "!dilation", "group": "!group", "kernel_shape": "!I[1].shape[2:]",
    }  # fmt: skip
    conv_inputs = ("!I[0]", "!I[1]", "!vector(I[2]) if I[2].rank != 0 else None")
    conv_cond = {
        "!I[2].rank != 0 or as_const(I[2]) == 0": "a scalar bias other than 0 has no ONNX counterpart",
        "!border == 'constant'": "its border mode has no ONNX counterpart",
    }
    resize = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    empty = "!as_tensor([], np.float32)"
    scales = "!as_tensor([1.0, 1.0] + [float(f) for f in factor], np.float32)"
    table |= {
        "round": Transform(type="Mul", inputs=("!sign_of(I[0])", "!rounded(I[0])"), outputs="!O[0]"),
        "ne": Transform(type="Not", inputs="!equal(I[0], I[1], O[0])", outputs="!O[0]"),
        "elu": Transform(type="Elu", attribs={"alpha": "!float(alpha)"}, **one),
        "transpose": Transform(
            type="Transpose", attribs={"perm": "!list(axes) + list(range(len(axes), I[0].rank))"}, **one
        ),
        "reshape": Transform(
            type="Reshape", inputs=("!I[0]", "!as_tensor(list(O[0].shape), np.int64)"), outputs="!O[0]"
        ),
        "matmul": Transform(
            type="MatMul", inputs=("!flipped(I[0], transposeA)", "!flipped(I[1], transposeB)"), outputs="!O[0]"
        ),
        "linear": Transform(
            type="Gemm", inputs=("!I[0]", "!I[1]", "!vector(I[2]) if I[2].rank != 0 else I[2]"), outputs="!O[0]",
            attribs={"transA": 0, "transB": 1},
        ),
        "conv": Transform(
            type="Conv", using={"group": "!groups if groups != 0 else I[0].shape[1]"}, cond=conv_cond,
            inputs=conv_inputs, outputs="!O[0]", attribs=conv,
        ),
        "deconv": Transform(
            type="ConvTranspose", defaults={"output_shape": []}, cond=conv_cond, inputs=conv_inputs, outputs="!O[0]",
            using={"group": "!groups if groups != 0 else O[0].shape[1]",
                   "pads_": "!deconv_pads(I[0].shape, I[1].shape, O[0].shape, padding, stride, dilation)"},
            attribs={**conv, "auto_pad": "NOTSET", "pads": "!pads_[0]", "output_padding": "!pads_[1]"},
        ),
        "max_pool": Transform(
            type="MaxPool", attribs={**pool, "dilations": "!dilation[2:]"}, outputs="!O[0]", inputs="!I[0]",
            cond={**pool_cond, "!border == 'ignore' or padding and not any(p or q for p, q in padding)":
                  "max pooling over padding zeros has no ONNX counterpart"},
        ),
        "avg_pool": Transform(type="AveragePool", cond=average, attribs=counted, **one),
        "box": Transform(
            type='!"AveragePool" if normalize else "Mul"', cond=average, outputs="!O[0]",
            inputs=("!I[0] if normalize else averaged(I[0], O[0], size, padding, stride, border)",
                    "!None if normalize else as_tensor(float(window(size)), np.float32)"),
            attribs={key: f"!({value[1:]}) if normalize else None" for key, value in counted.items()},
        ),
        "sum_reduce": Transform(
            type='!"ReduceMean" if normalize else "ReduceSum"', attribs={"axes": "!axes", "keepdims": 1}, **one
        ),
        **{f"{name}_reduce": Transform(
            type="Cast", inputs=f"!reduced_logic(I[0], O[0], axes, 'Reduce{kind}')", outputs="!O[0]",
            attribs={"to": np.bool_},
        ) for name, kind in (("any", "Max"), ("all", "Min"))},
        "batch_normalization": Transform(
            type="BatchNormalization", inputs=("!I[0]", *(f"!vector(I[{i}])" for i in (4, 3, 1, 2))), outputs="!O[0]",
            attribs={"epsilon": "!float(epsilon)"},
        ),
        "softmax": Transform(type="Softmax", attribs={"axis": "!axes[0]"}, **one),
        "l2_normalization": Transform(type="LpNormalization", attribs={"axis": "!axes[0]", "p": 2}, **one),
        "pad": Transform(
            type="Pad", outputs="!O[0]",
            cond={"!border in ('constant', 'replicate', 'reflect')": "border has no counterpart"},
            inputs=("!I[0]", "!as_tensor(convert_pads(padding), np.int64)", "!as_tensor(float(value), np.float32)"),
            attribs={"mode": '!"edge" if border == "replicate" else border'},
        ),
        "slice": Transform(
            type="Slice", outputs="!O[0]",
            using={"range_": "!slice_range(I[0].shape, O[0].shape, axes, begin, stride)"},
            inputs=("!I[0]", *(
                f"!as_tensor({x}, np.int64)" for x in ("range_[0]", "range_[1]", "list(axes)", "range_[2]"))),
        ),
        "stack": Transform(
            type="Concat", inputs=["![unsqueeze_input(item, [axis]) for item in I]"], outputs="!O[0]",
            attribs={"axis": "!axis"},
        ),
        "unstack": Transform(
            type="Split", inputs="!I[0]", outputs=["![squeeze_output(item, [axis]) for item in O]"],
            attribs={"axis": "!axis", "split": "![1] * len(O)"},
        ),
        "nearest_upsample": Transform(type="Resize", inputs=("!I[0]", empty, scales), outputs="!O[0]",
            attribs=resize),
        "nearest_downsample": Transform(
            type="Slice", outputs="!O[0]",
            inputs=("!I[0]", *(f"!as_tensor({x}, np.int64)" for x in (
                "[0] * len(factor)", "list(I[0].shape[2:])", "list(range(2, I[0].rank))", "list(factor)"))),
        ),
        "multilinear_upsample": Transform(
            type="Resize", inputs=("!I[0]", empty, scales), outputs="!O[0]",
            cond={'!border == "replicate" or method == "aligned"': "its border mode has no ONNX counterpart"},
            attribs={"mode": "linear", "coordinate_transformation_mode":
                     '!{"symmetric": "half_pixel", "asymmetric": "asymmetric", "aligned": "align_corners"}[method]'},
        ),
    }  # fmt: skip
    return table


def custom_functions() -> dict[str, Any]:
    """Functions that the table's expressions call."""
    return {
        "broadcast": _broadcast,
        "vector": _vector,
        "flipped": _flipped,
        "sign_of": lambda converter, x: _new_op(converter, "Sign", [x], x.shape, x.dtype),
        "rounded": _rounded,
        "equal": _equal,
        "averaged": _averaged,
        "window": lambda converter, size: math.prod(size),
        "reduced_logic": _reduced_logic,
        "slice_range": _slice_range,
        "deconv_pads": _deconv_pads,
    }


def _new_op(converter: Any, kind: str, inputs: list[Any], shape: Any, dtype: Any, **attribs: Any) -> Any:
    from nnef_tools.model import Operation, Tensor

    output = Tensor(converter._graph, dtype=dtype, shape=tuple(shape))
    Operation(converter._graph, type=kind, inputs=tuple(inputs), outputs=output, attribs=attribs)
    return output


def _reshaped(converter: Any, tensor: Any, shape: tuple[int, ...]) -> Any:
    """The tensor in another shape: a constant that nothing else reads takes it on, others get a Reshape."""
    original = converter._tensor_map.get(tensor)
    if original is not None and converter._is_constant(original) and len(original.consumers) == 1:
        readers = original.consumers[0].inputs
        if sum(reader is original for reader in readers) == 1:
            converter._transform_constant(tensor, lambda data: np.asanyarray(data).reshape(shape))
            return tensor
    sizes = converter.as_tensor(list(shape), np.int64)
    return _new_op(converter, "Reshape", [tensor, sizes], shape, tensor.dtype)


def _broadcast(converter: Any, tensor: Any, rank: int) -> Any:
    if tensor.rank == 0 or tensor.rank == rank:
        return tensor
    return _reshaped(converter, tensor, tuple(tensor.shape) + (1,) * (rank - tensor.rank))


def _vector(converter: Any, tensor: Any) -> Any:
    return tensor if tensor.rank == 1 else _reshaped(converter, tensor, (math.prod(tensor.shape),))


def _flipped(converter: Any, tensor: Any, transpose: bool) -> Any:
    if not transpose:
        return tensor
    perm = [*range(tensor.rank - 2), tensor.rank - 1, tensor.rank - 2]
    shape = [tensor.shape[axis] for axis in perm]
    return _new_op(converter, "Transpose", [tensor], shape, tensor.dtype, perm=perm)


def _rounded(converter: Any, x: Any) -> Any:
    # NNEF rounds halves away from zero, ONNX to even.
    magnitude = _new_op(converter, "Abs", [x], x.shape, x.dtype)
    half = converter.as_tensor(0.5, np.float32)
    shifted = _new_op(converter, "Add", [magnitude, half], x.shape, x.dtype)
    return _new_op(converter, "Floor", [shifted], x.shape, x.dtype)


def _equal(converter: Any, x: Any, y: Any, z: Any) -> Any:
    parts = [_broadcast(converter, part, z.rank) for part in (x, y)]
    return _new_op(converter, "Equal", parts, z.shape, np.bool_)


def _averaged(converter: Any, x: Any, y: Any, size: Any, padding: Any, stride: Any, border: str) -> Any:
    if border != "constant" and padding != [] and any(p or q for p, q in padding):
        from ..errors import ConversionError

        raise ConversionError("a sum over a window with ignored border has no ONNX counterpart", op="box")
    return _new_op(
        converter, "AveragePool", [x], y.shape, y.dtype, kernel_shape=list(size[2:]), strides=list(stride[2:]),
        auto_pad=converter.convert_auto_pad(padding), count_include_pad=1,
        **({} if padding == [] else {"pads": converter.convert_pads(padding, truncate=True)}),
    )  # fmt: skip


def _reduced_logic(converter: Any, x: Any, y: Any, axes: Any, kind: str) -> Any:
    number = _new_op(converter, "Cast", [x], x.shape, np.float32, to=np.float32)
    return _new_op(converter, kind, [number], y.shape, np.float32, axes=list(axes), keepdims=1)


def _slice_range(
    _: Any, shape: Any, result: Any, axes: Any, begin: Any, stride: Any
) -> tuple[list[int], list[int], list[int]]:
    """Explicit bounds: in NNEF an end of 0 means the last item, and results tell how far a slice reaches."""
    starts, ends = [], []
    steps = list(stride) or [1] * len(axes)
    for axis, offset, step in zip(axes, begin, steps, strict=True):
        size, count = shape[axis], result[axis]
        start = min(max(offset + size if offset < 0 else offset, 0), size - 1)
        end = start + (count - 1) * step + (1 if step > 0 else -1)
        starts.append(start)
        ends.append(end if end >= 0 else -_INT_MAX)
    return starts, ends, steps


def _deconv_pads(
    _: Any, small: Any, kernel: Any, large: Any, padding: Any, stride: Any, dilation: Any
) -> tuple[list[int], list[int]]:
    """ONNX pads and output padding that give the output shape NNEF has."""
    before, after, extra = [], [], []
    for i in range(len(small) - 2):
        reach = (small[i + 2] - 1) * stride[i] + (kernel[i + 2] - 1) * dilation[i] + 1
        total = reach - large[i + 2]
        first = max(total, 0) // 2 if padding == [] else padding[i][0]
        rest = total - first
        before.append(first)
        after.append(max(rest, 0))
        extra.append(max(-rest, 0))
    return before + after, extra

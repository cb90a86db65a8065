"""The decode operators for onnx itself: its reference evaluator, checker and shape inference.

>>> from onnx.reference import ReferenceEvaluator
>>> from nnc_onnx.reference import OPERATORS, register_schemas
>>> ReferenceEvaluator("model.nnc.onnx", new_ops=OPERATORS).run(None, inputs)   # doctest: +SKIP
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from onnx import TypeProto, defs
from onnx.reference.op_run import OpRun

from .carriage import BY_OP_NAME, DOMAIN, ELEMENT_TYPES, OPSET, ElementType
from .errors import CarriageError

_DOC = (
    "Decodes one tensor from an NNR bitstream (ISO/IEC 15938-17). "
    "Input 1, `after`, orders the execution; its values are not read."
)
_PLAIN_TYPES = (
    "bool float16 bfloat16 float double int8 int16 int32 int64 uint8 uint16 uint32 uint64 string complex64 complex128"
).split()


class _Decode(OpRun):
    """Base of the reference operators; the class name is the operator's."""

    op_domain = DOMAIN
    shape: Sequence[int]
    crc32: int

    def _run(
        self,
        payload: NDArray[np.uint8],
        after: Any = None,
        shape: Sequence[int] | None = None,
        crc32: int | None = None,
    ) -> tuple[NDArray[Any]]:
        """Decode `payload`.

        Args:
            payload: uint8, one dimension: a complete bitstream with one data unit.
            after: ignored.
            shape: of the result.
            crc32: of the bytes of `payload`.

        Returns:
            The tensor, of the operator's element type.

        Raises:
            CarriageError: the CRC-32 differs.
            NNRError: the payload cannot be decoded into that shape and type.
        """
        from nnc_codec import decode_single

        data = np.ascontiguousarray(payload)
        expected = int(self.crc32 if crc32 is None else crc32)
        found = zlib.crc32(data.data)
        if found != expected:
            raise CarriageError(
                f"the CRC-32 of the payload is {found:#010x}, the model says {expected:#010x}",
                tensor=next(iter(self.onnx_node.output), None),
            )
        dims = tuple(int(size) for size in (self.shape if shape is None else shape))
        return (decode_single(data, BY_OP_NAME[type(self).__name__].dtype, dims),)


OPERATORS: list[type[OpRun]] = [
    cast(type[OpRun], type(element.op_name, (_Decode,), {"__doc__": _DOC})) for element in ELEMENT_TYPES
]
"""For ``onnx.reference.ReferenceEvaluator(model, new_ops=OPERATORS)``."""


def register_schemas() -> bool:
    """Tell onnx the signatures of the operators, once per process.

    With them ``onnx.checker.check_model(..., check_custom_domain=True)`` checks decode nodes, and where onnx
    lets Python infer (1.23 does) shape inference knows their outputs. A packed model needs neither: it
    carries ``value_info``.

    Returns:
        Whether the schemas are registered. Old releases of onnx cannot.
    """
    if not hasattr(defs, "register_schema"):
        return False
    for element in ELEMENT_TYPES:
        if not defs.has(element.op_name, DOMAIN):
            defs.register_schema(_schema(element))
    return True


def _schema(element: ElementType) -> defs.OpSchema:
    parameter, attribute = defs.OpSchema.FormalParameter, defs.OpSchema.Attribute
    optional = defs.OpSchema.FormalParameterOption.Optional
    tensor_type = f"tensor({_type_name(element)})"
    schema = defs.OpSchema(
        element.op_name,
        DOMAIN,
        OPSET,
        doc=_DOC,
        inputs=[
            parameter("payload", "tensor(uint8)", "one complete NNR bitstream"),
            parameter("after", "T", "a tensor that is ready before decoding starts", param_option=optional),
        ],
        outputs=[parameter("tensor", tensor_type, "the decoded tensor")],
        type_constraints=[("T", [f"tensor({name})" for name in _PLAIN_TYPES], "any tensor")],
        attributes=[
            attribute("shape", defs.OpSchema.AttrType.INTS, "shape of the decoded tensor", required=True),
            attribute("crc32", defs.OpSchema.AttrType.INT, "CRC-32 of the payload", required=True),
        ],
    )
    set_inference = getattr(schema, "set_type_and_shape_inference_function", None)
    if set_inference is not None:
        set_inference(_inference(element))
    return schema


def _type_name(element: ElementType) -> str:
    return {"float32": "float", "float64": "double"}.get(element.dtype_name, element.dtype_name)


def _inference(element: ElementType) -> Any:
    def infer(context: Any) -> None:
        inferred = TypeProto()
        inferred.tensor_type.elem_type = element.onnx_type
        shape = context.get_attribute("shape")
        if shape is not None:
            for size in shape.ints:
                inferred.tensor_type.shape.dim.add().dim_value = size
        context.set_output_type(0, inferred)

    return infer

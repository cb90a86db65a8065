"""The operators in onnx's own evaluator, checker and shape inference."""

from __future__ import annotations

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from nnc_onnx.carriage import ELEMENT_TYPES
from nnc_onnx.errors import CarriageError
from nnc_onnx.reference import OPERATORS, register_schemas


@pytest.mark.parametrize("element", ELEMENT_TYPES, ids=lambda element: element.suffix)
def test_every_element_type(element):
    item = models.Packed("W", models.weights(9, 11, dtype=element.dtype_name), after="x")
    made = models.model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [
            helper.make_tensor_value_info("W", element.onnx_type, [9, 11]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]),
        ],
        [item],
    )
    decoded = ReferenceEvaluator(made, new_ops=OPERATORS).run(None, {"x": np.zeros(1, np.float32)})[0]
    assert decoded.dtype == element.dtype and decoded.tobytes() == item.values.tobytes()


def test_wrong_crc():
    made, _ = models.linear(crc32=5)
    with pytest.raises(CarriageError, match="CRC-32"):
        ReferenceEvaluator(made, new_ops=OPERATORS).run(None, {"x": models.weights(2, 48)})


def test_schemas_serve_checker_and_inference():
    made, _ = models.linear()
    del made.graph.value_info[:]
    if not register_schemas():
        pytest.skip("this onnx cannot register schemas")
    assert register_schemas()
    onnx.checker.check_model(made, full_check=True, check_custom_domain=True)
    if hasattr(onnx.defs.OpSchema, "set_type_and_shape_inference_function"):
        inferred = onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True, data_prop=True)
        info = {value.name: value for value in inferred.graph.value_info}["W"].type.tensor_type
        assert info.elem_type == TensorProto.FLOAT
        assert [dim.dim_value for dim in info.shape.dim] == [48, 96]
    del made.graph.node[0].attribute[:]
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(made, check_custom_domain=True)

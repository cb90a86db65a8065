"""Mode int8: close to the exact results, in a quarter of the memory."""

from __future__ import annotations

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnc_codec.errors import InvalidArgumentError
from nnc_onnx.graph.usage import Usage, Value
from nnc_onnx.payloads import packed_tensors
from nnc_onnx.runtime.integer_weights import BLOCK, IntegerWeight, integer_weights
from nnc_onnx.runtime.loader import InferenceSession, register
from nnc_onnx.runtime.settings import OLDEST_INTEGER_BLOCKS, onnxruntime_version

CPU = ["CPUExecutionProvider"]
FLOAT = TensorProto.FLOAT


def network() -> onnx.ModelProto:
    """An embedding, a product that widens, a Gemm that narrows from 100 values, and a product of activations."""
    packed = [
        models.Packed("table", models.weights(300, 48, seed=1)),
        models.Packed("up", models.weights(48, 100, seed=2)),
        models.Packed("down", models.weights(44, 100, seed=3)),
        models.Packed("twice", models.weights(64, 64, seed=4)),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("MatMul", ["e", "up"], ["u"]),
        helper.make_node("Relu", ["u"], ["r"]),
        helper.make_node("Gemm", ["r", "down", "bias"], ["d"], transB=1),
        helper.make_node("MatMul", ["twice", "twice"], ["t"]),
        helper.make_node("ReduceMean", ["t"], ["m"], keepdims=0),
        helper.make_node("Add", ["d", "m"], ["y"]),
    ]
    return models.model(
        nodes,
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", FLOAT, ["n", 44])],
        packed,
        [numpy_helper.from_array(models.weights(44, seed=5), "bias")],
    )


@pytest.fixture(scope="module")
def made() -> onnx.ModelProto:
    return network()


def found(made: onnx.ModelProto, *, with_blocks: bool = True) -> dict[str, IntegerWeight]:
    usage = Usage(made.graph)
    weights = integer_weights(usage, packed_tensors(usage), with_blocks=with_blocks)
    return {weight.value.name: weight for weight in weights}


def test_which_weights_compute_in_integers(made):
    weights = found(made)
    assert {name: weight.kind for name, weight in weights.items()} == {
        "table": "rows",
        "up": "dynamic",
        "down": "blocks",
    }
    assert (weights["down"].inner, weights["down"].columns) == (100, 44)
    assert set(found(made, with_blocks=False)) == {"table", "up"}


@pytest.mark.parametrize(("shape", "transposed"), [((48, 100), False), ((100, 48), True)])
def test_one_scale_per_column(shape, transposed):
    weight = IntegerWeight(Value((), "W"), "dynamic", shape, transposed, "W")
    decoded = models.weights(*shape)
    levels, scales = weight.convert(decoded)
    wanted = decoded.T if transposed else decoded
    assert (levels.shape, levels.dtype, scales.shape) == ((48, 100), np.int8, (100,))
    assert np.array_equal(np.abs(levels).max(axis=0), np.full(100, 127))
    assert np.abs(levels * scales - wanted).max() <= scales.max() / 2 * 1.001


@pytest.mark.parametrize(("shape", "transposed"), [((100, 44), False), ((44, 100), True), ((64, 32), False)])
def test_one_scale_per_block(shape, transposed):
    weight = IntegerWeight(Value((), "W"), "blocks", shape, transposed, "W")
    decoded = models.weights(*shape)
    levels, scales = weight.convert(decoded)
    wanted = decoded if transposed else decoded.T
    blocks = -(-wanted.shape[1] // BLOCK)
    assert (levels.shape, levels.dtype) == ((wanted.shape[0], blocks, BLOCK), np.uint8)
    values = ((levels.astype(np.float32) - 128) * scales[..., None]).reshape(wanted.shape[0], -1)
    assert np.abs(values[:, : wanted.shape[1]] - wanted).max() <= scales.max() / 2 * 1.001
    assert not values[:, wanted.shape[1] :].any()
    assert weight.nbytes == levels.nbytes + scales.nbytes


def test_columns_of_zeros_stay_zeros():
    weight = IntegerWeight(Value((), "W"), "dynamic", (64, 64), False, "W")
    levels, scales = weight.convert(np.zeros((64, 64), np.float32))
    assert not levels.any() and np.isfinite(scales).all()


def test_outputs_are_close(made):
    data = made.SerializeToString()
    feeds = {"ids": np.arange(40) * 7 % 300}
    exact = InferenceSession(data, providers=CPU, mode="lazy").run(None, feeds)[0]
    session = InferenceSession(data, providers=CPU, mode="int8")
    first, second = session.run(None, feeds)[0], session.run(None, feeds)[0]
    assert first.tobytes() == second.tobytes()
    assert 0 < np.sqrt(np.mean((first - exact) ** 2) / np.mean(exact**2)) < 0.03
    floats = 4 * 64 * 64 + (0 if onnxruntime_version() >= OLDEST_INTEGER_BLOCKS else 4 * 4400)
    assert session.plan.mode == "int8"
    assert session.plan.constant_bytes <= floats + 0.4 * 4 * (300 * 48 + 48 * 100 + 44 * 100)


def test_one_weight_read_by_two_products():
    item = models.Packed("W", models.weights(64, 64))
    nodes = [helper.make_node("MatMul", ["x", "W"], ["h"]), helper.make_node("MatMul", ["h", "W"], ["y"])]
    ends = [helper.make_tensor_value_info(name, FLOAT, ["n", 64]) for name in "xy"]
    data = models.model(nodes, ends[:1], ends[1:], [item]).SerializeToString()
    x = models.weights(6, 64, seed=8)
    exact = InferenceSession(data, providers=CPU, mode="eager").run(None, {"x": x})[0]
    got = InferenceSession(data, providers=CPU, mode="int8").run(None, {"x": x})[0]
    assert np.allclose(got, exact, atol=0.05 * np.abs(exact).max())


def test_names_that_are_taken(made):
    changed = onnx.ModelProto()
    changed.CopyFrom(made)
    changed.graph.node[-1].output[0] = "up.int8"
    changed.graph.output[0].name = "up.int8"
    feeds = {"ids": np.arange(5)}
    session = InferenceSession(changed.SerializeToString(), providers=CPU, mode="int8")
    expected = InferenceSession(made.SerializeToString(), providers=CPU, mode="int8").run(None, feeds)[0]
    assert session.run(None, feeds)[0].tobytes() == expected.tobytes()


def test_where_it_is_refused(made, tmp_path):
    with pytest.raises(InvalidArgumentError, match="int8"):
        register(ort.SessionOptions(), mode="int8")
    with pytest.raises(InvalidArgumentError, match="CPU"):
        InferenceSession(made.SerializeToString(), providers=["CUDAExecutionProvider", *CPU], mode="int8")

"""Which weights become constants, and that the choice changes no bit of them."""

from __future__ import annotations

import gc

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from nnc_codec.errors import InvalidArgumentError
from nnc_onnx.graph.usage import Usage
from nnc_onnx.payloads import packed_tensors
from nnc_onnx.runtime import settings as runtime_settings
from nnc_onnx.runtime.budget import budget_bytes
from nnc_onnx.runtime.loader import InferenceSession, stats
from nnc_onnx.runtime.residency import choose_constants

CPU = ["CPUExecutionProvider"]
FLOAT = TensorProto.FLOAT


def exact() -> ort.SessionOptions:
    """Options under which onnxruntime runs the same kernels whether weights are constants or not."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def mixed() -> onnx.ModelProto:
    """A depthwise and two other convolutions, a product, a table, and a weight in one branch of an If."""
    packed = [
        models.Packed("table", models.weights(90, 16, seed=5), after="ids"),
        models.Packed("product", models.weights(16, 40, seed=4), after="flat"),
        models.Packed("wide", models.weights(16, 8, 3, 3, seed=2), after="a"),
        models.Packed("narrow", models.weights(8, 8, 3, 3, seed=1), after="x"),
        models.Packed("depthwise", models.weights(16, 1, 3, 3, seed=3), after="b"),
        models.Packed("branch", models.weights(16, 40, seed=6), after="flat"),
    ]
    branch = packed.pop()
    value = helper.make_tensor_value_info("z", FLOAT, None)
    taken = helper.make_graph(
        [branch.node, helper.make_node("MatMul", ["flat", "branch"], ["z"])],
        "then",
        [],
        [value],
        [branch.initializer],
    )
    other = helper.make_graph([helper.make_node("Identity", ["y"], ["z"])], "else", [], [value])
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "narrow"], ["a"], **pads),
        helper.make_node("Conv", ["a", "wide"], ["b"], **pads),
        helper.make_node("Conv", ["b", "depthwise"], ["c"], group=16, **pads),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["pooled"]),
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Add", ["pooled", "rows"], ["flat"]),
        helper.make_node("MatMul", ["flat", "product"], ["y"]),
        helper.make_node("If", ["flag"], ["out"], then_branch=taken, else_branch=other),
    ]
    inputs = [
        helper.make_tensor_value_info("x", FLOAT, ["n", 8, 12, 12]),
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
    ]
    return models.model(nodes, inputs, [helper.make_tensor_value_info("out", FLOAT, None)], packed)


SIZES = {"depthwise": 576, "narrow": 2304, "product": 2560, "wide": 4608, "table": 5760, "branch": 2560}


@pytest.fixture(scope="module")
def made() -> onnx.ModelProto:
    return mixed()


@pytest.fixture(scope="module")
def feeds() -> dict[str, np.ndarray]:
    return {
        "x": models.weights(2, 8, 12, 12, seed=9),
        "ids": np.array([3, 77]),
        "flag": np.array(True),
    }


def chosen(made: onnx.ModelProto, nbytes: int) -> set[str]:
    usage = Usage(made.graph)
    return {value.name for value in choose_constants(usage, packed_tensors(usage), nbytes).constants}


@pytest.mark.parametrize(
    ("nbytes", "names"),
    [
        (0, {"depthwise"}),
        (600, {"depthwise"}),
        (576 + 2304, {"depthwise", "narrow"}),
        (576 + 2304 + 4000, {"depthwise", "narrow", "product"}),
        (576 + 2304 + 4608, {"depthwise", "narrow", "wide"}),
        (576 + 2304 + 4608 + 2560, {"depthwise", "narrow", "wide", "product"}),
        (sum(SIZES.values()) - 1, {"depthwise", "narrow", "wide", "product", "table"}),
        (sum(SIZES.values()), set(SIZES)),
    ],
)
def test_order_of_choice(made, nbytes, names):
    assert chosen(made, nbytes) == names
    assert chosen(made, nbytes) == chosen(mixed(), nbytes)


def test_depthwise_kernels_beyond_the_budget_are_few():
    """A model of nothing but depthwise convolutions does not become constant as a whole."""
    packed = [models.Packed(f"W{i}", models.weights(64, 1, 3, 3, seed=i)) for i in range(40)]
    nodes = [helper.make_node("Conv", [f"x{i}", f"W{i}"], [f"x{i + 1}"], group=64) for i in range(40)]
    made = models.model(
        nodes,
        [helper.make_tensor_value_info("x0", FLOAT, None)],
        [helper.make_tensor_value_info("x40", FLOAT, None)],
        packed,
    )
    assert len(chosen(made, 0)) == 40 // 16


def test_what_is_tiny_beside_the_rest_is_constant():
    """A 64th of all decoded bytes, tables included, whatever the budget."""
    packed = [
        models.Packed("table", models.weights(16000, 16), after="ids"),
        models.Packed("large", models.weights(16, 1100, seed=1), after="rows"),
        models.Packed("small", models.weights(1100, 3, seed=2), after="h"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "large"], ["h"]),
        helper.make_node("MatMul", ["h", "small"], ["y"]),
    ]
    made = models.model(
        nodes,
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        packed,
    )
    assert chosen(made, 0) == {"small"}
    usage = Usage(made.graph)
    small = [tensor for tensor in packed_tensors(usage) if tensor.decode.nbytes == 4 * 1100 * 3]
    for times, expected in ((62, 0), (63, 1)):
        beside = times * small[0].decode.nbytes
        assert len(choose_constants(usage, small, 0, beside=beside).constants) == expected


def test_tensor_read_through_other_nodes_counts_by_what_computes():
    packed = [models.Packed("table", models.weights(40, 16)), models.Packed("W", models.weights(16, 16))]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "W"], ["h"]),
        helper.make_node("Transpose", ["table"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["h", "t"], ["y"]),
    ]
    made = models.model(
        nodes,
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        packed,
    )
    # Tied to a product, the table is as good as any weight, and it is read first.
    assert chosen(made, 40 * 16 * 4) == {"table"}


@pytest.mark.parametrize("levels", [False, True])
@pytest.mark.parametrize("cache_bytes", [0, 600, 3000, 8000, 0.5, 0.9, "all"])
def test_same_bits_with_any_constants(made, feeds, cache_bytes, levels):
    data = made.SerializeToString()
    expected = InferenceSession(data, exact(), providers=CPU, mode="lazy", resident=False).run(None, feeds)[0]
    session = InferenceSession(data, exact(), providers=CPU, mode="cache", cache_bytes=cache_bytes, cache_levels=levels)
    for _ in range(3):
        assert session.run(None, feeds)[0].tobytes() == expected.tobytes()
    assert session.plan.constant_bytes + session.plan.coded_bytes == sum(SIZES.values())


def test_fused_constants_change_last_bits_at_most(made, feeds):
    data = made.SerializeToString()
    expected = InferenceSession(data, providers=CPU, mode="lazy").run(None, feeds)[0]
    for cache_bytes in (3000, "all"):
        got = InferenceSession(data, providers=CPU, mode="cache", cache_bytes=cache_bytes).run(None, feeds)[0]
        assert np.allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_constants_count_while_the_session_lives(made):
    gc.collect()
    before = stats().constant_bytes
    session = InferenceSession(
        made.SerializeToString(), providers=CPU, mode="cache", cache_bytes=576 + 2304, cache_levels=False
    )
    assert stats().constant_bytes == before + 576 + 2304
    session.set_providers(CPU)
    assert stats().constant_bytes == before + 576 + 2304
    del session
    gc.collect()
    assert stats().constant_bytes == before


@pytest.mark.parametrize(
    ("wishes", "mode", "constants"),
    [
        ({}, "eager", sum(SIZES.values())),
        ({"mode": "eager"}, "eager", sum(SIZES.values())),
        ({"mode": "lazy"}, "lazy", 576),
        ({"mode": "lazy", "resident": False}, "lazy", 0),
        ({"mode": "cache", "cache_bytes": "all"}, "eager", sum(SIZES.values())),
        ({"mode": "cache", "cache_bytes": "all", "resident": False}, "cache", 0),
        ({"mode": "auto", "cache_bytes": 0}, "lazy", 576),
        ({"mode": "auto", "resident": False}, "cache", 0),
    ],
)
def test_what_modes_come_down_to(made, feeds, wishes, mode, constants):
    session = InferenceSession(made.SerializeToString(), providers=CPU, **wishes)
    assert (session.plan.mode, session.plan.constant_bytes) == (mode, constants)
    assert session.run(None, feeds)[0].shape == (2, 40)


def test_auto_is_eager_if_the_budget_is_enough(made):
    data, total = made.SerializeToString(), sum(SIZES.values())
    assert InferenceSession(data, providers=CPU).plan.mode == "eager"
    for nbytes, mode in ((total, "eager"), (total - 4, "cache")):
        assert InferenceSession(data, providers=CPU, cache_bytes=nbytes).plan.mode == mode


def test_other_providers_get_constants(made, monkeypatch):
    """What would happen where onnxruntime has a GPU provider and takes it by default."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", *CPU])
    assert not runtime_settings.uses_only_cpu(None, ort.SessionOptions())
    session = InferenceSession(made.SerializeToString(), cache_bytes=0)
    assert session.plan.mode == "eager"
    session.set_providers(CPU)
    assert session.plan.mode == "lazy"


def test_budgets():
    assert budget_bytes(None, 10) == 64 << 20
    assert budget_bytes(5, None) == 5
    assert budget_bytes("all", 100) >= 100
    assert budget_bytes("all", None) > 1 << 50
    with pytest.raises(InvalidArgumentError, match="fraction"):
        budget_bytes(0.5, None)

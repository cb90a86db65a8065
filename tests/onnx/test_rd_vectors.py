"""Planning of vectors: finer where the outputs react more, and all of them do less than the weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_graphs import FLOAT, INT64, model, tensor, value, weights

from nnc_codec.formats import PackOptions
from nnc_onnx import pack, unpack
from nnc_onnx.graph.usage import Usage
from nnc_onnx.plan import plan_tensors
from nnc_onnx.rd import planner_for
from nnc_onnx.rd.vectors import FEWEST, MOST_SAMPLES, plannable_vectors, samples_for

onnxruntime = pytest.importorskip("onnxruntime")

WIDTH = 96


def with_biases() -> onnx.ModelProto:
    """Two biases alike; what one of them does reaches the output much weakened, what the other does much amplified."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Mul", ["loud", "large"], ["b"]),
        helper.make_node("Mul", ["quiet", "small"], ["c"]),
        helper.make_node("Sum", ["a", "b", "c"], ["d"]),
        helper.make_node("MatMul", ["d", "v"], ["y"]),
    ]
    return model(
        nodes,
        [value("x", FLOAT, ["n", WIDTH])],
        [value("y", FLOAT, ["n", WIDTH])],
        [
            tensor("w", weights(WIDTH, WIDTH, seed=1)),
            tensor("v", weights(WIDTH, WIDTH, seed=2)),
            tensor("loud", rng.standard_normal(WIDTH).astype(np.float32)),
            tensor("quiet", rng.standard_normal(WIDTH).astype(np.float32)),
            tensor("large", np.float32(30)),
            tensor("small", np.float32(0.001)),
        ],
    )


def packed(made, folder, **how):
    source, target = folder / "model.onnx", folder / "packed.onnx"
    onnx.save(made, source)
    return pack(source, target, PackOptions(force=True), planner=planner_for(**how)), source, target


def steps_of(report):
    return {tensor.name: tensor.step for tensor in report.coded}


def test_what_does_less_gets_coarser_steps(tmp_path):
    report, _, _ = packed(with_biases(), tmp_path)
    steps = steps_of(report)
    assert steps["quiet"] >= 2 * steps["loud"]


def test_real_inputs_say_it_too(tmp_path):
    inputs = {"x": np.random.default_rng(5).standard_normal((16, WIDTH)).astype(np.float32)}
    steps = steps_of(packed(with_biases(), tmp_path, calibration=inputs)[0])
    assert steps["quiet"] >= 2 * steps["loud"]


def test_vectors_do_less_to_the_outputs_than_weights(tmp_path):
    _, source, target = packed(with_biases(), tmp_path)
    decoded = tmp_path / "decoded.onnx"
    unpack(target, decoded)
    original, whole = onnx.load(source), onnx.load(decoded)
    feed = {"x": np.random.default_rng(6).standard_normal((64, WIDTH)).astype(np.float32)}

    def run(names):
        mixed = onnx.ModelProto()
        mixed.CopyFrom(original)
        found = {item.name: item for item in whole.graph.initializer}
        for item in mixed.graph.initializer:
            if item.name in names:
                item.CopyFrom(found[item.name])
        return onnxruntime.InferenceSession(mixed.SerializeToString()).run(None, feed)[0]

    reference = run(())
    vectors = np.square(run(("loud", "quiet")) - reference).sum()
    both = np.square(run(("w", "v")) - reference).sum()
    assert 0 < vectors <= 0.2 * both


def test_tables_that_inputs_are_compared_with_are_not_touched():
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Greater", ["x", "edges"], ["over"]),
        helper.make_node("Where", ["over", "high", "low"], ["y"]),
    ]
    made = model(
        nodes,
        [value("x", FLOAT, ["n", WIDTH])],
        [value("y", FLOAT, ["n", WIDTH])],
        [tensor(name, rng.standard_normal(WIDTH).astype(np.float32)) for name in ("edges", "high", "low")],
    )
    usage = Usage(made.graph)
    names = {item.name for item in plannable_vectors(plan_tensors(made, usage, PackOptions()), usage)}
    assert names == {"high", "low"}


def test_short_vectors_and_integers_are_left_out():
    nodes = [
        helper.make_node("Add", ["x", "short"], ["a"]),
        helper.make_node("Mul", ["i", "table"], ["j"]),
    ]
    made = model(
        nodes,
        [value("x", FLOAT, ["n", FEWEST - 1]), value("i", INT64, ["n", 100])],
        [value("a", FLOAT, ["n", FEWEST - 1]), value("j", INT64, ["n", 100])],
        [tensor("short", np.ones(FEWEST - 1, np.float32) / 3), tensor("table", np.arange(100))],
    )
    usage = Usage(made.graph)
    assert plannable_vectors(plan_tensors(made, usage, PackOptions()), usage) == []


def test_the_budget_ends_measuring():
    assert samples_for(10, 1e3) == MOST_SAMPLES
    assert samples_for(1000, 1e9) == 0


def test_bytes_do_not_depend_on_workers(tmp_path):
    _, source, target = packed(with_biases(), tmp_path)
    first = target.read_bytes()
    for jobs in (1, 4):
        pack(source, target, PackOptions(force=True, jobs=jobs), planner=planner_for())
        assert target.read_bytes() == first

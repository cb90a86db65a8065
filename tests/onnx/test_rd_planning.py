"""Planning: where the bits go, which targets are met, what happens when a model cannot be run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_graphs import FLOAT, mlp, model, tensor, value, weights

from nnc_codec.formats import PackOptions
from nnc_onnx import pack
from nnc_onnx.graph.usage import Usage
from nnc_onnx.plan import plan_tensors
from nnc_onnx.rd import Goal, analyze, planner_for
from nnc_onnx.rd.errors import CalibrationError, GoalError
from nnc_onnx.rd.study import study_model

onnxruntime = pytest.importorskip("onnxruntime")


def two_branches(quiet: float = 0.001) -> onnx.ModelProto:
    """Two weights alike; what one of them does reaches the output much weakened."""
    nodes = [
        helper.make_node("MatMul", ["x", "loud"], ["a"]),
        helper.make_node("MatMul", ["x", "quiet"], ["b"]),
        helper.make_node("Mul", ["b", "factor"], ["c"]),
        helper.make_node("Add", ["a", "c"], ["y"]),
    ]
    return model(
        nodes,
        [value("x", FLOAT, ["n", 96])],
        [value("y", FLOAT, ["n", 96])],
        [
            tensor("loud", weights(96, 96, seed=1)),
            tensor("quiet", weights(96, 96, seed=2)),
            tensor("factor", np.float32(quiet)),
        ],
    )


@pytest.fixture
def source(tmp_path):
    def save(made: onnx.ModelProto):
        path = tmp_path / "model.onnx"
        onnx.save(made, path)
        return path

    return save


def packed(path, goal=None, options=None, **how):
    target = path.with_suffix(".nnc.onnx")
    options = options or PackOptions(force=True)
    return pack(path, target, options, planner=planner_for(goal, **how)), target


def inputs(count=16, width=96):
    return {"x": np.random.default_rng(5).standard_normal((count, width)).astype(np.float32)}


def study_of(made, folder):
    options = PackOptions(min_elements=1)
    with ThreadPoolExecutor(2) as executor:
        return study_model(made, plan_tensors(made, Usage(made.graph), options), folder, options, None, executor)


def test_what_matters_less_gets_coarser_steps(source):
    report, _ = packed(source(two_branches()))
    steps = {tensor.name: tensor.step for tensor in report.coded}
    assert steps["quiet"] > 1.5 * steps["loud"]


def test_measured_inputs_say_it_more_strongly(source):
    report, _ = packed(source(two_branches()), calibration=inputs())
    steps = {tensor.name: tensor.step for tensor in report.coded}
    assert steps["quiet"] > 4 * steps["loud"]


def test_bytes_do_not_depend_on_workers(source):
    path = source(mlp(width=96))
    _, target = packed(path, options=PackOptions(jobs=1, force=True))
    once = target.read_bytes()
    _, target = packed(path, options=PackOptions(jobs=4, force=True))
    assert target.read_bytes() == once


def test_presets_are_ordered(source):
    path = source(mlp(width=96))
    sizes = [packed(path, Goal(preset=preset))[0].packed_bytes for preset in ("high", "balanced", "small")]
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_size_is_kept(source):
    path = source(mlp(width=96))
    report, target = packed(path, Goal(target_ratio=0.2))
    assert target.stat().st_size <= 0.2 * path.stat().st_size
    assert report.packed_bytes > 0.15 * path.stat().st_size


def test_an_impossible_size_is_an_error(source):
    path = source(mlp(width=96))
    with pytest.raises(GoalError, match="cannot be packed into 10 bytes"):
        packed(path, Goal(target_bytes=10))
    assert not path.with_suffix(".nnc.onnx").exists()


def test_the_allowed_error_is_kept_and_used(source):
    path = source(two_branches(quiet=1.0))
    feed = inputs()
    packed(path, Goal(max_error=0.1), calibration=feed)
    from nnc_onnx import InferenceSession

    before = onnxruntime.InferenceSession(str(path)).run(None, feed)[0]
    after = InferenceSession(str(path.with_suffix(".nnc.onnx"))).run(None, feed)[0]
    error = np.sqrt(np.square(after - before).mean() / np.square(before).mean())
    assert 0.03 < error < 0.115


def test_a_metric_decides(source):
    path = source(two_branches(quiet=1.0))
    feed = inputs()
    wanted = onnxruntime.InferenceSession(str(path)).run(None, feed)[0]

    def metric(run):
        return -float(np.abs(run(feed)[0] - wanted).max())

    loose, _ = packed(path, Goal(max_drop=0.5), metric=metric)
    tight, _ = packed(path, Goal(max_drop=0.05), metric=metric)
    assert tight.packed_bytes > loose.packed_bytes
    with pytest.raises(GoalError, match="needs a metric"):
        packed(path, Goal(max_drop=0.5))


def test_a_model_that_cannot_be_run_is_planned_from_its_weights(source):
    made = mlp(width=96)
    made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    report, target = packed(source(made))
    assert "planned from the weights alone" in report.notes[0]
    assert target.exists() and report.coded


def test_a_target_that_needs_measuring_is_not_silently_dropped(source):
    made = mlp(width=96)
    made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    from nnc_onnx.rd.errors import CannotRunError

    with pytest.raises(CannotRunError):
        packed(source(made), Goal(max_error=0.1))


def test_bad_calibration_writes_nothing(source):
    path = source(mlp(width=96))
    with pytest.raises(CalibrationError):
        packed(path, calibration={"x": np.full((4, 96), np.inf, np.float32)})
    assert not path.with_suffix(".nnc.onnx").exists()


def test_one_qp_for_all_is_obeyed(source):
    report, _ = packed(source(mlp(width=96)), options=PackOptions(qp=-20, force=True))
    assert {tensor.qp for tensor in report.coded if tensor.name.startswith("w")} == {-20}


@pytest.mark.parametrize(
    "wrong",
    [
        {"preset": "tiny"},
        {"target_ratio": 0.0},
        {"target_ratio": float("nan")},
        {"max_error": -1.0},
        {"target_bytes": 0},
        {"max_drop": float("inf")},
        {"target_bytes": 5, "max_error": 0.1},
    ],
)
def test_nonsense_goals_are_refused(wrong):
    with pytest.raises(GoalError):
        Goal(**wrong)


def test_analysis_has_a_falling_curve(source):
    analysis = analyze(source(mlp(width=96)))
    sizes = [point.packed_bytes for point in analysis.curve]
    assert len(sizes) >= 5 and sizes == sorted(sizes, reverse=True)
    assert {entry.name for entry in analysis.tensors} >= {"w0", "w1", "w2"}
    assert analysis.basis == "synthetic"


def test_errors_are_fed_back_without_data(tmp_path):
    size = 32
    nodes = [helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=size)]
    made = model(
        nodes,
        [value("x", FLOAT, [64, 1, size])],
        [value("y", FLOAT, None)],
        [tensor("w", weights(1, 3 * size, size)), tensor("r", weights(1, 3 * size, size, seed=3))],
    )
    recurrent = study_of(made, tmp_path)
    assert recurrent.feedback is not None and all(weight.name in recurrent.feedback for weight in recurrent.weights)
    assert study_of(mlp(width=96), tmp_path).feedback is not None

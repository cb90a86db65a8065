"""Zeros that are asked for: as many as wanted, where they do least, and zero after unpacking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import nnc_onnx
from nnc_codec.errors import InvalidArgumentError
from nnc_codec.formats import PackOptions
from nnc_codec.report import PackReport
from nnc_onnx.cli import main
from nnc_onnx.graph.usage import Usage
from nnc_onnx.plan import plan_tensors
from nnc_onnx.rd import Goal, planner_for
from nnc_onnx.rd.errors import GoalError
from nnc_onnx.sparsify import Candidate, may_be_sparse, thresholds

WIDTH = 96
LAYERS = 5


def deep_model(path: Path, *, seed: int = 0, layers: int = LAYERS) -> Path:
    """Layers of unlike weights one after the other, with residual connections."""
    rng = np.random.default_rng(seed)
    nodes, tensors, value = [], [], "x"
    for number in range(layers):
        scale = 0.5 ** (number % 3) / np.sqrt(WIDTH)
        weight = (rng.standard_normal((WIDTH, WIDTH)) * scale).astype(np.float32)
        tensors.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{number}"], [f"m{number}"]))
        nodes.append(helper.make_node("Tanh", [f"m{number}"], [f"t{number}"]))
        nodes.append(helper.make_node("Add", [value, f"t{number}"], [f"a{number}"]))
        value = f"a{number}"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", WIDTH])],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def inner(report: PackReport) -> float:
    """Share of zeros in the layers that are neither first nor last."""
    return float(np.mean([tensor.sparsity for tensor in report.tensors[1:-1]]))


def unpacked(packed: Path) -> dict[str, np.ndarray]:
    plain = packed.with_suffix(".plain.onnx")
    nnc_onnx.unpack(packed, plain)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(plain).graph.initializer}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return deep_model(tmp_path / "m.onnx")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "inputs.npz"
    rng = np.random.default_rng(1)
    mixed = rng.standard_normal((64, 12)) @ rng.standard_normal((12, WIDTH))
    np.savez(path, x=(mixed + 0.1 * rng.standard_normal(mixed.shape)).astype(np.float32))
    return path


@pytest.mark.parametrize("way", ["fast", "planned", "calibrated", "qp"])
@pytest.mark.parametrize("sparsity", [0.3, 0.7])
def test_the_share_asked_for(model: Path, inputs: Path, tmp_path: Path, sparsity: float, way: str) -> None:
    calibrated = planner_for(Goal(target_ratio=0.16), calibration=inputs)
    planner = {"planned": planner_for(), "calibrated": calibrated}.get(way)
    options = PackOptions(sparsity=sparsity, qp=-24 if way == "qp" else None, jobs=1)
    packed = tmp_path / "m.nnc.onnx"
    report = nnc_onnx.pack(model, packed, options, planner=planner)
    # Quantization rounds further weights to zero, those below half a step.
    assert sparsity - 0.01 <= inner(report) <= sparsity + 0.1
    values = unpacked(packed)
    for tensor in report.tensors:
        zeros = float(np.mean(values[tensor.name] == 0))
        assert tensor.sparsity == pytest.approx(zeros)
    if sparsity > 0.5:
        assert all(tensor.sparsity < 0.4 for tensor in (report.tensors[0], report.tensors[-1]))
    before_quantization = float(report.notes[0].split(" %")[0])
    assert before_quantization == pytest.approx(100 * sparsity, abs=1)


def test_zeros_are_those_that_do_least(model: Path, tmp_path: Path) -> None:
    packed = tmp_path / "m.nnc.onnx"
    nnc_onnx.pack(model, packed, PackOptions(sparsity=0.5, qp=-32))
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(model).graph.initializer}
    for name, after in unpacked(packed).items():
        gone = after == 0
        if gone.mean() > 0.2:
            limit = np.abs(before[name][gone]).max()
            assert np.abs(before[name][~gone]).min() >= limit * 0.99


def test_it_gets_smaller(model: Path, tmp_path: Path) -> None:
    sizes = [
        nnc_onnx.pack(model, tmp_path / f"{share}.onnx", PackOptions(sparsity=share, qp=-28)).packed_bytes
        for share in (None, 0.3, 0.6, 0.9)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.7 * sizes[0]


def test_any_number_of_workers_writes_the_same(model: Path, inputs: Path, tmp_path: Path) -> None:
    written = []
    for jobs in (1, 3):
        packed = tmp_path / f"{jobs}.onnx"
        options = PackOptions(sparsity=0.5, jobs=jobs)
        nnc_onnx.pack(model, packed, options, planner=planner_for(calibration=inputs))
        written.append(packed.read_bytes())
    assert written[0] == written[1]


def test_other_weights_make_up_for_zeros(model: Path, inputs: Path, tmp_path: Path) -> None:
    """With real inputs a packed model changes its outputs less than one whose weights are only left out."""
    runtime = pytest.importorskip("onnxruntime")
    feed = {"x": np.load(inputs)["x"]}

    def outputs(path: Path) -> np.ndarray:
        return runtime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed)[0]

    def change(planner: object) -> float:
        packed = tmp_path / "p.onnx"
        options = PackOptions(sparsity=0.6, qp=-32, force=True)
        nnc_onnx.pack(model, packed, options, planner=planner)
        nnc_onnx.unpack(packed, tmp_path / "plain.onnx", nnc_onnx.UnpackOptions(force=True))
        return float(np.square(outputs(tmp_path / "plain.onnx") - outputs(model)).sum())

    assert change(planner_for(calibration=inputs)) < 0.5 * change(planner_for())


def test_inspect_and_the_manifest_tell(model: Path, tmp_path: Path) -> None:
    packed = tmp_path / "m.nnc.onnx"
    report = nnc_onnx.pack(model, packed, PackOptions(sparsity=0.5))
    seen = {tensor.name: tensor.sparsity for tensor in nnc_onnx.inspect(packed).tensors}
    for tensor in report.tensors[1:-1]:
        assert seen[tensor.name] == pytest.approx(tensor.sparsity, rel=1e-3)


def test_without_being_asked_nothing_is_told(model: Path, tmp_path: Path) -> None:
    packed = tmp_path / "m.nnc.onnx"
    nnc_onnx.pack(model, packed)
    assert b"sparsity" not in packed.read_bytes()
    assert all(tensor.sparsity is None for tensor in nnc_onnx.inspect(packed).tensors)


def test_the_command_shows_zeros(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = str(tmp_path / "m.nnc.onnx")
    assert main(["pack", str(model), "-o", packed, "--fast", "--sparsity", "50%", "-v"]) == 0
    shown = capsys.readouterr().out
    assert "zeros" in shown and "50.0 % of the 27648 weights in 3 tensors are zero" in shown
    assert main(["inspect", packed, "-v"]) == 0
    assert "zeros" in capsys.readouterr().out
    assert main(["analyze", str(model)]) == 0
    assert "zeros" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["half", "0", "100%", "-5%", "50", "nan%"])
def test_the_command_refuses_nonsense(
    model: Path, tmp_path: Path, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    packed = tmp_path / "m.nnc.onnx"
    assert main(["pack", str(model), "-o", str(packed), "--sparsity", text]) == 1
    assert not packed.exists()
    assert "sparsity" in capfd.readouterr().err


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -0.1, 50.0, float("nan")])
def test_nonsense_is_refused(sparsity: float) -> None:
    with pytest.raises(InvalidArgumentError, match="sparsity"):
        PackOptions(sparsity=sparsity)


def test_zeros_that_miss_the_goal_are_an_error(model: Path, inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(GoalError, match="zeros alone"):
        planner = planner_for(Goal(max_error=0.001), calibration=inputs)
        nnc_onnx.pack(model, tmp_path / "m.nnc.onnx", PackOptions(sparsity=0.9), planner=planner)
    assert not (tmp_path / "m.nnc.onnx").exists()


def test_goals_count_the_zeros(model: Path, inputs: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    feed = {"x": np.load(inputs)["x"]}
    packed, plain = tmp_path / "p.onnx", tmp_path / "plain.onnx"
    planner = planner_for(Goal(max_error=0.3), calibration=inputs)
    nnc_onnx.pack(model, packed, PackOptions(sparsity=0.3), planner=planner)
    nnc_onnx.unpack(packed, plain)
    before, after = (
        runtime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed)[0] for path in (model, plain)
    )
    assert np.square(after - before).sum() <= 1.3 * 0.3**2 * np.square(before).sum()


def test_a_size_with_zeros(model: Path, tmp_path: Path) -> None:
    packed = tmp_path / "m.nnc.onnx"
    wanted = int(model.stat().st_size * 0.09)
    report = nnc_onnx.pack(model, packed, PackOptions(sparsity=0.5), planner=planner_for(Goal(target_bytes=wanted)))
    assert 0.95 * wanted <= report.packed_bytes <= wanted
    assert inner(report) >= 0.49


def test_ends_and_depthwise_filters_are_spared() -> None:
    rng = np.random.default_rng(0)

    def tensor(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "first"], ["a"]),
            helper.make_node("Conv", ["a", "depthwise"], ["b"], group=512),
            helper.make_node("Transpose", ["turned"], ["straight"], perm=[1, 0, 2, 3]),
            helper.make_node("Conv", ["b", "straight"], ["c"]),
            helper.make_node("Conv", ["c", "inner"], ["d"]),
            helper.make_node("Conv", ["d", "last"], ["y"]),
            helper.make_node("Conv", ["d", "other"], ["z"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "yz"],
        [
            tensor("first", 512, 3, 3, 3),
            tensor("depthwise", 512, 1, 3, 3),
            tensor("turned", 512, 64, 1, 1),
            tensor("inner", 64, 64, 3, 3),
            tensor("last", 80, 64, 1, 1),
            tensor("other", 70, 64, 1, 1),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    usage = Usage(model.graph)
    planned = plan_tensors(model, usage, PackOptions())
    assert [each.name for each in may_be_sparse(planned, usage)] == ["turned", "inner"]


def test_a_single_layer_is_not_spared(tmp_path: Path) -> None:
    model = deep_model(tmp_path / "one.onnx", layers=1)
    report = nnc_onnx.pack(model, tmp_path / "one.nnc.onnx", PackOptions(sparsity=0.5))
    assert report.tensors[0].sparsity == pytest.approx(0.5, abs=0.1)


def test_thresholds_weigh_what_weights_do() -> None:
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((100, 100)).astype(np.float32) for _ in range(3)]
    found = thresholds([Candidate(value, gain) for value, gain in zip(values, (1.0, 4.0, 1e-9), strict=True)], 0.5)
    assert found[0] == pytest.approx(2 * found[1], rel=1e-3)
    shares = [float((np.abs(value) < limit).mean()) for value, limit in zip(values, found, strict=True)]
    assert shares[2] == pytest.approx(0.9, abs=0.01)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.01)

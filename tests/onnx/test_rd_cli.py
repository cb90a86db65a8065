"""The options of ``pack`` that ask for planning, and ``analyze``."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_graphs import FLOAT, mlp, model, tensor, value, weights

from nnc_onnx.cli import main

pytest.importorskip("onnxruntime")


@pytest.fixture
def path(tmp_path):
    target = tmp_path / "m.onnx"
    onnx.save(mlp(width=96), target)
    return target


def test_a_ratio_is_reached(path, tmp_path):
    assert main(["pack", str(path), "-o", str(tmp_path / "p.onnx"), "--target-ratio", "20%"]) == 0
    assert (tmp_path / "p.onnx").stat().st_size <= 0.2 * path.stat().st_size


def test_the_model_is_run_unless_asked_not_to(path, tmp_path, capsys):
    nodes = [
        helper.make_node("MatMul", ["x", "w_loud"], ["a"]),
        helper.make_node("MatMul", ["x", "w_quiet"], ["b"]),
        helper.make_node("Mul", ["b", "factor"], ["c"]),
        helper.make_node("Add", ["a", "c"], ["y"]),
    ]
    tensors = [
        tensor("w_loud", weights(96, 96, seed=1)),
        tensor("w_quiet", weights(96, 96, seed=2)),
        tensor("factor", np.float32(0.001)),
    ]
    onnx.save(model(nodes, [value("x", FLOAT, ["n", 96])], [value("y", FLOAT, ["n", 96])], tensors), path)

    def steps(*options):
        target = tmp_path / f"p{len(options)}.onnx"
        assert main(["pack", str(path), "-o", str(target), "--json", "-v", *options]) == 0
        report = json.loads(capsys.readouterr().out)
        return {entry["name"]: entry.get("step") for entry in report["tensors"]}

    planned, fast = steps(), steps("--fast")
    assert planned["w_quiet"] > 2 * planned["w_loud"]
    assert fast["w_quiet"] < 1.3 * fast["w_loud"]


def test_a_model_that_cannot_be_run_is_packed_with_a_note(path, tmp_path, capsys):
    made = onnx.load(path)
    made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    onnx.save(made, path)
    assert main(["pack", str(path), "-o", str(tmp_path / "p.onnx")]) == 0
    shown = capsys.readouterr().out
    assert "planned from the weights alone, as with --fast" in " ".join(shown.split())


def test_a_bitstream_is_planned_like_a_model(path, tmp_path):
    sizes = []
    for number, option in enumerate(("--preset=high", "--preset=balanced", "--preset=small", "--fast")):
        packed = tmp_path / f"{number}.nnr"
        assert main(["pack", str(path), "-o", str(packed), option]) == 0
        sizes.append(packed.stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2] and len(set(sizes)) == 4


def test_calibration_and_metric_are_used(path, tmp_path, monkeypatch):
    np.savez(tmp_path / "in.npz", x=np.random.default_rng(0).standard_normal((8, 96)).astype(np.float32))
    (tmp_path / "judge_rd.py").write_text("def judge(run):\n    return 1.0\n")
    monkeypatch.chdir(tmp_path)
    calibrated = ["pack", "m.onnx", "-o", "c.onnx", "--calibration", "in.npz"]
    assert main(calibrated) == 0
    assert main(["pack", "m.onnx", "-o", "d.onnx", "--max-drop", "1", "--metric", "judge_rd:judge"]) == 0
    assert (tmp_path / "d.onnx").stat().st_size < (tmp_path / "c.onnx").stat().st_size


@pytest.mark.parametrize(
    "bad",
    [
        ["--target-ratio", "much"],
        ["--target-ratio", "150%"],
        ["--max-drop", "1"],
        ["--max-drop", "1", "--metric", "no_such_module:f"],
        ["--calibration", "absent.npz"],
        ["--target-bytes", "10"],
        ["--fast", "--preset", "small"],
    ],
)
def test_bad_wishes_are_one_line_and_write_nothing(path, tmp_path, bad, capfd):
    assert main(["pack", str(path), "-o", str(tmp_path / "p.onnx"), *bad]) == 1
    message = capfd.readouterr().err.strip()
    assert len(message.splitlines()) == 1 and "NNC-E2" in message
    assert not (tmp_path / "p.onnx").exists()


def test_analysis_as_table_and_json(path, capsys):
    assert main(["analyze", str(path)]) == 0
    assert "output change" in capsys.readouterr().out
    assert main(["analyze", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["basis"] == "synthetic" and {"w0", "w1", "w2"} <= {entry["name"] for entry in report["tensors"]}

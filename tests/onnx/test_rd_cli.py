"""The options of ``pack`` that ask for planning, and ``analyze``."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx_graphs import mlp

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
    assert report["basis"] == "synthetic" and len(report["tensors"]) == 3

"""The table of real models: what its rows, halves of data, agreements, sums and plots say."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("onnxruntime")

ROOT = Path(__file__).resolve().parents[2]
HARNESS = ROOT / "benchmarks" / "accuracy"
sys.path.insert(0, str(HARNESS))

import agreement  # noqa: E402
from context import Outcome, Took, keeps  # noqa: E402
from held_out import split_data  # noqa: E402
from outcomes import Row, Store, row_of, shown, table  # noqa: E402
from plots import plot  # noqa: E402
from summary import nncodec_best, summary  # noqa: E402


def row(model: str, label: str, percent: float, metric: float, method: str = "planned", data: str = "all") -> Row:
    outcome = Outcome(label, round(percent * 100), metric, Took(1.0, 2.0))
    return row_of(model, method, data, 10000, 90.0, outcome)


def test_a_metric_is_kept_down_to_half_a_percent_less():
    assert keeps(99.5, 100) and not keeps(99.49, 100)
    assert keeps(-10.05, -10) and not keeps(-10.06, -10)


def test_rows_survive_the_file(tmp_path):
    rows = [row("a", "onnx-nnc", 12.3, 89.99), row("a", "onnx-nnc --fast", 20, 90.0, "fast")]
    store = Store(tmp_path / "t.csv", resume=False)
    store.put([rows[1]], "a", "planned", "all")
    store.put(rows[:1], "a", "planned", "all")
    store.put(rows[1:], "a", "fast", "all")
    again = Store(tmp_path / "t.csv", resume=True)
    assert again.rows == rows and again.has("a", "fast", "all") and not again.has("a", "fast", "held-out")
    assert Store(tmp_path / "t.csv", resume=False).rows == []
    assert os.listdir(tmp_path) == ["t.csv"]


def test_nncodecs_point_is_its_smallest_that_keeps_the_metric():
    rows = [
        row("a", f"NNCodec qp {qp}", size, metric)
        for qp, size, metric in ((-20, 8, 70), (-26, 12, 89.6), (-32, 17, 90))
    ]
    best = nncodec_best(rows, "a")
    assert best is not None and best.label == "NNCodec qp -26"
    assert nncodec_best(rows[:1], "a") is None


def test_summary_takes_geometric_means_and_names_peers_that_win():
    rows = [
        row("a", "NNCodec qp -26", 20, 90),
        row("b", "NNCodec qp -26", 10, 90),
        row("a", "onnx-nnc --preset high", 10, 90),
        row("b", "onnx-nnc --preset high", 20, 90),
        row("a", "onnx-nnc --calibration --preset high", 5, 80),
        row("a", "float16 weights", 50, 90, "half"),
    ]
    text = summary(rows)
    high = next(line for line in text.splitlines() if line.startswith("| onnx-nnc --preset high"))
    assert high.split(" | ")[1:] == ["2", "+0.0 %", "1 of 2", "2 of 2", "2 of 2 |"]
    calibrated = next(line for line in text.splitlines() if line.startswith("| onnx-nnc --calibration"))
    assert "-75.0 %" in calibrated and "0 of 1" in calibrated
    lost = text[text.index("no row of ours equals") :]
    assert "| b | NNCodec qp -26 | 10.00" in lost and "| a |" not in lost
    assert math.isclose(rows[0].percent, 20)


def test_held_out_rows_are_apart_but_for_models_judged_no_other_way():
    rows = [row("a", "x", 1, 1), row("a", "x", 1, 1, data="held-out"), row("b", "x", 1, 1, data="held-out")]
    assert shown(rows, held_out=False) == [rows[0], rows[2]]
    assert shown(rows, held_out=True) == rows[1:]


def test_points_of_curves_are_in_plots_only(tmp_path):
    rows = [row("nsnet2", f"onnx-nnc --target-ratio {n}%", n, 80 + n, "curve") for n in range(4, 10)]
    rows += [row("nsnet2", f"NNCodec qp {-n}", n, 70 + n) for n in range(4, 10)]
    assert "target-ratio" not in table(rows) and "target-ratio" not in summary(rows)
    plot(rows, "nsnet2", tmp_path / "a.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    points = [c for c in root.iter("{http://www.w3.org/2000/svg}circle") if c.get("cy") != "14"]
    assert len(points) == 12 and "SI-SDR dB" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_halves_share_no_sample_and_lose_none(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    pieces = [np.full(n + 1, n, np.uint8) for n in range(5)]
    offset = np.cumsum([0, *map(len, pieces)])
    np.savez(data / "images.npz", jpeg=np.concatenate(pieces), offset=offset, label=np.arange(5))
    np.savez(data / "file_types.npz", x=np.arange(10).reshape(5, 2), label=np.arange(5))
    sounds = np.repeat(np.arange(5), [4, 3, 2, 5, 6])
    lengths = {"length": np.array([4, 3, 2, 5, 6]), "label_length": np.ones(5, int)}
    np.savez(data / "speech.npz", clean=sounds, noise=-sounds, label=np.arange(5), **lengths)
    words = np.repeat(np.arange(6), [1, 2, 3, 3, 2, 1])
    np.savez(data / "sentence_pairs.npz", k_ids=words, k_len=[1, 2, 3, 3, 2, 1], k_score=np.arange(3))
    split_data(data, tmp_path / "split")

    def half(folder: str, name: str) -> dict[str, list[int]]:
        with np.load(tmp_path / "split" / folder / name) as archive:
            return {key: archive[key].tolist() for key in archive.files}

    judged = half("held_out", "images.npz")
    assert judged == {"jpeg": [1, 1, 3, 3, 3, 3], "offset": [0, 2, 6], "label": [1, 3]}
    assert half("calibration", "images.npz")["label"] == [0, 2, 4]
    assert half("held_out", "file_types.npz") == {"x": [[2, 3], [6, 7]], "label": [1, 3]}
    assert half("held_out", "speech.npz")["clean"] == [1, 1, 1, 3, 3, 3, 3, 3]
    assert half("calibration", "speech.npz")["label"] == [0, 2, 4]
    # Pair 1 is sentences 1 and 4.
    assert half("held_out", "sentence_pairs.npz") == {"k_ids": [1, 1, 4, 4], "k_len": [2, 2], "k_score": [1]}


def test_agreement_is_full_with_oneself_and_less_with_others():
    random = np.random.default_rng(0)
    f0, confidence = random.uniform(50, 500, (1, 100)), random.uniform(0, 1, (1, 100))
    wanted = [[f0, confidence]]
    assert agreement.pitch(wanted, wanted) == 100
    voiced = (confidence >= agreement.VOICED).mean()
    assert agreement.pitch(wanted, [[f0 * 1.1, confidence]]) == pytest.approx(100 * (1 - voiced))
    note, onset, contour = random.random((1, 9, 88)), random.random((1, 9, 88)), random.random((1, 9, 264))
    assert agreement.notes([[note, onset, contour]], [[note, onset, contour * 0]]) == 100
    assert 0 < agreement.notes([[note, onset, contour]], [[note, onset * 0, contour]]) < 100
    found = random.uniform(0, 1, (1, 22, 50))
    noisy = np.clip(found + random.normal(0, 0.2, found.shape), 1e-6, 1 - 1e-6)
    assert agreement.detections([[found]], [[found]]) == pytest.approx(100)
    assert agreement.detections([[found]], [[noisy]]) < 99
    area = np.zeros((1, 1, 4, 4))
    area[..., :2] = 1
    assert agreement.areas([[area]], [[area]]) == 100 and agreement.areas([[area]], [[np.ones_like(area)]]) == 50


def test_readings_drop_blanks_and_repetitions():
    scores = np.eye(4)[[1, 1, 0, 1, 2, 2, 0, 3]]
    assert agreement.collapsed(scores) == [1, 1, 2, 3]
    assert agreement.readings([[scores[:, None]]], [[scores[None]]]) == 100
    assert agreement.character_accuracy(["abcd"], ["abxd"]) == 75
    assert agreement.character_accuracy(["ab"], ["zzzzzz"]) == 0


@pytest.fixture
def evaluation(tmp_path):
    """A folder as the harness wants it, with one small model that tells a sign."""
    random = np.random.default_rng(0)
    folder = tmp_path / "eval"
    (folder / "models").mkdir(parents=True)
    (folder / "data").mkdir()
    weights = [random.standard_normal((64, 128)) / 8, random.standard_normal((128, 2)) / 11]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "v"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(w.astype(np.float32), name) for w, name in zip(weights, "wv", strict=True)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, folder / "models" / "sign.onnx")
    x = random.standard_normal((96, 64)).astype(np.float32)
    y = (np.maximum(x @ weights[0], 0) @ weights[1]).argmax(1)
    np.savez(folder / "data" / "file_types.npz", x=x, label=y)
    (folder / "evaluate.py").write_text(
        "from pathlib import Path\nimport numpy as np\nDATA = Path(__file__).parent / 'data'\n"
        "def score(task, run):\n    d = np.load(DATA / 'file_types.npz')\n"
        "    return {'acc': 100 * float((run({'x': d['x']})[0].argmax(1) == d['label']).mean())}\n"
        "TASKS = {'sign': None}\n"
    )
    return folder


def test_one_command_measures_and_resumes(evaluation, tmp_path):
    def run(*more: str) -> str:
        command = [sys.executable, str(HARNESS), str(evaluation), "--csv", str(tmp_path / "t.csv"), "--resume"]
        methods = ["--method", "fast", "--method", "int8-static", "--method", "xz", "--method", "calibrated"]
        done = subprocess.run(
            [*command, *methods, "--markdown", str(tmp_path / "t.md"), *more],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    first = run()
    rows = Store(tmp_path / "t.csv", resume=True).rows
    by_label = {entry.label: entry for entry in rows}
    assert by_label["xz -9"].metric == by_label["xz -9"].original == 100
    assert by_label["onnx-nnc --fast"].nbytes < by_label["xz -9"].nbytes
    assert by_label["onnx-nnc --fast"].metric > 90 and by_label["onnxruntime int8 static QDQ"].metric > 90
    assert all(entry.encode_cpu > 0 for entry in rows)
    assert "sign  onnx-nnc --fast" in first and "| sign | " in (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "sign  onnx-nnc --fast" not in run()
    assert run("--redo").count("sign  onnx-nnc --fast") == 1
    assert len(Store(tmp_path / "t.csv", resume=True).rows) == len(rows)
    held = run("--held-out", "--method", "fast")
    assert "sign  onnx-nnc --fast" in held
    both = Store(tmp_path / "t.csv", resume=True).rows
    assert {entry.data for entry in both} == {"all", "held-out"}

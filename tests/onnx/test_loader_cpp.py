"""The run-time library serves a C++ program that knows nothing of Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import onnxruntime as ort
import pytest

from nnc_onnx.runtime.library import get_library_path
from nnc_onnx.runtime.loader import InferenceSession

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parents[1] / "nnc_onnx" / "native"
LAYERS, WIDE, NARROW, ROWS = 6, 96, 40, 3

COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
RUNTIME = next(iter(sorted(Path(ort.__file__).parent.glob("capi/libonnxruntime.so*"))), None)

pytestmark = pytest.mark.skipif(
    COMPILER is None or RUNTIME is None or not sys.platform.startswith("linux"),
    reason="needs a C++ compiler and a wheel of onnxruntime with its shared library",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("cpp") / "run_from_cpp"
    command = [
        COMPILER,
        "-std=c++17",
        "-O1",
        "-Wall",
        "-Werror",
        f"-I{NATIVE}",
        str(HERE / "run_from_cpp.cpp"),
    ]
    subprocess.run([*command, "-o", str(target), "-ldl", "-pthread"], check=True)
    return target


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cpp_model") / "model.onnx"
    path.write_bytes(models.chain(LAYERS, WIDE, NARROW)[0].SerializeToString())
    return path


@pytest.mark.parametrize("slots", [0, 2, LAYERS])
def test_program_gives_the_same_bits(program, model, tmp_path, slots):
    output = tmp_path / "output"
    size = WIDE * NARROW * 4
    threads, runs = 4, 20
    arguments = [
        RUNTIME,
        get_library_path(),
        model,
        ROWS,
        NARROW,
        f"x{LAYERS}",
        output,
        slots * size,
        threads,
        runs,
    ]
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts = {name: int(value) for name, value in map(str.split, done.stdout.splitlines())}
    assert counts["computes"] == LAYERS * (threads * runs + 1)
    assert counts["failures"] == 0
    if slots == 0:
        assert counts["decodes"] == counts["computes"]
    else:
        assert 0 < counts["cache_peak_bytes"] <= slots * size
        assert counts["cache_hits"] > 0
    x = (np.arange(ROWS * NARROW) % 64 / 64).astype(np.float32).reshape(ROWS, NARROW)
    expected = InferenceSession(model, providers=["CPUExecutionProvider"], mode="lazy").run(None, {"x0": x})[0]
    assert output.read_bytes() == expected.tobytes()


def test_error_has_one_line(program, tmp_path):
    made, _ = models.chain(2, WIDE, NARROW)
    next(item for item in made.graph.node[1].attribute if item.name == "crc32").i ^= 1
    path = tmp_path / "damaged.onnx"
    path.write_bytes(made.SerializeToString())
    arguments = [RUNTIME, get_library_path(), path, ROWS, NARROW, "x2", tmp_path / "output", 0, 1, 1]
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "NNC-E212: tensor 'W1': the CRC-32" in done.stderr.splitlines()[-1]

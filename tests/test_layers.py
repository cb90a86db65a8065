"""Packages import one way only, and importing them stays light."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_layers_point_one_way() -> None:
    lint = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run(
        [lint, "--config", ROOT / "pyproject.toml", "--no-cache"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("package", "heavy"),
    [
        ("nnc_codec", {"onnx", "nnef", "onnxruntime", "typer", "torch"}),
        ("nnc_onnx", {"onnx", "nnef", "onnxruntime", "onnx_graphsurgeon", "torch"}),
        ("nnc_nnef", {"onnx", "nnef", "onnxruntime", "nnef_tools", "torch"}),
        ("nnc_onnx.cli", {"onnx", "nnef", "onnxruntime", "onnx_graphsurgeon", "numpy"}),
    ],
)
def test_imports_are_light(package: str, heavy: set[str]) -> None:
    code = f"import sys, {package}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())

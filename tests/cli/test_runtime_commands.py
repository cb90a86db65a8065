"""The commands that run models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_models import write_model
from cli_runner import onnx_nnc

pytest.importorskip("onnxruntime")


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A packed model."""
    model = write_model(tmp_path / "m.onnx")
    assert onnx_nnc("pack", model, "-q").status == 0
    return model.with_name("m.nnc.onnx")


def test_bench_prints_a_row_per_configuration(packed: Path) -> None:
    arguments = ("--only", "lazy", "--only", "eager", "--runs", "2", "--batch", "3", "--threads", "1")
    result = onnx_nnc("bench", packed, *arguments)
    assert (result.status, result.err) == (0, "")
    for words in ("plain", "lazy", "eager", "batch 3, 1 threads, 2 runs", "against the unpacked model"):
        assert words in result.out
    assert "int8" not in result.out


def test_bench_as_json(packed: Path) -> None:
    against = packed.with_name("m.onnx")
    result = onnx_nnc("bench", packed, "--only", "eager", "--runs", "2", "--against", against, "--json")
    report = json.loads(result.out)
    assert (result.err, report["report"], report["against"]) == ("", "bench", str(against))
    assert [row["name"] for row in report["rows"]] == ["plain", "eager"]


def test_bench_wants_a_packed_model(packed: Path) -> None:
    result = onnx_nnc("bench", packed.with_name("m.onnx"))
    assert result.status == 1 and "not a packed ONNX model" in result.error_line


def test_run_in_integers_says_what_it_costs(packed: Path) -> None:
    result = onnx_nnc("run", packed, "--mode", "int8", "--runs", "2")
    assert (result.status, result.err) == (0, "")
    assert "rel rms" in result.out and "approximate" in result.out
    report = json.loads(onnx_nnc("run", packed, "--mode", "int8", "--runs", "1", "--json").out)
    assert 0 < report["comparison"][0]["error"]["rel_rms"] < 0.1


def test_unpack_a_shell(packed: Path) -> None:
    result = onnx_nnc("unpack", packed, "--shell", "-o", "shell.onnx", folder=packed.parent)
    assert (result.status, result.err) == (0, "")
    assert "shell.onnx.data" in result.out and "is not written" in result.out
    assert not packed.with_name("shell.onnx.data").exists()
    assert packed.with_name("shell.onnx").stat().st_size < 2000
    again = onnx_nnc("unpack", packed, "--shell", "-o", "shell.onnx", folder=packed.parent)
    assert again.status == 1 and "NNC-E202" in again.error_line

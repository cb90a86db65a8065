"""What every command does and prints when all is well."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from cli_models import write_model
from cli_runner import onnx_nnc

pytest.importorskip("onnxruntime")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A plain model."""
    return write_model(tmp_path / "m.onnx")


@pytest.fixture
def packed(model: Path) -> Path:
    """The same, packed."""
    assert onnx_nnc("pack", model, "-q").status == 0
    return model.with_name("m.nnc.onnx")


def test_pack_needs_no_flags(model: Path) -> None:
    result = onnx_nnc("pack", "m.onnx", folder=model.parent)
    assert (result.status, result.err) == (0, "")
    assert "wrote m.nnc.onnx" in result.out
    for words in ("whole model", "coded tensors (2)", "bits per weight", "worst relative error", " s (coding"):
        assert words in result.out
    assert model.with_name("m.nnc.onnx").stat().st_size < model.stat().st_size / 3


def test_pack_prints_a_row_per_tensor(model: Path) -> None:
    result = onnx_nnc("pack", model, "-v")
    assert "w0" in result.out and "FLOAT dq" in result.out and "64x64" in result.out


def test_quiet_is_quiet(model: Path) -> None:
    assert onnx_nnc("pack", model, "-q")[:] == (0, "", "")
    packed = model.with_name("m.nnc.onnx")
    for arguments in (("unpack", packed), ("verify", packed), ("inspect", packed), ("run", packed)):
        assert onnx_nnc(*arguments, "-q")[:] == (0, "", "")


def test_json_is_one_document_and_nothing_else(model: Path) -> None:
    report = json.loads(onnx_nnc("pack", model, "--json").out)
    assert report["report"] == "pack" and report["packed_bytes"] == model.with_name("m.nnc.onnx").stat().st_size
    packed = model.with_name("m.nnc.onnx")
    for command in ("inspect", "verify", "run", "unpack"):
        result = onnx_nnc(command, packed, "--json")
        assert result.err == ""
        assert json.loads(result.out)["report"] == command


def test_options_reach_the_packer(model: Path) -> None:
    def tensors(*options: str) -> dict[str, dict[str, object]]:
        out = onnx_nnc("pack", model, "-f", "--json", *options).out
        return {item["name"]: item for item in json.loads(out)["tensors"]}

    assert {item["qp"] for item in tensors("--qp", "-20").values()} == {-20}
    assert {item["method"] for item in tensors("--method", "uniform").values()} == {"uniform"}
    assert tensors("--exclude", "w0")["w0"]["reason"] == "excluded"
    assert tensors("--min-elements", "9999", "--group-below", "0")["w1"]["treatment"] == "plain"
    assert tensors("--min-elements", "9999", "--group-below", "0", "--include", "w1")["w1"]["treatment"] == "coded"


def test_external_data_on_request(model: Path) -> None:
    assert onnx_nnc("pack", model, "--external-data").status == 0
    packed = model.with_name("m.nnc.onnx")
    assert packed.with_name("m.nnc.onnx.data").stat().st_size > packed.stat().st_size
    assert onnx_nnc("verify", packed, "--against", model, "--run").status == 0


def test_jobs_do_not_change_a_byte(model: Path, tmp_path: Path) -> None:
    for jobs in ("1", "3"):
        assert onnx_nnc("pack", model, "-o", tmp_path / f"{jobs}.onnx", "-j", jobs).status == 0
    assert (tmp_path / "1.onnx").read_bytes() == (tmp_path / "3.onnx").read_bytes()


def test_unpack_restores_a_plain_model(packed: Path) -> None:
    result = onnx_nnc("unpack", packed)
    assert result.status == 0 and "m.plain.onnx" in result.out
    result = onnx_nnc("inspect", packed.with_name("m.plain.onnx"))
    assert "plain" in result.out and "0 coded tensors, 2 plain ones" in result.out


def test_inspect_shows_tensors(packed: Path) -> None:
    result = onnx_nnc("inspect", packed)
    assert result.status == 0
    for words in ("w0", "w1", "64x64", "float32", "FLOAT dq", "packed, carriage 1", "onnx-nnc"):
        assert words in result.out


def test_verify_says_what_it_checked(packed: Path) -> None:
    result = onnx_nnc("verify", packed, "--against", packed.with_name("m.onnx"), "--run", "--dim", "batch=3")
    assert result.status == 0
    assert "2 tensors ok (crc32, headers, decode, sha256, original, run)" in result.out
    assert "identical" in result.out


def test_verify_finds_another_original(packed: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.onnx", seed=1)
    result = onnx_nnc("verify", packed, "--against", other)
    assert result.status == 4
    assert result.err.startswith("error NNC-E204: ")


def test_run_compares(packed: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((5, 64), np.float32))
    result = onnx_nnc(
        "run", packed, "--inputs", tmp_path / "x.npz", "--against", tmp_path / "m.onnx", "-o", tmp_path / "y.npz"
    )
    assert result.status == 0, result.err
    assert "5x64" in result.out and "median" in result.out and "max abs diff" in result.out
    assert np.load(tmp_path / "y.npz")["t1"].shape == (5, 64)


def test_run_takes_dims_and_modes(packed: Path) -> None:
    for mode in ("lazy", "cache", "eager"):
        report = json.loads(onnx_nnc("run", packed, "--dim", "batch=7", "--mode", mode, "--json").out)
        assert report["outputs"][0]["shape"] == [7, 64]
        assert report["mode"] == mode
    for budget in ("20000", "50%", "all"):
        assert onnx_nnc("run", packed, "--mode", "cache", "--cache-bytes", budget, "-q")[:] == (0, "", "")


def test_convert_goes_there_and_back(packed: Path) -> None:
    pytest.importorskip("nnef_tools")
    if not any(entry.name == "nnef" for entry in entry_points(group="onnx_nnc.formats")):
        pytest.skip("the package is not installed, so no format is registered")
    result = onnx_nnc("convert", packed, "--to", "nnef", "--dim", "batch=2")
    assert result.status == 0, result.err
    archive = packed.with_name("m.nnc.nnef.tar")
    assert "2 coded tensors" in onnx_nnc("inspect", archive).out
    report = json.loads(onnx_nnc("convert", archive, "--to", "onnx", "-f", "--json").out)
    assert {tensor["action"] for tensor in report["tensors"]} <= {"carried", "renamed", "plain"}
    assert onnx_nnc("verify", packed).status == 0


def test_help_and_version() -> None:
    result = onnx_nnc("--help")
    assert result.status == 0
    for command in ("pack", "unpack", "inspect", "verify", "run", "convert"):
        assert command in result.out
        assert onnx_nnc(command, "--help").status == 0
    assert onnx_nnc("--version").out.startswith("onnx-nnc ")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, nnc_onnx\n"
        "from nnc_onnx.cli import main\n"
        "main(['--help'])\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'nnef', 'onnx_graphsurgeon', 'msgspec', 'nnc_codec'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_output_can_be_cut_off(packed: Path) -> None:
    command = f"{sys.executable} -m nnc_onnx.cli inspect {packed} --json | head -c 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("{", "")

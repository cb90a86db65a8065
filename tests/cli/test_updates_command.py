"""``diff``, ``apply``, and packing into NNR files, as users type them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_models import write_model
from cli_runner import onnx_nnc
from onnx import numpy_helper

pytest.importorskip("onnxruntime")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A model and a tuned one."""
    base = write_model(tmp_path / "m.onnx")
    model = onnx.load(base)
    generator = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        moved = np.where(generator.random(values.shape) < 0.05, values * np.float32(1.1), values)
        tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    new = tmp_path / "tuned.onnx"
    new.write_bytes(model.SerializeToString())
    return base, new


def test_diff_and_apply_need_no_flags(pair: tuple[Path, Path]) -> None:
    base, new = pair
    made = onnx_nnc("diff", "m.onnx", "tuned.onnx", folder=base.parent)
    assert (made.status, made.err) == (0, "")
    for words in ("2 of 2 tensors changed", "% of the new model's", "worst relative error", "wrote tuned.update.nnr"):
        assert words in made.out
    applied = onnx_nnc("apply", "m.onnx", "tuned.update.nnr", folder=base.parent)
    assert (applied.status, applied.err) == (0, "")
    assert "wrote m.updated.onnx" in applied.out and "changed 2 tensors" in applied.out
    assert (base.parent / "tuned.update.nnr").stat().st_size < new.stat().st_size / 20
    assert (base.parent / "m.updated.onnx").stat().st_size == new.stat().st_size


def test_json_and_quiet(pair: tuple[Path, Path]) -> None:
    base, new = pair
    made = onnx_nnc("diff", base, new, "--json", "-o", base.parent / "u.nnr")
    assert json.loads(made.out)["report"] == "diff" and made.err == ""
    applied = onnx_nnc("apply", base, base.parent / "u.nnr", "--json")
    assert json.loads(applied.out)["model_id"] == json.loads(made.out)["result_model_id"]
    assert onnx_nnc("diff", base, new, "-q", "-f", "-o", base.parent / "u.nnr")[:] == (0, "", "")
    assert onnx_nnc("apply", base, base.parent / "u.nnr", "-q", "-f")[:] == (0, "", "")
    rows = onnx_nnc("diff", base, new, "-v", "-f", "-o", base.parent / "u.nnr").out
    assert "w0" in rows and "quantized, dq" in rows


def test_a_chain_with_a_packed_base(pair: tuple[Path, Path]) -> None:
    base, _ = pair
    folder = base.parent
    assert onnx_nnc("pack", "m.onnx", folder=folder).status == 0
    assert onnx_nnc("diff", "m.nnc.onnx", "m.onnx", "-o", "u1.nnr", folder=folder).status == 0
    second = ("diff", "m.nnc.onnx", "tuned.onnx", "--after", "u1.nnr", "-o", "u2.nnr", "--no-context")
    assert onnx_nnc(*second, folder=folder).status == 0
    applied = onnx_nnc("apply", "m.nnc.onnx", "u1.nnr", "u2.nnr", "-o", "got.onnx", folder=folder)
    assert applied.status == 0, applied.err
    verified = onnx_nnc("verify", "u1.nnr", folder=folder)
    assert verified.status == 0 and "ok" in verified.out


def test_exit_codes(pair: tuple[Path, Path]) -> None:
    base, _ = pair
    folder = base.parent
    assert onnx_nnc("diff", "m.onnx", "tuned.onnx", "-o", "u.nnr", folder=folder).status == 0
    wrong = onnx_nnc("apply", "tuned.onnx", "u.nnr", folder=folder)
    assert wrong.status == 4 and wrong.error_line.startswith("error NNC-E206") and "sha256:" in wrong.error_line
    other = write_model(folder / "other.onnx", layers=3)
    refused = onnx_nnc("diff", base, other, folder=folder)
    assert refused.status == 5 and "'w2'" in refused.error_line
    (folder / "u.nnr").write_bytes((folder / "u.nnr").read_bytes()[:-9])
    assert onnx_nnc("apply", "m.onnx", "u.nnr", folder=folder).status == 3
    assert onnx_nnc("apply", "m.onnx", "tuned.onnx", folder=folder).status in (1, 3)
    assert not list(folder.glob("*.updated.onnx"))


def test_nnr_files_there_and_back(pair: tuple[Path, Path]) -> None:
    base, _ = pair
    folder = base.parent
    packed = onnx_nnc("pack", "m.onnx", "-o", "m.nnr", folder=folder)
    assert packed.status == 0 and "wrote m.nnr" in packed.out
    assert onnx_nnc("verify", "m.nnr", "--against", "m.onnx", folder=folder).status == 0
    described = onnx_nnc("inspect", "m.nnr", folder=folder).out
    assert "nnr, packed, carriage 1" in described and "w1" in described
    unpacked = onnx_nnc("unpack", "m.nnr", folder=folder)
    assert unpacked.status == 0 and "wrote m.plain.onnx" in unpacked.out
    onnx.checker.check_model(onnx.load(folder / "m.plain.onnx"), full_check=True)
    ran = onnx_nnc("run", "m.nnr", "--runs", "1", "--against", "m.plain.onnx", folder=folder)
    assert ran.status == 0 and "identical" in ran.out


def test_bare_nnr_files_unpack_into_arrays(pair: tuple[Path, Path]) -> None:
    folder = pair[0].parent
    assert onnx_nnc("pack", "m.onnx", "-o", "m.nnr", "--topology", "none", folder=folder).status == 0
    refused = onnx_nnc("unpack", "m.nnr", folder=folder)
    assert refused.status == 1 and "-o FILE.npz" in refused.error_line
    assert onnx_nnc("unpack", "m.nnr", "-o", "m.npz", folder=folder).status == 0
    with np.load(folder / "m.npz") as arrays:
        assert list(arrays) == ["w0", "w1"]

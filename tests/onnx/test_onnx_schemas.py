"""The schemas in the repository are those of the code, and what is written satisfies them."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnx_graphs as graphs
import pytest

from nnc_codec.formats import RunOptions, VerifyOptions
from nnc_codec.report import to_json
from nnc_onnx import carriage, inspection, packing, schemas, unpacking, verification
from nnc_onnx.deflated_text import inflate_text
from nnc_onnx.runtime import running

FOLDER = Path(__file__).parents[2] / "schemas"


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_files_are_up_to_date(name: str) -> None:
    written = (FOLDER / schemas.file_name(name)).read_text(encoding="utf-8")
    assert written == schemas.schema_text(name), "run python -m nnc_onnx.schemas schemas"


def test_check_finds_stale_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert schemas.main([str(tmp_path)]) == 0
    assert schemas.main([str(tmp_path), "--check"]) == 0
    (tmp_path / "pack-report.schema.json").write_text("{}")
    assert schemas.main([str(tmp_path), "--check"]) == 1
    assert "pack-report" in capsys.readouterr().err


def test_reports_and_manifest_satisfy_their_schemas(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    validator = pytest.importorskip("jsonschema").Draft202012Validator

    def check(name: str, text: str) -> None:
        validator(schemas.schema(name)).validate(json.loads(text))

    source, target = tmp_path / "m.onnx", tmp_path / "m.nnc.onnx"
    source.write_bytes(graphs.constants().SerializeToString())
    check("pack-report", to_json(packing.pack(source, target)))
    check("unpack-report", to_json(unpacking.unpack(target, tmp_path / "p.onnx")))
    check("inspect-report", to_json(inspection.inspect(target)))
    check("inspect-report", to_json(inspection.inspect(source)))
    check("verify-report", to_json(verification.verify(target, VerifyOptions(against=source, run=True))))
    check("run-report", to_json(running.run(target, RunOptions(against=source))))
    text = carriage.metadata(onnx.load(target))["onnx_nnc.manifest"]
    check("onnx-manifest", text if text.startswith('{"') else inflate_text(text, 1 << 20, "the manifest").decode())

"""The benchmark command and the document it writes into fit together."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "benchmarks.md"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("benchmark_command", ROOT / "benchmarks" / "__main__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_document_has_a_place_for_every_table(command: ModuleType) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in (*command.HEADERS, "instructions"):
        assert text.count(f"<!-- {name} -->") == text.count(f"<!-- /{name} -->") == 1


def test_tables_are_replaced_one_by_one(command: ModuleType, tmp_path: Path) -> None:
    document = tmp_path / "tables.md"
    document.write_text("a\n<!-- memory -->\nold\n<!-- /memory -->\nb\n<!-- rate -->\nkept\n<!-- /rate -->\n")
    command.write_tables(document, [("memory", "encode", "data", "1 MB", "2 MB", "0.50")])
    text = document.read_text()
    assert "| encode | data | 1 MB | 2 MB | 0.50 |\n" in text
    assert "old" not in text and "kept" in text
    once = text
    command.write_tables(document, [("memory", "encode", "data", "1 MB", "2 MB", "0.50")])
    assert document.read_text() == once
    with pytest.raises(SystemExit, match="no place"):
        command.write_tables(document, [("native", "", "", "", "", "")])


@pytest.mark.skipif(importlib.util.find_spec("nncodec") is not None, reason="NNCodec is installed")
def test_it_says_what_is_missing() -> None:
    result = subprocess.run([sys.executable, str(ROOT / "benchmarks")], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "pip install nncodec" in result.stderr

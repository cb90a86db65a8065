"""JSON Schemas of what this package and the command line write, generated from the typed models.

``python -m nnc_onnx.schemas FOLDER`` writes them; with ``--check`` it only compares and says what differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from nnc_codec.files import write_atomic
from nnc_codec.report import ConvertReport, InspectReport, PackReport, RunReport, UnpackReport, VerifyReport
from nnc_codec.syntax_trace import SyntaxReport
from nnc_codec.update_report import ApplyReport, DiffReport
from nnc_codec.updates import UpdateNote

from .benchmark.report import BenchReport
from .manifest import Manifest
from .nnr.layout import NnrRecord
from .rd import Analysis

SCHEMAS: dict[str, tuple[type[msgspec.Struct], str]] = {
    "onnx-manifest": (Manifest, "metadata entry onnx_nnc.manifest of a packed ONNX model"),
    "nnr-record": (NnrRecord, "metadata entry onnx_nnc.nnr of the model in an NNR file"),
    "update-note": (UpdateNote, "text in the first topology unit of an update"),
    "pack-report": (PackReport, "output of onnx-nnc pack --json"),
    "unpack-report": (UnpackReport, "output of onnx-nnc unpack --json"),
    "inspect-report": (InspectReport, "output of onnx-nnc inspect --json"),
    "verify-report": (VerifyReport, "output of onnx-nnc verify --json"),
    "run-report": (RunReport, "output of onnx-nnc run --json"),
    "bench-report": (BenchReport, "output of onnx-nnc bench --json"),
    "convert-report": (ConvertReport, "output of onnx-nnc convert --json"),
    "diff-report": (DiffReport, "output of onnx-nnc diff --json"),
    "analysis": (Analysis, "output of onnx-nnc analyze --json"),
    "apply-report": (ApplyReport, "output of onnx-nnc apply --json"),
    "syntax-report": (SyntaxReport, "output of onnx-nnc inspect --syntax --json"),
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema called `name` in :data:`SCHEMAS`."""
    model, title = SCHEMAS[name]
    return {"$schema": _DIALECT, "title": title, **msgspec.json.schema(model)}


def schema_text(name: str) -> str:
    """The file that holds the schema."""
    encoded = msgspec.json.encode(schema(name), order="deterministic")
    return msgspec.json.format(encoded, indent=2).decode() + "\n"


def file_name(name: str) -> str:
    """``pack-report`` -> ``pack-report.schema.json``."""
    return f"{name}.schema.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the schema files; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m nnc_onnx.schemas", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    options = parser.parse_args(arguments)
    stale = []
    for name in SCHEMAS:
        path, text = options.folder / file_name(name), schema_text(name)
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.name)
        if not options.check:
            write_atomic(path, text.encode(), force=True)
    if options.check and stale:
        sys.stderr.write(f"stale: {', '.join(stale)}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

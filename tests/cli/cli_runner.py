"""Runs the command line in a process of its own, as users do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Result(NamedTuple):
    """Exit status and what was printed."""

    status: int
    out: str
    err: str

    @property
    def error_line(self) -> str:
        """The one line on stderr; fails if there are more or none."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


def onnx_nnc(*arguments: str | Path, folder: Path | None = None, environment: dict[str, str] | None = None) -> Result:
    """Run ``onnx-nnc`` with the interpreter of the tests."""
    finished = subprocess.run(
        [sys.executable, "-m", "nnc_onnx.cli", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", "NNC_DEBUG": "", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    return Result(finished.returncode, finished.stdout, finished.stderr)

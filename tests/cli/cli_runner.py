"""Runs the command line in a process of its own, as users do."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

_INSTALLED = Path(sysconfig.get_path("scripts")) / "onnx-nnc"
COMMAND = [str(_INSTALLED)] if _INSTALLED.exists() else [sys.executable, "-m", "nnc_onnx.cli"]


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
    """Run the installed ``onnx-nnc`` (or, not installed, its module)."""
    finished = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", "NNC_DEBUG": "", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    return Result(finished.returncode, finished.stdout, finished.stderr)

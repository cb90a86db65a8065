"""Pack a real model, look inside, run it while its weights are compressed, compare with the original.

    python examples/first_run.py [model.onnx]

Without an argument it takes the file-type model that the ``magika`` wheel carries. Every step is a command you can
type yourself; they are printed as they run.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import sysconfig
import tempfile
from importlib.resources import as_file, files
from pathlib import Path


def onnx_nnc(*arguments: str) -> None:
    """Run the installed command and show it."""
    print(f"\n$ onnx-nnc {shlex.join(arguments)}", flush=True)
    subprocess.run([Path(sysconfig.get_path("scripts")) / "onnx-nnc", *arguments], check=True)


def first_run(model: Path, folder: Path) -> None:
    """The main job, step by step, with all results in `folder`."""
    packed, plain = str(folder / "model.nnc.onnx"), str(folder / "model.plain.onnx")
    onnx_nnc("pack", str(model), "-o", packed)
    onnx_nnc("inspect", packed)
    onnx_nnc("verify", packed)
    onnx_nnc("run", packed, "--against", str(model))
    onnx_nnc("unpack", packed, "-o", plain)


def bundled_model() -> Path:
    """The newest model inside the installed ``magika`` package."""
    with as_file(files("magika") / "models") as folder:
        return max(folder.glob("*/model.onnx"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        first_run(Path(sys.argv[1]) if len(sys.argv) > 1 else bundled_model(), Path(scratch))

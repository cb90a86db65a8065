"""Instructions of the native loops, counted by callgrind: the figure that no other work on the machine can touch.

The counting runs in a child process under valgrind, which this module is the script of.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SIDE = 512
SETS = ((1.0, 0.0, 0), (1.0, 0.0, 1), (0.15, 0.0, 0), (4.0, 0.0, 1), (1.0, 0.9, 0), (1.0, 0.99, 0), (1.0, 0.999, 0))
"""Deviation scale in steps, extra share of zeros, dq_flag."""
UNARY = 11


def levels(scale: float, zeros: float, dq: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights in units of the step and their integers."""
    from nnc_codec import quantize

    rng = np.random.default_rng(1)
    values = rng.exponential(scale, (SIDE, SIDE)) * rng.choice([-1.0, 1.0], (SIDE, SIDE))
    values[rng.random((SIDE, SIDE)) < zeros] = 0
    weights = values.astype(np.float32)
    return weights, quantize.quantize(weights, -4 * dq, 2, rows=SIDE, dependent=bool(dq))[0]


def bins_per_weight(integers: np.ndarray, dq: int) -> float:
    """Significance, sign and greater-than flags of the coded levels, per weight."""
    magnitudes = np.abs(integers.astype(np.int64))
    if dq:
        magnitudes = (magnitudes + 1) >> 1
    flags = np.where(magnitudes > 0, 1 + np.minimum(magnitudes, UNARY), 0)
    return float(1 + flags.mean())


def rows() -> Iterator[tuple[str, ...]]:
    """(loop, data, bins per weight, instructions per weight, instructions per bin)

    Raises:
        SystemExit: valgrind is not there or fails.
    """
    if shutil.which("valgrind") is None:
        raise SystemExit("--instructions needs valgrind")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", sys.executable, __file__, str(out)]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode:
            raise SystemExit(child.stderr)
        for loop, data, bins, instructions in json.loads(child.stdout):
            per_bin = f"{instructions / bins:.0f}" if bins else ""
            yield loop, data, f"{bins:.2f}" if bins else "", f"{instructions:.1f}", per_bin


def _count(out: Path) -> Iterator[tuple[str, str, float, float]]:
    from nnc_codec import _native

    def instructions(action: Callable[[], object]) -> float:
        action()
        _control("--zero")
        action()
        _control("--dump")
        newest = max(out.parent.glob(f"{out.name}.*"), key=lambda path: int(path.suffix[1:]))
        totals = next(line for line in newest.read_text().splitlines() if line.startswith("summary:"))
        newest.unlink()
        return int(totals.split()[1]) / SIDE**2

    for scale, zeros, dq in SETS:
        weights, integers = levels(scale, zeros, dq)
        data = f"scale {scale:g}, {zeros:.1%} zeros, dq {dq}"
        bins = bins_per_weight(integers, dq)
        coding = _native.TensorCoding(rows=SIDE, cols=SIDE, dq=bool(dq), unary_length=UNARY)

        def encode(opt: bool, coding: _native.TensorCoding = coding, integers: np.ndarray = integers) -> bytes:
            encoder = _native.PayloadEncoder()
            encoder.write_tensor(coding, integers, False, opt)
            return encoder.finish()

        payload = np.frombuffer(encode(True), np.uint8)
        decoded = np.empty(4 * weights.size, np.uint8)

        def decode(coding: _native.TensorCoding = coding, payload: np.ndarray = payload) -> None:
            _native.PayloadDecoder(payload).read_tensor(coding, decoded, 0, False, 1.0)  # noqa: B023 - called at once

        yield "decode", data, bins, instructions(decode)
        if zeros:
            continue
        yield "encode", data, bins, instructions(lambda: encode(False))
        yield "encode, param_opt", data, bins, instructions(lambda: encode(True))
        if dq:
            flat, target = weights.reshape(-1), np.empty(weights.size, np.int32)
            trellis = instructions(lambda: _native.quantize_trellis(flat, coding, 0.5, target))  # noqa: B023
            yield "quantize, dq", data, 0.0, trellis
            rate = instructions(lambda: _native.quantize_rate(flat, coding, 0.5, 0.1, target))  # noqa: B023
            yield "quantize, dq, lambda 0.1", data, 0.0, rate


def _control(option: str) -> None:
    subprocess.run(["callgrind_control", option, str(os.getpid())], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    print(json.dumps(list(_count(Path(sys.argv[1])))))

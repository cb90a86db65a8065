"""Peak memory, native allocations included: measured as the growth of the resident set in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nnc_codec.syntax.enums import ScanOrder

MB = 1 << 20
SLACK = 3 * MB
"""Stacks, arenas and code that is touched for the first time."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")


def measure(
    count: int, rows: int, workers: int, method: str = "dq", lambda_: float = 0, scan: int = 0
) -> dict[str, int]:
    command = [sys.executable, str(Path(__file__).with_name("memory_child.py"))]
    arguments = [str(value) for value in (count, rows, workers, method, lambda_, scan)]
    result = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    report: dict[str, int] = json.loads(result.stdout)
    return report


@pytest.mark.parametrize("scan", [ScanOrder.ROWS, ScanOrder.BLOCKS_64])
@pytest.mark.parametrize(("method", "lambda_"), [("dq", 0), ("dq", 0.1), ("uniform", 0), ("uniform", 0.1)])
def test_one_large_tensor(method: str, lambda_: float, scan: ScanOrder) -> None:
    size = 24 * MB
    peak = measure(1, size >> 12, 1, method, lambda_, int(scan))
    assert peak["encode"] < 2 * size + peak["coded"] + SLACK
    assert peak["decode"] < size + peak["coded"] + SLACK


@pytest.mark.parametrize("workers", [1, 2])
def test_many_tensors(workers: int) -> None:
    size, count = 2 * MB, 20
    peak = measure(count, size >> 12, workers)
    assert peak["encode"] < workers * 2 * size + 1.2 * peak["coded"] + SLACK
    assert peak["decode"] < count * size + peak["coded"] + SLACK

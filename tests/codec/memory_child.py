"""Writes by how many bytes the resident set grows while tensors are coded and decoded; run by test_memory.py."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

import nnc_codec

T = TypeVar("T")


def memory(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def growth(action: Callable[[], T]) -> tuple[T, int]:
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts at the present size
    before = memory("VmRSS")
    result = action()
    return result, memory("VmHWM") - before


count, rows, workers, method = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
ctypes.CDLL(None).mallopt(-3, 1 << 16)  # M_MMAP_THRESHOLD: what is freed goes back at once and cannot be used unseen
rng = np.random.default_rng(0)
tensors = {f"w{i}": rng.standard_normal((rows, 1024), np.float32) for i in range(count)}
scan_order = int(sys.argv[6])
params = nnc_codec.EncodeParams(qp=-8, method=method, lambda_=float(sys.argv[5]), scan_order=scan_order)
nnc_codec.decode(nnc_codec.encode({"w": tensors["w0"][:2]}, params))
with ThreadPoolExecutor(workers) as executor:
    data, coding = growth(lambda: nnc_codec.encode(tensors, params, executor=executor))
    tensors.clear()
    _, decoding = growth(lambda: nnc_codec.decode(data, executor=executor))
sys.stdout.write(json.dumps({"coded": len(data), "encode": coding, "decode": decoding}))

"""Runs one model in a process of its own, maybe with another onnxruntime; writes outputs and a line of JSON.

Usage: session_child.py SITE_DIR_OR_DASH MODEL INPUTS.npz OUTPUTS.npz MODE [RUNS]
MODE is a mode of nnc_onnx.InferenceSession, or ``ort`` for onnxruntime's own class.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

site, model, inputs, outputs, mode = sys.argv[1:6]
runs = int(sys.argv[6]) if len(sys.argv) > 6 else 1
if site != "-":
    sys.path.insert(0, site)

import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402


def memory(key: str) -> int:
    """A value of /proc/self/status in bytes, 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":")), 0)


feeds = dict(np.load(inputs))
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 4
base = memory("VmRSS")
report: dict[str, object] = {"onnxruntime": ort.__version__, "numpy": np.__version__}
if mode == "ort":
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
else:
    import nnc_onnx.runtime.loader

    session = nnc_onnx.runtime.loader.InferenceSession(model, options, providers=["CPUExecutionProvider"], mode=mode)
report["load_peak"] = memory("VmHWM") - base
times = []
for _ in range(runs):
    start = time.perf_counter()
    results = session.run(None, feeds)
    times.append(time.perf_counter() - start)
report |= {"run_peak": memory("VmHWM") - base, "seconds": times}
np.savez(outputs, **dict(zip([item.name for item in session.get_outputs()], results, strict=True)))
print(json.dumps(report))  # noqa: T201

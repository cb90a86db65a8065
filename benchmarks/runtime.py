"""What a packed model costs at run time: memory and latency in every mode, against the plain model.

    python benchmarks/runtime.py PLAIN.onnx PACKED.onnx [--runs 20] [--threads 1] [--batch 1] [--csv FILE]
    python benchmarks/runtime.py --chain FOLDER [--batch 1]     # 24 MatMul layers, 384 MB, made in FOLDER

Every row is a process of its own. Peak memory counts from after the import of onnxruntime (Linux).
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

MODES = (("plain", 0.0), ("lazy", 0.0), ("cache", 0.25), ("cache", 0.5), ("cache", 1.0), ("eager", 0.0))
COLUMNS = (
    "mode",
    "load s",
    "first ms",
    "median ms",
    "cpu ms",
    "peak MB",
    "anon MB",
    "hits",
    "loans",
    "same bits",
)


def status(key: str) -> int:
    """A value of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0


def random_feeds(session: Any, batch: int) -> dict[str, np.ndarray]:
    """Inputs of the session; unknown dimensions are `batch`, then 32."""
    generator = np.random.default_rng(0)
    kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
    feeds = {}
    for item in session.get_inputs():
        shape = [
            size if isinstance(size, int) else batch if axis == 0 else 32
            for axis, size in enumerate(item.shape)
        ]
        if item.type in kinds:
            feeds[item.name] = generator.standard_normal(shape).astype(kinds[item.type])
        else:
            kind = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}[item.type]
            feeds[item.name] = np.ones(shape, kind)
    return feeds


def measure(
    mode: str, fraction: float, model: str, runs: int, threads: int, batch: int, outputs: str
) -> None:
    """Run one configuration in this process and print a line of JSON."""
    import onnxruntime as ort

    import nnc_onnx

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    base = status("VmRSS")
    start = time.perf_counter()
    if mode == "plain":
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    else:
        session = nnc_onnx.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], mode=mode, cache_bytes=fraction
        )
    row: dict[str, Any] = {"load s": time.perf_counter() - start}
    feeds = random_feeds(session, batch)
    wall, cpu = [], []
    for _ in range(runs):
        start, busy = time.perf_counter(), time.process_time()
        results = session.run(None, feeds)
        wall.append((time.perf_counter() - start) * 1e3)
        cpu.append((time.process_time() - busy) * 1e3)
    np.savez(outputs, *results)
    steady = slice(2 if runs > 3 else 0, None)
    row |= {"first ms": wall[0], "median ms": float(np.median(wall[steady]))}
    row |= {"cpu ms": float(np.median(cpu[steady]))}
    row |= {"peak MB": (status("VmHWM") - base) / 2**20, "anon MB": status("RssAnon") / 2**20}
    if mode != "plain":
        counters = nnc_onnx.stats()
        row |= {"hits": counters.cache_hits, "loans": counters.cache_loans}
    print(json.dumps(row))


def make_chain(folder: Path) -> tuple[Path, Path]:
    """24 layers of MatMul and Relu, 1024 x 4096 and back; plain and packed. Random weights, so no real ratio."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    import nnc_onnx
    from nnc_codec.formats import PackOptions

    plain, packed = folder / "chain.onnx", folder / "chain.nnc.onnx"
    if not packed.exists():
        generator = np.random.default_rng(0)
        nodes, weights = [], []
        for layer in range(24):
            shape = (1024, 4096) if layer % 2 == 0 else (4096, 1024)
            values = (generator.standard_normal(shape) * 0.05).astype(np.float32)
            weights.append(numpy_helper.from_array(values, f"W{layer}"))
            nodes.append(helper.make_node("MatMul", [f"x{layer}", f"W{layer}"], [f"m{layer}"]))
            nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"x{layer + 1}"]))
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1024]) for name in ("x0", "x24")]
        graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        location = plain.name + ".data"
        onnx.save_model(model, str(plain), save_as_external_data=True, location=location)
        nnc_onnx.pack(plain, packed, PackOptions(external_data=True))
    return plain, packed


def same_bits(first: Path, second: Path) -> bool:
    """Whether two files hold the same outputs."""
    with np.load(first) as a, np.load(second) as b:
        return all(a[name].tobytes() == b[name].tobytes() for name in a.files)


def main() -> int:
    """Measure all modes and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--chain", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        mode, fraction, outputs = arguments.one
        settings = (arguments.runs, arguments.threads, arguments.batch)
        measure(mode, float(fraction), str(arguments.models[0]), *settings, outputs)
        return 0
    plain, packed = make_chain(arguments.chain) if arguments.chain else arguments.models
    rows = []
    lazy = packed.with_suffix(".lazy.npz")
    for mode, fraction in MODES:
        outputs = packed.with_suffix(f".{mode}.npz")
        common = ["--runs", arguments.runs, "--threads", arguments.threads, "--batch", arguments.batch]
        model = plain if mode == "plain" else packed
        command = [sys.executable, __file__, model, *common, "--one", mode, fraction, outputs]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode != 0:
            print(done.stderr, file=sys.stderr)
            return 1
        row = {"mode": mode if mode != "cache" else f"cache {fraction:.0%}", **json.loads(done.stdout)}
        row["same bits"] = "as lazy" if mode != "plain" and same_bits(lazy, outputs) else ""
        rows.append(row)
    print(" | ".join(f"{name:>10}" for name in COLUMNS))
    for row in rows:
        cells = (row.get(name, "") for name in COLUMNS)
        print(" | ".join(f"{cell:10.2f}" if isinstance(cell, float) else f"{cell!s:>10}" for cell in cells))
    if arguments.csv:
        with arguments.csv.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Ours against NNCodec's: the same integers and the same bytes, one process, one thread.

Needs an environment with NNCodec 2.1.3 and this package (see ``.ci/run``); zstandard and brotli are used if they are
there:

    python benchmarks/codec.py [--size 1024] [--repeat 5] [--model FILE.onnx] [--csv FILE] [--markdown FILE]

Native rows first check that both sides agree: equal payload bytes, equal decoded weights, equal quantized integers.
Times are processor time, the least of several runs that take turns, so that other work on the machine matters little.
With ``--model`` the Python interfaces are compared on the float tensors of an ONNX model (see ``whole_model.py``).
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import whole_model
from nncodec.extensions import deepCABAC
from nncodec.nnc_core.hdsp.hdsp_tool import HDSP_OPTS_OFF

from nnc_codec import _native

NO_SKIP = 0
UNARY = 11


@dataclass
class Row:
    """One measurement: million weights per second on both sides; NaN where NNCodec has no counterpart."""

    stage: str
    data: str
    ours: float
    nncodec: float = float("nan")

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.ours / self.nncodec


def least(actions: Sequence[Callable[[], object]], repeat: int) -> list[float]:
    """Shortest processor time of every action over several rounds."""
    times = [float("inf")] * len(actions)
    for _ in range(repeat):
        for i, action in enumerate(actions):
            start = time.process_time()
            action()
            times[i] = min(times[i], time.process_time() - start)
    return times


def weights(size: int, scale: float, zeros: float, seed: int = 1) -> np.ndarray:
    """A size x size Laplace matrix in units of the step, with an extra share of exact zeros."""
    rng = np.random.default_rng(seed)
    values = rng.exponential(scale, (size, size)) * rng.choice([-1.0, 1.0], (size, size))
    values[rng.random((size, size)) < zeros] = 0
    return values.astype(np.float32)


def their_payload(integers: np.ndarray, dq: int, param_opt: int) -> np.ndarray:
    """Payload by NNCodec."""
    encoder = deepCABAC.Encoder()
    encoder.iae_v(8, 0)
    encoder.initCtxModels(UNARY, param_opt)
    skip = np.zeros(integers.shape[0], np.int32)
    encoder.encodeLayer(integers, dq, 0, 1, 0, NO_SKIP, skip, *HDSP_OPTS_OFF(), 0, 0)
    return encoder.finish()


def our_payload(integers: np.ndarray, dq: int, param_opt: int) -> bytes:
    """Payload by this package."""
    encoder = _native.PayloadEncoder()
    encoder.write_qp(0, 8)
    rows, cols = integers.shape
    coding = _native.TensorCoding(rows=rows, cols=cols, dq=bool(dq), unary_length=UNARY)
    encoder.write_tensor(coding, integers.reshape(-1), False, bool(param_opt))
    return encoder.finish()


def their_decode(payload: np.ndarray, integers: np.ndarray, values: np.ndarray, dq: int) -> np.ndarray:
    """Integers and then weights by NNCodec."""
    decoder = deepCABAC.Decoder()
    decoder.setStream(payload)
    decoder.iae_v(8)
    decoder.initCtxModels(UNARY)
    decoder.decodeLayer(integers, dq, 0, 1, 0, *HDSP_OPTS_OFF(), 0, 0)
    decoder.finish()
    decoder.dequantLayer(values, integers, 2, -8, 0)
    return values


def our_decode(payload: np.ndarray, values: np.ndarray, dq: int) -> np.ndarray:
    """Weights by this package."""
    decoder = _native.PayloadDecoder(payload)
    decoder.read_qp(8)
    coding = _native.TensorCoding(rows=values.shape[0], cols=values.shape[1], dq=bool(dq), unary_length=UNARY)
    step = _native.step_size(-8, 2)
    status = decoder.read_tensor(coding, values.reshape(-1).view(np.uint8), 0, False, step)
    if status[0] or decoder.finish()[0]:
        raise RuntimeError(status)
    return values


def their_levels(values: np.ndarray, dq: int, lambda_: float = 0.0) -> np.ndarray:
    """Quantized integers by NNCodec, step 1/2 with the trellis and 1 without."""
    out = np.zeros(values.shape, np.int32)
    deepCABAC.Encoder().quantLayer(values, out, dq, 2, -4 if dq else 0, lambda_, UNARY - 1, 0, 1)
    return out


def our_levels(values: np.ndarray, dq: int, lambda_: float = 0.0) -> np.ndarray:
    """Quantized integers by this package."""
    out = np.empty(values.size, np.int32)
    flat = values.reshape(-1)
    coding = _native.TensorCoding(rows=values.shape[0], cols=values.shape[1], dq=bool(dq), unary_length=UNARY)
    if lambda_:
        _native.quantize_rate(flat, coding, _native.step_size(-4 if dq else 0, 2), lambda_, out)
    elif dq:
        _native.quantize_trellis(flat, coding, _native.step_size(-4, 2), out)
    else:
        _native.quantize_uniform(flat, 1.0, out)
    return out.reshape(values.shape)


def same(what: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Refuse to time two things that differ."""
    if not np.array_equal(ours, theirs):
        raise SystemExit(f"{what}: results differ")


class Bench:
    """Collects rows."""

    def __init__(self, size: int, repeat: int) -> None:
        self.rows: list[Row] = []
        self.million = size * size / 1e6
        self.repeat = repeat

    def add(self, stage: str, data: str, ours: Callable[[], object], theirs: Callable[[], object] | None) -> None:
        """Time one stage on both sides."""
        times = least([ours] if theirs is None else [ours, theirs], self.repeat)
        self.rows.append(Row(stage, data, *(self.million / t for t in times)))

    def matrix(self, values: np.ndarray, scale: float, zeros: float, dq: int) -> None:
        """All stages on one matrix."""
        integers = our_levels(values, dq)
        same("quantization", integers, their_levels(values, dq))
        if (scale, zeros) in ((0.15, 0), (1, 0), (4, 0), (1, 0.9)):
            data = f"scale {scale}, {zeros:.1%} zeros"
            name = "dq" if dq else "uniform"
            self.add(f"quantize, {name}", data, lambda: our_levels(values, dq), lambda: their_levels(values, dq))
            self.add(f"quantize, {name}, lambda 0.1", data, lambda: our_levels(values, dq, 0.1),
                     lambda: their_levels(values, dq, 0.1))  # fmt: skip
        payload = their_payload(integers, dq, 1)
        data = f"scale {scale}, {zeros:.1%} zeros, dq {dq}, {8 * payload.size / values.size:.2f} bit"
        for param_opt in (0, 1):
            theirs = their_payload(integers, dq, param_opt)
            same("payload", np.frombuffer(our_payload(integers, dq, param_opt), np.uint8), theirs)
            self.add(f"encode, param_opt {param_opt}", data, lambda p=param_opt: our_payload(integers, dq, p),
                     lambda p=param_opt: their_payload(integers, dq, p))  # fmt: skip
        ours, theirs, scratch = np.empty_like(values), np.empty_like(values), np.empty_like(integers)
        same("decoded weights", our_decode(payload, ours, dq), their_decode(payload, scratch, theirs, dq))
        self.add("decode", data, lambda: our_decode(payload, ours, dq),
                 lambda: their_decode(payload, scratch, theirs, dq))  # fmt: skip


def measure(size: int, repeat: int) -> list[Row]:
    """All native rows."""
    bench = Bench(size, repeat)
    for scale, zeros in ((0.15, 0), (0.5, 0), (1, 0), (2, 0), (4, 0), (1, 0.9), (1, 0.99), (1, 0.999)):
        values = weights(size, scale, zeros)
        for dq in (0, 1):
            bench.matrix(values, scale, zeros, dq)
    return sorted(bench.rows, key=lambda row: row.stage)


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = ["---"] * len(header)
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *lines))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    rows = measure(options.size, options.repeat)
    print(f"{'stage':28} {'data':44} {'ours':>9} {'NNCodec':>9} {'ratio':>6}   (million weights/s)")
    for row in rows:
        print(f"{row.stage:28} {row.data:44} {row.ours:9.1f} {row.nncodec:9.1f} {row.ratio:6.2f}")
    facts = [] if options.model is None else whole_model.measure(options.model, max(1, options.repeat // 2))
    for name, value in facts:
        print(f"{name:60} {value}")
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["stage", "data", "ours_mw_s", "nncodec_mw_s", "ratio"])
            writer.writerows((r.stage, r.data, f"{r.ours:.2f}", f"{r.nncodec:.2f}", f"{r.ratio:.3f}") for r in rows)
            writer.writerows((name, "", value, "", "") for name, value in facts)
    if options.markdown:
        lines = [(r.stage, r.data, f"{r.ours:.1f}", f"{r.nncodec:.1f}", f"{r.ratio:.1f}") for r in rows]
        text = table(("stage", "data", "ours, Mw/s", "NNCodec, Mw/s", "ratio"), lines)
        if facts:
            text += "\n" + table(("whole model", options.model.name), facts)
        options.markdown.write_text(text)


if __name__ == "__main__":
    sys.exit(main())

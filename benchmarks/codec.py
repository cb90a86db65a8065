"""Native coder against native coder: ours and NNCodec's, the same integers, one process, one thread.

Needs an environment with NNCodec 2.1.3 and this package (see ``.ci/run``):

    python benchmarks/codec.py [--size 1024] [--repeat 5] [--csv FILE]

Every row first checks that both sides agree: equal payload bytes, equal decoded integers, equal quantized integers.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from nncodec.extensions import deepCABAC
from nncodec.nnc_core.hdsp.hdsp_tool import HDSP_OPTS_OFF

from nnc_codec import _native

NO_SKIP = 0
UNARY = 11


@dataclass
class Row:
    """One measurement: million weights per second on both sides."""

    stage: str
    data: str
    ours: float
    nncodec: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.ours / self.nncodec


def best(action: Callable[[], object], repeat: int) -> float:
    """Shortest wall time of several runs."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


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


def their_decode(payload: np.ndarray, shape: tuple[int, int], dq: int) -> np.ndarray:
    """Integers and then weights by NNCodec."""
    decoder = deepCABAC.Decoder()
    decoder.setStream(payload)
    decoder.iae_v(8)
    decoder.initCtxModels(UNARY)
    integers = np.zeros(shape, np.int32)
    decoder.decodeLayer(integers, dq, 0, 1, 0, *HDSP_OPTS_OFF(), 0, 0)
    decoder.finish()
    values = np.zeros(shape, np.float32)
    decoder.dequantLayer(values, integers, 2, -8, 0)
    return values


def our_decode(payload: np.ndarray, shape: tuple[int, int], dq: int) -> np.ndarray:
    """Weights by this package."""
    decoder = _native.PayloadDecoder(payload)
    decoder.read_qp(8)
    values = np.empty(shape, np.float32)
    coding = _native.TensorCoding(rows=shape[0], cols=shape[1], dq=bool(dq), unary_length=UNARY)
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


def our_levels(values: np.ndarray, dq: int) -> np.ndarray:
    """Quantized integers by this package."""
    out = np.empty(values.size, np.int32)
    flat = values.reshape(-1)
    if dq:
        coding = _native.TensorCoding(rows=values.shape[0], cols=values.shape[1], dq=True)
        _native.quantize_trellis(flat, coding, _native.step_size(-4, 2), out)
    else:
        _native.quantize_uniform(flat, 1.0, out)
    return out.reshape(values.shape)


def same(what: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Refuse to time two things that differ."""
    if not np.array_equal(ours, theirs):
        raise SystemExit(f"{what}: results differ")


def measure(size: int, repeat: int) -> list[Row]:
    """All rows."""
    rows: list[Row] = []
    million = size * size / 1e6

    def add(stage: str, data: str, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
        rows.append(Row(stage, data, million / best(ours, repeat), million / best(theirs, repeat)))

    for scale, zeros in ((0.15, 0), (0.5, 0), (1, 0), (2, 0), (4, 0), (1, 0.9), (1, 0.99), (1, 0.999)):
        values = weights(size, scale, zeros)
        for dq in (0, 1):
            integers = our_levels(values, dq)
            same("quantization", integers, their_levels(values, dq))
            if (scale, zeros) in ((0.15, 0), (1, 0), (4, 0), (1, 0.9)):
                name = "quantize, dq" if dq else "quantize, uniform"
                add(name, f"scale {scale}, {zeros:.1%} zeros",
                    lambda v=values, d=dq: our_levels(v, d), lambda v=values, d=dq: their_levels(v, d))  # fmt: skip
            payload = their_payload(integers, dq, 1)
            data = f"scale {scale}, {zeros:.1%} zeros, dq {dq}, {8 * payload.size / size / size:.2f} bit"
            for param_opt in (0, 1):
                same("payload", np.frombuffer(our_payload(integers, dq, param_opt), np.uint8),
                     their_payload(integers, dq, param_opt))  # fmt: skip
                add(f"encode, param_opt {param_opt}", data,
                    lambda i=integers, d=dq, p=param_opt: our_payload(i, d, p),
                    lambda i=integers, d=dq, p=param_opt: their_payload(i, d, p))  # fmt: skip
            same("decoded weights", our_decode(payload, values.shape, dq), their_decode(payload, values.shape, dq))
            add("decode", data, lambda p=payload, d=dq: our_decode(p, values.shape, d),
                lambda p=payload, d=dq: their_decode(p, values.shape, d))  # fmt: skip
    return sorted(rows, key=lambda row: row.stage)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--csv")
    options = parser.parse_args()
    rows = measure(options.size, options.repeat)
    print(f"{'stage':20} {'data':44} {'ours':>9} {'NNCodec':>9} {'ratio':>6}   (million weights/s)")
    for row in rows:
        print(f"{row.stage:20} {row.data:44} {row.ours:9.1f} {row.nncodec:9.1f} {row.ratio:6.2f}")
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["stage", "data", "ours_mw_s", "nncodec_mw_s", "ratio"])
            writer.writerows((r.stage, r.data, f"{r.ours:.2f}", f"{r.nncodec:.2f}", f"{r.ratio:.3f}") for r in rows)


if __name__ == "__main__":
    sys.exit(main())

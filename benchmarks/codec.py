"""Native code against native code: the same integers and the same bytes, one process, one thread.

Rows first check that both sides agree: equal payload bytes, equal decoded weights, equal quantized integers. Times are
processor time, the least of several runs that take turns, so that other work on the machine matters little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from measuring import Row, least
from nncodec.extensions import deepCABAC
from nncodec.nnc_core.hdsp.hdsp_tool import HDSP_OPTS_OFF

from nnc_codec import _native

NO_SKIP = 0
UNARY = 11
SETS = ((0.15, 0.0), (0.5, 0.0), (1.0, 0.0), (2.0, 0.0), (4.0, 0.0), (1.0, 0.9), (1.0, 0.99), (1.0, 0.999))
"""Deviation scale in steps, extra share of zeros."""
QUANTIZED = (SETS[0], SETS[2], SETS[4], SETS[5])


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


def rows(size: int, repeat: int) -> Iterator[Row]:
    """All rows of the table."""
    found: list[Row] = []
    for scale, zeros in SETS:
        values = weights(size, scale, zeros)
        for dq in (0, 1):
            found += _matrix(values, f"scale {scale:g}, {zeros:.1%} zeros", dq, repeat, (scale, zeros) in QUANTIZED)
    yield from sorted(found, key=lambda row: row.what)


def _matrix(values: np.ndarray, data: str, dq: int, repeat: int, quantized: bool) -> Iterator[Row]:
    """All stages on one matrix."""

    def row(stage: str, what: str, ours: Callable[[], object], theirs: Callable[[], object]) -> Row:
        first, second = least([ours, theirs], repeat)
        rates = [values.size / 1e6 / seconds for seconds in (first, second)]
        return Row("native", stage, what, f"{rates[0]:.1f}", f"{rates[1]:.1f}", f"{second / first:.1f}")

    integers = our_levels(values, dq)
    same("quantization", integers, their_levels(values, dq))
    if quantized:
        name = "quantize, dq" if dq else "quantize, uniform"
        yield row(name, data, lambda: our_levels(values, dq), lambda: their_levels(values, dq))
        yield row(
            f"{name}, lambda 0.1", data, lambda: our_levels(values, dq, 0.1), lambda: their_levels(values, dq, 0.1)
        )
    payload = their_payload(integers, dq, 1)
    data += f", dq {dq}, {8 * payload.size / values.size:.2f} bit"
    for opt in (0, 1):
        same("payload", np.frombuffer(our_payload(integers, dq, opt), np.uint8), their_payload(integers, dq, opt))
        yield row(
            f"encode, param_opt {opt}",
            data,
            lambda opt=opt: our_payload(integers, dq, opt),
            lambda opt=opt: their_payload(integers, dq, opt),
        )
    ours, theirs, scratch = np.empty_like(values), np.empty_like(values), np.empty_like(integers)
    same("decoded weights", our_decode(payload, ours, dq), their_decode(payload, scratch, theirs, dq))
    yield row(
        "decode",
        data,
        lambda: our_decode(payload, ours, dq),
        lambda: their_decode(payload, scratch, theirs, dq),
    )

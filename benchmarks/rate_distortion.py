"""Rate and distortion of quantization with a price on bits, on the weights of ONNX models.

Every tensor gets a step in proportion to its own spread, so that all are coded about equally well; the error is
relative to the energy of the tensor. "saved" compares with the curve of lambda 0 at the same error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from measuring import Row

import nnc_codec
from nnc_codec import EncodeParams, TensorParams
from nnc_codec.quantize import qp_for_step

LAMBDAS = (0.1, 0.2)
STEPS = (0.15, 0.3, 0.45)
"""Step over standard deviation."""
CURVE = (0.1, 0.15, 0.2, 0.3, 0.45, 0.7)
"""Steps between which the curve of lambda 0 is interpolated."""


def matrices(path: Path) -> dict[str, np.ndarray]:
    """Float32 initializers with two dimensions or more."""
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    return {n: a for n, a in arrays.items() if a.dtype == np.float32 and a.ndim >= 2 and a.std() > 0}


def point(tensors: dict[str, np.ndarray], step: float, lambda_: float) -> tuple[float, float]:
    """Signal-to-noise ratio in dB and bits per weight."""
    qps = {n: TensorParams(qp=qp_for_step(step * float(a.std()), 2)) for n, a in tensors.items()}
    data = nnc_codec.encode(tensors, EncodeParams(lambda_=lambda_, per_tensor=qps))
    decoded = nnc_codec.decode(data)
    weights = sum(a.size for a in tensors.values())
    noise = sum(float(np.mean((decoded[n].astype(np.float64) - a) ** 2) / a.var()) * a.size for n, a in tensors.items())
    return -10 * float(np.log10(noise / weights)), 8 * len(data) / weights


def rows(models: Sequence[Path]) -> Iterator[Row]:
    """Signal-to-noise ratio, bits per weight, and what a price on bits saves."""
    for path in models:
        tensors = matrices(path)
        plain = {step: point(tensors, step, 0.0) for step in CURVE}
        curve = sorted(plain.values())
        for lambda_ in (0.0, *LAMBDAS):
            for step in STEPS:
                snr, bits = point(tensors, step, lambda_) if lambda_ else plain[step]
                same = float(np.interp(snr, *zip(*curve, strict=True)))
                saved = f"{1 - bits / same:.1%}" if lambda_ else ""
                what = f"lambda {lambda_:g}, step {step:g} deviations"
                yield Row("rate", what, path.stem, f"{bits:.3f}", f"{snr:.2f}", saved)

"""Rate and distortion of quantization with a price on bits, on the weights of ONNX models.

    python benchmarks/rate_distortion.py MODEL.onnx ... [--markdown FILE]

Every tensor gets a step in proportion to its own spread, so that all are coded about equally well; the error is
relative to the energy of the tensor. "saved" compares with the curve of lambda 0 at the same error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx

import nnc_codec
from nnc_codec import EncodeParams, TensorParams
from nnc_codec.quantize import qp_for_step

LAMBDAS = (0.0, 0.05, 0.1, 0.2)
STEPS = (0.1, 0.15, 0.2, 0.3, 0.45, 0.7)
"""Step over standard deviation."""


def matrices(path: Path) -> dict[str, np.ndarray]:
    """Float32 initializers with two dimensions or more."""
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    return {n: a for n, a in arrays.items() if a.dtype == np.float32 and a.ndim >= 2 and a.std() > 0}


def point(tensors: dict[str, np.ndarray], step: float, lambda_: float) -> tuple[float, float]:
    """Bits per weight and signal-to-noise ratio in dB."""
    qps = {n: TensorParams(qp=qp_for_step(step * float(a.std()), 2)) for n, a in tensors.items()}
    data = nnc_codec.encode(tensors, EncodeParams(lambda_=lambda_, per_tensor=qps))
    decoded = nnc_codec.decode(data)
    weights = sum(a.size for a in tensors.values())
    noise = sum(float(np.mean((decoded[n].astype(np.float64) - a) ** 2) / a.var()) * a.size for n, a in tensors.items())
    return 8 * len(data) / weights, -10 * float(np.log10(noise / weights))


def curves(path: Path) -> list[tuple[str, str, str, str, str, str]]:
    """Rows of the table for one model."""
    tensors = matrices(path)
    points = {lambda_: [point(tensors, step, lambda_) for step in STEPS] for lambda_ in LAMBDAS}
    plain = sorted((snr, bits) for bits, snr in points[0.0])
    rows = []
    for lambda_, curve in points.items():
        for step, (bits, snr) in zip(STEPS, curve, strict=True):
            inside = lambda_ and plain[0][0] <= snr <= plain[-1][0]
            same = float(np.interp(snr, *zip(*plain, strict=True)))
            saved = f"{1 - bits / same:.1%}" if inside else ""
            rows.append((path.stem, f"{lambda_:g}", f"{step:g}", f"{bits:.3f}", f"{snr:.2f}", saved))
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    header = ("model", "lambda", "step / deviation", "bits per weight", "SNR, dB", "saved at that SNR")
    lines = [header, ("---",) * len(header), *(row for path in options.models for row in curves(path))]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    print(text, end="")
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()

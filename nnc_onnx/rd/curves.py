"""What a tensor costs and what it loses at every quantization parameter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import nnc_codec
from nnc_codec.params import EncodeParams, Method
from nnc_codec.quantize import unbounded_qp_for_step

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE = 1 << 15
"""Elements of a tensor that its curve is measured on: whole rows, evenly spread."""

LAMBDA = 0.1
"""Price of a bit in squared steps. At equal error it saves 0.3 to 0.5 % of the bits at 3 to 4 bits per element and 1 %
at 2; from 0.05 to 0.2 the gain hardly changes."""

MOST_BITS, FEWEST_BITS = 11.0, 0.25
"""Bits per element between which curves are measured. Outputs react to small tensors so much that some need 10."""

FEW = 1 << 12
"""Elements below which the start of the contexts decides the rate, and so is optimized when a tensor is tried."""

_MOST_POINTS = 24


class Trial(NamedTuple):
    """A tensor coded with one quantization parameter.

    Attributes:
        bits: of the payload, per element.
        mse: mean square error.
        values: decoded, in the tensor's type and shape.
        head: those of the bits that are headers.
    """

    bits: float
    mse: float
    values: NDArray[Any]
    head: float

    @property
    def rate(self) -> float:
        """Bits per element without headers."""
        return self.bits - self.head


def attempt(values: NDArray[Any], qp: int, qp_density: int, method: Method) -> Trial:
    """Code and decode a tensor."""
    params = EncodeParams(
        qp=qp,
        nonweight_qp=qp,
        qp_density=qp_density,
        method=method,
        lambda_=LAMBDA,
        topology=False,
        param_opt=values.size < FEW,
    )
    payload = nnc_codec.encode({"w": values}, params)
    decoded = nnc_codec.decode_single(payload, values.dtype, values.shape)
    difference = values.astype(np.float64) - decoded
    return trial_of(payload, float(np.square(difference).mean()), decoded)


def trial_of(payload: bytes, mse: float, decoded: NDArray[Any]) -> Trial:
    """What is known of a tensor called "w" in a bitstream of its own."""
    head = len(payload) - nnc_codec.open(payload)["w"].coded_nbytes
    return Trial(8 * len(payload) / decoded.size, mse, decoded, 8 * head / decoded.size)


class Curve(NamedTuple):
    """Rate and error of a tensor over a range of quantization parameters.

    Attributes:
        qps: ascending.
        bits: per element, at each of them, without headers.
        mse: mean square error at each of them, ascending.
    """

    qps: NDArray[np.int64]
    bits: NDArray[np.float64]
    mse: NDArray[np.float64]

    def qp_at(self, bits: float) -> int:
        """The quantization parameter that costs about `bits` per element."""
        return int(self.qps[int(np.abs(self.bits - bits).argmin())])

    def mse_at(self, qp: int) -> float:
        """Mean square error at `qp`."""
        return float(self.mse[int(np.clip(qp - int(self.qps[0]), 0, len(self.qps) - 1))])


def measure_curve(values: NDArray[Any], qp_density: int, method: Method) -> Curve:
    """Measure once per octave of the step and interpolate.

    Args:
        values: finite and not all zero.
        qp_density: ``mps_qp_density``.
        method: ``"dq"`` or ``"uniform"``.
    """
    sample = _sample(values)
    octave = 1 << qp_density
    rms = float(np.sqrt(np.square(sample.astype(np.float64)).mean()))
    start = unbounded_qp_for_step(max(rms, 2.0**-100), qp_density)
    lowest, highest = -octave * 32 + 1, octave * 32 - 2
    points: dict[int, tuple[float, float]] = {}
    for direction in (-1, 1):
        qp = start if direction < 0 else start + octave
        while lowest <= qp <= highest and len(points) < _MOST_POINTS:
            trial = attempt(sample, qp, qp_density, method)
            points[qp] = trial.rate, trial.mse
            if trial.mse == 0 and direction < 0:
                break
            if (trial.rate > MOST_BITS) if direction < 0 else (trial.rate < FEWEST_BITS):
                break
            qp += direction * octave
    known = sorted(points)
    qps = np.arange(known[0], known[-1] + 1)
    floor = 2.0**-240
    errors = np.interp(qps, known, [math.log2(max(points[qp][1], floor)) for qp in known])
    bits = np.interp(qps, known, [points[qp][0] for qp in known])
    return Curve(qps, bits, np.maximum.accumulate(np.exp2(errors)))


def _sample(values: NDArray[Any]) -> NDArray[Any]:
    if values.size <= SAMPLE:
        return values
    rows = values.reshape(values.shape[0], -1)
    if rows.shape[1] > SAMPLE // 4:
        rows = values.reshape(-1, values.shape[-1])
    if rows.shape[1] > SAMPLE:
        return np.ascontiguousarray(rows[:1, :SAMPLE])
    count = max(1, SAMPLE // rows.shape[1])
    picked = np.unique(np.arange(count) * (rows.shape[0] - 1) // max(count - 1, 1))
    return np.ascontiguousarray(rows[picked])

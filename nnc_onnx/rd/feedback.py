"""Weights coded with error feedback: so that the outputs of their layers change least, not they themselves."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import numpy as np

import nnc_codec
from nnc_codec.feedback import Feedback, feedback_of, quantize_feedback, sparsify_feedback
from nnc_codec.params import EncodeParams, Method
from nnc_codec.quantize import step_of

from ..sparsify import is_zeroed
from .activations import Moments
from .curves import Trial, trial_of
from .network import Weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAMPING = 0.01
"""Share of the mean second moment that is added to all of them."""

MADE_UP_DAMPING = 0.05
"""The same where the inputs were made up. Readers of text and denoisers do best with 0.01 to 0.03, classifiers of
pictures with 0.5 to 1, and all of them lose little here."""

SPARSE_DAMPING = 0.03
"""The same per input of the layer and vector seen: few vectors leave directions open that other data take. Judged by
data that the moments did not see, this is best or nearly so from 0.01 to 20 inputs per vector."""

LAMBDA = 0.2
"""Price of a bit in squared steps of a weight of average importance. At equal output error it saves 2 to 5 % of
the bits. Layers of less than 2 bits per weight gain 0.1 to 0.25 dB with 0.3, whole models at 2 to 3 bits lose by it."""

SWEEPS = 1
"""Times that every weight is decided again with the errors of all others known: 0.1 to 2 dB at equal size. A second
time adds 0.05 dB. On made-up inputs it brings nothing."""


class FeedbackCoder:
    """Quantizes weights whose inputs are known."""

    def __init__(self, moments: Mapping[str, Moments], executor: Executor, *, made_up: bool = False) -> None:
        """Prepare.

        Args:
            moments: by name of the weight, as :func:`nnc_onnx.rd.activations.observe` gives them.
            executor: where moments are factorised.
            made_up: the moments are those of made-up inputs.
        """
        damping, self._sweeps = (MADE_UP_DAMPING, 0) if made_up else (DAMPING, SWEEPS)

        def factorised(known: Moments) -> Feedback:
            matrix = known.matrix
            added = damping + SPARSE_DAMPING * matrix.reduced / known.vectors
            return feedback_of(known.mean, matrix.rows, matrix.cols, across=matrix.across, damping=added)

        self._feedback = dict(zip(moments, executor.map(factorised, moments.values()), strict=True))

    def __contains__(self, name: str) -> bool:
        """Whether the weight of this name can be coded here."""
        return name in self._feedback

    def attempt(self, weight: Weight, qp: int, qp_density: int, method: Method, *, hastily: bool = False) -> Trial:
        """Code a weight.

        Args:
            weight: one that is contained.
            qp: quantization parameter.
            qp_density: ``mps_qp_density``.
            method: ``"dq"`` or ``"uniform"``.
            hastily: decide every weight once.

        Returns:
            The outcome. Its ``values``, coded with the same `qp` and `method` and without a price of bits, come back
            as they are.

        Raises:
            InvalidArgumentError: its integers do not fit.
        """
        values = np.asarray(weight.values, np.float32)
        levels = quantize_feedback(
            values,
            self._feedback[weight.name],
            qp,
            qp_density,
            dependent=method == "dq",
            lambda_=LAMBDA,
            keep_zeros=weight.is_sparse,
            sweeps=0 if hastily else self._sweeps,
        )
        chosen: NDArray[Any] = levels.astype(np.float32) * np.float32(step_of(qp, qp_density))
        quantized = chosen.reshape(values.shape).astype(weight.values.dtype)
        params = EncodeParams(
            qp=qp, nonweight_qp=qp, qp_density=qp_density, method=method, topology=False, param_opt=False
        )
        payload = nnc_codec.encode({"w": quantized}, params)
        difference = values.astype(np.float64) - chosen.reshape(values.shape)
        return trial_of(payload, float(np.square(difference).mean()), quantized)

    def sparsify(self, weight: Weight, threshold: float) -> NDArray[Any]:
        """Values with zeros for all magnitudes below `threshold`; the others make up for them.

        Args:
            weight: one that is contained.
            threshold: positive.
        """
        values = np.asarray(weight.values, np.float32)
        made_up = sparsify_feedback(values, self._feedback[weight.name], is_zeroed(values, threshold))
        return made_up.reshape(values.shape).astype(weight.values.dtype)

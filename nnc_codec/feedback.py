"""Quantization with error feedback: the error of one weight is made up for by the weights that multiply related inputs.

A layer multiplies its weights by inputs x. Errors e along the dimension that is summed over change its outputs by
e^T H e on average, with H the mean of x x^T. Weights are decided in coding order, and every one aims at the value that
makes up best for the errors already made (the order and arithmetic of LDLQ, arXiv 2307.13304, which gives the results
of GPTQ, arXiv 2210.17323), while the bits it costs in the coder are counted as in plain rate-aware quantization.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from . import _native
from ._status import check
from .errors import InvalidArgumentError
from .quantize import Floats, Integers, step_of

DAMPING = 0.01
"""Share of the mean diagonal of H that is added to it: directions that were hardly seen must not be taken for free."""

MOST_REDUCED = 1 << 12
"""Largest reduced dimension for which H is built: 64 MiB as float32."""

_LEAST_IMPORTANCE, _MOST_IMPORTANCE = 1e-6, 1e6


class Feedback(NamedTuple):
    """How errors in a matrix of weights add up.

    Attributes:
        rows, cols: the matrix, in the order of the tensor's values.
        across: the reduced dimension is that of the rows (``x @ W``), otherwise that of the columns (``W @ x``).
        factors: float32 [groups, n, n], strictly upper triangular, n the reduced dimension: what an error (row) adds to
            the effect of a later one (column). Every rows / groups rows have a factor of their own.
        importance: float32 [groups, n], geometric mean 1: weight of the squared errors.
    """

    rows: int
    cols: int
    across: bool
    factors: npt.NDArray[np.float32]
    importance: npt.NDArray[np.float32]


def feedback_of(
    moments: npt.NDArray[np.float64], rows: int, cols: int, *, across: bool, damping: float = DAMPING
) -> Feedback:
    """Factorise second moments.

    Args:
        moments: [groups, n, n], symmetric and positive semidefinite: mean of x x^T.
        rows, cols: of the matrix of weights.
        across: see :class:`Feedback`.
        damping: share of the mean diagonal added to the diagonal.

    Raises:
        InvalidArgumentError: shapes that do not fit, or values that are not finite.
    """
    groups, n = moments.shape[0], rows if across else cols
    if moments.shape != (groups, n, n) or groups < 1 or rows % groups or (across and groups > 1):
        raise InvalidArgumentError(f"second moments of shape {moments.shape} do not fit {rows} x {cols} weights")
    if not np.isfinite(moments).all():
        raise InvalidArgumentError("second moments contain NaN or infinity")
    diagonal = np.einsum("gii->gi", moments)
    # Groups that never saw anything count as the weakest that did.
    means = diagonal.mean(axis=1)
    floor = max(float(means.max()), 1e-300) * 1e-6
    factors = np.zeros((groups, n, n), np.float32)
    importance = np.empty((groups, n))
    for group in range(groups):
        damped = moments[group] + np.eye(n) * (max(damping, 1e-9) * max(float(means[group]), floor))
        upper = _upper(damped)
        pivots = np.diagonal(upper)
        factors[group] = np.triu(upper / pivots, 1)
        importance[group] = np.square(pivots)
    importance /= math.exp(float(np.log(importance).mean()))
    clipped = importance.clip(_LEAST_IMPORTANCE, _MOST_IMPORTANCE)
    return Feedback(rows, cols, across, factors, clipped.astype(np.float32))


def _upper(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """R, upper triangular, with R R^T = `matrix`."""
    extra = 0.0
    mean = float(np.trace(matrix)) / len(matrix)
    while True:
        try:
            lower = np.linalg.cholesky((matrix + np.eye(len(matrix)) * extra)[::-1, ::-1])
        except np.linalg.LinAlgError:
            extra = max(4 * extra, 1e-6 * mean)
            continue
        return np.asarray(lower[::-1, ::-1], np.float64)


def quantize_feedback(
    weights: Floats,
    feedback: Feedback,
    qp: int,
    qp_density: int,
    *,
    dependent: bool,
    lambda_: float = 0.0,
    unary_length: int = 11,
    keep_zeros: bool = False,
    sweeps: int = 0,
) -> Integers:
    """Quantize a tensor so that the outputs of its layer change least.

    Args:
        weights: finite float32 values, ``feedback.rows * feedback.cols`` of them, in C order; scan order 0.
        feedback: second moments of the layer's inputs, factorised.
        qp: quantization parameter.
        qp_density: ``mps_qp_density``.
        dependent: dependent quantization.
        lambda_: price of a bit, in squared steps of a weight of average importance.
        unary_length: greater-than flags per level of the coder that the bits are counted for.
        keep_zeros: weights that are zero stay zero, and the others make up for that; such tensors are not swept.
        sweeps: times that every weight is decided again, knowing the errors of all others, later ones too.

    Returns:
        The integers, flat in raster order; multiples if `dependent`.

    Raises:
        InvalidArgumentError: a weight is not finite or does not fit, or sizes do not match.
    """
    flat = weights.reshape(-1)
    step = step_of(qp, qp_density)

    def decided(values: Floats, known: Feedback, pull: Floats | None) -> Integers:
        out = np.empty(flat.size, np.int32)
        status = _native.quantize_feedback(
            weights=values, rows=known.rows, cols=known.cols, across=known.across,
            groups=len(known.factors), feedback=known.factors.reshape(-1), importance=known.importance.reshape(-1),
            dq=dependent, unary_length=unary_length, step=step, lambda_=lambda_, out=out, keep_zeros=keep_zeros,
            pull=pull,
        )  # fmt: skip
        check(status)
        return out

    levels = decided(flat, feedback, None)
    if sweeps and not keep_zeros:
        moments = _moments(feedback)
        symmetric = _symmetric(feedback, moments)
        for _ in range(sweeps):
            values = levels.astype(np.float32) * np.float32(step)
            levels = decided(values, symmetric, _pull(symmetric, flat - values))
    return levels


def _moments(feedback: Feedback) -> npt.NDArray[np.float32]:
    """The second moments that were factorised, in the unit of the importance."""
    upper = feedback.factors + np.eye(feedback.factors.shape[1], dtype=np.float32)
    return np.asarray((upper * feedback.importance[:, None, :]) @ upper.transpose(0, 2, 1), np.float32)


def _symmetric(feedback: Feedback, moments: npt.NDArray[np.float32]) -> Feedback:
    """What changes of weights add to the effect of changes of others, once all have an error."""
    diagonal = np.einsum("gii->gi", moments)
    factors = moments / diagonal[:, None, :]
    return feedback._replace(factors=factors, importance=diagonal.clip(_LEAST_IMPORTANCE, _MOST_IMPORTANCE))


def _pull(symmetric: Feedback, errors: Floats) -> Floats:
    """Where errors of a tensor want every weight to be, from where it is."""
    matrix = errors.reshape(symmetric.rows, symmetric.cols)
    if symmetric.across:
        return np.ascontiguousarray(symmetric.factors[0].T @ matrix).reshape(-1)
    grouped = matrix.reshape(len(symmetric.factors), -1, symmetric.cols)
    return np.ascontiguousarray(grouped @ symmetric.factors).reshape(-1)


def sparsify_feedback(weights: Floats, feedback: Feedback, zero: npt.NDArray[np.bool_]) -> Floats:
    """Make weights zero, and the others make up for that as for errors of quantization.

    Args:
        weights: as for :func:`quantize_feedback`.
        feedback: likewise.
        zero: in the shape of `weights`, those that become zero.

    Returns:
        The weights, float32, in the shape of `feedback`'s matrix.
    """
    matrix = weights.reshape(feedback.rows, feedback.cols).astype(np.float64)
    gone = zero.reshape(feedback.rows, feedback.cols)
    if feedback.across:
        return np.ascontiguousarray(_made_up(matrix.T, gone.T, feedback.factors[0]).T, np.float32)
    parts = len(feedback.factors)
    pieces = zip(np.split(matrix, parts), np.split(gone, parts), feedback.factors, strict=True)
    return np.concatenate([_made_up(*piece) for piece in pieces]).astype(np.float32)


def _made_up(
    matrix: npt.NDArray[np.float64], gone: npt.NDArray[np.bool_], factors: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """The reduced dimension is that of the columns."""
    errors = np.zeros_like(matrix)
    for column in range(matrix.shape[1]):
        pushed = errors[:, :column] @ factors[:column, column].astype(np.float64)
        errors[:, column] = np.where(gone[:, column], matrix[:, column], -pushed)
    return matrix - errors

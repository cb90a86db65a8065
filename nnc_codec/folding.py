"""Batch normalization folded into local scaling and bias, and the other way of composing a layer (spec: blocks)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from .errors import InvalidArgumentError
from .params import Block, EncodeParams

EPSILON = 1e-5
"""Added to the variance, as the frameworks do by default."""

Tensors = Mapping[str, npt.NDArray[Any]]


def fold_batch_norm(tensors: Tensors, options: EncodeParams) -> tuple[dict[str, npt.NDArray[Any]], EncodeParams]:
    """Replace the batch normalization of every block by a local scaling and a bias.

    With g = gamma / sqrt(var + EPSILON): scaling' = scaling * g, bias' = (bias - mean) * g + beta. Tensors that did not
    exist are named ``<weight>_scaling`` and ``<weight>.bias`` and come after the others.

    Returns:
        The new tensors, and the options with the blocks as they are now.
    """
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    blocks = []
    for block in options.blocks:
        names = (block.bn_beta, block.bn_gamma, block.bn_mean, block.bn_var)
        if None in names:
            blocks.append(block)
            continue
        beta, gamma, mean, var = (arrays.pop(str(name)) for name in names)
        scaling = block.local_scaling or f"{block.weight}_scaling"
        bias = block.bias or f"{block.weight}.bias"
        g = gamma / np.sqrt(var + np.float32(EPSILON))
        old_scaling = arrays.get(scaling, np.ones(mean.shape, np.float32))
        old_bias = arrays.get(bias, np.zeros(mean.shape, np.float32))
        arrays[scaling] = (old_scaling * g).astype(np.float32)
        arrays[bias] = ((old_bias - mean) * g + beta).astype(np.float32)
        blocks.append(Block(weight=block.weight, g=block.g, h=block.h, local_scaling=scaling, bias=bias))
    per_tensor = {name: value for name, value in options.per_tensor.items() if name in arrays}
    changed = msgspec.structs.replace(options, blocks=tuple(blocks), per_tensor=per_tensor, fold_batch_norm=False)
    return arrays, changed


def decompose(weight: npt.NDArray[Any], rank: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The two factors of a weight that a decomposed block sends instead of it.

    Args:
        weight: two or more dimensions; the first one gives the rows.
        rank: columns of G, at most the smaller side of the matrix.

    Returns:
        G ``(rows, rank)`` and H ``(rank, columns)``, float32, whose product is the best approximation of that rank.

    Raises:
        InvalidArgumentError: the weight is no matrix, or the rank does not fit it.
    """
    matrix = np.asarray(weight, np.float64).reshape(weight.shape[0], -1) if weight.ndim > 1 else np.empty((0, 0))
    if not 1 <= rank <= min(matrix.shape):
        raise InvalidArgumentError(f"rank {rank} does not fit a weight of shape {weight.shape}")
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(values[:rank])
    return (left[:, :rank] * root).astype(np.float32), (root[:, None] * right[:rank]).astype(np.float32)


def compose(tensors: Tensors, blocks: tuple[Block, ...]) -> dict[str, npt.NDArray[Any]]:
    """Weights as the application uses them: factors multiplied out, rows scaled; what went into them is dropped.

    Args:
        tensors: decoded tensors.
        blocks: which belong together.

    Returns:
        All tensors, with ``weight`` of every block recomposed. Bias and batch normalization are left as they are.
    """
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    for block in blocks:
        if block.g is not None and block.h is not None:
            arrays[block.weight] = arrays.pop(block.g) @ arrays.pop(block.h)
        if block.local_scaling is not None and block.local_scaling in arrays:
            scaling = arrays.pop(block.local_scaling)
            weight = arrays[block.weight]
            arrays[block.weight] = weight * scaling.reshape((-1,) + (1,) * (weight.ndim - 1))
    return arrays

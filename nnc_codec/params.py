"""What an encoder is asked to do."""

from __future__ import annotations

from numbers import Integral
from typing import Literal, get_args

import msgspec

from .errors import InvalidArgumentError

Method = Literal["dq", "uniform", "codebook", "raw"]

_QP = (-(2**31), 2**31 - 1)  # what a bitstream can hold depends on the density and is checked when a tensor is coded

_LARGEST_LAMBDA = 1e9  # everything is zero long before; beyond, costs leave the range of numbers


def _check_integer(owner: msgspec.Struct, name: str, low: int, high: int) -> None:
    value = getattr(owner, name)
    if value is None:
        return
    if not isinstance(value, Integral):
        raise InvalidArgumentError(f"{name} = {value!r} is not an integer")
    if not low <= int(value) <= high:
        raise InvalidArgumentError(f"{name} = {value} is outside {low}..{high}")


def _check_method(method: str | None) -> None:
    if method is not None and method not in get_args(Method):
        raise InvalidArgumentError(f"method {method!r} is none of {', '.join(get_args(Method))}")


def _check_lambda(value: float | None) -> None:
    if value is not None and not 0 <= value <= _LARGEST_LAMBDA:
        raise InvalidArgumentError(f"lambda_ = {value} is not a number from 0 to {_LARGEST_LAMBDA:g}")


class TensorParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Per-tensor override; ``None`` keeps the value of :class:`EncodeParams`."""

    qp: int | None = None
    method: Method | None = None
    row_skipping: bool | None = None
    cabac_unary_length: int | None = None
    lambda_: float | None = None

    def __post_init__(self) -> None:
        _check_integer(self, "qp", *_QP)
        _check_integer(self, "cabac_unary_length", 1, 256)
        _check_method(self.method)
        _check_lambda(self.lambda_)


NO_OVERRIDE = TensorParams()
"""Every value of :class:`EncodeParams` as it is."""


class Block(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tensors of one layer that share a data unit, by name; companions are vectors of the weight's first dimension.

    Attributes:
        weight: the weight, or, decomposed, the name under which its shape is known.
        g, h: low-rank factors sent instead of the weight: ``weight = reshape(g @ h)``.
        local_scaling: factor per row of the weight.
        bias: bias of the layer.
        bn_beta, bn_gamma, bn_mean, bn_var: batch normalization; all four or none.
    """

    weight: str
    g: str | None = None
    h: str | None = None
    local_scaling: str | None = None
    bias: str | None = None
    bn_beta: str | None = None
    bn_gamma: str | None = None
    bn_mean: str | None = None
    bn_var: str | None = None

    def __post_init__(self) -> None:
        norm = (self.bn_beta, self.bn_gamma, self.bn_mean, self.bn_var)
        if any(norm) != all(norm):
            raise InvalidArgumentError("a block names all four batch-norm tensors or none", tensor=self.weight)
        if (self.g is None) != (self.h is None):
            raise InvalidArgumentError("a decomposed block names both g and h", tensor=self.weight)


class EncodeParams(msgspec.Struct, frozen=True, kw_only=True):
    """Options of :func:`nnc_codec.encode`; a value, so ``eval(repr(p)) == p`` and it survives JSON.

    Attributes:
        qp: quantization parameter of tensors with two or more dimensions. The step size doubles every
            ``2**qp_density`` steps; qp 0 is step 1.
        nonweight_qp: quantization parameter of vectors; ``None`` means ``qp - 2 * 2**qp_density``.
        qp_density: ``mps_qp_density``, 0 to 7.
        method: ``"dq"`` dependent (trellis) quantization, ``"uniform"``, ``"codebook"`` (uniform, distinct values
            listed), or ``"raw"`` float32.
        codebook_if_smaller: try the codebook as well and keep the smaller result, tensor by tensor.
        bit_depth: choose the qp of every tensor so that its integers fit this many bits, and clip the rest. With
            ``"dq"`` the weights are clipped, and an integer at the border may lie outside by two at most.
        opt_qp: coarser steps for weights with many elements or little spread, as the reference encoder derives them.
        cabac_unary_length: greater-than flags per level, 1 to 256.
        scan_order: 0 rows, 1 to 4 blocks of 8 to 64 (gives entry points for random access).
        entry_points_from: a tensor of two or more dimensions with at least so many elements gets entry points even in
            scan order 0, by being coded in blocks of 64: then several threads can decode it. 0 leaves all as they are.
        row_skipping: code a flag for every all-zero slice of the first dimension. Left off for a tensor whose
            quantization states would not survive it (``"dq"``, more than one block a row).
        param_opt: choose the start state of every context model by trial.
        lambda_: price of a bit in squared steps: the quantizer minimises (error / step)^2 + ``lambda_`` * bits. 0
            minimises the error alone; 0.05 to 0.2 buys a better trade than a coarser step.
        keep_zeros: weights that are zero decode to zero. Without, dependent quantization moves some of them by a step
            where that makes the weights after them better.
        blocks: tensors that share data units.
        fold_batch_norm: send local scaling and bias instead of a block's batch normalization.
        topology: write an (empty) topology unit as the reference encoder does.
        node_id: write ``node_id_present_flag`` = 1 with ``parameter_id`` = position of the tensor.
        device_id: ``device_id`` of the node ids.
        per_tensor: overrides by tensor name.
    """

    qp: int = -32
    nonweight_qp: int | None = -75
    qp_density: int = 2
    method: Method = "dq"
    codebook_if_smaller: bool = False
    bit_depth: int | None = None
    opt_qp: bool = False
    cabac_unary_length: int = 11
    scan_order: int = 0
    entry_points_from: int = 1 << 24
    row_skipping: bool = False
    param_opt: bool = True
    lambda_: float = 0.0
    keep_zeros: bool = False
    blocks: tuple[Block, ...] = ()
    fold_batch_norm: bool = False
    topology: bool = True
    node_id: bool = True
    device_id: int = 0
    per_tensor: dict[str, TensorParams] = {}

    def __post_init__(self) -> None:
        for name, low, high in (
            ("qp", *_QP),
            ("nonweight_qp", *_QP),
            ("qp_density", 0, 7),
            ("cabac_unary_length", 1, 256),
            ("scan_order", 0, 4),
            ("entry_points_from", 0, 2**63 - 1),
            ("bit_depth", 1, 31),
            ("device_id", 0, 2**31 - 1),
        ):
            _check_integer(self, name, low, high)
        _check_method(self.method)
        _check_lambda(self.lambda_)

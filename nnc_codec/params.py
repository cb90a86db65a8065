"""What an encoder is asked to do."""

from __future__ import annotations

from typing import Literal

import msgspec

from .errors import InvalidArgumentError

Method = Literal["dq", "uniform", "codebook", "raw"]


class TensorParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Per-tensor override; ``None`` keeps the value of :class:`EncodeParams`."""

    qp: int | None = None
    method: Method | None = None
    row_skipping: bool | None = None
    cabac_unary_length: int | None = None


class EncodeParams(msgspec.Struct, frozen=True, kw_only=True):
    """Options of :func:`nnc_codec.encode`; a value, so ``eval(repr(p)) == p`` and it survives JSON.

    Attributes:
        qp: quantization parameter of tensors with two or more dimensions. The step size doubles every
            ``2**qp_density`` steps; qp 0 is step 1.
        nonweight_qp: quantization parameter of vectors; ``None`` means ``qp - 2 * 2**qp_density``.
        qp_density: ``mps_qp_density``, 0 to 7.
        method: ``"dq"`` dependent (trellis) quantization, ``"uniform"``, ``"codebook"``, or ``"raw"`` float32.
        cabac_unary_length: greater-than flags per level, 1 to 256.
        scan_order: 0 rows, 1 to 4 blocks of 8 to 64.
        row_skipping: code a flag for every all-zero slice of the first dimension.
        param_opt: choose the start state of every context model by trial.
        lambda_: weight of the rate in the quantizer's decision; 0 minimises the error alone.
        topology: write an (empty) topology unit as the reference encoder does.
        node_id: write ``node_id_present_flag`` = 1 with ``parameter_id`` = position of the tensor.
        per_tensor: overrides by tensor name.
    """

    qp: int = -32
    nonweight_qp: int | None = -75
    qp_density: int = 2
    method: Method = "dq"
    cabac_unary_length: int = 11
    scan_order: int = 0
    row_skipping: bool = False
    param_opt: bool = True
    lambda_: float = 0.0
    topology: bool = True
    node_id: bool = True
    per_tensor: dict[str, TensorParams] = {}

    def __post_init__(self) -> None:
        for name, low, high in (
            ("qp_density", 0, 7),
            ("cabac_unary_length", 1, 256),
            ("scan_order", 0, 4),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidArgumentError(f"{name} = {value} is outside {low}..{high}")
        if not self.lambda_ >= 0:
            raise InvalidArgumentError(f"lambda_ = {self.lambda_} is negative")

"""Tensors of one data unit: their roles, their shapes, and the two orders they come in (spec: blocks)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

import msgspec

from .errors import CorruptError
from .syntax.data_unit import CompressedDataUnitHeader
from .syntax.enums import CompressedParameterTypes as Cpt
from .syntax.enums import PayloadType

Role = Literal["weight", "weight_g", "weight_h", "local_scaling", "bias", "bn_beta", "bn_gamma", "bn_mean", "bn_var"]
_BATCH_NORM: tuple[Role, ...] = ("bn_beta", "bn_gamma", "bn_mean", "bn_var")


class Member(msgspec.Struct, frozen=True, gc=False):
    """One tensor of a data unit."""

    name: str
    role: Role
    shape: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Height of the matrix that is coded."""
        return self.shape[0] if self.shape else 1

    @property
    def columns(self) -> int:
        """Width of the matrix that is coded."""
        return prod(self.shape[1:])

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def roles_by_name(cpt: int) -> list[Role]:
    """Roles in the order of the names of a block: W or G, H; LS; BN; BI."""
    roles: list[Role] = ["weight_g", "weight_h"] if cpt & Cpt.NNR_CPT_DC else ["weight"]
    if cpt & Cpt.NNR_CPT_LS:
        roles.append("local_scaling")
    if cpt & Cpt.NNR_CPT_BN:
        roles.extend(_BATCH_NORM)
    if cpt & Cpt.NNR_CPT_BI:
        roles.append("bias")
    return roles


def roles_by_payload(cpt: int) -> list[Role]:
    """Roles in the order of the payload: LS; BI; BN; W or G, H."""
    rank = {"local_scaling": 0, "bias": 1, **dict.fromkeys(_BATCH_NORM, 2)}
    return sorted(roles_by_name(cpt), key=lambda role: rank.get(role, 3))


def members(header: CompressedDataUnitHeader, names: Sequence[str]) -> tuple[Member, ...]:
    """Tensors of a data unit in payload order.

    Args:
        header: parsed header.
        names: tensor names in the order of the header.

    Raises:
        CorruptError: the number of names does not fit ``compressed_parameter_types``.
    """
    dims = header.tensor_dimensions
    if header.nnr_compressed_data_unit_payload_type != PayloadType.NNR_PT_BLOCK:
        return (Member(names[0], "weight", dims),)
    cpt = header.compressed_parameter_types
    roles = roles_by_name(cpt)
    if len(names) != len(roles):
        raise CorruptError(f"a block of {len(roles)} tensors has {len(names)} names")
    named = dict(zip(roles, names, strict=True))
    rank, rows = header.decomposition_rank, header.g_number_of_rows
    shapes: dict[Role, tuple[int, ...]] = {"weight": dims, "weight_g": (rows, rank)}
    if cpt & Cpt.NNR_CPT_DC:
        shapes["weight_h"] = (rank, prod(dims) // rows)
    return tuple(Member(named[role], role, shapes.get(role, dims[:1])) for role in roles_by_payload(cpt))

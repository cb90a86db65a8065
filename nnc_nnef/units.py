"""Cutting a bitstream into what one variable needs, and joining such pieces again."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

import nnc_codec
from nnc_codec.errors import UnsupportedError
from nnc_codec.limits import Limits


class Unit(msgspec.Struct, frozen=True):
    """A bitstream of one data unit, cut in two.

    Attributes:
        head: start unit and model parameter set (and layer parameter set, if one is in force).
        data: the data unit.
    """

    head: bytes
    data: bytes

    @property
    def bitstream(self) -> bytes:
        """Head and data unit, which decode alone."""
        return self.head + self.data


def cut(bitstream: bytes | memoryview, *, limits: Limits | None = None) -> Unit:
    """Cuts a bitstream that holds exactly one data unit.

    Raises:
        UnsupportedError: it holds none or several, or units of other kinds that the data unit may depend on.
        NNRError: it cannot be parsed.
    """
    stream = nnc_codec.open(bitstream, limits=limits)
    units = [unit for unit in stream.units if unit.data_unit is not None]
    others = [unit for unit in stream.units if unit.data_unit is None]
    known = {"NNR_STR", "NNR_MPS", "NNR_TPL"}
    if len(units) != 1 or any(unit.type_name not in known for unit in others) or stream.units[-1] is not units[0]:
        raise UnsupportedError(f"a bitstream of {len(units)} data units among {len(stream.units)} units")
    # An empty topology unit names no tensors, so dropping it changes nothing for the data unit.
    head = b"".join(stream.unit_bytes(unit.index) for unit in others if unit.type_name != "NNR_TPL")
    return Unit(head, stream.unit_bytes(units[0].index))


def renamed(unit: Unit, name: str) -> Unit:
    """The unit with its only tensor called `name`; coded bytes stay.

    Raises:
        UnsupportedError: the unit holds several tensors, or names them by index.
    """
    stream = nnc_codec.open(unit.bitstream)
    names = list(stream)
    if len(names) != 1:
        raise UnsupportedError(f"a data unit of {len(names)} tensors cannot be renamed as one")
    return unit if names[0] == name else cut(stream.relabel({names[0]: name}))


def group(units: Sequence[Unit]) -> list[list[int]]:
    """Indices of units by head: units under different parameter sets do not go into one bitstream."""
    groups: dict[bytes, list[int]] = {}
    for position, unit in enumerate(units):
        groups.setdefault(unit.head, []).append(position)
    return list(groups.values())

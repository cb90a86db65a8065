"""Arrays without values, recognised again after a conversion by where they lie in memory.

A converter is handed an :class:`Opaque` array for every weight. It may rename, reshape or transpose it, all of which
leave the address alone; it cannot read, change or copy it, for there is nothing to read.
"""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import CarryError

Array = NDArray[Any]


class Opaque(np.ndarray):
    """An array of which only shape, type, strides and address mean something."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise CarryError("the conversion wants to read the value of a weight", reason="value-read")

    __array_ufunc__ = _refuse
    __getitem__ = __setitem__ = __iter__ = __bool__ = __float__ = __int__ = _refuse
    tolist = tobytes = item = astype = copy = flatten = sum = max = min = _refuse


class Traced(msgspec.Struct, frozen=True):
    """What became of a placeholder.

    Attributes:
        name: weight it stands for.
        change: ``"same"``, ``"reshaped"``, or why it cannot be carried: ``"transposed"``, ``"resized"``.
        shape: shape after the conversion.
    """

    name: str
    change: str
    shape: tuple[int, ...]


class Placeholders:
    """Hands out placeholders and finds them again."""

    def __init__(self) -> None:
        self._by_address: dict[int, tuple[str, Array]] = {}
        self._named: dict[int, str] = {}

    def make(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any] | type[Any]) -> Array:
        """A placeholder for the weight `name`. Its memory is reserved but never touched."""
        # At least one byte of its own, or two empty arrays would share an address.
        base = np.zeros(max(int(np.prod(shape, dtype=np.int64)), 1), dtype)
        self._by_address[_address(base)] = (name, base)
        count = int(np.prod(shape, dtype=np.int64))
        view: Array = base[:count].reshape(shape).view(Opaque)
        return view

    def remember(self, name: str, array: Array) -> None:
        """Notes the name of an array that has values."""
        self._named[_address(array)] = name

    def name_of(self, array: Any) -> str | None:
        """The name that was noted for an array, also if it was reshaped since."""
        return self._named.get(_address(array)) if isinstance(array, np.ndarray) else None

    def find(self, array: Any) -> Traced | None:
        """The weight that `array` stands for; None if its values are its own."""
        if not isinstance(array, np.ndarray):
            return None
        known = self._by_address.get(_address(array))
        if known is None:
            return None
        name, base = known
        shape = tuple(int(size) for size in array.shape)
        if array.dtype != base.dtype or array.size != base.size:
            return Traced(name, "resized", shape)
        if not array.flags.c_contiguous:
            return Traced(name, "transposed", shape)
        return Traced(name, "same", shape)


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])

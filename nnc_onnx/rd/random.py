"""Random numbers that are the same with every release of numpy and on every machine.

numpy promises this for the bits of a bit generator, not for its distributions; sums of bytes need no library
function whose last digit may differ.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BYTES = 8
_MEAN = _BYTES * 127.5
_DEVIATION = math.sqrt(_BYTES * (256**2 - 1) / 12)
_OCTAVES = 6
_EVEN_BYTES = np.uint64(0x00FF00FF00FF00FF)
_EACH_PAIR = np.uint64(0x0001000100010001)
_ONE = 1 << 16


class Random:
    """One stream of numbers, chosen by `keys`."""

    def __init__(self, *keys: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(keys))

    def integers(self, shape: tuple[int, ...], stop: int) -> NDArray[np.int64]:
        """Integers from 0 up to `stop` (at most 2**32), uniformly distributed but for a bias below stop / 2**32."""
        words = self._words(shape) >> np.uint64(32)
        return ((words * np.uint64(stop)) >> np.uint64(32)).astype(np.int64)

    def between(self, shape: tuple[int, ...], low: float, high: float) -> NDArray[np.float32]:
        """Numbers from `low` to below `high`, uniformly distributed."""
        made: NDArray[np.float32] = (low + (high - low) / _ONE * self.integers(shape, _ONE)).astype(np.float32)
        return made

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Nearly normal numbers of mean 0 and variance 1: each the sum of eight random bytes."""
        words = self._words(shape)
        pairs = (words & _EVEN_BYTES) + ((words >> np.uint64(8)) & _EVEN_BYTES)
        total = (pairs * _EACH_PAIR) >> np.uint64(48)
        scaled: NDArray[np.float32] = ((total - _MEAN) / _DEVIATION).astype(np.float32)
        return scaled

    def signal(self, shape: tuple[int, ...], axes: int) -> NDArray[np.float32]:
        """Noise of variance 1 whose power falls with frequency along the last `axes` dimensions.

        A sum of white noises, each of half the resolution of the one before.
        """
        total = self.normal(shape)
        if axes == 0:
            return total
        layers = 1
        for octave in range(1, _OCTAVES):
            factor = 1 << octave
            if min(shape[-axes:]) < 2 * factor:
                break
            layer = self.normal((*shape[:-axes], *(-(-size // factor) for size in shape[-axes:])))
            for axis in range(len(shape) - axes, len(shape)):
                layer = np.repeat(layer, factor, axis)
            total += layer[tuple(slice(size) for size in shape)]
            layers += 1
        return (total / np.float32(math.sqrt(layers))).astype(np.float32)

    def tone(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Voiced sound of variance 1 along the last dimension: a sawtooth, whose overtones fall like a voice's."""
        period = 40 + int(self.integers((1,), 160)[0])
        phase = (np.arange(shape[-1]) + int(self.integers((1,), period)[0])) % period
        wave = ((2 * phase + 1 - period) * (math.sqrt(3) / period)).astype(np.float32)
        return np.broadcast_to(wave, shape).copy()

    def _words(self, shape: tuple[int, ...]) -> NDArray[np.uint64]:
        words: NDArray[np.uint64] = np.asarray(self._bits.random_raw(math.prod(shape)), np.uint64)
        return words.astype("<u8").reshape(shape)

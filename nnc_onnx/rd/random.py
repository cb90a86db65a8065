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
_LEAVES = 200
_GRAIN = 0.03


class Random:
    """One stream of numbers, chosen by `keys`."""

    def __init__(self, *keys: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(keys))

    def integers(self, shape: tuple[int, ...], stop: int) -> NDArray[np.int64]:
        """Integers from 0 up to `stop` (at most 2**32), uniformly distributed but for a bias below stop / 2**32."""
        words = self._words(shape) >> np.uint64(32)
        return ((words * np.uint64(stop)) >> np.uint64(32)).astype(np.int64)

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Nearly normal numbers of mean 0 and variance 1: each the sum of eight random bytes."""
        words = self._words(shape)
        total = words.view(np.uint8).reshape(*words.shape, _BYTES).sum(axis=-1, dtype=np.int64)
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

    def leaves(self, shape: tuple[int, int, int]) -> NDArray[np.float32]:
        """A picture of rectangles that lie over each other: values from -1 to 1, channels first.

        Rectangles of all sizes, from two pixels to the whole picture, give the edges, the flat areas and the fall
        of power with frequency that natural pictures have ("dead leaves"); channels differ by a tint.
        """
        channels, height, width = shape
        octaves = max((max(height, width) - 1).bit_length(), 2)
        sizes = 2 << self.integers((_LEAVES,), octaves - 1)
        spans = 1 + (self.integers((_LEAVES, 2), 1 << 16) * (2 * sizes[:, None]) >> 16)
        starts = (self.integers((_LEAVES, 2), 1 << 16) * (spans + np.array((height, width))) >> 16) - spans
        greys = self.integers((_LEAVES, 1), 256) + self.integers((_LEAVES, channels), 102) - 51
        colours = ((greys.clip(0, 255) - 127.5) / 127.5).astype(np.float32)
        picture = np.zeros(shape, np.float32)
        for (top, left), (tall, broad), colour in zip(starts, spans, colours, strict=True):
            rows, columns = slice(max(top, 0), max(top + tall, 0)), slice(max(left, 0), max(left + broad, 0))
            picture[:, rows, columns] = colour[:, None, None]
        return picture + self.normal(shape) * np.float32(_GRAIN)

    def tone(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Voiced sound of variance 1 along the last dimension: a sawtooth, whose overtones fall like a voice's."""
        period = 40 + int(self.integers((1,), 160)[0])
        phase = (np.arange(shape[-1]) + int(self.integers((1,), period)[0])) % period
        wave = ((2 * phase + 1 - period) * (math.sqrt(3) / period)).astype(np.float32)
        return np.broadcast_to(wave, shape).copy()

    def _words(self, shape: tuple[int, ...]) -> NDArray[np.uint64]:
        words: NDArray[np.uint64] = np.asarray(self._bits.random_raw(math.prod(shape)), np.uint64)
        return words.astype("<u8").reshape(shape)

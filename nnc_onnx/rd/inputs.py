"""Inputs for a model that nobody gave data for.

Sizes come from the graph where it says them, else from those that are common for the kind of input; the values
from what reads them: indices of tables, constants that an input is compared with, names such as ``mask``.
Pictures are scenes and writing (``pictures.py``), sounds mostly talk (``sounds.py``): the nearer they are to real ones,
the more of what is measured on them holds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import CannotRunError
from .network import Feed, Network
from .pictures import is_line, picture
from .random import Random
from .signature import Input, describe
from .sounds import series, sound
from .states import STEPS, state_pairs

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

TOKENS = 32
"""Length of a token sequence whose length is free."""

SERIES = 128
"""Length of a series of vectors whose length is free: long enough for recurrent states to get to where they stay."""

PICTURE_SIZES = ((224, 224), (48, 192), (32, 128), (256, 256), (64, 64), (512, 512), (640, 640), (28, 28), (128, 128))
"""Height and width of pictures whose size is free; the first that the model accepts is taken, of those as wide as
lines of writing if it narrows heights more than widths, as readers of lines do."""

SIGNAL_SIZES = (576, 512, 16000, 1024, 400, 256, 160, 1280, 22050, 64)
"""Length of signals whose length is free; the first that the model accepts is taken. Voice detectors take 512 samples
with the 64 before; without those their states stay as they are, and the weights for them seem to do nothing."""

_MAX_INPUT_ELEMENTS = 1 << 26
_PICTURE_CHANNELS = frozenset({1, 3, 4})


class Synthetic:
    """Makes feeds for a network; the same ones every time."""

    def __init__(self, network: Network) -> None:
        """Read the inputs.

        Raises:
            CannotRunError: an input is no numeric tensor.
        """
        self._network = network
        self.inputs = [describe(value, network.hollow.graph) for value in network.inputs]
        self.states = state_pairs(self.inputs, network.hollow.graph)
        self._sounds: dict[tuple[int, int], NDArray[np.float32]] = {}
        self._sizes = self._working_sizes()

    def feeds(self, count: int, start: int = 0) -> list[Feed]:
        """`count` feeds of one sample each (or of as many as the model insists on); those before `start` are others.

        If the model has states, sounds go on from feed to feed, :data:`STEPS` feeds each.
        """
        return [self._feed(seed, self._sizes) for seed in range(start, start + count)]

    @property
    def scenes(self) -> bool:
        """Whether pictures are fed that are not shaped like lines of writing."""
        symbols: dict[str, int] = {}
        shapes = [(value, _shape(value, self._sizes, symbols)) for value in self.inputs]
        return any(_is_picture(value) and not is_line(*_in_front(shape)[-2:]) for value, shape in shapes)

    def _working_sizes(self) -> tuple[tuple[int, int], int]:
        last: CannotRunError | None = None
        for sizes in self._candidates():
            try:
                self._network.run(self._feed(0, sizes))
                return sizes
            except CannotRunError as error:
                last = error
        raise last or CannotRunError("the model has no inputs")

    def _candidates(self) -> Iterator[tuple[tuple[int, int], int]]:
        """Sizes to try: pictures vary if there is one with a free size, signals likewise."""
        free_picture = any(_is_picture(i) and not all(_known(d) for d in i.dims[2:]) for i in self.inputs)
        free_signal = any(_is_signal(i) and not _known(i.dims[_time_axis(i.dims)]) for i in self.inputs)
        pictures: Sequence[tuple[int, int]] = PICTURE_SIZES if free_picture else PICTURE_SIZES[:1]
        if free_picture and _reads_lines(self._network.hollow.graph):
            pictures = sorted(pictures, key=lambda size: size[1] == size[0])
        signals = SIGNAL_SIZES if free_signal else SIGNAL_SIZES[:1]
        return itertools.product(pictures, signals)

    def _feed(self, seed: int, sizes: tuple[tuple[int, int], int]) -> Feed:
        symbols: dict[str, int] = {}
        feed = {}
        states = {pair.input for pair in self.states}
        for position, value in enumerate(self.inputs):
            shape = _shape(value, sizes, symbols)
            if int(np.prod(shape, dtype=np.int64)) > _MAX_INPUT_ELEMENTS:
                raise CannotRunError(f"input {value.name!r} of shape {shape} is too large to be made up")
            if value.name in states:
                feed[value.name] = np.zeros(shape, value.dtype)
            elif _is_signal(value) and shape:
                feed[value.name] = self._signal(shape, seed, position).astype(value.dtype)
            else:
                feed[value.name] = _values(value, shape, seed, position)
        return feed

    def _signal(self, shape: tuple[int, ...], seed: int, position: int) -> NDArray[np.float32]:
        """Samples over time: the part of a sound that a feed is at."""
        steps = STEPS if self.states else 1
        length = shape[_time_axis(shape)]
        number, step = divmod(seed, steps)
        made = self._sounds.get((number, position))
        if made is None:
            count = math.prod(shape) // max(length, 1)
            random = Random(number, position)
            made = np.stack([sound(random, length * steps, number) for _ in range(count)])
            self._sounds = {(number, position): made}
        return made[:, step * length : (step + 1) * length].reshape(shape)


def _known(size: int | str | None) -> bool:
    return isinstance(size, int)


def _is_picture(value: Input) -> bool:
    return len(value.dims) in (4, 5) and value.dtype.kind in "fu"


def _is_signal(value: Input) -> bool:
    """Samples over time: one dimension is a length, and none a number of features."""
    rank = len(value.dims)
    return value.dtype.kind == "f" and (rank in (1, 2) or (rank == 3 and 1 in (value.dims[1], value.dims[2])))


def _reads_lines(graph: onnx.GraphProto) -> bool:
    """Whether the strides of a network divide heights by more than widths."""
    tall = broad = 1
    for node in graph.node:
        if node.op_type in ("AveragePool", "Conv", "MaxPool"):
            strides = next((tuple(a.ints) for a in node.attribute if a.name == "strides"), ())
            if len(strides) == 2:
                tall, broad = tall * max(strides[0], 1), broad * max(strides[1], 1)
    return tall > broad


def _time_axis(shape: Sequence[int | str | None]) -> int:
    """Dimension of a signal that counts its samples, from the end: the last, or the one before a single channel."""
    return -2 if len(shape) == 3 and shape[-1] == 1 and shape[1] != 1 else -1


def _shape(value: Input, sizes: tuple[tuple[int, int], int], symbols: dict[str, int]) -> tuple[int, ...]:
    shape = []
    rank = len(value.dims)
    for axis, size in enumerate(value.dims):
        if isinstance(size, int):
            shape.append(size)
            continue
        if axis == 0 and rank > 1:
            usual = 1
        elif _is_picture(value):
            usual = 3 if axis == 1 else sizes[0][min(axis - 2, 1)]
        elif _is_signal(value) and axis == rank + _time_axis(value.dims):
            usual = sizes[1]
        else:
            usual = (SERIES if value.dtype.kind == "f" else TOKENS) if axis else 1
        # A batch dimension in the middle, as recurrent states have it, is 1 like any other.
        if rank == 3 and axis == 1 and isinstance(value.dims[0], int) and isinstance(value.dims[2], int):
            usual = 1
        shape.append(symbols.setdefault(size, usual) if isinstance(size, str) else usual)
    return tuple(shape)


def _values(value: Input, shape: tuple[int, ...], seed: int, position: int) -> NDArray[Any]:
    random = Random(seed, position)
    name = value.name.lower()
    if value.dtype.kind == "b":
        return np.ones(shape, value.dtype)
    if value.dtype.kind in "iu":
        if "mask" in name:
            return np.ones(shape, value.dtype)
        if "type" in name or "segment" in name:
            return np.zeros(shape, value.dtype)
        if "position" in name and shape:
            return np.broadcast_to(np.arange(shape[-1]), shape).astype(value.dtype)
        if "len" in name:
            return np.full(shape, TOKENS, value.dtype)
        if value.choices.size:
            picked = random.integers(shape, value.choices.size)
            return value.choices[picked].astype(value.dtype)
        if _is_picture(value):
            return ((_pictures(random, shape, seed) + 1) * np.float32(127.5)).clip(0, 255).astype(value.dtype)
        return random.integers(shape, 256 if value.dtype.itemsize != 1 or value.dtype.kind == "u" else 128).astype(
            value.dtype
        )
    if not shape or value.dtype.kind != "f":
        return np.full(shape, value.choices[0] if value.choices.size else 1, value.dtype)
    if _is_picture(value):
        return _pictures(random, shape, seed).astype(value.dtype)
    return series(random, shape, seed).astype(value.dtype)


def _pictures(random: Random, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Pictures with the channels where they are likely to be."""
    front = _in_front(shape)
    channels, height, width = front[-3:]
    count = math.prod(front[:-3])
    made = np.stack([picture(random, (channels, height, width), seed) for _ in range(count)]).reshape(front)
    return made if front == shape else np.moveaxis(made, -3, -1)


def _in_front(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of pictures with the channels in front of height and width, if they are behind."""
    behind = len(shape) == 4 and shape[-1] in _PICTURE_CHANNELS and shape[1] not in _PICTURE_CHANNELS
    return (*shape[:-3], shape[-1], *shape[-3:-1]) if behind else shape

"""Made-up pictures: scenes of things lying over each other, and writing, as a camera takes them.

What networks for pictures do with their inputs hangs on edges, flat and textured areas, and the fall of power with
frequency. Things of all sizes that hide each other ("dead leaves"), with textures of their own, have all of these.
Numbers are computed by elementary operations only, so pictures are the same on every machine.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .random import Random
from .writing import written

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]

THINGS = 200
"""Things in a scene; fewer leave much of it bare, more change little."""

ONE_IN = 4
"""One picture in so many is of the rarer kind: writing, or a scene where pictures are shaped like lines of text."""

_LINE_HEIGHT = 64
_LINE_ASPECT = 2
_TILE = 128
_TINT = 0.15
_GRAINS = (0.01, 0.02, 0.04, 0.08)
_SMOOTHINGS = (0, 1, 1, 3)
_DIRECTIONS = 16


def picture(random: Random, shape: tuple[int, int, int], number: int) -> Plane:
    """One picture.

    Args:
        random: what chances are taken from.
        shape: channels, height, width. Low and wide pictures are taken for lines of text.
        number: of the picture; kinds take turns.

    Returns:
        Values from -1 to 1.
    """
    is_rare = number % ONE_IN == ONE_IN - 1
    if is_line(shape[1], shape[2]) == is_rare:
        return _taken(random, scene(random, shape))
    return _taken(random, written(random, _ground(random, shape)))


def is_line(height: int, width: int) -> bool:
    """Whether a picture is shaped like a line of writing."""
    return width >= _LINE_ASPECT * height and height <= _LINE_HEIGHT


def scene(random: Random, shape: tuple[int, int, int]) -> Plane:
    """Things of all sizes, colours and textures lying over each other.

    Brightness varies far more than colour, and half of all things are upright, as in natural pictures.
    """
    channels, height, width = shape
    octaves = max((max(height, width) - 1).bit_length(), 2)
    radii = random.between((THINGS,), 1, 2) * (1 << random.integers((THINGS,), octaves - 1)).astype(np.float32)
    places = random.between((THINGS, 2), -0.1, 1.1) * np.array((height, width), np.float32)
    slims = 1 - 0.95 * random.between((THINGS,), 0, 1) ** 2
    directions = random.integers((THINGS, 2), 2 * _DIRECTIONS + 1) - _DIRECTIONS
    kinds = random.integers((THINGS, 4), 8)
    greys = random.between((THINGS, 1), -1, 1) + random.between((1, channels), -_TINT, _TINT)
    tints = random.between((THINGS, 1), 0, 1) ** 2 * random.between((THINGS, channels), -0.8, 0.8)
    colours = (greys + tints).clip(-1, 1)
    textures = random.between((THINGS, 2), 0, 1)
    tile = _smoothed(random.signal((_TILE, _TILE), 2))
    made = np.broadcast_to(colours[0][:, None, None], shape).astype(np.float32)
    bare = np.ones((height, width), np.bool_)
    # From the front to the back, as what is hidden need not be drawn.
    for number in reversed(range(THINGS)):
        upright, turned, outline, texture = kinds[number]
        across, down = directions[number]
        if upright < 4 or (across == 0 and down == 0):
            across, down = (1, 0) if turned < 4 else (0, 1)
        thing = _Thing.of(places[number], float(radii[number]), float(slims[number]), int(across), int(down))
        area = thing.area(height, width)
        if area is None or not bare[area].any():
            continue
        u, v = thing.coordinates(*area)
        seen = _inside(u, v, int(outline)) & bare[area]
        light = _texture(u, v, thing.radius, area, int(texture), textures[number], tile)
        np.copyto(made[:, area[0], area[1]], colours[number][:, None, None] + light, where=seen)
        bare[area] &= ~seen
    return made


class _Thing(NamedTuple):
    """Where a thing lies.

    Attributes:
        y, x: its middle.
        radius: half its length.
        slim: its breadth in lengths.
        cosine, sine: its direction.
    """

    y: float
    x: float
    radius: float
    slim: float
    cosine: float
    sine: float

    @classmethod
    def of(cls, place: Plane, radius: float, slim: float, across: int, down: int) -> _Thing:
        length = math.sqrt(across * across + down * down)
        return cls(float(place[0]), float(place[1]), radius, slim, across / length, down / length)

    def area(self, height: int, width: int) -> tuple[slice, slice] | None:
        """Rows and columns of the picture that it may touch."""
        tall = self.radius * (abs(self.sine) + self.slim * abs(self.cosine))
        broad = self.radius * (abs(self.cosine) + self.slim * abs(self.sine))
        rows = slice(max(int(self.y - tall), 0), min(int(self.y + tall) + 1, height))
        columns = slice(max(int(self.x - broad), 0), min(int(self.x + broad) + 1, width))
        return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None

    def coordinates(self, rows: slice, columns: slice) -> tuple[Plane, Plane]:
        """Places along and across it; within it from -1 to 1."""
        dy = (np.arange(rows.start, rows.stop, dtype=np.float32) - np.float32(self.y))[:, None]
        dx = (np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(self.x))[None, :]
        cosine, sine = np.float32(self.cosine), np.float32(self.sine)
        along = (dx * cosine + dy * sine) / np.float32(self.radius)
        beside = (dy * cosine - dx * sine) / np.float32(self.radius * self.slim)
        return np.asarray(along, np.float32), np.asarray(beside, np.float32)


def _inside(u: Plane, v: Plane, outline: int) -> NDArray[np.bool_]:
    """Boxes and bars, discs, triangles."""
    inside: NDArray[np.bool_]
    if outline < 4:
        inside = np.maximum(np.abs(u), np.abs(v)) <= 1
    elif outline < 7:
        inside = u * u + v * v <= 1
    else:
        inside = (v >= -1) & (v + 2 * np.abs(u) <= 1)
    return inside


def _texture(
    u: Plane, v: Plane, radius: float, area: tuple[slice, slice], kind: int, strength: Plane, tile: Plane
) -> Plane:
    """How the brightness of a thing differs from place to place: shading, and grain, stripes or nothing."""
    shade, rough = strength
    light: Plane = (u * (shade - 0.5) + v * (0.3 * (rough - 0.5))) * np.float32(0.7 if kind % 2 else 0.2)
    if kind < 4:
        rows, columns = (np.arange(part.start, part.stop) * (1 + kind) % _TILE for part in area)
        light = light + 0.5 * rough * rough * tile[rows[:, None], columns[None, :]]
    elif kind == 4:
        stripes = np.abs(u * np.float32(radius / (1 + 7 * shade)) % 2 - 1) * 2 - 1
        light = light + 0.5 * rough * rough * stripes
    return light.astype(np.float32)


def _ground(random: Random, shape: tuple[int, int, int]) -> Plane:
    """What is written on: mostly paper, here and there something printed."""
    kind = int(random.integers((1,), 4)[0])
    if kind == 0:
        return scene(random, shape) * np.float32(0.3)
    if kind == 1:
        return np.broadcast_to(random.signal(shape[1:], 2) * np.float32(_TINT), shape).astype(np.float32)
    return np.zeros(shape, np.float32)


def _taken(random: Random, made: Plane) -> Plane:
    """As a camera takes it: light from one side, contrast, more or less in focus, noise of the sensor."""
    down, across, level = random.between((3,), -0.5, 0.5)
    if random.integers((1,), 2)[0]:
        y, x = (np.arange(size, dtype=np.float32) / np.float32(size) - np.float32(0.5) for size in made.shape[1:])
        made = (made + 1) * (1 + y[:, None] * down + x[None, :] * across) - 1
    made = made * random.between((1,), 0.6, 1.2)[0] + np.float32(0.3) * level
    for _ in range(_SMOOTHINGS[random.integers((1,), len(_SMOOTHINGS))[0]]):
        made = _smoothed(made)
    grain = _GRAINS[random.integers((1,), len(_GRAINS))[0]]
    return (made + random.normal(made.shape) * np.float32(grain)).clip(-1, 1).astype(np.float32)


def _smoothed(made: Plane) -> Plane:
    """Every value with a half of its neighbours', along height and width."""
    for axis in (-2, -1):
        if made.shape[axis] > 2:
            turned = np.moveaxis(made, axis, 0)
            middle = turned[1:-1] * np.float32(0.5) + (turned[:-2] + turned[2:]) * np.float32(0.25)
            made = np.moveaxis(np.concatenate((turned[:1], middle, turned[-1:])), 0, axis)
    return made

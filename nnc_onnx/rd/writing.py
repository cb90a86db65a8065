"""Made-up writing: lines of signs that nobody can read, but with strokes, spaces and sizes as writing has them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from .random import Random

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]
    Point = tuple[float, float]

SIGNS = 24
"""Different signs of one hand, about as many as an alphabet has letters."""

_ONE_LINE = 2
_SMALLEST = 4.0
_BETWEEN = 0.06
_WORD_GAP = 0.35
_LONGEST_WORD = 10
_FAR = np.float32(1e9)
_BANDS = ((0.28, 0.78), (0.05, 0.78), (0.28, 0.98), (0.05, 0.78))
_DENSE_BAND = (0.05, 0.95)
_BULGE = 0.6


def written(random: Random, ground: Plane) -> Plane:
    """The ground with writing on it: one line that fills the height if it is wide and low, else a text.

    Args:
        random: what chances are taken from.
        ground: float32 [channels, height, width], differences from the colour of the paper.
    """
    channels, height, width = ground.shape
    one_line = width >= _ONE_LINE * height
    share = float(random.between((1,), 0, 1)[0])
    line = height * (0.6 + 0.4 * share) if one_line else min(height, width) / (3 + 20 * share)
    cover = _covered(random, height, width, max(line, _SMALLEST), one_line=one_line)
    dark, light = random.between((2,), 0.3, 1)
    paper, ink = (light, -dark) if random.integers((1,), 3)[0] else (-dark, light)
    tints = random.between((2, channels), -0.25, 0.25) * random.between((2, 1), 0, 1)
    below = ground + (paper + tints[0])[:, None, None]
    made: Plane = below + ((ink + tints[1])[:, None, None] - below) * cover
    return made.astype(np.float32)


def _covered(random: Random, height: int, width: int, line: float, *, one_line: bool) -> Plane:
    """How much of every pixel is covered by ink."""
    cover = np.zeros((height, width), np.float32)
    signs = _alphabet(random, line)
    top, pitch = random.between((2,), 0, 1)
    row = float(top) * (max(height - line, 0) if one_line else line)
    while row + line <= height + 1:
        left, right = random.between((2,), 0, 0.05 if one_line else 0.2)
        column, end = float(left) * width, int(width * (1 - float(right)))
        letters = 0
        for sign, length in random.integers((int(width / (0.2 * line)) + 2, 2), SIGNS):
            if letters == 0:
                letters = 1 + int(length) * _LONGEST_WORD // SIGNS
                column += _WORD_GAP * line
            letters -= 1
            start = int(column)
            part = signs[sign][: height - int(row), : max(end - start, 0)]
            if not part.size:
                break
            area = cover[int(row) : int(row) + part.shape[0], start : start + part.shape[1]]
            np.maximum(area, part, out=area)
            column += signs[sign].shape[1] + _BETWEEN * line
        row += line * (1 + 0.8 * float(pitch))
    return cover


def _alphabet(random: Random, line: float) -> list[Plane]:
    """Signs of one hand: all written with the same pen, upright or slanting; one hand in four has dense signs."""
    pen = line * float(random.between((1,), 0.05, 0.16)[0])
    dense, slants = random.integers((2,), 4) == 0
    slant = float(random.between((1,), 0.1, 0.3)[0]) if slants else 0.0
    signs = []
    for _ in range(SIGNS):
        broad = 0.9 if dense else float(random.between((1,), 0.2, 0.75)[0])
        strokes = int(random.integers((1,), 4)[0]) + (5 if dense else 1)
        band = _DENSE_BAND if dense else _BANDS[random.integers((1,), len(_BANDS))[0]]
        size = (max(int(line), 2), max(int(line * broad), 2))
        signs.append(_slanting(_sign(random, size, strokes, band, pen), slant))
    return signs


def _sign(random: Random, size: tuple[int, int], strokes: int, band: tuple[float, float], pen: float) -> Plane:
    """Strokes and bows between the points of a grid of three by three."""
    rows, columns = size
    y = np.arange(rows, dtype=np.float32)[:, None] + np.float32(0.5)
    x = np.arange(columns, dtype=np.float32)[None, :] + np.float32(0.5)
    nearest = np.full((rows, columns), _FAR, np.float32)
    upper, lower = band[0] * rows, band[1] * rows
    kinds = random.integers((strokes,), 6)
    for (top, bottom, left, right), kind in zip(random.integers((strokes, 4), 3), kinds, strict=True):
        if kind < 2:  # a stem
            top, bottom, right = 0, 2, left
        elif kind == 2:  # a bar
            left, right, bottom = 0, 2, top
        start = (upper + (lower - upper) * top / 2, pen / 2 + (columns - pen) * left / 2)
        end = (upper + (lower - upper) * bottom / 2, pen / 2 + (columns - pen) * right / 2)
        if abs(start[0] - end[0]) + abs(start[1] - end[1]) < 1:
            continue
        points = [start, end]
        if kind >= 4:
            points = _bow(start, end, _BULGE if kind == 4 else -_BULGE, (upper, lower), columns)
        for first, second in itertools.pairwise(points):
            nearest = np.minimum(nearest, _squared_distance(y, x, first, second))
    return (np.float32(0.5 + pen / 2) - np.sqrt(nearest)).clip(0, 1).astype(np.float32)


def _bow(start: Point, end: Point, bulge: float, band: tuple[float, float], columns: int) -> list[Point]:
    """Points of a quadratic curve that leaves the straight line to one side."""
    y = (start[0] + end[0]) / 2 + bulge * (end[1] - start[1])
    x = (start[1] + end[1]) / 2 - bulge * (end[0] - start[0])
    y, x = min(max(y, band[0]), band[1]), min(max(x, 0.0), float(columns))
    return [
        (
            (1 - t) * (1 - t) * start[0] + 2 * t * (1 - t) * y + t * t * end[0],
            (1 - t) * (1 - t) * start[1] + 2 * t * (1 - t) * x + t * t * end[1],
        )
        for t in (0, 0.25, 0.5, 0.75, 1)
    ]


def _squared_distance(y: Plane, x: Plane, first: Point, second: Point) -> Plane:
    """From every pixel to a stroke."""
    dy, dx = second[0] - first[0], second[1] - first[1]
    from_y, from_x = y - np.float32(first[0]), x - np.float32(first[1])
    length = np.float32(max(dy * dy + dx * dx, 1e-6))
    along = ((from_y * np.float32(dy) + from_x * np.float32(dx)) / length).clip(0, 1)
    off_y, off_x = from_y - along * np.float32(dy), from_x - along * np.float32(dx)
    return np.asarray(off_y * off_y + off_x * off_x, np.float32)


def _slanting(sign: Plane, slant: float) -> Plane:
    if not slant:
        return sign
    rows, columns = sign.shape
    made = np.zeros((rows, columns + int(rows * slant) + 1), np.float32)
    for row in range(rows):
        start = int((rows - row) * slant)
        made[row, start : start + columns] = sign[row]
    return made

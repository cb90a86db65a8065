"""Inputs for the further models: sounds that are made up, pictures and lines of text of an evaluation folder.

Every function takes the evaluation's data folder and a half, 0 (to calibrate on) or 1 (to judge on); halves share
nothing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Feed = dict[str, Any]

CLIPS, CAPTCHAS, PAGES, PICTURES = 16, 64, 24, 64
"""How many of each a half has."""

_HERTZ, _SECONDS = 16000, 4
_MUSIC_HERTZ, _MUSIC_SAMPLES = 22050, 43844
_LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_PAGE = (640, 480)


def voices(data: Path, half: int) -> list[Feed]:
    """Gliding tones with a few harmonics, pauses between them, and noise of various strength."""
    feeds = []
    for number in range(CLIPS):
        random = np.random.default_rng([1, half, number])
        time = np.arange(_HERTZ * _SECONDS) / _HERTZ
        glide = random.uniform(0.1, 0.6) * np.sin(2 * np.pi * random.uniform(0.2, 2) * time + random.uniform(0, 6))
        phase = 2 * np.pi * np.cumsum(random.uniform(80, 500) * 2**glide) / _HERTZ
        strengths = random.uniform(0.2, 1, 8) / np.arange(1, 9)
        sound = sum(s * np.sin((k + 1) * phase + random.uniform(0, 6)) for k, s in enumerate(strengths))
        spoken = np.sin(2 * np.pi * random.uniform(0.5, 2) * time + random.uniform(0, 6)) > -0.4
        noise = random.standard_normal(time.size) * 10 ** random.uniform(-3, -1)
        audio = (0.2 * sound * spoken + noise).astype(np.float32)[None]
        limits = {"fmin": np.array(46.875, np.float32), "fmax": np.array(2093.75, np.float32)}
        feeds.append({"audio": audio, **limits})
    return feeds


def chords(data: Path, half: int) -> list[Feed]:
    """Decaying notes with harmonics, several at a time, and some noise."""
    feeds = []
    for number in range(CLIPS):
        random = np.random.default_rng([2, half, number])
        audio = random.standard_normal(_MUSIC_SAMPLES) * 10 ** random.uniform(-4, -2)
        for _ in range(int(random.integers(6, 16))):
            start, length = int(random.integers(0, _MUSIC_SAMPLES - 4000)), int(random.integers(4000, 20000))
            time = np.arange(min(length, _MUSIC_SAMPLES - start)) / _MUSIC_HERTZ
            base = 440 * 2 ** ((random.integers(40, 90) - 69) / 12)
            strengths = random.uniform(0.3, 1, 6) / np.arange(1, 7)
            tone = sum(s * np.sin(2 * np.pi * base * (k + 1) * time) for k, s in enumerate(strengths))
            audio[start : start + time.size] += 0.15 * tone * np.exp(-random.uniform(1, 5) * time)
        feeds.append({"serving_default_input_2:0": audio.astype(np.float32)[None, :, None]})
    return feeds


def captchas(data: Path, half: int) -> list[Feed]:
    """Letters of various size, place, turn and darkness, with lines across."""
    from PIL import Image, ImageDraw, ImageFont

    feeds = []
    for number in range(CAPTCHAS):
        random = np.random.default_rng([3, half, number])
        picture = Image.new("L", (180, 64), int(random.integers(200, 256)))
        for position in range(int(random.integers(4, 7))):
            letter = Image.new("L", (56, 56), 0)
            font = ImageFont.load_default(int(random.integers(28, 44)))
            ImageDraw.Draw(letter).text((12, 4), _LETTERS[int(random.integers(len(_LETTERS)))], fill=255, font=font)
            turned = letter.rotate(float(random.uniform(-20, 20)), Image.Resampling.BILINEAR)
            place = (26 * position + int(random.integers(-3, 4)), int(random.integers(-4, 9)))
            picture.paste(int(random.integers(0, 110)), place, turned)
        draw = ImageDraw.Draw(picture)
        for _ in range(int(random.integers(0, 4))):
            ends = [int(value) for value in random.integers(0, 180, 4) % (180, 64, 180, 64)]
            draw.line(ends, fill=int(random.integers(60, 180)), width=1)
        pixels = np.asarray(picture, np.float32) + random.normal(0, 6, (64, 180)).astype(np.float32)
        feeds.append({"input1": np.clip(pixels / 255, 0, 1).astype(np.float32)[None, None]})
    return feeds


def pictures(data: Path, half: int) -> list[Feed]:
    """Photographs, 320 by 320."""
    from PIL import Image

    chosen = list(_stored(data / "images.npz", "jpeg", half))
    feeds = []
    for picture in chosen[:: max(1, len(chosen) // PICTURES)][:PICTURES]:
        pixels = np.asarray(picture.resize((320, 320), Image.Resampling.BILINEAR), np.float32)
        feeds.append({"images": np.ascontiguousarray(pixels.transpose(2, 0, 1)[None] / 255)})
    return feeds


def pages(data: Path, half: int) -> list[Feed]:
    """Lines of text on pages of one colour."""
    from PIL import Image

    stored = list(_stored(data / "text_lines.npz", "png", half))
    feeds = []
    for number in range(PAGES):
        random = np.random.default_rng([5, half, number])
        page = Image.new("RGB", _PAGE, tuple(int(value) for value in random.integers(170, 256, 3)))
        top = int(random.integers(5, 30))
        while top < _PAGE[1] - 60:
            line = stored[int(random.integers(len(stored)))]
            height = int(random.integers(18, 48))
            width = min(_PAGE[0] - 40, max(1, line.width * height // line.height))
            page.paste(line.resize((width, height)), (int(random.integers(0, _PAGE[0] - width)), top))
            top += height + int(random.integers(8, 50))
        feeds.append({"x": _centred(np.asarray(page, np.float32))})
    return feeds


def lines(data: Path, half: int) -> list[Feed]:
    """Lines of text, 48 high."""
    from PIL import Image

    feeds = []
    for line in _stored(data / "text_lines.npz", "png", half):
        width = int(np.ceil(48 * line.width / line.height))
        feeds.append({"x": _centred(np.asarray(line.resize((width, 48), Image.Resampling.BILINEAR), np.float32))})
    return feeds


def line_texts(data: Path, half: int) -> list[str]:
    """What the lines of text say."""
    with np.load(data / "text_lines.npz") as archive:
        return [str(text) for text in archive["text"][half::2]]


def _centred(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels as PP-OCR takes them: BGR, from -1 to 1, one sample."""
    return np.ascontiguousarray((pixels[:, :, ::-1].transpose(2, 0, 1)[None] / 255 - 0.5) / 0.5)


def _stored(path: Path, key: str, half: int) -> Iterator[Any]:
    from PIL import Image

    with np.load(path) as archive:
        blob, ends = archive[key], archive["offset"]
    for start, end in list(pairwise(ends))[half::2]:
        yield Image.open(io.BytesIO(blob[start:end].tobytes())).convert("RGB")

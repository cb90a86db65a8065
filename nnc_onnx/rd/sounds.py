"""Made-up sounds: talk that says nothing, notes and noises, as a microphone takes them.

Talk is what most networks for sounds listen for: pulses of a throat through the resonances of a mouth that moves, the
hiss of consonants, pauses, and a room that is never silent. Numbers are computed by elementary operations only, so
sounds are the same on every machine.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .random import Random

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sound = NDArray[np.float32]

LEVELS = (0.1, 0.03, 0.3, 1.0)
"""Loudness of sounds, in turn, as rms of the loud parts: full scale is 1, and sounds are rarely near it."""

RATE = 16000
"""Samples per second that sounds are made for; most networks for talk hear that many."""

_NOTE = 8000
_BREATH = 0.2
_ROOMS = (0.01, 0.1, 0.3, 0.03)
_KERNEL = 320
_BANDWIDTHS = (80.0, 110.0, 170.0)
_RESONANCES = ((270.0, 850.0), (800.0, 2400.0), (2300.0, 3200.0))
_GAINS = (1.0, 0.6, 0.3)
_PITCHES = (80.0, 260.0)
_SYLLABLE = (0.08, 0.3)


def sound(random: Random, length: int, number: int) -> Sound:
    """One sound; talk two times in three, notes and noises in between.

    Args:
        random: what chances are taken from.
        length: in samples. What is shorter than a syllable is one note, or noise.
        number: of the sound; kinds and levels take turns.
    """
    if length < _SYLLABLE[1] * RATE:
        made = random.signal((length,), 1)
        if number % 2:
            made = random.tone((length,)) + made * np.float32(_BREATH)
        return made * np.float32(LEVELS[number // 2 % len(LEVELS)])
    if number % 3 < 2:
        made = talk(random, length)
    else:
        made = _notes(random, length) if number % 2 else random.signal((length,), 1)
    room = random.signal((length,), 1) * np.float32(_ROOMS[number // 2 % len(_ROOMS)])
    loud = np.float32(LEVELS[number % len(LEVELS)])
    return ((made + room) * loud).clip(-1, 1).astype(np.float32)


def _notes(random: Random, length: int) -> Sound:
    """Tones that begin one after the other and fade."""
    made = np.zeros(length, np.float32)
    for start in random.integers((max(length // (_NOTE // 2), 1),), length):
        end = min(int(start) + _NOTE, length)
        fading = np.arange(_NOTE, 0, -1, dtype=np.float32) / np.float32(_NOTE)
        made[start:end] += random.tone((_NOTE,))[: end - start] * fading[: end - start]
    return made


def talk(random: Random, length: int) -> Sound:
    """Syllables and pauses, of an rms of about 1 where it is loud."""
    made = np.zeros(length + _KERNEL, np.float32)
    pitch = float(random.between((1,), *_PITCHES)[0])
    mouth = _mouth(random)
    at = -int(random.integers((1,), int(_SYLLABLE[1] * RATE))[0])
    while at < length:
        lasts, loud, bend = (float(x) for x in random.between((3,), 0, 1))
        samples = int((_SYLLABLE[0] + (_SYLLABLE[1] - _SYLLABLE[0]) * lasts) * RATE)
        kind = int(random.integers((1,), 6)[0])
        level = 0.2 + 0.8 * loud
        if kind < 4:
            target = _mouth(random)
            _voice(made, at, samples, pitch * (0.8 + 0.4 * bend), mouth, target, level)
            mouth = target
        elif kind == 4:
            _hiss(random, made, at, samples // 2, level)
            samples //= 2
        at += samples
    return made[:length]


def series(random: Random, shape: tuple[int, ...], number: int) -> Sound:
    """Vectors: neighbours are alike in time and, as the bands of a spectrum are, among the features.

    Every other one is at a level of its own, as logarithms are, which are mostly below 0.
    """
    if len(shape) < 3:
        return random.normal(shape)
    if shape[1] == 1:
        made = np.moveaxis(random.signal((*shape[1:-1], shape[0], shape[-1]), 2), -2, 0)
    else:
        made = random.signal(shape, 2)
    if number % 2 == 0:
        return made
    spread, level = random.integers((2,), 1 << 16) / (1 << 16)
    offsets = random.normal(shape[-1:]) * np.float32(0.5) + np.float32(6 * level - 4)
    return made * np.float32(0.3 + 1.7 * spread) + offsets


def _mouth(random: Random) -> list[float]:
    return [float(random.between((1,), *span)[0]) for span in _RESONANCES]


def _voice(
    made: Sound, at: int, samples: int, pitch: float, start: list[float], end: list[float], level: float
) -> None:
    """Add pulses, each ringing in the resonances that the mouth has then."""
    place, period = 0.0, RATE / pitch
    while place < samples:
        share = place / samples
        index = at + int(place)
        if 0 <= index < len(made) - _KERNEL:
            swell = min(1.0, 6 * share, 4 * (1 - share)) * level
            ringing = _ringing([a + (b - a) * share for a, b in zip(start, end, strict=True)])
            made[index : index + _KERNEL] += ringing * np.float32(swell)
        place += period * (1 + 0.2 * share)


def _ringing(resonances: list[float]) -> Sound:
    """What one pulse sounds like: every resonance rings on, ever weaker, by a recursion of second order."""
    total = np.zeros(_KERNEL)
    for resonance, bandwidth, gain in zip(resonances, _BANDWIDTHS, _GAINS, strict=True):
        radius = 1 - math.pi * bandwidth / RATE
        feed = 2 * radius * _cosine(2 * math.pi * resonance / RATE)
        values = [0.0, 1.0]
        while len(values) < _KERNEL:
            values.append(feed * values[-1] - radius * radius * values[-2])
        total += gain * np.array(values)
    return total.astype(np.float32)


def _cosine(angle: float) -> float:
    """By its series, whose last digit no library decides; for angles up to about 2."""
    square = angle * angle
    return 1 - square / 2 * (1 - square / 12 * (1 - square / 30 * (1 - square / 56 * (1 - square / 90))))


def _hiss(random: Random, made: Sound, at: int, samples: int, level: float) -> None:
    """Add noise with more power the higher the frequency, as of consonants."""
    noise = random.normal((samples + 1,))
    rise = np.minimum(np.arange(samples), np.arange(samples)[::-1]) * (4.0 / max(samples, 1))
    hiss = (noise[1:] - noise[:-1]) * np.minimum(rise, 1).astype(np.float32) * np.float32(0.5 * level)
    first, last = max(at, 0), min(at + samples, len(made))
    if first < last:
        made[first:last] += hiss[first - at : last - at]

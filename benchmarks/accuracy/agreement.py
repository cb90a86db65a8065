"""How far two models say the same, in per cent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Outputs = list[list[NDArray[Any]]]

VOICED = 0.5
"""Confidence from which a frame has a pitch."""

CENTS = 50.0
"""Pitches nearer than this are the same."""

NOTE, ONSET = 0.3, 0.5
"""Thresholds of notes and of their beginnings that basic-pitch uses."""

TEXT = 0.3
"""Threshold of text areas."""

_FLOOR = 1e-3


def pitch(wanted: Outputs, found: Outputs) -> float:
    """Frames that both take for unvoiced, or to whose pitch both give the same value."""
    same = total = 0
    for (f0, confidence), (other_f0, other_confidence) in zip(wanted, found, strict=True):
        voiced, other_voiced = confidence >= VOICED, other_confidence >= VOICED
        near = np.abs(1200 * np.log2(np.maximum(other_f0, 1) / np.maximum(f0, 1))) < CENTS
        same += int(((voiced == other_voiced) & (near | ~voiced)).sum())
        total += voiced.size
    return 100 * same / total


def notes(wanted: Outputs, found: Outputs) -> float:
    """F1 of notes and onsets, cell by cell; outputs with 88 columns are these, in the model's order."""
    hits = either = 0
    for left, right in zip(wanted, found, strict=True):
        pairs = [(a, b) for a, b in zip(left, right, strict=True) if a.shape[-1] == 88]
        for (a, b), threshold in zip(pairs, (NOTE, ONSET), strict=True):
            hits += 2 * int(((a >= threshold) & (b >= threshold)).sum())
            either += int((a >= threshold).sum() + (b >= threshold).sum())
    return 100 * hits / max(either, 1)


def readings(wanted: Outputs, found: Outputs) -> float:
    """Characters that both read."""
    sequences = [[collapsed(_classes(run[0])) for run in runs] for runs in (wanted, found)]
    return character_accuracy(*sequences)


def detections(wanted: Outputs, found: Outputs) -> float:
    """Correlation of the log odds of all classes at all places where either model sees anything."""
    a = np.concatenate([run[0][:, 4:].reshape(-1) for run in wanted]).astype(np.float64)
    b = np.concatenate([run[0][:, 4:].reshape(-1) for run in found]).astype(np.float64)
    seen = (a > _FLOOR) | (b > _FLOOR)
    odds = [np.log(p) - np.log1p(-p) for p in (np.clip(values[seen], _FLOOR / 10, 1 - _FLOOR) for values in (a, b))]
    return float(100 * np.corrcoef(*odds)[0, 1])


def areas(wanted: Outputs, found: Outputs) -> float:
    """Overlap of the areas taken for text, as a share of both together."""
    both = either = 0
    for left, right in zip(wanted, found, strict=True):
        a, b = left[0] >= TEXT, right[0] >= TEXT
        both += int((a & b).sum())
        either += int((a | b).sum())
    return 100 * both / max(either, 1)


def collapsed(scores: NDArray[Any]) -> list[int]:
    """The labels of a CTC output (steps, classes): repetitions once, blanks (0) dropped."""
    best = scores.argmax(-1)
    return [int(k) for at, k in enumerate(best) if k and (at == 0 or best[at - 1] != k)]


def character_accuracy(wanted: Sequence[Sequence[Any]], found: Sequence[Sequence[Any]]) -> float:
    """100 less the edit distance in per cent of the characters wanted, text by text at most all of them."""
    wrong = sum(min(len(a), _distance(a, b)) for a, b in zip(wanted, found, strict=True))
    return 100 * (1 - wrong / max(sum(map(len, wanted)), 1))


def _classes(output: NDArray[Any]) -> NDArray[Any]:
    """(steps, classes) of an output with one sample in the first or the second dimension."""
    return output[:, 0] if output.shape[0] != 1 else output[0]


def _distance(a: Sequence[Any], b: Sequence[Any]) -> int:
    previous = list(range(len(b) + 1))
    for i, x in enumerate(a):
        current = [i + 1]
        for j, y in enumerate(b):
            current.append(min(previous[j + 1] + 1, current[j] + 1, previous[j] + (x != y)))
        previous = current
    return previous[-1]

"""The data of an evaluation folder in two halves: one to calibrate on, one to judge on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def split_data(data: Path, target: Path) -> Path:
    """Write ``calibration`` (the even samples) and ``held_out`` (the odd ones) below `target`; returns it.

    Samples are pictures, files, clips, or pairs of sentences.
    """
    for name, half in HALVES.items():
        if not (data / name).exists():
            continue
        with np.load(data / name) as archive:
            arrays = {key: archive[key] for key in archive.files}
        for folder, first in (("calibration", 0), ("held_out", 1)):
            (target / folder).mkdir(parents=True, exist_ok=True)
            np.savez(target / folder / name, **half(arrays, first))
    return target


def _samples(arrays: Arrays, first: int) -> Arrays:
    """Arrays with one row per sample."""
    return {name: array[first::2] for name, array in arrays.items()}


def _pictures(blob: str) -> Callable[[Arrays, int], Arrays]:
    """Files one after the other, and where each begins."""

    def half(arrays: Arrays, first: int) -> Arrays:
        ends = arrays["offset"]
        picked = [arrays[blob][a:b] for a, b in zip(ends[:-1][first::2], ends[1:][first::2], strict=True)]
        rest = {name: array for name, array in arrays.items() if name not in (blob, "offset")}
        offset = np.cumsum([0, *map(len, picked)]).astype(ends.dtype)
        return {blob: np.concatenate(picked), "offset": offset, **_samples(rest, first)}

    return half


def _clips(arrays: Arrays, first: int) -> Arrays:
    return {
        "clean": _runs(arrays["clean"], arrays["length"], first),
        "noise": _runs(arrays["noise"], arrays["length"], first),
        "label": _runs(arrays["label"], arrays["label_length"], first),
        "length": arrays["length"][first::2],
        "label_length": arrays["label_length"][first::2],
    }


def _sentences(arrays: Arrays, first: int) -> Arrays:
    """All first sentences of the pairs, then all second ones."""
    result: Arrays = {}
    for key in (name.removesuffix("_len") for name in arrays if name.endswith("_len")):
        lengths, scores = arrays[f"{key}_len"], arrays[f"{key}_score"]
        picked = np.arange(first, len(scores), 2)
        order = np.concatenate([picked, picked + len(scores)])
        at = np.concatenate([[0], np.cumsum(lengths)])
        result[f"{key}_ids"] = np.concatenate([arrays[f"{key}_ids"][at[n] : at[n + 1]] for n in order])
        result[f"{key}_len"], result[f"{key}_score"] = lengths[order], scores[picked]
    return result


def _runs(values: NDArray[Any], lengths: NDArray[Any], first: int) -> NDArray[Any]:
    """Every other one of several runs of values."""
    at = np.concatenate([[0], np.cumsum(lengths)])
    return np.concatenate([values[at[n] : at[n + 1]] for n in range(first, len(lengths), 2)])


HALVES: dict[str, Callable[[Arrays, int], Arrays]] = {
    "images.npz": _pictures("jpeg"),
    "text_lines.npz": _pictures("png"),
    "file_types.npz": _samples,
    "speech.npz": _clips,
    "sentence_pairs.npz": _sentences,
}
"""How to take half of the samples, starting with the first or the second, by file."""

"""Calibration inputs: a few real inputs of the model, without labels."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nnc_codec.files import require_readable

from .errors import CalibrationError
from .network import Feed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .signature import Input

MOST_SAMPLES = 1024

JUDGING = 4
"""One feed in so many is kept from error feedback and tells what plans do: on feeds that it has seen, layers with more
inputs than vectors look as if they lost nothing."""

_LONGEST_BATCH = 8

Calibration = str | Path | Mapping[str, "NDArray[Any]"] | Iterable[Feed]
"""A ``.npz`` file with one array per input and the samples along the first dimension; a folder of such files, each
a feed of its own; the arrays themselves; or feeds."""


def load_calibration(source: Calibration, inputs: Sequence[Input]) -> list[Feed]:
    """Read and check calibration inputs.

    Args:
        source: see :data:`Calibration`.
        inputs: the model's inputs.

    Returns:
        Feeds of the model's types, cut along the first dimension where the model lets its size free.

    Raises:
        CalibrationError: nothing there, wrong names, types or shapes, NaN or infinity.
        FileAccessError: a file cannot be read.
    """
    if isinstance(source, (str, Path)):
        path = require_readable(source)
        files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        feeds: list[Feed] = [_read(file) for file in files]
    elif isinstance(source, Mapping):
        feeds = [cast(Feed, source)]
    else:
        feeds = []
        for feed in source:
            if len(feeds) == MOST_SAMPLES:
                break
            feeds.append(feed)
    if not feeds:
        raise CalibrationError("there are no calibration inputs", hint="give at least one feed")
    cut = [part for number, feed in enumerate(feeds) for part in _cut(_checked(feed, number, inputs), inputs)]
    return cut[:MOST_SAMPLES]


def shared_out(feeds: list[Feed]) -> tuple[list[Feed], list[Feed]]:
    """Feeds for error feedback, and feeds for judging; all of them for both if there are too few."""
    judged = feeds[JUDGING // 2 :: JUDGING]
    if len(feeds) < JUDGING:
        return feeds, feeds
    return [feed for number, feed in enumerate(feeds) if number % JUDGING != JUDGING // 2], judged


def _read(path: Path) -> Feed:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise CalibrationError(f"{path} is no .npz file")
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise CalibrationError(f"{path} cannot be read: {error}", hint="make it with numpy.savez") from error


def _checked(feed: Feed, number: int, inputs: Sequence[Input]) -> Feed:
    where = f"calibration feed {number}"
    if not isinstance(feed, Mapping):
        raise CalibrationError(f"{where} is no mapping from input names to arrays")
    known = {value.name for value in inputs}
    for name in feed:
        if name not in known:
            raise CalibrationError(f"{where} has {name!r}, which is no input", hint=f"inputs: {', '.join(known)}")
    checked: dict[str, NDArray[Any]] = {}
    for value in inputs:
        if value.name not in feed:
            raise CalibrationError(f"{where} lacks input {value.name!r}")
        array = np.asarray(feed[value.name])
        if array.dtype.kind not in "biuf":
            raise CalibrationError(f"{where}: {value.name!r} is of type {array.dtype}, not of numbers")
        if array.dtype.kind == "f" and value.dtype.kind != "f":
            raise CalibrationError(f"{where}: {value.name!r} is of type {array.dtype}, the model wants {value.dtype}")
        if array.size == 0 and 0 not in value.dims:
            raise CalibrationError(f"{where}: {value.name!r} is empty")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CalibrationError(f"{where}: {value.name!r} contains NaN or infinity")
        fits = array.ndim == len(value.dims) and all(
            not isinstance(want, int) or have == want or (axis == 0 and array.ndim > 1 and have % want == 0)
            for axis, (have, want) in enumerate(zip(array.shape, value.dims, strict=True))
        )
        if not fits:
            raise CalibrationError(f"{where}: {value.name!r} has shape {array.shape}, the model wants {value.dims}")
        checked[value.name] = array.astype(value.dtype)
    return checked


def _cut(feed: Feed, inputs: Sequence[Input]) -> list[Feed]:
    """Parts of a feed that the model takes at once: a few samples each."""
    batched = {value.name: value.dims[0] for value in inputs if len(value.dims) > 1}
    counts = {feed[name].shape[0] // (size if isinstance(size, int) else 1) for name, size in batched.items()}
    if len(counts) != 1:
        return [feed]
    parts: list[Feed] = []
    free = not any(isinstance(size, int) for size in batched.values())
    step = _LONGEST_BATCH if free else 1
    for start in range(0, counts.pop(), step):
        part = {}
        for name, array in feed.items():
            size = batched.get(name)
            unit = size if isinstance(size, int) else 1
            part[name] = array if name not in batched else array[start * unit : (start + step) * unit]
        parts.append(part)
    return parts

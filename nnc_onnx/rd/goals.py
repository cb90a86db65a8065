"""What planning aims at."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from .errors import GoalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Preset = Literal["high", "balanced", "small"]

Run = Callable[[Mapping[str, "NDArray[Any]"]], "list[NDArray[Any]]"]
"""Runs the model on a feed and returns its outputs in order."""

Metric = Callable[[Run], float]
"""Judges a model, given as :data:`Run`; higher is better."""


PRESETS: dict[Preset, float] = {"high": -6.0, "balanced": -3.0, "small": 0.0}
"""dB added to the limits of a model (``tolerance.py``); models measured keep their metric with "balanced"."""


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan aims at. At most one of the targets is given; without one the preset decides.

    Attributes:
        preset: how fine steps are on the whole.
        target_bytes: size of the packed model, everything included.
        target_ratio: the same as a fraction of the original, in (0, 1].
        max_error: rms change of the outputs relative to their rms, in (0, 1].
        max_drop: what `metric` may lose, in its own unit.
    """

    preset: Preset = "balanced"
    target_bytes: int | None = None
    target_ratio: float | None = None
    max_error: float | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise GoalError(f"there is no preset {self.preset!r}", hint=f"known: {', '.join(PRESETS)}")
        targets = (self.target_bytes, self.target_ratio, self.max_error, self.max_drop)
        if sum(target is not None for target in targets) > 1:
            raise GoalError("only one target can be met at a time", hint="drop all but one")
        for name, value in (("target_ratio", self.target_ratio), ("max_error", self.max_error)):
            if value is not None and not 0 < value <= 1:
                raise GoalError(f"{name} = {value} is outside (0, 1]")
        if self.target_bytes is not None and self.target_bytes <= 0:
            raise GoalError(f"target_bytes = {self.target_bytes} is not positive")
        if self.max_drop is not None and not (self.max_drop >= 0 and math.isfinite(self.max_drop)):
            raise GoalError(f"max_drop = {self.max_drop} is not a finite number from 0 up")

    def size(self, original_bytes: int) -> int | None:
        """Bytes the packed model may have; ``None`` without such a target."""
        if self.target_ratio is not None:
            return int(self.target_ratio * original_bytes)
        return self.target_bytes

"""Planning as the command line asks for it."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import msgspec

from .errors import GoalError
from .goals import Goal, Metric, Preset


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Options of ``onnx-nnc pack`` that ask for planning; ``None`` where not given.

    Attributes:
        fast: plan from the weights alone; the model is not run.
        preset, target_bytes, max_error, max_drop: as in :class:`Goal`.
        target_ratio: in per cent with a ``%``, else as a fraction.
        calibration: file or folder of real inputs.
        metric: ``module:function``.
    """

    fast: bool = False
    preset: Preset | None = None
    calibration: Path | None = None
    target_ratio: str | None = None
    target_bytes: int | None = None
    max_error: float | None = None
    max_drop: float | None = None
    metric: str | None = None

    @property
    def is_given(self) -> bool:
        """Whether anything but the defaults is asked for."""
        return self not in (Wish(), Wish(fast=True))

    def goal(self) -> Goal:
        """The goal.

        Raises:
            GoalError: it makes no sense.
        """
        if self.fast and self.is_given:
            raise GoalError("--fast does not run the model, other targets need that", hint="leave one of them out")
        return Goal(
            preset=self.preset or "balanced",
            target_bytes=self.target_bytes,
            target_ratio=_ratio(self.target_ratio),
            max_error=self.max_error,
            max_drop=self.max_drop,
        )

    def judge(self) -> Metric | None:
        """The metric; modules are looked for in the working directory too.

        Raises:
            GoalError: there is no such function.
        """
        if self.metric is None:
            return None
        module, _, function = self.metric.partition(":")
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            found = getattr(importlib.import_module(module), function)
        except (ImportError, ValueError, AttributeError) as error:
            raise GoalError(f"metric {self.metric!r} is not found: {error}", hint="give module:function") from error
        if not callable(found):
            raise GoalError(f"metric {self.metric!r} is no function")
        judged: Metric = found
        return judged


def _ratio(text: str | None) -> float | None:
    if text is None:
        return None
    number = text.strip()
    try:
        return float(number[:-1]) / 100 if number.endswith("%") else float(number)
    except ValueError as error:
        raise GoalError(f"target ratio {text!r} is no number", hint="e.g. 10%") from error

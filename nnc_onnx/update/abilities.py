"""Making and applying updates, as the model formats of this package offer it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnc_codec.abilities import ApplyOptions, DiffOptions
    from nnc_codec.formats import ProgressCallback
    from nnc_codec.update_report import ApplyReport, DiffReport

_ENDINGS = (".onnx", ".nnr", ".nnc", ".plain", ".updated")


def _stem(path: Path) -> str:
    name = path.name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name


class OnnxUpdates:
    """Implements :class:`nnc_codec.abilities.Updater` for files that hold ONNX models."""

    def default_update(self, new: Path) -> Path:
        """``m.onnx`` -> ``m.update.nnr``."""
        return new.with_name(f"{_stem(new)}.update.nnr")

    def default_updated(self, base: Path) -> Path:
        """``m.onnx`` -> ``m.updated.onnx``."""
        return base.with_name(f"{_stem(base)}.updated.onnx")

    def diff(
        self, base: Path, new: Path, output: Path, options: DiffOptions, *, progress: ProgressCallback | None = None
    ) -> DiffReport:
        """See :func:`nnc_onnx.update.diff`."""
        from .updates import diff

        return diff(base, new, output, options, progress=progress)

    def apply(
        self,
        base: Path,
        updates: Sequence[Path],
        output: Path,
        options: ApplyOptions,
        *,
        progress: ProgressCallback | None = None,
    ) -> ApplyReport:
        """See :func:`nnc_onnx.update.apply`."""
        from .updates import apply

        return apply(base, updates, output, options, progress=progress)

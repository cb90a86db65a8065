"""What a run-time benchmark is asked and what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from nnc_codec.errors import InvalidArgumentError
from nnc_codec.report import Report


class Configuration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way to run a model.

    Attributes:
        name: what the table calls it.
        mode: of :class:`nnc_onnx.InferenceSession`, or ``"plain"`` for the plain model in onnxruntime itself.
        cache_bytes: likewise.
        resident: likewise.
    """

    name: str
    mode: str
    cache_bytes: int | float | Literal["all"] | None = None
    resident: bool = True


CONFIGURATIONS = (
    Configuration(name="plain", mode="plain"),
    Configuration(name="lazy", mode="lazy"),
    Configuration(name="cache 50 %", mode="cache", cache_bytes=0.5),
    Configuration(name="cache 100 %", mode="cache", cache_bytes="all"),
    Configuration(name="cache 100 %, no constants", mode="cache", cache_bytes="all", resident=False),
    Configuration(name="eager", mode="eager"),
    Configuration(name="int8", mode="int8"),
)
"""What is measured if nothing else is asked for."""


class BenchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is measured.

    Attributes:
        against: the plain model; ``None`` unpacks the packed one.
        configurations: what to measure, by name; all if empty. ``"plain"`` is always measured.
        inputs: ``.npz`` file with one array per model input; ``None`` makes random ones.
        batch: size of the first dimension of inputs where it is not fixed.
        dims: sizes for symbolic dimensions by name; others are 1.
        seed: of the random inputs.
        runs: runs per configuration; the first one is counted apart. A slow configuration runs fewer times.
        threads: threads that compute; 0 for onnxruntime's default.
    """

    against: Path | None = None
    configurations: tuple[str, ...] = ()
    inputs: Path | None = None
    batch: int = 1
    dims: dict[str, int] = {}
    seed: int = 0
    runs: int = 10
    threads: int = 0

    def __post_init__(self) -> None:
        for name, low in (("batch", 1), ("runs", 2), ("threads", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise InvalidArgumentError(f"{name} = {getattr(self, name)} is below {low}")
        known = [configuration.name for configuration in CONFIGURATIONS]
        for name in self.configurations:
            if name not in known:
                raise InvalidArgumentError(f"there is no configuration {name!r}", hint=f"known: {'; '.join(known)}")


class BenchRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One configuration, measured in a process of its own.

    Attributes:
        name: of the configuration.
        failure: why there are no figures.
        mode: what the mode came down to.
        runs: later runs, after the first one.
        create_seconds: time to create the session.
        first_seconds: latency of the first run.
        median_seconds: median latency of the later runs.
        processor_seconds: median processor time of the later runs, all threads together.
        relative: `median_seconds` divided by that of the plain model.
        relative_processor: the same of `processor_seconds`.
        peak_bytes: most memory the process had resident, beyond what it had before the session was created; ``None``
            where the system does not tell.
        relative_peak: `peak_bytes` divided by that of the plain model.
        anonymous_bytes: memory of its own after the runs, likewise.
        file_bytes: mapped files in memory after the runs, likewise.
        constant_bytes: weights held as constants.
        hit_rate: share of requests for coded weights that the cache served in the later runs.
        decode_seconds: time spent decoding per later run, summed over threads.
        output_change: relative rms difference of the outputs to those of the plain model, the largest of all outputs.
        identical: outputs are bit for bit those of the plain model.
    """

    name: str
    failure: str | None = None
    mode: str | None = None
    runs: int = 0
    create_seconds: float = 0.0
    first_seconds: float = 0.0
    median_seconds: float = 0.0
    processor_seconds: float = 0.0
    relative: float | None = None
    relative_processor: float | None = None
    peak_bytes: int | None = None
    relative_peak: float | None = None
    anonymous_bytes: int | None = None
    file_bytes: int | None = None
    constant_bytes: int = 0
    hit_rate: float | None = None
    decode_seconds: float = 0.0
    output_change: float | None = None
    identical: bool = False


class BenchReport(Report, frozen=True, kw_only=True, omit_defaults=True, tag="bench"):
    """Result of ``bench``.

    Attributes:
        runtime: runtime and version.
        against: path of the plain model, ``None`` if the packed model was unpacked for it.
        batch: size of the first dimension of inputs where it was not fixed.
        threads: threads that computed; 0 for onnxruntime's default.
        runs: runs per configuration that were asked for.
        rows: one per configuration, the plain model first.
    """

    runtime: str
    rows: tuple[BenchRow, ...]
    against: str | None = None
    batch: int = 1
    threads: int = 0
    runs: int = 0

"""Options that several commands share."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file; its kind is recognised by content.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write; default beside MODEL.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite the output.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document (see schemas/) and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print a line per tensor.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=0, metavar="N", help="Worker threads; 0: one per processor.")]
Dims = Annotated[
    list[str] | None,
    typer.Option("--dim", metavar="NAME=SIZE", help="Size of a symbolic input dimension (repeatable)."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the random inputs.")]


class MethodChoice(str, Enum):
    """Quantization methods by the names of :class:`nnc_codec.EncodeParams`."""

    dq = "dq"
    uniform = "uniform"
    codebook = "codebook"


Quantizer = Annotated[MethodChoice, typer.Option("--method", help="Quantization method.")]


class PresetChoice(str, Enum):
    """Presets by the names of :data:`nnc_onnx.rd.PRESETS`."""

    high = "high"
    balanced = "balanced"
    small = "small"


class TopologyChoice(str, Enum):
    """How an NNR file carries the model beside its tensors."""

    deflate = "deflate"
    raw = "raw"
    none = "none"


class ModeChoice(str, Enum):
    """How a session holds weights, by the modes of :class:`nnc_onnx.InferenceSession`."""

    auto = "auto"
    lazy = "lazy"
    cache = "cache"
    eager = "eager"
    int8 = "int8"


class PayloadChoice(str, Enum):
    """What conversion does with payloads that cannot be carried over."""

    refuse = "refuse"
    reencode = "reencode"
    raw = "raw"


def parse_dims(dims: list[str] | None) -> dict[str, int]:
    """``["batch=4"]`` -> ``{"batch": 4}``.

    Raises:
        click.UsageError: an entry has another form.
    """
    parsed = {}
    for entry in dims or []:
        name, _, size = entry.rpartition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise typer.BadParameter(f"{entry!r} is not NAME=SIZE with a positive size", param_hint="--dim")
        parsed[name] = int(size)
    return parsed


def parse_shapes(shapes: list[str] | None) -> dict[str, tuple[int, ...]]:
    """``["x=1x3x224x224"]`` -> ``{"x": (1, 3, 224, 224)}``.

    Raises:
        click.UsageError: an entry has another form.
    """
    parsed = {}
    for entry in shapes or []:
        name, _, text = entry.rpartition("=")
        sizes = text.split("x")
        if not name or not all(size.isdecimal() and int(size) > 0 for size in sizes):
            raise typer.BadParameter(f"{entry!r} is not INPUT=1x3x224x224", param_hint="--shape")
        parsed[name] = tuple(map(int, sizes))
    return parsed


def parse_numbers(entries: list[str] | None) -> dict[str, int | float]:
    """``["rate=16000"]`` -> ``{"rate": 16000}``.

    Raises:
        click.UsageError: an entry has another form.
    """
    parsed: dict[str, int | float] = {}
    for entry in entries or []:
        name, _, text = entry.rpartition("=")
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not name or not math.isfinite(number):
            raise typer.BadParameter(f"{entry!r} is not INPUT=NUMBER", param_hint="--fix")
        parsed[name] = int(number) if number.is_integer() else number
    return parsed


def parse_share(text: str | None, option: str) -> float | None:
    """``"50%"`` or ``"0.5"`` -> 0.5.

    Args:
        text: as given; ``None`` stays.
        option: named in the error.

    Raises:
        click.UsageError: it is no number.
    """
    if text is None:
        return None
    number = text.strip()
    try:
        return float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no share, e.g. 50%", param_hint=option) from None


def parse_budget(text: str | None) -> int | float | Literal["all"] | None:
    """``"1000"`` -> bytes, ``"50%"`` -> fraction, ``"all"`` -> itself.

    Raises:
        click.UsageError: it is none of these.
    """
    if text is None:
        return None
    if text == "all":
        return "all"
    number = text.removesuffix("%")
    if not number.isdecimal() or (text != number and int(number) > 100):
        raise typer.BadParameter(
            f"{text!r} is neither a number of bytes, nor 0% to 100%, nor all", param_hint="--cache-bytes"
        )
    return int(number) if text == number else int(number) / 100

"""``onnx-nnc inspect --syntax``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from nnc_codec.formats import ModelFormat


def print_syntax(model_format: ModelFormat, model: Path, *, json: bool) -> None:
    """Print every element of every bitstream in `model` while it is read."""
    from nnc_codec.abilities import bitstream_source
    from nnc_codec.syntax_trace import write_json, write_text

    bitstreams = bitstream_source(model_format, model).bitstreams(model)

    def write(text: str) -> None:
        typer.echo(text, nl=False)

    if json:
        write_json(str(model), bitstreams, write)
    else:
        write_text(bitstreams, write)

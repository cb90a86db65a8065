"""Incremental updates: new values for some variables, appended to a packed archive."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nnc_codec
from nnc_codec.errors import InvalidArgumentError
from nnc_codec.formats import PackOptions
from nnc_codec.params import EncodeParams
from nnc_onnx.coding import measure

from .archive_writer import append_to_tar
from .coding import code_variable
from .container import GRAPH
from .index import weights_number
from .layout import Payload, weight_members
from .model import open_model
from .units import Unit, cut


def update(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    values: Mapping[str, NDArray[Any]],
    options: PackOptions | None = None,
) -> int:
    """Appends new values of coded variables to a packed tar; everything in it stays where it is.

    The new bitstream and its index follow the old ones; readers take a variable from the last bitstream that has it.

    Args:
        source: packed ``.nnef.tar``.
        output: tar to write; may be `source` with ``options.force``.
        values: new values by label, in the variables' shapes.
        options: how they are coded.

    Returns:
        Size of the new archive in bytes.

    Raises:
        InvalidArgumentError: not a packed tar, an unknown or plain variable, or another shape.
        NNRError: unreadable or damaged files.
    """
    options = options or PackOptions()
    payloads: dict[str, Payload] = {}
    with open_model(source) as model:
        if model.archive.kind != "tar" or not model.packed:
            raise InvalidArgumentError(f"{source} is no packed tar", hint="pack it to .nnef.tar first")
        for label, array in values.items():
            variable = model.get(label)
            if variable is None or not variable.coded:
                raise InvalidArgumentError("there is no coded variable of this label", tensor=label)
            if tuple(array.shape) != variable.shape:
                raise InvalidArgumentError(f"values of shape {array.shape}, not {variable.shape}", tensor=label)
            typed = np.ascontiguousarray(array).astype(variable.dtype, copy=False)
            exact = _is_exact(variable.unit())
            unit = _raw(label, typed) if exact else _coded(label, typed, options, sum(a.size for a in values.values()))
            decoded = nnc_codec.decode_single(unit.bitstream, typed.dtype, typed.shape)
            payloads[label] = Payload(
                unit=unit, shape=variable.shape, item=variable.item, error=measure(typed, decoded)
            )
        numbers = [weights_number(name) or 0 for name in model.bitstreams]
        members = weight_members(model.archive.read(GRAPH), payloads, first=max(numbers) + 1)
    return append_to_tar(Path(source), Path(output), members, force=options.force)


def _coded(label: str, array: NDArray[Any], options: PackOptions, total: int) -> Unit:
    coded = code_variable(label, array, options, total)
    if not isinstance(coded, str):
        return coded.unit
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise InvalidArgumentError(coded, tensor=label)
    # An update has to be coded even where that saves nothing.
    return _raw(label, array)


def _raw(label: str, array: NDArray[Any]) -> Unit:
    return cut(nnc_codec.encode({label: array}, EncodeParams(method="raw", topology=False)))


def _is_exact(unit: Unit) -> bool:
    return all(tensor.method == "raw" for tensor in nnc_codec.open(unit.bitstream).values())

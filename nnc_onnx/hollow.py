"""ONNX models whose weights are elsewhere: tensors keep name, type and shape, and name what holds their values.

A hollow TensorProto has ``data_location`` EXTERNAL and one ``external_data`` entry, ``topology_elem_id``: the name of
the tensor in the bitstream. No file is meant by it. Models that another tool hollowed by just leaving the data out are
understood if the names agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ExternalDataError
from .model_io import all_tensors
from .plan import PlannedTensor
from .tensors import element_count, is_external, read_bytes

if TYPE_CHECKING:
    import onnx

ELEMENT_KEY = "topology_elem_id"
_VALUES = (
    "raw_data",
    "float_data",
    "double_data",
    "int32_data",
    "int64_data",
    "uint64_data",
    "string_data",
    "external_data",
    "data_location",
)


def element_ids(planned: Sequence[PlannedTensor]) -> list[str]:
    """A unique name for each of `planned` in a bitstream: its own, behind the graph's path where others have it too."""
    counts = Counter(tensor.name for tensor in planned)
    taken = {name for name, count in counts.items() if name and count == 1}
    ids = []
    for tensor in planned:
        if tensor.name in taken:
            ids.append(tensor.name)
            continue
        stem = name = "/".join((*tensor.path, tensor.name or tensor.origin))
        count = 1
        while name in taken:
            count += 1
            name = f"{stem}#{count}"
        taken.add(name)
        ids.append(name)
    return ids


def clear_values(tensor: onnx.TensorProto) -> None:
    """Take the values out of a tensor."""
    for field in _VALUES:
        tensor.ClearField(field)


def make_hollow(tensor: onnx.TensorProto, element_id: str) -> None:
    """Take the values out of a tensor and note where they are."""
    from onnx import TensorProto

    clear_values(tensor)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key=ELEMENT_KEY, value=element_id)


def is_hollow(tensor: onnx.TensorProto) -> bool:
    """Whether :func:`make_hollow` took the values out of a tensor."""
    entries = tensor.external_data
    return is_external(tensor) and len(entries) == 1 and entries[0].key == ELEMENT_KEY


def element_of(tensor: onnx.TensorProto) -> str | None:
    """The name under which the values of a hollow tensor are found; ``None`` if the tensor holds its values.

    Raises:
        ExternalDataError: the values are said to be in a file, which a model inside a bitstream does not have.
    """
    if not is_external(tensor):
        return None
    if is_hollow(tensor):
        return str(tensor.external_data[0].value)
    raise ExternalDataError("a model inside a bitstream refers to a file", tensor=tensor.name)


def hollow_tensors(proto: onnx.ModelProto, elements: Collection[str]) -> Iterator[tuple[onnx.TensorProto, str]]:
    """Every hollow tensor of a model with the name under which its values are found.

    Args:
        proto: the model.
        elements: names in the bitstream, for tensors without values that do not say where these are.

    Raises:
        ExternalDataError: as :func:`element_of`.
        InvalidModelError: a dimension is negative.
    """
    for tensor in all_tensors(proto):
        element = element_of(tensor)
        if element is not None:
            yield tensor, element
        elif tensor.name in elements and element_count(tensor) and not stored_values(tensor):
            yield tensor, tensor.name


def stored_values(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor holds any value."""
    return any(len(getattr(tensor, field)) for field in _VALUES if field not in ("external_data", "data_location"))


def embed(tensor: onnx.TensorProto, folder: Path) -> None:
    """Bring values from an external file into the tensor; hollow tensors stay so.

    Raises:
        ExternalDataError: they cannot be read.
    """
    if is_external(tensor) and not is_hollow(tensor):
        data = read_bytes(tensor, folder).tobytes()
        clear_values(tensor)
        tensor.raw_data = data

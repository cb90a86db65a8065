"""A file of weights that onnxruntime maps, filled by several threads."""

from __future__ import annotations

import mmap
import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..model_io import ALIGNMENT, SMALL_ALIGNMENT
from .errors import RuntimeMemoryError

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


class WeightsLayout:
    """Gives tensors their places in a weights file."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._end = 0

    @property
    def nbytes(self) -> int:
        """Size of the file so far."""
        return self._end

    def place(self, tensor: onnx.TensorProto, nbytes: int) -> int:
        """Make `tensor` refer to the next `nbytes` of the file; returns their offset."""
        from onnx import TensorProto

        alignment = ALIGNMENT if nbytes >= ALIGNMENT else SMALL_ALIGNMENT
        offset = -(-self._end // alignment) * alignment
        self._end = offset + nbytes
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in (("location", self._location), ("offset", offset), ("length", nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        return offset


class WeightsSink(Protocol):
    """Takes the bytes of a weights file, from several threads."""

    def write(self, values: NDArray[Any], offset: int) -> None:
        """Take the bytes of `values` at `offset`."""
        ...


class WeightsMemory:
    """A weights file in memory.

    Attributes:
        data: its bytes.
    """

    def __init__(self, nbytes: int) -> None:
        try:
            self.data: NDArray[np.uint8] = np.zeros(nbytes, np.uint8)
        except MemoryError as error:
            raise RuntimeMemoryError(f"cannot allocate {nbytes} bytes for the weights") from error

    def write(self, values: NDArray[Any], offset: int) -> None:
        """Take the bytes of `values` at `offset`."""
        flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self.data[offset : offset + flat.size] = flat


class WeightsFile:
    """A file that threads write to at offsets of their own."""

    def __init__(self, path: Path) -> None:
        self._stream = open(path, "xb", buffering=0)
        self._lock = threading.Lock()

    def __enter__(self) -> WeightsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def write(self, values: NDArray[Any], offset: int) -> None:
        """Write the bytes of `values` at `offset`."""
        rest = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        with self._lock:
            self._stream.seek(offset)
            while rest:
                rest = rest[self._stream.write(rest) :]


def decode_buffers(count: int, nbytes: int) -> queue.SimpleQueue[mmap.mmap]:
    """`count` buffers of `nbytes` each.

    Raises:
        RuntimeMemoryError: there is no memory for them.
    """
    # Mappings of their own, because freed heap memory would stay with the process.
    buffers: queue.SimpleQueue[mmap.mmap] = queue.SimpleQueue()
    try:
        for _ in range(count):
            buffers.put(mmap.mmap(-1, max(nbytes, 1)))
    except (OSError, OverflowError, ValueError) as error:
        raise RuntimeMemoryError(f"cannot allocate {count} buffers of {nbytes} bytes: {error}") from error
    return buffers

"""What general-purpose compressors make of a model, as stored and with its float32 tensors rounded to float16."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from ..carriage import BY_ONNX_TYPE
from ..hollow import clear_values
from ..model_io import Model, all_tensors
from ..tensors import stored_nbytes, to_array

if TYPE_CHECKING:
    import onnx

SAMPLE = 1 << 20
"""Bytes of tensors that a compressor is run on. Of larger models every n-th piece is taken: the mantissas of weights
are noise, and all parts of a model compress much alike."""

_PIECE = 1 << 14

Content = Literal["stored", "float16"]


class LosslessSize(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a compressor makes of a model.

    Attributes:
        compressor: name and level; ``"none"`` for the plain size.
        content: ``"stored"``: the model as it is; ``"float16"``: with its float32 tensors rounded to float16.
        packed_bytes: size.
        ratio: the same relative to the model's files.
        estimated: whether it follows from a sample of the tensors.
    """

    compressor: str
    content: Content
    packed_bytes: int
    ratio: float
    estimated: bool = False


def compressors() -> dict[str, Callable[[bytes], int]]:
    """Sizes by compressor: zlib and xz are always there, zstd and brotli where their packages are installed."""
    found: dict[str, Callable[[bytes], int]] = {}
    for module in ("compression.zstd", "zstandard"):
        try:
            found["zstd -19"] = _zstd(import_module(module))
            break
        except ImportError:
            continue
    try:
        compress = import_module("brotli").compress
        found["brotli -11"] = lambda data: len(compress(data, quality=11))
    except ImportError:
        pass
    found["xz -9"] = lambda data: len(lzma.compress(data, preset=9))
    found["zlib -9"] = lambda data: len(zlib.compress(data, 9))
    return found


def lossless_sizes(model: Model, executor: Executor) -> tuple[LosslessSize, ...]:
    """Sizes by all compressors at hand, the plain float16 model first.

    Graph and values are compressed apart, which no compressor minds.

    Raises:
        ExternalDataError, InvalidModelError: values cannot be read.
    """
    tensors = [tensor for tensor in all_tensors(model.proto) if tensor.data_type in BY_ONNX_TYPE]
    lengths = [stored_nbytes(tensor) for tensor in tensors]
    halved = sum(length // 2 for tensor, length in zip(tensors, lengths, strict=True) if _is_single(tensor))
    stride = max(1, -(-sum(lengths) // SAMPLE))
    graph = _graph(model)
    contents: tuple[tuple[Content, int], ...] = (("stored", sum(lengths)), ("float16", sum(lengths) - halved))
    plain = model.nbytes - halved
    sizes = [LosslessSize(compressor="none", content="float16", packed_bytes=plain, ratio=plain / model.nbytes)]
    for content, whole in contents:
        sample = b"".join(_pieces(tensors, model.folder, content, stride))
        scale = whole / len(sample) if sample else 0.0
        jobs = [
            (name, executor.submit(function, graph), executor.submit(function, sample))
            for name, function in compressors().items()
        ]
        for name, first, second in jobs:
            size = first.result() + round(second.result() * scale)
            sizes.append(
                LosslessSize(
                    compressor=name,
                    content=content,
                    packed_bytes=size,
                    ratio=size / model.nbytes,
                    estimated=stride > 1,
                )
            )
    return tuple(sizes)


def _zstd(module: Any) -> Callable[[bytes], int]:
    """Level 19 of the standard library's module or of the package ``zstandard``."""
    if module.__name__ == "zstandard":
        return lambda data: len(module.ZstdCompressor(level=19).compress(data))
    return lambda data: len(module.compress(data, level=19))


def _is_single(tensor: onnx.TensorProto) -> bool:
    return bool(BY_ONNX_TYPE[tensor.data_type].dtype == np.float32)


def _graph(model: Model) -> bytes:
    """The model without the values of its tensors."""
    hollow = type(model.proto)()
    hollow.CopyFrom(model.proto)
    for tensor in all_tensors(hollow):
        if tensor.data_type in BY_ONNX_TYPE:
            clear_values(tensor)
    serialized: bytes = hollow.SerializeToString(deterministic=True)
    return serialized


def _pieces(tensors: Sequence[onnx.TensorProto], folder: Path, content: Content, stride: int) -> Iterator[bytes]:
    """Every `stride`-th piece of the tensors' values."""
    number = 0
    for tensor in tensors:
        values = to_array(tensor, folder).reshape(-1)
        step = max(1, _PIECE // values.itemsize)
        for start in range(0, values.size, step):
            if number % stride == 0:
                piece = values[start : start + step]
                if content == "float16" and piece.dtype == np.float32:
                    with np.errstate(over="ignore"):
                        piece = piece.astype(np.float16)
                yield piece.tobytes()
            number += 1

"""A look at the top level of a protobuf file that reads a few bytes per field.

It tells an ONNX model from other files, a truncated one from a whole one, and a packed one from a plain one
without loading gigabytes. Field numbers are those of ``ModelProto`` in onnx.proto.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

GRAPH, OPSET_IMPORT, METADATA_PROPS = 7, 8, 14
_MODEL_FIELDS = {
    1: VARINT,  # ir_version
    2: BYTES,  # producer_name
    3: BYTES,  # producer_version
    4: BYTES,  # domain
    5: VARINT,  # model_version
    6: BYTES,  # doc_string
    GRAPH: BYTES,
    OPSET_IMPORT: BYTES,
    METADATA_PROPS: BYTES,
    20: BYTES,  # training_info
    25: BYTES,  # functions
    26: BYTES,  # configuration
}
_MAX_FIELDS = 100_000
_SMALL_FIELD = 1 << 16


class TopLevel(NamedTuple):
    """What the top level of a file looks like.

    Attributes:
        fields: field numbers in order of appearance.
        truncated: a field reaches past the end of the file.
        mentions_carriage: an operator set or metadata entry names the ``onnx_nnc`` domain.
    """

    fields: tuple[int, ...]
    truncated: bool
    mentions_carriage: bool


def read_top_level(path: Path) -> TopLevel | None:
    """Scan the top-level fields of `path`; ``None`` if it cannot be a ``ModelProto``.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    fields: list[int] = []
    truncated = carriage = False
    with path.open("rb") as stream:
        while stream.tell() < size and not truncated:
            if len(fields) >= _MAX_FIELDS:
                return None
            tag = _varint(stream)
            if tag is None:
                truncated = True
                break
            number, wire = tag >> 3, tag & 7
            if number == 0 or _MODEL_FIELDS.get(number, wire) != wire:
                return None
            if not fields and number not in _MODEL_FIELDS:
                return None
            fields.append(number)
            if wire == VARINT:
                truncated = _varint(stream) is None
            elif wire == BYTES:
                length = _varint(stream)
                if length is None or stream.tell() + length > size:
                    truncated = True
                elif number in (OPSET_IMPORT, METADATA_PROPS) and length <= _SMALL_FIELD:
                    carriage = b"onnx_nnc" in stream.read(length) or carriage
                else:
                    stream.seek(length, os.SEEK_CUR)
            elif wire in (FIXED32, FIXED64):
                stream.seek(4 if wire == FIXED32 else 8, os.SEEK_CUR)
                truncated = stream.tell() > size
            else:
                return None
    return TopLevel(tuple(fields), truncated, carriage) if fields else None


def _varint(stream: BinaryIO) -> int | None:
    """A base-128 integer of at most 64 bits; ``None`` at the end of the file or if it is too long."""
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None

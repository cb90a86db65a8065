"""Whether a file is an ONNX model, packed or plain, from a few bytes per top-level field."""

from __future__ import annotations

from pathlib import Path

from nnc_codec.formats import Kind

from .carriage import DOMAIN
from .errors import InvalidModelError, TruncatedModelError
from .model_head import fields, model_bytes

# Field numbers and wire types of ModelProto in onnx.proto; 0 is a varint, 2 is length-delimited.
_GRAPH, _OPSET_IMPORT, _METADATA_PROPS = 7, 8, 14
_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_MAX_MENTION = 1 << 16


def recognise_onnx(path: Path) -> Kind | None:
    """``"packed"``, ``"plain"``, or ``None`` if `path` is no ONNX model.

    A file that begins as one and breaks off counts as a model, so that it is reported as truncated instead of
    as something unknown.

    Raises:
        FileAccessError: the file cannot be read.
    """
    if path.is_dir():
        return None
    seen: list[int] = []
    packed = False
    try:
        with model_bytes(path) as data:
            for number, wire, start, end in fields(data, 0, len(data)):
                if _MODEL_FIELDS.get(number, wire) != wire or (not seen and number not in _MODEL_FIELDS):
                    return None
                seen.append(number)
                if number in (_OPSET_IMPORT, _METADATA_PROPS) and end - start <= _MAX_MENTION:
                    packed = packed or DOMAIN.encode() in data[start:end]
    except TruncatedModelError:
        if not seen or any(number not in _MODEL_FIELDS for number in seen):
            return None
    except InvalidModelError:
        return None
    if not seen or (_GRAPH not in seen and 1 not in seen):
        return None
    return "packed" if packed else "plain"

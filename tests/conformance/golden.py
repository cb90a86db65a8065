"""Reading the golden streams and what is known about them; run as a program it writes them anew.

``python tests/conformance/golden.py`` in an environment with NNCodec also records what NNCodec makes of each stream.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
MANIFEST = HERE / "manifest.json"
FOLDER = HERE / "golden"

if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent / "codec"))

import nnc_codec  # noqa: E402
from nnc_codec import UpdateState  # noqa: E402


def manifest() -> dict[str, dict[str, Any]]:
    return json.loads(MANIFEST.read_text(encoding="utf-8"))


def stream(name: str) -> bytes:
    return (FOLDER / f"{name}.nnr").read_bytes()


def digest(tensors: dict[str, np.ndarray]) -> str:
    """SHA-256 over name, type, shape and little-endian elements of every tensor, by name."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        state.update(f"{name}\0{array.dtype.name}\0{','.join(map(str, array.shape))}\0".encode())
        state.update(array.tobytes())
    return state.hexdigest()


def chain(name: str, entries: dict[str, dict[str, Any]]) -> list[str]:
    """The streams to decode before and with `name`, in order."""
    before = entries[name].get("after")
    return [*(chain(before, entries) if before else []), name]


def decode(name: str, entries: dict[str, dict[str, Any]]) -> dict[str, np.ndarray]:
    """Decode a stream, after the ones it continues."""
    names = chain(name, entries)
    if len(names) == 1 and not any(entry.get("after") == name for entry in entries.values()):
        return nnc_codec.decode(stream(name))
    base = UpdateState(history=True)
    tensors: dict[str, np.ndarray] = {}
    for step in names:
        tensors = nnc_codec.decode(stream(step), base=base)
    return tensors


def nncodec_says(name: str, entries: dict[str, dict[str, Any]]) -> str:
    """What NNCodec makes of a stream: ``same``, ``other`` or ``fails``."""
    from nncodec import nnc
    from nncodec.nnc_core.hdsp.hdsp_tool import HdspTool

    names = chain(name, entries)
    extra: dict[str, Any] = {}
    if len(names) > 1:
        base = {"parameters": {}, "put_node_depth": {}, "device_id": 0, "parameter_id": {}}
        extra = {
            "approx_param_base": base,
            "update_base_param": True,
            "hdsp_tool": HdspTool(True),
            "return_hls": True,
        }
    tensors: Any = {}
    try:
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            for step in names:
                tensors = nnc.decompress(bytearray(stream(step)), **extra)
    except (Exception, SystemExit):
        return "fails"
    if extra:
        tensors = tensors[0]
    ours = decode(name, entries)
    if sorted(tensors) != sorted(ours):
        return "other"
    for key, value in ours.items():
        # It returns float64 for codebooks and ignores nnr_decompressed_data_format.
        kind = np.float32 if value.dtype.kind == "f" else np.int32
        if tensors[key].shape != value.shape or (tensors[key].astype(kind).astype(value.dtype) != value).any():
            return "other"
    return "same"


def write() -> None:
    """Make all streams and the manifest."""
    from features import features_of
    from streams import ERRORS, STREAMS

    known = manifest() if MANIFEST.exists() else {}
    FOLDER.mkdir(exist_ok=True)
    entries: dict[str, dict[str, Any]] = {}
    for golden in STREAMS:
        data = golden.build()
        (FOLDER / f"{golden.name}.nnr").write_bytes(data)
        entry: dict[str, Any] = {
            "what": golden.what,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "features": sorted(features_of(nnc_codec.open(data)) | set(golden.features)),
            "encoded": golden.encoded,
        }
        entries[golden.name] = entry | ({"after": golden.after} if golden.after else {})
    for name, entry in entries.items():
        entry["result"] = digest(decode(name, entries))
        with contextlib.suppress(ImportError):
            entry["nncodec"] = nncodec_says(name, entries)
        entry.setdefault("nncodec", known.get(name, {}).get("nncodec", "not tried"))
    for damage in ERRORS:
        data = damage.build()
        (FOLDER / f"{damage.name}.nnr").write_bytes(data)
        entries[damage.name] = {
            "what": damage.what,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "features": ["error"],
            "error": damage.error,
        }
    MANIFEST.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()

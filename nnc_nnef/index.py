"""The index of a packed archive, ``weights.nnr.json``.

Everything in it can be had from ``weights.nnr`` and ``graph.nnef``, except the item type a variable had and the
digests; it saves a reader from scanning the bitstream. Later bitstreams (``weights.1.nnr`` with
``weights.1.nnr.json``) replace variables of earlier ones.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence

import msgspec

from nnc_codec.report import ErrorMeasure
from nnc_onnx.manifest import Parameters

from .container import Archive
from .errors import IndexFileError

FORMAT = "onnx-nnc/nnef-1"
CODEC = "tag:iso.org,2023:15938-17"
WEIGHTS = "weights.nnr"
_WEIGHTS = re.compile(r"weights(?:\.([1-9][0-9]{0,5}))?\.nnr\Z")


class BitstreamEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One NNR bitstream of the archive.

    Attributes:
        file: member that holds it.
        prefix: bytes before the first data unit; prefix and one data unit decode alone.
        length: of the member.
        sha256: of the member, base64 (URL alphabet, no padding).
    """

    file: str
    prefix: int
    length: int
    sha256: str


class VariableEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One coded variable.

    Attributes:
        offset: of its data unit in the bitstream.
        length: of its data unit.
        sha256: of its data unit, base64 (URL alphabet, no padding).
        shape: of the variable in the graph; the unit may have another one of the same volume.
        item: NNEF item type and bits of the original values.
        id: ``topology_elem_id`` if it is not the label.
        bs: index into `Index.bitstreams`.
        error: difference between decoded and original values; absent if they are equal or unknown.
    """

    offset: int
    length: int
    sha256: str
    shape: tuple[int, ...]
    item: tuple[int, int] = (0, 32)
    id: str | None = None
    bs: int = 0
    error: ErrorMeasure | None = None


class Index(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Content of ``weights.nnr.json``.

    Attributes:
        format: ``onnx-nnc/nnef-1``.
        codec: format tag of ISO/IEC 15938-17.
        producer: what wrote it.
        graph_sha256: of ``graph.nnef``, base64 (URL alphabet, no padding).
        bitstreams: the bitstreams.
        variables: coded variables by label.
        parameters: how they were coded, if that is known.
    """

    format: str
    codec: str
    producer: str
    graph_sha256: str
    bitstreams: tuple[BitstreamEntry, ...]
    variables: dict[str, VariableEntry]
    parameters: Parameters | None = None

    def to_json(self) -> bytes:
        """Compact JSON."""
        return msgspec.json.encode(self)


def digest(*parts: bytes | memoryview) -> str:
    """SHA-256 over all `parts` as the index has it."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part)
    return base64.urlsafe_b64encode(hashed.digest()).decode().rstrip("=")


def weights_name(number: int) -> str:
    """Member name of the bitstream with this number: ``weights.nnr``, ``weights.1.nnr`` ..."""
    return f"weights.{number}.nnr" if number else WEIGHTS


def weights_number(name: str) -> int | None:
    """Number of a bitstream member; None if `name` is not one."""
    match = _WEIGHTS.match(name)
    return None if match is None else int(match.group(1) or 0)


def index_members(archive: Archive) -> Sequence[str]:
    """Index members in the order in which they apply."""
    numbers = {weights_number(name.removesuffix(".json")): name for name in archive if name.endswith(".nnr.json")}
    return [name for number, name in sorted((n, m) for n, m in numbers.items() if n is not None)]


def read_index(archive: Archive, name: str) -> Index:
    """Parses one index member and checks it against the archive.

    Raises:
        IndexFileError: not JSON of the schema, another version, or positions outside the bitstream.
    """
    try:
        index = msgspec.json.decode(archive.read_text(name).encode(), type=Index)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise IndexFileError(f"{name} is damaged: {error}") from error
    if index.format != FORMAT or index.codec != CODEC:
        raise IndexFileError(
            f"{name} is of format {index.format[:60]!r}", hint="a newer release of onnx-nnc wrote this archive"
        )
    for entry in index.bitstreams:
        if weights_number(entry.file) is None or archive.get(entry.file) != entry.length:
            raise IndexFileError(f"{name}: bitstream {entry.file[:60]!r} is missing or not {entry.length} bytes long")
        if not 0 < entry.prefix <= min(entry.length, 1 << 20):
            raise IndexFileError(f"{name}: prefix of {entry.file} has {entry.prefix} bytes")
    for label, variable in index.variables.items():
        if not 0 <= variable.bs < len(index.bitstreams):
            raise IndexFileError(f"{name}: there is no bitstream {variable.bs}", tensor=label)
        bitstream = index.bitstreams[variable.bs]
        inside = bitstream.prefix <= variable.offset and variable.offset + variable.length <= bitstream.length
        if not inside or variable.length <= 0:
            raise IndexFileError(f"{name}: the unit lies outside {bitstream.file}", tensor=label)
        if len(variable.shape) > 8 or any(not 0 <= size < 1 << 32 for size in variable.shape):
            raise IndexFileError(f"{name}: shape {variable.shape[:9]}", tensor=label)
    return index


def schema_text() -> str:
    """The JSON Schema of the index, as it lies in ``schemas/nnef-index.schema.json``."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    title = "weights.nnr.json of a packed NNEF archive"
    schema = {"$schema": dialect, "title": title, **msgspec.json.schema(Index)}
    return msgspec.json.format(msgspec.json.encode(schema, order="deterministic"), indent=2).decode() + "\n"

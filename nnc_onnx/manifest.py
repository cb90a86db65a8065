"""The manifest in ``metadata_props``: what was packed, how, from what."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from nnc_codec.formats import PackOptions
from nnc_codec.report import ErrorMeasure

from .carriage import FORMAT, PAYLOAD_SUFFIX
from .deflated_text import deflate_text, inflate_text
from .errors import CarriageError, UnsupportedCarriageError

_CHUNK = 1 << 20
_LARGEST = 1 << 26


class TensorEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One packed tensor.

    Attributes:
        name: the decoded tensor, in the model's words.
        shape: its dimensions.
        sha256: SHA-256 of the payload bytes, base64 (URL alphabet, no padding).
        dtype: its original element type.
        payload: name of the payload initializer if it is not ``<name>.nnr``.
        origin: what it was before: an initializer, or the value of a Constant node.
        node: name of that Constant node, if not the decode node has it.
        inner: name of the tensor in that Constant node, if it is not `name`.
        position: index among the initializers, or of the Constant node, in the graph it came from.
        error: difference between decoded and original values; absent if they are equal.
        sparsity: share of the decoded values that are zero, of tensors that zeros were put into.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str
    position: int
    dtype: str = "float32"
    payload: str | None = None
    origin: Literal["initializer", "constant"] = "initializer"
    node: str = ""
    inner: str | None = None
    error: ErrorMeasure | None = None
    sparsity: float | None = None

    @property
    def payload_name(self) -> str:
        """Name of the payload initializer."""
        return self.payload or self.name + PAYLOAD_SUFFIX


class GroupEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Small tensors that share a payload.

    Attributes:
        payload: name of the payload initializer.
        sha256: as in :class:`TensorEntry`.
        positions: per tensor, in the order of the node's outputs, the index it had among the initializers of its
            graph, or, of the value of a Constant node, minus one minus the node's index.
        nodes, inner: per tensor, as in :class:`TensorEntry`; empty if there are none.
        error: the largest errors of all its tensors.
    """

    payload: str
    sha256: str
    positions: tuple[int, ...]
    nodes: tuple[str, ...] = ()
    inner: tuple[str | None, ...] = ()
    error: ErrorMeasure | None = None

    def entry(self, member: int, name: str, shape: tuple[int, ...], dtype: str) -> TensorEntry:
        """What is known of one tensor."""
        position = self.positions[member]
        return TensorEntry(
            name=name,
            shape=shape,
            sha256=self.sha256,
            dtype=dtype,
            payload=self.payload,
            position=position if position >= 0 else -1 - position,
            origin="initializer" if position >= 0 else "constant",
            node=self.nodes[member] if member < len(self.nodes) else "",
            inner=self.inner[member] if member < len(self.inner) else None,
            error=self.error,
        )


class Parameters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The options of :class:`nnc_codec.formats.PackOptions` that decide the payloads."""

    method: str
    sparsity: float | None = None
    optimize: bool = False
    qp: int | None = None
    qp_density: int = 2
    min_elements: int = 0
    group_below: int = 0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @classmethod
    def of(cls, options: PackOptions) -> Parameters:
        """The parameters in `options`."""
        return cls(
            method=options.method,
            sparsity=options.sparsity,
            optimize=options.optimize,
            qp=options.qp,
            qp_density=options.qp_density,
            min_elements=options.min_elements,
            group_below=options.group_below,
            include=options.include,
            exclude=options.exclude,
        )


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Value of the metadata entry ``onnx_nnc.manifest``.

    Attributes:
        format: version of the carriage.
        producer: what packed the model.
        source_sha256: SHA-256 over the bytes of the source model's files, the ModelProto first, in
            hexadecimal.
        parameters: options of the packer.
        tensors: packed tensors with a payload of their own, in the order of the source model.
        groups: those that share one.
    """

    format: str
    producer: str
    source_sha256: str
    parameters: Parameters
    tensors: tuple[TensorEntry, ...] = ()
    groups: tuple[GroupEntry, ...] = ()

    def to_json(self) -> str:
        """Compact JSON."""
        return msgspec.json.encode(self).decode()

    def to_text(self) -> str:
        """The JSON, compressed where that is shorter."""
        text = self.to_json()
        return min(text, deflate_text(text.encode()), key=len)


def parse_manifest(text: str) -> Manifest:
    """The manifest in `text`, JSON or what :func:`deflate_text` makes of it.

    Raises:
        CarriageError: it is damaged or not of the schema.
        UnsupportedCarriageError: it belongs to another carriage version.
    """
    try:
        data = text.encode() if text.startswith('{"') else inflate_text(text, _LARGEST, "the manifest")
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise CarriageError(f"the manifest is damaged: {error}") from error
    if manifest.format != FORMAT:
        raise UnsupportedCarriageError(f"manifest of carriage format {manifest.format!r} is unknown")
    return manifest


def payload_digest(payload: bytes | memoryview) -> str:
    """SHA-256 of a payload as :attr:`TensorEntry.sha256` has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(payload).digest()).decode().rstrip("=")


def files_digest(files: Iterable[Path]) -> str:
    """SHA-256 over the contents of `files`, one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(_CHUNK):
                digest.update(block)
    return digest.hexdigest()


def rounded(error: ErrorMeasure) -> ErrorMeasure:
    """`error` to three significant digits, which is what a manifest keeps."""
    return ErrorMeasure(max_abs=float(f"{error.max_abs:.3g}"), rel_rms=float(f"{error.rel_rms:.3g}"))

"""Unpacking: the plain model that every NNEF reader understands, with exactly the values a decoder gives."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from nnc_codec.errors import InvalidArgumentError
from nnc_codec.formats import Progress, ProgressCallback, UnpackOptions
from nnc_codec.report import UnpackReport

from . import dat
from .archive_writer import Member, copy_of, kind_for, require_output, write_archive
from .container import GRAPH, QUANT
from .index import weights_number
from .labels import member_of
from .model import NnefModel, Variable, open_model


def unpack(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: UnpackOptions | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> UnpackReport:
    """Writes the plain model.

    Args:
        source: packed NNEF model.
        output: what to write; other readers know folders and ``.nnef.tgz``.
        options: bounds and overwriting.
        progress: called after every variable.

    Raises:
        FileAccessError, OutputExistsError: bad paths.
        ArchiveError, IndexFileError, IntegrityError, CorruptError, UnsupportedError, LimitExceededError: bad data.
        InvalidArgumentError: the model is not packed.
    """
    start = time.perf_counter()
    options = options or UnpackOptions()
    output = Path(output)
    require_output(output, source=Path(source), force=options.force)
    with open_model(source, limits=options.limits) as model:
        coded = [variable for variable in model.values() if variable.coded]
        if not coded and not model.bitstreams:
            raise InvalidArgumentError(f"{source} is not packed", hint="there is nothing to unpack")
        members = _members(model, coded, progress)
        size = write_archive(output, members, kind=kind_for(output), force=options.force)
        original = Path(source)
        packed = sum(model.archive.values()) if original.is_dir() else original.stat().st_size
    return UnpackReport(
        format="nnef",
        source=str(source),
        output=str(output),
        seconds=time.perf_counter() - start,
        packed_bytes=packed,
        unpacked_bytes=size,
        tensors=len(coded),
    )


def _members(model: NnefModel, coded: list[Variable], progress: ProgressCallback | None) -> Iterator[Member]:
    archive = model.archive
    for name in (GRAPH, QUANT):
        if name in archive:
            yield copy_of(archive, name)
    total = sum(variable.size for variable in coded)
    done = 0
    for variable in coded:
        yield plain_member(variable)
        done += variable.size
        if progress is not None:
            progress(Progress(what=variable.label, done=done, total=total))
    for name in archive:
        if name not in (GRAPH, QUANT) and not is_packing(name):
            yield copy_of(archive, name)


def is_packing(name: str) -> bool:
    """Whether a member belongs to the packed form: a bitstream or an index."""
    return weights_number(name.removesuffix(".json")) is not None or name.endswith(".dat.nnr")


def plain_member(variable: Variable) -> Member:
    """The ``.dat`` file of a variable; decoded when it is written, so that one at a time is in memory."""
    header = dat.header_for(variable.shape, *variable.item, name=variable.label)

    def chunks() -> Iterator[bytes]:
        yield dat.build(variable.read(), item=variable.item, name=variable.label)

    return Member(member_of(variable.label), dat.HEADER_BYTES + header.data_length, chunks)

"""Updates as files: bitstreams of differences that know which model they belong to.

An update is an ordinary bitstream of the standard with ``mps_parent_signalling_enabled_flag`` = 1. Its data units hold
differences, tensors that did not change have none, and ``base_model_id`` names the model that the differences are added
to (:func:`nnc_codec.differences.model_id`). A topology unit of unrecognised format, which other decoders pass over,
holds an :class:`UpdateNote`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy.typing as npt

from .bitstream import Bitstream, Buffer, as_bytes
from .encoder import encode
from .errors import CorruptError, InvalidArgumentError
from .files import access_error
from .formats import VerificationError
from .limits import Limits
from .params import EncodeParams, TensorParams
from .state import UpdateState
from .surgery import Topology, collect, model_parameter_set, topologies, with_base_model_id, with_topology
from .syntax.enums import TopologyStorageFormat

Array = npt.NDArray[Any]

FORMAT = "1"
_NOTE_START = b'{"onnx_nnc_update":'


class NotAnUpdateError(InvalidArgumentError):
    """The bitstream is no update, or does not say to which model."""

    code = "NNC-E205"


class WrongBaseError(VerificationError):
    """The update belongs to another model."""

    code = "NNC-E206"


class UpdateChainError(VerificationError):
    """Updates that do not follow one another, or one whose context is missing."""

    code = "NNC-E207"


class UpdateNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"format": "onnx_nnc_update"}):
    """What an update says beside the standard's elements, as JSON text.

    Attributes:
        format: version of this way of carrying updates.
        producer: what wrote it.
        result: id of the model that it makes.
        follows: SHA-256 in hexadecimal of the update before, if contexts depend on it; contexts begin anew without.
    """

    format: str
    producer: str
    result: str
    follows: str | None = None


class Update(NamedTuple):
    """An update opened for reading.

    Attributes:
        what: path or description, for messages.
        sha256: of its bytes, in hexadecimal.
        bitstream: its units.
        base_model_id: of the model it is added to.
        note: what it says about itself.
        carried: other topology units.
    """

    what: str
    sha256: str
    bitstream: Bitstream
    base_model_id: str
    note: UpdateNote
    carried: tuple[Topology, ...]

    def decode(self, state: UpdateState) -> dict[str, Array]:
        """The differences by tensor name; `state` advances.

        Raises:
            CorruptError, UnsupportedError: the units are damaged or do not continue `state`.
        """
        differences: dict[str, Array] = {}
        for unit in self.bitstream.data_units():
            differences |= unit[0].decode_update(state)
        return differences


def open_update(source: Buffer | Path, *, limits: Limits | None = None) -> Update:
    """Parse an update; nothing is decoded.

    Raises:
        FileAccessError: the file cannot be read.
        NotAnUpdateError: a bitstream of another kind.
        NNRError: a damaged bitstream.
    """
    try:
        data = as_bytes(source)
    except OSError as error:
        raise access_error(error, str(source), "read") from error
    what = str(source) if isinstance(source, Path) else "the update"
    bitstream = Bitstream(data, limits=limits)
    parameters = model_parameter_set(bitstream)
    if parameters is None or not parameters.mps_parent_signalling_enabled_flag:
        raise NotAnUpdateError(f"{what} is no update: its tensors are not differences to another model")
    if parameters.base_model_id is None:
        raise NotAnUpdateError(f"{what} does not say which model it updates")
    note, others = None, []
    for topology in topologies(bitstream, limits=limits):
        if topology.storage_format == TopologyStorageFormat.NNR_TPL_UNREC and topology.data.startswith(_NOTE_START):
            note = _read_note(topology.text, what)
        else:
            others.append(topology)
    if note is None:
        raise NotAnUpdateError(f"{what} does not say which model it makes", hint="it was not written by onnx-nnc diff")
    digest = hashlib.sha256(data).hexdigest()
    return Update(what, digest, bitstream, parameters.base_model_id, note, tuple(others))


def _read_note(text: bytes, what: str) -> UpdateNote:
    try:
        note = msgspec.json.decode(text, type=UpdateNote)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptError(f"the note in {what} is damaged: {error}") from error
    if note.format != FORMAT:
        raise NotAnUpdateError(
            f"{what} is of format {note.format!r}; this release reads {FORMAT!r}",
            hint="a newer release of onnx-nnc wrote it",
        )
    return note


class Coding(NamedTuple):
    """How one difference is coded.

    Attributes:
        params: quantization parameter and method; without meaning for integers.
        number: ``parameter_id``, the tensor's position in the model.
    """

    params: TensorParams
    number: int


def code_differences(
    differences: Mapping[str, Array],
    codings: Mapping[str, Coding],
    state: UpdateState,
    *,
    executor: Executor | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> bytes:
    """Code differences, each data unit with the context of the update before or without, whichever is smaller.

    Args:
        differences: float32 or int32 arrays by tensor name.
        codings: how, by tensor name.
        state: of the decoder in front of this update; it does not change. Its ``temporal_context`` and ``history`` say
            what may be used.
        executor: where tensors are coded.
        progress: as of :func:`nnc_codec.encode`.

    Returns:
        Start unit, model parameter set and data units; none for differences that quantize to zero.
    """
    params = EncodeParams(per_tensor={name: codings[name].params for name in differences}, topology=False)

    def coded(temporal: bool, watch: Callable[[str, int], None] | None) -> bytes:
        own = replace(state, temporal_context=temporal, compress_differences=True, nodes=dict(state.nodes))
        return encode(differences, params, base=own, executor=executor, progress=watch)

    first = coded(False, progress)
    parts = Bitstream(first).split()
    if state.temporal_context and state.nodes:
        for name, part in Bitstream(coded(True, None)).split().items():
            if len(part) < len(parts[name]):
                parts[name] = part
    numbers = {name: coding.number for name, coding in codings.items()}
    return collect(parts, numbers) if parts else first


def write_update(units: bytes, base_model_id: str, note: UpdateNote, carried: Iterable[Topology] = ()) -> bytes:
    """The update with what :func:`code_differences` returned, the ids of its models and other topology units."""
    text = msgspec.json.encode(note) + b"\0"
    topologies = (Topology(TopologyStorageFormat.NNR_TPL_UNREC, text), *carried)
    named = with_base_model_id(Bitstream(units), base_model_id)
    return with_topology(Bitstream(named), *topologies)


class Chain:
    """Updates one after the other, with the state that their contexts depend on.

    Attributes:
        state: of a decoder behind the updates read so far; none of them means a new one.
        last: the update read last.
    """

    def __init__(self) -> None:
        self.state = UpdateState(history=True)
        self.last: Update | None = None

    def read(self, update: Update) -> dict[str, Array]:
        """Decode the next update.

        Raises:
            UpdateChainError: it does not follow the last one.
            CorruptError, UnsupportedError: its units are damaged.
        """
        last = self.last
        if last is not None and update.base_model_id != last.note.result:
            raise UpdateChainError(
                f"{update.what} does not follow {last.what}: it updates model {update.base_model_id}, "
                f"which is not {last.note.result}"
            )
        if update.note.follows is None:
            self.state = UpdateState(history=True)
        elif last is None:
            raise UpdateChainError(
                f"{update.what} needs the update before it, whose SHA-256 is {update.note.follows}",
                hint="give all updates of the chain, oldest first",
            )
        elif last.sha256 != update.note.follows:
            raise UpdateChainError(f"{update.what} follows another update than {last.what}")
        self.last = update
        return update.decode(self.state)

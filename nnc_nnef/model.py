"""An NNEF model opened for reading: its texts and its variables, each read and decoded when asked for."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nnc_codec
from nnc_codec.errors import CorruptError, LimitExceededError, NNRError, UnsupportedError
from nnc_codec.limits import Limits

from . import dat
from .container import DEFAULT_LIMITS, GRAPH, QUANT, Archive, ArchiveLimits, open_archive
from .errors import ArchiveError, IndexFileError, IntegrityError, LabelError
from .index import Index, VariableEntry, digest, index_members, read_index, weights_number
from .labels import check_label, member_of
from .units import Unit, cut

Array = NDArray[Any]
_DAT = ".dat"
_COURTESY = ".dat.nnr"


class Variable:
    """A variable of an NNEF model.

    Attributes:
        label: its label.
        coded: whether its values are in an NNR data unit.
    """

    def __init__(self, model: NnefModel, label: str, known: tuple[tuple[int, ...], tuple[int, int]] | None) -> None:
        self._model = model
        self._known = known
        self.label = label
        self.coded = known is not None

    @cached_property
    def _form(self) -> tuple[tuple[int, ...], tuple[int, int]]:
        if self._known is not None:
            return self._known
        header = self._model.header(self.label)
        return header.shape, (header.item_type, header.bits)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents in the graph, as far as the archive tells; a plain variable's header is read for it."""
        return self._form[0]

    @property
    def item(self) -> tuple[int, int]:
        """NNEF item type and bits of its plain form."""
        return self._form[1]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """numpy type of its values; None for items of a foreign vendor."""
        return dat.TensorHeader(self.shape, *self.item, 0).dtype

    @property
    def stored_nbytes(self) -> int:
        """Bytes its values take in the archive."""
        return self._model._stored(self.label)

    @property
    def entry(self) -> VariableEntry | None:
        """What the index says of it."""
        return self._model._entries.get(self.label)

    def unit(self) -> Unit:
        """The data unit with its head, checked against the index.

        Raises:
            UnsupportedError: the variable is not coded, or its unit does not stand alone.
            IntegrityError: the digest in the index is another one.
        """
        return self._model._unit(self.label)

    def read(self) -> Array:
        """The values, decoded if they are coded. Do not write to them.

        Raises:
            UnsupportedError: items without a numpy type.
            CorruptError, LimitExceededError, IntegrityError: damaged or excessive data.
        """
        return self._model._read(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The values, for ``np.asarray``."""
        values = self.read()
        return values if dtype is None else values.astype(dtype)

    def __repr__(self) -> str:
        return f"<Variable {self.label!r} {self.shape} {self.dtype}, {'coded' if self.coded else 'plain'}>"


class NnefModel(Mapping[str, Variable]):
    """Variables of an NNEF model by label; use it as a context manager.

    Attributes:
        archive: the container.
        limits: bounds for what coded data may ask for.
        indices: the index members, in the order in which they apply.
    """

    def __init__(self, archive: Archive, limits: Limits) -> None:
        self.archive = archive
        self.limits = limits
        self.indices: tuple[Index, ...] = tuple(read_index(archive, name) for name in index_members(archive))
        self._variables: dict[str, Variable] = {}
        self._entries: dict[str, VariableEntry] = {}
        self._where: dict[str, tuple[str, int]] = {}
        self._scanned: dict[str, Unit] = {}
        self._loose: dict[str, nnc_codec.CodedTensor] = {}
        self._heads: dict[str, bytes] = {}
        if GRAPH not in archive:
            hint = "the file names are expected at the top of the archive"
            raise ArchiveError("there is no graph.nnef in the archive", hint=hint)
        self._add_indexed()
        self._add_unindexed()
        self._add_plain()

    def __getitem__(self, label: str) -> Variable:
        return self._variables[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __enter__(self) -> NnefModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the container."""
        self.archive.close()

    @property
    def graph(self) -> str:
        """Text of ``graph.nnef``."""
        return self.archive.read_text(GRAPH)

    @property
    def quant(self) -> str | None:
        """Text of ``graph.quant``, if there is one."""
        return self.archive.read_text(QUANT) if QUANT in self.archive else None

    @property
    def packed(self) -> bool:
        """Whether any variable is coded."""
        return any(variable.coded for variable in self._variables.values())

    @property
    def bitstreams(self) -> tuple[str, ...]:
        """Members that hold bitstreams of many variables."""
        return tuple(name for name in self.archive if weights_number(name) is not None)

    def _add_indexed(self) -> None:
        for index in self.indices:
            for label, entry in index.variables.items():
                check_label(label)
                bitstream = index.bitstreams[entry.bs]
                self._entries[label] = entry
                self._where[label] = (bitstream.file, bitstream.prefix)
                self._variables[label] = Variable(self, label, (entry.shape, entry.item))

    def _add_unindexed(self) -> None:
        indexed = {bitstream.file for index in self.indices for bitstream in index.bitstreams}
        loose = [name for name in self.archive if name.endswith(_COURTESY)]
        for name in [*(name for name in self.bitstreams if name not in indexed), *loose]:
            data = self.archive.read(name)
            stream = nnc_codec.open(data, limits=self.limits)
            singles = _singles(stream)
            for group in stream.data_units():
                for tensor in group:
                    label = name.removesuffix(_COURTESY) if name in loose else tensor.name
                    check_label(label)
                    if label in self._variables:
                        raise IndexFileError("the variable is coded twice", tensor=label)
                    integer = tensor.payload_type.name == "NNR_PT_INT"
                    item = dat.item_of(np.dtype(np.int32) if integer else np.dtype(np.float32))
                    self._loose[label] = tensor
                    if len(group) == 1 and tensor.name in singles:
                        self._scanned[label] = singles[tensor.name]
                    self._variables[label] = Variable(self, label, (tuple(tensor.shape), item))

    def companions(self, label: str) -> tuple[str, ...]:
        """Tensors that share the data unit of a coded variable, itself among them."""
        tensor = self._loose.get(label)
        return (label,) if tensor is None else tensor.unit_members

    def _add_plain(self) -> None:
        for name in self.archive:
            if not name.endswith(_DAT):
                continue
            label = name.removesuffix(_DAT)
            if label in self._variables:
                raise IndexFileError("the variable is both plain and coded", tensor=label)
            try:
                check_label(label)
            except LabelError as error:
                raise ArchiveError(f"member {name[:80]!r}: {error}") from error
            self._variables[label] = Variable(self, label, None)

    def header(self, label: str) -> dat.TensorHeader:
        """Header of a plain variable's file.

        Raises:
            TensorFileError: it contradicts the file.
        """
        name = member_of(label)
        size = self.archive[name]
        return dat.parse_header(self.archive.read(name, 0, min(size, dat.HEADER_BYTES)), size, name=label)

    def _stored(self, label: str) -> int:
        entry = self._entries.get(label)
        if entry is not None:
            return entry.length
        if label in self._scanned:
            return len(self._scanned[label].data)
        if label in self._loose:
            return self._loose[label].coded_nbytes
        return self.archive[member_of(label)] if member_of(label) in self.archive else 0

    def _unit(self, label: str) -> Unit:
        entry = self._entries.get(label)
        if entry is None:
            unit = self._scanned.get(label)
            if unit is None:
                raise UnsupportedError("the variable has no data unit of its own", tensor=label)
            return unit
        file, prefix = self._where[label]
        if file not in self._heads:
            self._heads[file] = self.archive.read(file, 0, prefix)
        data = self.archive.read(file, entry.offset, entry.length)
        if digest(data) != entry.sha256:
            raise IntegrityError(
                "SHA-256 of the data unit is not the one in the index", tensor=label,
                hint="the archive is damaged; get it again",
            )  # fmt: skip
        return Unit(self._heads[file], data)

    def _read(self, variable: Variable) -> Array:
        label = variable.label
        if not variable.coded:
            name = member_of(label)
            header = self.header(label)
            return dat.to_array(header, self.archive.read(name, dat.HEADER_BYTES), name=label)
        dtype = variable.dtype
        if dtype is None:
            raise UnsupportedError(f"item type {variable.item} has no numpy type", tensor=label)
        if variable.size > self.limits.max_elements:
            raise LimitExceededError(f"{variable.size} elements, above Limits.max_elements", tensor=label)
        if label in self._loose:
            values: Array = self._loose[label].decode(dtype=dtype)
            return values
        unit = self._unit(label)
        try:
            tensors = nnc_codec.open(unit.bitstream, limits=self.limits)
            self._check_unit(variable, tensors)
            return nnc_codec.decode_single(unit.bitstream, dtype, variable.shape, limits=self.limits)
        except NNRError as error:
            error.tensor = error.tensor or label
            raise

    def _check_unit(self, variable: Variable, stream: nnc_codec.Bitstream) -> None:
        entry = self._entries.get(variable.label)
        wanted = variable.label if entry is None or entry.id is None else entry.id
        if len(stream) != 1:
            raise UnsupportedError(f"a data unit of {len(stream)} tensors")
        (tensor,) = stream.values()
        if entry is not None and tensor.name != wanted:
            raise CorruptError(f"the data unit is called {tensor.name[:80]!r}, not {wanted!r}")
        if math.prod(tensor.shape) != variable.size:
            raise CorruptError(f"the data unit has {math.prod(tensor.shape)} elements, the variable {variable.size}")


def _singles(stream: nnc_codec.Bitstream) -> dict[str, Unit]:
    """Data units that stand alone, by the name of their first tensor."""
    units = {}
    try:
        for name, single in stream.split().items():
            units[name] = cut(single)
    except UnsupportedError:
        # The others are decoded with the whole bitstream at hand.
        return units
    return units


def open_model(
    path: str | os.PathLike[str],
    *,
    limits: Limits | None = None,
    archive_limits: ArchiveLimits = DEFAULT_LIMITS,
) -> NnefModel:
    """Opens an NNEF model, packed or plain. Reads names, headers and the index; decodes nothing.

    Args:
        path: folder, tar, gzip-compressed tar, or stored zip.
        limits: bounds for coded data.
        archive_limits: bounds for the container.

    Raises:
        FileAccessError, ArchiveError, LabelError, TensorFileError, IndexFileError, LimitExceededError: as they say.
    """
    archive = open_archive(path, archive_limits)
    try:
        return NnefModel(archive, limits or Limits())
    except BaseException:
        archive.close()
        raise

"""Packing: plan, code, edit the graph, write.

The graph is edited as protobuf. Going through onnx-graphsurgeon would not keep the model intact: its export
drops ``metadata_props`` and writes the initializers in another order.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from nnc_codec.errors import InvalidArgumentError
from nnc_codec.formats import PackOptions, ProgressCallback
from nnc_codec.report import PackReport

from . import carriage
from .compact import compact, least_saving
from .edit import Insertion, insert_decode_nodes
from .graph.placement import Placement
from .graph.usage import Usage
from .graph.walk import all_names
from .grouping import Group, group_tensors
from .manifest import Manifest, Parameters, TensorEntry, files_digest, rounded
from .model_coding import PackedTensor, code_all, tensor_reports
from .model_io import EXTERNAL_THRESHOLD, Model, check_output, embed, load, model_writer, written_bytes
from .optimize import optimized
from .plan import FIRST_IR_WITH_OPTIONAL_INPUTS, PlannedTensor, plan_tensors
from .sparsify import sparsify_by_size
from .tensors import is_external, read_bytes, stored_nbytes
from .version import producer

if TYPE_CHECKING:
    import onnx
    from typing_extensions import Buffer

_IN_MEMORY = "<memory>"

Planner = Callable[
    [Model, list[PlannedTensor], PackOptions, "ProgressCallback | None"],
    tuple[list[PlannedTensor], tuple[str, ...]],
]
"""Gives the tensors of a model with ``chosen`` filled in, and notes for the user."""


def pack(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: PackOptions | None = None,
    *,
    planner: Planner | None = None,
    progress: ProgressCallback | None = None,
) -> PackReport:
    """Code the weights of an ONNX model.

    Args:
        source: ONNX file.
        output: ONNX file to write; with external data also ``<output>.data``.
        options: what to code and how.
        planner: chooses what every tensor is coded with, e.g. :func:`nnc_onnx.rd.planner_for`; ``None`` goes by
            each tensor's own statistics.
        progress: called after every tensor.

    Returns:
        What was done to every tensor. The bytes written depend on `source` and `options` only, never on the
        number of worker threads.

    Raises:
        FileAccessError, OutputExistsError, InvalidModelError, TruncatedModelError, ExternalDataError:
            bad files.
        InvalidArgumentError: the model is packed already, or an option makes no sense for it.
        RuntimeMissingError, OptimizeError: the graph cannot be optimized.
    """
    start = time.perf_counter()
    options = options or PackOptions()
    source, output = Path(source), Path(output)
    model = load(source)
    check_output(output, source=source, external=options.external_data, force=options.force)
    original_bytes = model.nbytes
    if options.optimize and carriage.check_format(model.proto) is None:
        model = optimized(model)
    work = _code(model, str(source), files_digest(model.files), options, progress, planner)
    external = options.external_data
    if external is None:
        external = work.volume > EXTERNAL_THRESHOLD
    with model_writer(output, external=external, force=options.force) as writer:
        insert_coded(work, writer.put, keep_names=options.keep_names)
        writer.finish(model.proto)
    report = _report(work, source=str(source), output=str(output), original_bytes=original_bytes)
    seconds = time.perf_counter() - start
    return msgspec.structs.replace(report, packed_bytes=written_bytes(output, external=external), seconds=seconds)


def pack_model(
    model: onnx.ModelProto,
    options: PackOptions | None = None,
    *,
    folder: str | os.PathLike[str] = ".",
    progress: ProgressCallback | None = None,
) -> tuple[onnx.ModelProto, PackReport]:
    """Code the weights of a model in memory.

    Args:
        model: stays as it is.
        options: as for :func:`pack`; payloads are embedded whatever `external_data` says.
        folder: where external data of `model` are looked for.
        progress: called after every tensor.

    Returns:
        The packed model and the report, whose paths are ``"<memory>"``.

    Raises:
        ExternalDataError, InvalidModelError: values cannot be read.
        InvalidArgumentError: as for :func:`pack`, or `options` asks for optimization.
    """
    start = time.perf_counter()
    copied = type(model)()
    copied.CopyFrom(model)
    serialized = model.SerializeToString(deterministic=True)
    loaded = Model(copied, Path(folder), Path(_IN_MEMORY), ())
    digest = hashlib.sha256(serialized).hexdigest()
    options = options or PackOptions()
    if options.optimize:
        raise InvalidArgumentError("only models in files are optimized", hint="use nnc_onnx.pack")
    work = _code(loaded, "the model", digest, options, progress)
    insert_coded(work, embed, keep_names=options.keep_names)
    report = _report(work, source=_IN_MEMORY, output=_IN_MEMORY, original_bytes=len(serialized))
    seconds = time.perf_counter() - start
    return copied, msgspec.structs.replace(report, packed_bytes=copied.ByteSize(), seconds=seconds)


class Work(NamedTuple):
    """A model whose tensors are coded and whose graph is not changed yet.

    Attributes:
        model: as loaded.
        usage: of its graph.
        planned: all tensors.
        packed: coded tensors that have a payload of their own.
        reasons: by index in `planned`, why a tensor stays plain that was to be coded.
        groups: coded tensors that share payloads.
        manifest: of the packed model.
        encode_seconds: time spent coding.
        notes: for the user.
    """

    model: Model
    usage: Usage
    planned: list[PlannedTensor]
    packed: list[PackedTensor]
    reasons: dict[int, str]
    groups: list[Group]
    manifest: Manifest
    encode_seconds: float
    notes: tuple[str, ...] = ()

    @property
    def coded(self) -> list[PackedTensor]:
        """All coded tensors."""
        return [*self.packed, *(item for group in self.groups for item in group.members)]

    @property
    def plain(self) -> list[onnx.TensorProto]:
        """Tensors that stay."""
        gone = {item.planned.value for item in self.coded}
        return [tensor.proto for tensor in self.planned if tensor.value not in gone]

    @property
    def volume(self) -> int:
        """Bytes of all tensors of the packed model."""
        payloads = {item.payload_name: len(item.coded.payload) for item in self.packed}
        shared = sum(len(group.payload) for group in self.groups)
        return sum(payloads.values()) + shared + sum(map(stored_nbytes, self.plain))


def _code(
    model: Model,
    name: str,
    source_digest: str,
    options: PackOptions,
    progress: ProgressCallback | None,
    planner: Planner | None = None,
) -> Work:
    if carriage.check_format(model.proto) is not None:
        raise InvalidArgumentError(f"{name} is packed already", hint="unpack it first")
    usage = Usage(model.proto.graph)
    planned, notes = treatments(model, usage, options, planner, progress)
    start = time.perf_counter()
    coded, reasons = code_all(planned, model.folder, options, progress)
    taken = all_names(model.proto.graph)
    singles, groups = group_tensors(coded, Placement(usage, ()).graph_for, options.group_below, taken)
    packed = name_payloads(singles, taken)
    manifest = Manifest(
        format=carriage.FORMAT,
        producer=producer(),
        source_sha256=source_digest,
        parameters=Parameters.of(options),
        tensors=tuple(entry_of(item) for item in packed),
        groups=tuple(group.entry for group in groups),
    )
    return Work(model, usage, planned, packed, reasons, groups, manifest, time.perf_counter() - start, notes)


def treatments(
    model: Model, usage: Usage, options: PackOptions, planner: Planner | None, progress: ProgressCallback | None
) -> tuple[list[PlannedTensor], tuple[str, ...]]:
    """All tensors of a model with what is to happen to them, and notes for the user.

    Raises:
        InvalidModelError, ExternalDataError: the model is damaged.
        NNRError: as `planner`.
    """
    planned = plan_tensors(model.proto, usage, options)
    if planner is not None:
        return planner(model, planned, options, progress)
    if options.sparsity is not None:
        return sparsify_by_size(planned, usage, model.folder, options.sparsity)
    return planned, ()


def _report(work: Work, *, source: str, output: str, original_bytes: int) -> PackReport:
    return PackReport(
        format="onnx",
        source=source,
        output=output,
        original_bytes=original_bytes,
        packed_bytes=0,
        tensors=tensor_reports(work.planned, work.coded, work.reasons),
        notes=work.notes,
        encode_seconds=work.encode_seconds,
        decode_seconds=sum(item.coded.decode_seconds for item in work.coded if item.owner is item.planned),
    )


def name_payloads(packed: list[PackedTensor], taken: set[str]) -> list[PackedTensor]:
    """Give every payload a name that nothing in the model has."""
    names: dict[int, str] = {}
    for item in packed:
        if id(item.owner) in names:
            continue
        stem = name = item.owner.name + carriage.PAYLOAD_SUFFIX
        count = 1
        while name in taken:
            count += 1
            name = f"{stem}{count}"
        taken.add(name)
        names[id(item.owner)] = name
    return [item._replace(payload_name=names[id(item.owner)]) for item in packed]


def entry_of(item: PackedTensor) -> TensorEntry:
    """What the manifest says of a coded tensor."""
    planned = item.planned
    usual = planned.name + carriage.PAYLOAD_SUFFIX
    return TensorEntry(
        name=planned.name,
        shape=planned.shape,
        sha256=item.coded.sha256,
        dtype=planned.element.dtype_name if planned.element else "",
        payload=None if item.payload_name == usual else item.payload_name,
        origin=planned.origin,
        inner=planned.inner_name,
        position=planned.position,
        error=None if item.coded.error.max_abs == 0 else rounded(item.coded.error),
        sparsity=None if planned.sparse is None or not item.coded.sparsity else float(f"{item.coded.sparsity:.4g}"),
    )


def insert_coded(work: Work, put: Callable[[onnx.TensorProto, Buffer], None], *, keep_names: bool = False) -> None:
    """Change the graph.

    Args:
        work: what was coded.
        put: gives every payload, and every tensor that was external, its values.
        keep_names: do not make the graph compact.
    """
    for tensor in work.plain:
        if is_external(tensor):
            put(tensor, read_bytes(tensor, work.model.folder).data)
    edit_graph(work, put, keep_names=keep_names)


def edit_graph(work: Work, put: Callable[[onnx.TensorProto, Buffer], None], *, keep_names: bool = False) -> None:
    """What :func:`insert_coded` does, but for the tensors that stay."""
    insertions = _insertions(work.usage, work.packed)
    _modernise(work.model.proto)
    insert_decode_nodes(work.usage, insertions, put, work.groups)
    _mark(work.model.proto, work.manifest)
    if not keep_names:
        compact(work.model.proto, least_saving(max(work.volume, work.model.proto.ByteSize())))


def _insertions(usage: Usage, packed: list[PackedTensor]) -> list[Insertion]:
    placement = Placement(usage, (item.planned.value for item in packed))
    insertions = []
    for item in packed:
        path = placement.graph_for(item.planned.value)
        decode = carriage.DecodeNode(
            output=item.planned.name,
            payload=item.payload_name,
            after=placement.after(item.planned.value, path),
            shape=item.planned.shape,
            crc32=item.coded.crc32,
            element=carriage.BY_ONNX_TYPE[item.planned.proto.data_type],
        )
        insertions.append(Insertion(item.planned, path, decode, item.coded.payload))
    return insertions


def _modernise(model: onnx.ModelProto) -> None:
    """Raise an IR version below 4 to 4, where initializers need not be graph inputs.

    Before, exactly the initializers had to be repeated there, which decoded tensors cannot be. No caller
    could replace them, so without the entries the model means the same.
    """
    if model.ir_version >= FIRST_IR_WITH_OPTIONAL_INPUTS:
        return
    model.ir_version = FIRST_IR_WITH_OPTIONAL_INPUTS
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def _mark(model: onnx.ModelProto, manifest: Manifest) -> None:
    """Write the operator set and the metadata that make a model a packed one."""
    if not any(entry.domain == carriage.DOMAIN for entry in model.opset_import):
        model.opset_import.add(domain=carriage.DOMAIN, version=carriage.OPSET)
    for key, value in (
        (carriage.FORMAT_KEY, carriage.FORMAT),
        (carriage.CODEC_KEY, carriage.CODEC),
        (carriage.MANIFEST_KEY, manifest.to_text()),
    ):
        model.metadata_props.add(key=key, value=value)

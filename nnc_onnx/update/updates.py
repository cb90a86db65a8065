"""Updates between ONNX models: what to add to a base to get a new model, and adding it.

Models may be plain, packed, or NNR files; a packed one counts with its decoded values. An update changes values of
tensors. What else differs (metadata, attributes, names of nodes) travels as an ONNX topology unit, and so do tensors
whose difference no data unit can hold.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnc_codec.abilities import ApplyOptions, DiffOptions
from nnc_codec.bitstream import Bitstream
from nnc_codec.differences import Array
from nnc_codec.errors import InvalidArgumentError
from nnc_codec.files import require_readable, require_writable, write_atomic
from nnc_codec.formats import Progress, ProgressCallback
from nnc_codec.state import UpdateState
from nnc_codec.surgery import Topology
from nnc_codec.syntax.enums import PayloadType, TopologyCompressionFormat, TopologyStorageFormat
from nnc_codec.update_report import AppliedUpdate, ApplyReport, DiffReport, TensorChange
from nnc_codec.updates import FORMAT, Update, UpdateNote, WrongBaseError, code_differences, write_update

from ..hollow import clear_values, hollow_tensors
from ..model_io import check_output
from ..nnr.layout import onnx_topology
from ..version import producer
from .chain import Step, added, advance, open_updates, workspace
from .coding import Changes, compare, error_of
from .structure import check_same_nodes, check_same_tensors
from .weights import Weights, plain_copy, refill, take_apart, write_model

if TYPE_CHECKING:
    import onnx


def diff(
    base: str | os.PathLike[str],
    new: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: DiffOptions | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> DiffReport:
    """Write what makes `new` out of `base`: an NNR bitstream of differences.

    Unchanged tensors cost nothing. Without ``options.qp`` every weight gets a step no larger than a direct packing
    would give it and no larger than the rms of its difference; vectors and other small tensors get finer ones, and
    integers, scalars and quantization parameters come back exactly.

    Args:
        base: ONNX or NNR file that the receiver has.
        new: ONNX or NNR file of the same network.
        output: NNR file to write.
        options: updates in between, quality, tools.
        progress: called after every tensor.

    Raises:
        FileAccessError, OutputExistsError, InvalidModelError, NNRError: bad files.
        TopologyChangedError: `new` is another network.
        WrongBaseError, UpdateChainError: ``options.after`` does not lead on from `base`.
    """
    start = time.perf_counter()
    options = options or DiffOptions()
    base, new, output = require_readable(base), require_readable(new), Path(output)
    require_writable(output, force=options.force)
    with workspace(options.jobs) as (folder, executor):
        plain = plain_copy(base, folder / "base.onnx", options.limits, options.jobs)
        updates = open_updates(options.after, options.limits)
        parent, chain, _ = advance(take_apart(plain, executor), updates, executor, base)
        plain = plain_copy(new, folder / "new.onnx", options.limits, options.jobs)
        target = take_apart(plain, executor)
        check_same_tensors(parent.tensors, target.tensors)
        check_same_nodes(parent.hollow.graph, target.hollow.graph)
        changes = compare(parent, target, options, executor)

        follows = None
        if chain.last is not None and (options.temporal_context or options.history):
            follows = chain.last.sha256
        state = chain.state if follows else UpdateState()
        state = replace(state, temporal_context=options.temporal_context, history=options.history)
        watch = _counter(changes.differences, progress)
        units = code_differences(changes.differences, changes.codings, state, executor=executor, progress=watch)
        changes.differences.clear()
        model = _carried_model(parent, target, changes)

        result = _received(parent, units, replace(state, history=True, nodes=dict(state.nodes)), executor)
        if model is not None:
            hollow = onnx_topology([model])
            result = result if hollow is None else refill(hollow, result, executor)
        note = UpdateNote(format=FORMAT, producer=producer(), result=result.id, follows=follows)
        data = write_update(units, parent.id, note, () if model is None else (model,))
        write_atomic(output, data, force=options.force)
        return DiffReport(
            format="onnx",
            source=str(new),
            seconds=time.perf_counter() - start,
            notes=tuple(f"{name} travels whole: {reason}" for name, reason in changes.carried.items()),
            base=str(base),
            output=str(output),
            base_model_id=parent.id,
            result_model_id=note.result,
            new_bytes=target.nbytes,
            update_bytes=len(data),
            tensors=_tensor_changes(target, result, changes, Bitstream(units)),
            topology_bytes=0 if model is None else len(data) - len(write_update(units, parent.id, note)),
        )


def _counter(differences: Mapping[str, Array], progress: ProgressCallback | None) -> Callable[[str, int], None] | None:
    if progress is None:
        return None
    total = sum(change.nbytes for change in differences.values())
    done = 0

    def watch(name: str, nbytes: int) -> None:
        nonlocal done
        done += nbytes
        progress(Progress(what=name, done=done, total=total))

    return watch


def _received(parent: Weights, units: bytes, state: UpdateState, executor: Executor) -> Weights:
    """The model that a receiver gets out of coded differences."""
    tensors = dict(parent.tensors)
    for unit in Bitstream(units).data_units():
        differences = unit[0].decode_update(state)
        tensors |= added(parent, differences, executor)
        for name in differences:
            # Nothing comes after this update, so that its integers need not be kept.
            state.nodes.pop(name, None)
    return parent._replace(tensors=tensors)


def _carried_model(parent: Weights, target: Weights, changes: Changes) -> Topology | None:
    """The new model without the weights that differences make, if it is not the base's in all other respects."""
    own = target.hollow.SerializeToString(deterministic=True)
    if not changes.carried and own == parent.hollow.SerializeToString(deterministic=True):
        return None
    proto: onnx.ModelProto = type(target.hollow)()
    proto.CopyFrom(target.hollow)
    for tensor, name in list(hollow_tensors(proto, ())):
        if name in changes.carried:
            clear_values(tensor)
            tensor.raw_data = np.ascontiguousarray(target.tensors[name].values).tobytes()
    serialized = proto.SerializeToString(deterministic=True)
    return Topology(TopologyStorageFormat.NNR_TPL_ONNX, serialized, TopologyCompressionFormat.NNR_DFL)


def _tensor_changes(
    target: Weights, result: Weights, changes: Changes, bitstream: Bitstream
) -> tuple[TensorChange, ...]:
    reports = []
    for name, weight in target.tensors.items():
        report = TensorChange(name=name, shape=weight.shape, dtype=weight.element.dtype_name, change="unchanged")
        coded = bitstream.get(name)
        if name in changes.carried:
            report = TensorChange(
                name=name,
                shape=weight.shape,
                dtype=report.dtype,
                change="carried",
                error=error_of(weight, result.tensors[name]),
            )
        elif name in changes.codings:
            exact = coded is not None and coded.payload_type in (PayloadType.NNR_PT_INT, PayloadType.NNR_PT_RAW_FLOAT)
            header = None if coded is None else bitstream.units[coded.unit].data_unit
            report = TensorChange(
                name=name,
                shape=weight.shape,
                dtype=report.dtype,
                change="exact" if exact else "quantized",
                coded_bytes=0 if coded is None else coded.coded_nbytes,
                method=None if coded is None else coded.method,
                qp=None if coded is None else coded.qp,
                step=None if coded is None else coded.step,
                temporal_context=header is not None and bool(header.temporal_context_modeling_flag),
                error=error_of(weight, result.tensors[name]),
            )
        reports.append(report)
    return tuple(reports)


def apply(
    base: str | os.PathLike[str],
    updates: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    options: ApplyOptions | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> ApplyReport:
    """Write the model that `base` becomes with updates added to it: a plain ONNX model.

    Args:
        base: ONNX or NNR file, packed or plain.
        updates: oldest first. Those that `base` holds already only supply the context of the later ones.
        output: ONNX file to write, with external data also ``<output>.data``.
        options: where the weights go, threads, limits.
        progress: called after every update.

    Raises:
        FileAccessError, OutputExistsError, InvalidModelError, NotAnUpdateError, NNRError: bad files.
        WrongBaseError: no update belongs to `base`, or it holds all of them already.
        UpdateChainError: an update does not follow the one before.
        CorruptError: an update is damaged; nothing is written.
    """
    start = time.perf_counter()
    options = options or ApplyOptions()
    base, output = require_readable(base), Path(output)
    if not updates:
        raise InvalidArgumentError("no update was given")
    check_output(output, source=base, external=options.external_data, force=options.force)
    with workspace(options.jobs) as (folder, executor):
        opened = open_updates([Path(path) for path in updates], options.limits)
        plain = plain_copy(base, folder / "base.onnx", options.limits, options.jobs)
        model, steps = _applied(plain, opened, base, executor)
        if not any(step.applied for step in steps):
            raise WrongBaseError(f"{base} holds these updates already", hint="there is nothing to apply")
        if progress is not None:
            total = sum(step.update.bitstream.nbytes for step in steps)
            progress(Progress(what=steps[-1].update.what, done=total, total=total))
        model_id = model.id
        output_bytes = write_model(model, output, external=options.external_data, force=options.force)
    return ApplyReport(
        format="onnx",
        source=str(base),
        seconds=time.perf_counter() - start,
        output=str(output),
        output_bytes=output_bytes,
        model_id=model_id,
        updates=tuple(
            AppliedUpdate(
                path=step.update.what,
                nbytes=step.update.bitstream.nbytes,
                changed=step.changed,
                applied=step.applied,
                result_model_id=step.update.note.result,
            )
            for step in steps
        ),
    )


def _applied(plain: Path, updates: Sequence[Update], base: Path, executor: Executor) -> tuple[Weights, list[Step]]:
    """As :func:`advance`, without the chain, whose state is as large as the model."""
    model, _, steps = advance(take_apart(plain, executor), updates, executor, base)
    return model, steps

"""ONNX model file to NNEF model file, plain or packed."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from nnc_codec.report import ConvertedTensor, ConvertReport, OutputComparison

from .. import dat
from ..archive_writer import Member, from_bytes, kind_for, require_output, write_archive
from ..coding import EXACT_BYTES, exact_unit
from ..errors import CarryError
from ..labels import member_of
from ..layout import Payload, packed_members
from ..session import checking_session
from .carry import ACTIONS, coded_again, decode, label
from .check import compare, random_inputs, run_onnx, sensitivity
from .fixed import fixed_values
from .onnx_to_nnef import NnefGraph, Variable, convert_graph
from .settings import ConvertSettings
from .source import OnnxSource

Array = NDArray[Any]


def to_nnef(
    source: str | os.PathLike[str], output: str | os.PathLike[str], settings: ConvertSettings | None = None
) -> ConvertReport:
    """Converts an ONNX model to NNEF. Payloads of a packed model are carried over, not decoded.

    Args:
        source: ONNX file, packed or plain.
        output: folder, ``.nnef.tar``, ``.nnef.tgz`` or ``.zip``.
        settings: how.

    Raises:
        ConversionError: an operation, type or construct without NNEF counterpart; names it and its node.
        ShapeError: an input dimension is open.
        CarryError: a payload cannot be carried and `settings.payloads` is ``"refuse"``.
        MismatchError: the result does not compute what the source computes. Nothing is written.
        SessionError: the check cannot be made.
        InvalidArgumentError: `settings.fixed_inputs` names an input that is not there, or does not fit its type.
        NNRError: unreadable or damaged files.
    """
    start = time.perf_counter()
    settings = settings or ConvertSettings()
    source, output = Path(source), Path(output)
    require_output(output, source=source, force=settings.force)
    onnx_source = OnnxSource(source, settings.limits)
    fixed = fixed_values(onnx_source.model.proto.graph, settings.fixed_inputs)
    settings = msgspec.structs.replace(settings, fixed_inputs=fixed)
    graph = _convert(onnx_source, settings)
    values = _Values(onnx_source, graph)
    notes = [*graph.notes, *_unused(onnx_source, graph)]
    payloads, tensors = _place(onnx_source, graph, settings, values, notes)
    comparison: tuple[OutputComparison, ...] = ()
    if settings.check:
        comparison = _check(onnx_source, graph, payloads, values, settings)
    if payloads:
        payloads = _with_exact(graph, payloads, values)
    plain = [_plain_member(variable, values) for variable in graph.variables if variable.label not in payloads]
    members = packed_members(graph.text.encode("ascii"), None, payloads, plain)
    write_archive(output, members, kind=kind_for(output), force=settings.force)
    return ConvertReport(
        format="onnx",
        source=str(source),
        seconds=time.perf_counter() - start,
        notes=tuple(notes),
        target_format="nnef",
        output=str(output),
        tensors=tuple(tensors),
        comparison=comparison,
    )


def _convert(source: OnnxSource, settings: ConvertSettings) -> NnefGraph:
    """Converts, giving up payloads the conversion cannot carry if the settings allow that."""
    while True:
        if source.decoded and settings.payloads == "refuse":
            error = next(iter(source.decoded.values()))
            error.hint = error.hint or "--payloads reencode codes it again, --payloads raw stores it plain"
            raise error
        try:
            return convert_graph(
                source.stripped(), opaque=source.opaque(), input_shapes=settings.input_shapes, dims=settings.dims,
                fixed_inputs=settings.fixed_inputs,
            )  # fmt: skip
        except CarryError as error:
            if not source.carried:
                raise
            source.give_up(error)


class _Values:
    """Values of the variables of a converted graph."""

    def __init__(self, source: OnnxSource, graph: NnefGraph) -> None:
        self._source = source
        self._graph = graph

    def of(self, variable: Variable) -> Array:
        """The values, in the variable's NNEF shape."""
        if variable.source is None:
            return np.asarray(variable.value)
        name = variable.source
        carried = self._source.carried.get(name)
        if carried is not None:
            values = carried.values(self._source.limits)
        elif name in self._source.decoded:
            values = self._source.values(name)
        else:
            values = self._source.plain(self._graph.weights[name].proto)
        return values.reshape(variable.shape)


def _place(
    source: OnnxSource, graph: NnefGraph, settings: ConvertSettings, values: _Values, notes: list[str]
) -> tuple[dict[str, Payload], list[ConvertedTensor]]:
    payloads: dict[str, Payload] = {}
    tensors: list[ConvertedTensor] = []
    for variable in graph.variables:
        name = variable.source
        if name is None or (name not in source.carried and name not in source.decoded):
            tensors.append(ConvertedTensor(name=name or variable.label, target=variable.label, action="plain"))
        elif name in source.carried:
            carried = source.carried[name]
            unit, line = label(carried, variable.label)
            item = dat.item_of(np.dtype(carried.dtype), name=name)
            payloads[variable.label] = Payload(unit=unit, shape=variable.shape, item=item)
            tensors.append(line)
        else:
            action = ACTIONS[settings.payloads]
            if action == "reencoded":
                again = coded_again(variable.label, values.of(variable), source.unit(name))
                item = dat.item_of(again.values.dtype, name=name)
                payloads[variable.label] = Payload(unit=again.unit, shape=variable.shape, item=item)
                notes.append(again.note)
            reason = source.decoded[name].reason
            tensors.append(ConvertedTensor(name=name, target=variable.label, action=action, reason=reason))
    return payloads, tensors


def _with_exact(graph: NnefGraph, payloads: dict[str, Payload], values: _Values) -> dict[str, Payload]:
    """The payloads, and small plain floats, in the order of the graph."""
    result = {}
    for variable in graph.variables:
        payload = payloads.get(variable.label)
        if payload is None and math.prod(variable.shape) * 4 <= EXACT_BYTES:
            array = values.of(variable)
            unit = exact_unit(variable.label, array)
            if unit is not None:
                payload = Payload(unit=unit, shape=variable.shape, item=dat.item_of(array.dtype))
        if payload is not None:
            result[variable.label] = payload
    return result


def _plain_member(variable: Variable, values: _Values) -> Member:
    return from_bytes(member_of(variable.label), dat.build(values.of(variable), name=variable.label))


def _unused(source: OnnxSource, graph: NnefGraph) -> list[str]:
    used = {variable.source for variable in graph.variables}
    return [
        f"payload {name!r} is not needed by the converted graph and was left out"
        for name in (*source.carried, *source.decoded)
        if name not in used
    ]


def _check(
    source: OnnxSource,
    graph: NnefGraph,
    payloads: Mapping[str, Payload],
    values: _Values,
    settings: ConvertSettings,
) -> tuple[OutputComparison, ...]:
    """Source in onnxruntime against result in the NNEF reference interpreter.

    What was coded again has its old values on both sides: the check is of the conversion, not of the quantization.
    """
    proto = source.model.proto
    shapes = {name: weight.shape for name, weight in graph.weights.items()}
    inputs = random_inputs(graph.inputs, proto, settings.seed, shapes=shapes)
    fixed = {**settings.fixed_inputs, **random_inputs(graph.unread, proto, settings.seed)}
    path = str(source.model.path)

    def run(feed: dict[str, Array]) -> list[Array]:
        return run_onnx(path, {**fixed, **feed}, [info.name for info in proto.graph.output])

    def getter(variable: Variable) -> Callable[[], Array]:
        payload = payloads.get(variable.label)
        if payload is None or variable.source in source.decoded:
            return lambda: values.of(variable)
        # From the unit that is going to be written, so that what is checked is what a reader will decode.
        return lambda: decoded(payload, variable.label)

    result = checking_session(
        graph.text,
        [(variable.label, getter(variable)) for variable in graph.variables],
        [inputs[port.onnx] for port in graph.inputs],
        sum(4 * math.prod(variable.shape) for variable in graph.variables),
    )
    reference = run(inputs)
    names = [port.onnx for port in graph.outputs]
    return compare(names, reference, result, moves=sensitivity(run, inputs))


def decoded(payload: Payload, name: str) -> Array:
    """Values of a payload in the type its item says."""
    header = dat.TensorHeader(payload.shape, *payload.item, 0)
    return decode(payload.unit, str(header.dtype), payload.shape, name)

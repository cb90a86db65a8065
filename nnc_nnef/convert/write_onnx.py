"""NNEF model to ONNX model file, plain or packed."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from nnc_codec.errors import UnsupportedError
from nnc_codec.formats import PackOptions
from nnc_codec.report import ConvertedTensor, ConvertReport, OutputComparison
from nnc_onnx import carriage
from nnc_onnx.graph.placement import Placement
from nnc_onnx.graph.usage import Usage
from nnc_onnx.graph.walk import all_names
from nnc_onnx.grouping import group_tensors
from nnc_onnx.manifest import Manifest, Parameters, files_digest
from nnc_onnx.model_coding import PackedTensor
from nnc_onnx.model_io import EXTERNAL_THRESHOLD, Model, check_output, model_writer
from nnc_onnx.nnr.sources import coded_payload
from nnc_onnx.packing import Work, edit_graph, entry_of, name_payloads
from nnc_onnx.plan import plan_tensors
from nnc_onnx.tensors import raw_tensor
from nnc_onnx.version import producer

from ..coding import EXACT_BYTES
from ..errors import CarryError
from ..model import NnefModel, Variable, open_model
from ..session import checking_session, interpretable
from .carry import ACTIONS, coded_again, label, take, unit_shape
from .check import compare, random_inputs, run_onnx, sensitivity
from .nnef_to_onnx import OnnxGraph, Stored, convert_text
from .settings import ConvertSettings

Array = NDArray[Any]


def to_onnx(
    source: str | os.PathLike[str], output: str | os.PathLike[str], settings: ConvertSettings | None = None
) -> ConvertReport:
    """Converts an NNEF model to ONNX. Payloads of a packed model are carried over, not decoded.

    Args:
        source: NNEF model, packed or plain.
        output: ONNX file to write.
        settings: how.

    Raises:
        ConversionError: an operation without ONNX counterpart; names it and its node.
        CarryError: a payload cannot be carried and `settings.payloads` is ``"refuse"``.
        MismatchError: the result does not compute what the source computes. Nothing is written.
        SessionError: the check cannot be made.
        NNRError: unreadable or damaged files.
    """
    start = time.perf_counter()
    settings = settings or ConvertSettings()
    source, output = Path(source), Path(output)
    check_output(output, source=source if source.is_file() else None, external=None, force=settings.force)
    with open_model(source, limits=settings.limits) as model:
        builder = OnnxBuilder(source, model, settings)
        comparison: tuple[OutputComparison, ...] = ()
        if settings.check:
            with tempfile.TemporaryDirectory(prefix="onnx-nnc-") as private:
                trial = Path(private, "model.onnx")
                builder.write(trial, force=False)
                comparison = _check(model, builder, trial, settings)
        builder.write(output, force=settings.force)
    return ConvertReport(
        format="nnef",
        source=str(source),
        seconds=time.perf_counter() - start,
        notes=tuple(builder.notes),
        target_format="onnx",
        output=str(output),
        tensors=tuple(builder.tensors),
        comparison=comparison,
    )


class OnnxBuilder:
    """Builds the ONNX form of an opened NNEF model.

    Attributes:
        graph: the converted structure.
        tensors: what became of every variable.
        recoded: new values of variables that were coded again, by label.
        notes: what the user should know.
    """

    def __init__(self, source: Path, model: NnefModel, settings: ConvertSettings) -> None:
        self._model = model
        self._files = [source] if source.is_file() else [source / name for name in model.archive]
        self._settings = settings
        self.tensors: list[ConvertedTensor] = []
        self.recoded: dict[str, Array] = {}
        stored = {
            label: Stored(variable.shape, str(variable.dtype))
            for label, variable in model.items()
            if variable.dtype is not None
        }
        self.graph: OnnxGraph = convert_text(model.graph, model.quant, stored)
        self.notes = list(self.graph.notes)
        self._payloads: dict[str, tuple[bytes, str]] = {}
        for name, (variable_label, _, dtype) in self.graph.weights.items():
            self._place(name, model[variable_label], dtype)

    def _place(self, name: str, variable: Variable, dtype: str) -> None:
        source = variable.label
        if not variable.coded:
            self.tensors.append(ConvertedTensor(name=source, target=name, action="plain"))
            return
        try:
            try:
                bitstream = variable.unit().bitstream
            except UnsupportedError as error:
                several = len(self._model.companions(source)) > 1
                reason = "several-tensors" if several else "dependent-unit"
                raise CarryError(error.message, reason=reason, tensor=source) from error
            carried = take(source, bitstream, variable.shape, dtype, self._model.limits)
            reshaped = unit_shape(carried.unit) != self.graph.weights[name][1]
            if (carried.exact or reshaped) and variable.size * np.dtype(dtype).itemsize <= EXACT_BYTES:
                # Vectors keep their values in the bitstream for the sake of the archive; a graph wants constants.
                self.tensors.append(ConvertedTensor(name=source, target=name, action="plain"))
                return
            if reshaped:
                raise CarryError(
                    "its data unit has another shape than the graph needs", reason="resized", tensor=source
                )
            if carriage.BY_ONNX_TYPE.get(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))) is None:
                raise CarryError(f"there is no decode operator for {dtype}", reason="type", tensor=source)
        except CarryError as error:
            self._give_up(name, variable, error)
            return
        unit, line = label(carried, name)
        self._payloads[name] = (unit.bitstream, dtype)
        self.tensors.append(line)

    def _give_up(self, name: str, variable: Variable, error: CarryError) -> None:
        policy = self._settings.payloads
        if policy == "refuse":
            error.hint = error.hint or "--payloads reencode codes it again, --payloads raw stores it plain"
            raise error
        action = ACTIONS[policy]
        if action == "reencoded":
            again = coded_again(name, variable.read(), None)
            self._payloads[name] = (again.unit.bitstream, str(again.values.dtype))
            self.recoded[variable.label] = again.values
            self.notes.append(again.note)
        self.tensors.append(ConvertedTensor(name=variable.label, target=name, action=action, reason=error.reason))

    def model(self) -> onnx.ModelProto:
        """The structure with empty initializers for all weights."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.graph.model)
        for name, (_, shape, dtype) in self.graph.weights.items():
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            proto.graph.initializer.append(raw_tensor(name, kind, shape, None))
        return proto

    def write(self, output: Path, *, force: bool) -> None:
        """Writes the ONNX file, with external data if it is large."""
        proto = self.model()
        work = self._work(proto, output)
        plain = [tensor for tensor in proto.graph.initializer if tensor.name in self.graph.weights]
        plain = [tensor for tensor in plain if tensor.name not in self._payloads]
        sizes = [len(data) for data, _ in self._payloads.values()]
        sizes += [self._model[self.graph.weights[tensor.name][0]].stored_nbytes for tensor in plain]
        with model_writer(output, external=sum(sizes) > EXTERNAL_THRESHOLD, force=force) as writer:
            for tensor in plain:
                values = self._model[self.graph.weights[tensor.name][0]].read()
                writer.put(tensor, np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
            if self._payloads:
                edit_graph(work, writer.put)
            writer.finish(proto)

    def _work(self, proto: onnx.ModelProto, output: Path) -> Work:
        """The coded tensors, told apart into those with a node of their own and those of groups."""
        usage = Usage(proto.graph)
        planned = plan_tensors(proto, usage, PackOptions())
        coded = [
            PackedTensor(item, coded_payload(self._payloads[item.name][0], None), "", item)
            for item in planned
            if item.name in self._payloads
        ]
        taken = all_names(proto.graph)
        below = PackOptions().group_below
        singles, groups = group_tensors(coded, Placement(usage, ()).graph_for, below, taken)
        packed = name_payloads(singles, taken)
        index = self._model.indices[-1] if self._model.indices else None
        manifest = Manifest(
            format=carriage.FORMAT,
            producer=producer(),
            source_sha256=files_digest(self._files),
            parameters=index.parameters if index and index.parameters else Parameters(method="dq"),
            tensors=tuple(entry_of(item) for item in packed),
            groups=tuple(group.entry for group in groups),
        )
        model = Model(proto, output.parent, output, ())
        return Work(model, usage, planned, packed, {}, groups, manifest, 0.0)


def _check(
    model: NnefModel, builder: OnnxBuilder, converted: Path, settings: ConvertSettings
) -> tuple[OutputComparison, ...]:
    """Source in the NNEF reference interpreter against result in onnxruntime.

    What was coded again has its new values on both sides: the check is of the conversion, not of the quantization.
    """
    graph = builder.graph
    labels = {variable_label for variable_label, _, _ in graph.weights.values()}

    def getter(variable: Variable) -> Callable[[], Array]:
        recoded = builder.recoded.get(variable.label)
        levels = graph.affine.get(variable.label)

        def values() -> Array:
            stored = variable.read() if recoded is None else recoded
            return stored if levels is None else levels.apply(stored)

        return values

    variables = [(label, getter(model[label])) for label in model if label in labels or model[label].dtype is not None]
    shapes = {name: shape for name, (_, shape, _) in graph.weights.items()}
    inputs = random_inputs(graph.inputs, graph.model, settings.seed, shapes=shapes)
    names = [port.onnx for port in graph.outputs]
    feed = [interpretable(inputs[port.onnx]) for port in graph.inputs]
    reference = checking_session(model.graph, variables, feed, sum(4 * model[label].size for label, _ in variables))

    def run(feed: dict[str, Array]) -> list[Array]:
        return run_onnx(str(converted), feed, names)

    return compare(names, reference, run(inputs), moves=sensitivity(run, inputs))

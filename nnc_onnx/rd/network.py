"""A model that can be run with some of its weights replaced, in one onnxruntime session."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc_codec.errors import NNRError

from ..graph.usage import Usage
from ..graph.walk import GraphPath, all_names
from ..hollow import embed
from ..model_io import all_tensors
from ..plan import PlannedTensor
from ..runtime.settings import require_onnxruntime
from ..tensors import to_array
from .errors import CannotRunError

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

Feed = Mapping[str, "NDArray[Any]"]

_LONGEST_REASON = 200
_INLINE_BYTES = 1 << 30


class Weight(NamedTuple):
    """One distinct weight of a model.

    Attributes:
        name: of the input that carries it in the session.
        values: its values; do not write to them.
        tensors: the tensors of the model that have these values.
    """

    name: str
    values: NDArray[Any]
    tensors: tuple[PlannedTensor, ...]

    @property
    def is_sparse(self) -> bool:
        """Whether its zeros are to be kept."""
        return any(tensor.sparse is not None for tensor in self.tensors)


class Network:
    """A model whose weights are inputs, so that one session serves every choice of weights.

    The session is single-threaded: results do not depend on the number of processors, and several threads may
    run it at once.

    Attributes:
        inputs: what the caller feeds: the model's own inputs without initializers.
        outputs: names of its outputs.
        weights: the distinct weights.
        hollow: the model with its weights as inputs.
    """

    def __init__(self, proto: onnx.ModelProto, planned: Sequence[PlannedTensor], folder: Path) -> None:
        """Build the session.

        Args:
            proto: the model; it is not changed.
            planned: the tensors to become inputs.
            folder: where external data lie.

        Raises:
            CannotRunError: onnxruntime is absent or does not accept the model.
            InvalidModelError, ExternalDataError: values cannot be read.
        """
        import onnx

        try:
            runtime = require_onnxruntime()
        except NNRError as error:
            raise CannotRunError(str(error)) from error
        self.weights = _distinct(planned, folder)
        # Copied without the weights: a graph of weights only would double the memory for nothing.
        self.hollow = onnx.ModelProto()
        self.hollow.CopyFrom(proto)
        _make_inputs(self.hollow, self.weights)
        rest = all_tensors(self.hollow)
        for tensor in rest:
            embed(tensor, folder)
        if self.hollow.ByteSize() > _INLINE_BYTES:
            raise CannotRunError("the tensors that are not coded exceed 1 GiB")
        own = {weight.name for weight in self.weights} | {tensor.name for tensor in self.hollow.graph.initializer}
        self.inputs = [value for value in self.hollow.graph.input if value.name not in own]
        self.outputs = [value.name for value in self.hollow.graph.output]
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = runtime.InferenceSession(
                self.hollow.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no common base but Exception
            raise CannotRunError(f"onnxruntime does not load the model: {_reason(error)}") from error
        self._value = runtime.OrtValue.ortvalue_from_numpy
        self._originals = {weight.name: self._value(weight.values) for weight in self.weights}

    def run(self, feed: Feed, replaced: Mapping[str, NDArray[Any]] | None = None) -> list[NDArray[Any]]:
        """Outputs of the model on `feed`.

        Args:
            feed: one array per model input.
            replaced: values of weights, by name, instead of the model's own.

        Raises:
            CannotRunError: onnxruntime fails, or an output is no tensor.
        """
        values = dict(self._originals)
        try:
            for name, array in {**feed, **(replaced or {})}.items():
                values[name] = self._value(np.ascontiguousarray(array).reshape(np.shape(array)))
            return [value.numpy() for value in self._session.run_with_ort_values(self.outputs, values)]
        except Exception as error:  # as above
            raise CannotRunError(f"onnxruntime cannot run the model: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."


def _distinct(planned: Sequence[PlannedTensor], folder: Path) -> list[Weight]:
    groups: dict[tuple[object, ...], list[PlannedTensor]] = defaultdict(list)
    values: dict[tuple[object, ...], NDArray[Any]] = {}
    for tensor in planned:
        own = to_array(tensor.proto, folder) if tensor.sparse is None else tensor.sparse
        array = np.ascontiguousarray(own).reshape(tensor.shape)
        digest = hashlib.sha256(array.reshape(-1).view(np.uint8).data).digest()
        key = (tensor.proto.data_type, tensor.shape, digest)
        groups[key].append(tensor)
        values.setdefault(key, array)
    return [Weight(f"onnx_nnc.weight.{n}", values[key], tuple(groups[key])) for n, key in enumerate(groups)]


def _make_inputs(hollow: onnx.ModelProto, weights: Sequence[Weight]) -> None:
    """Turn initializers and constants, wherever they are, into inputs of the main graph."""
    from onnx import helper

    usage = Usage(hollow.graph)
    taken = all_names(hollow.graph)
    gone: dict[tuple[GraphPath, str], list[int]] = defaultdict(list)
    for weight in weights:
        if weight.name in taken:
            raise CannotRunError(f"the model has a value called {weight.name!r}")
        for tensor in weight.tensors:
            for use in usage.uses(tensor.value):
                if use.node is None:
                    raise CannotRunError("a weight is an output of a graph", tensor=tensor.name)
                use.node.input[use.position] = weight.name
            gone[tensor.path, tensor.origin].append(tensor.position)
        first = weight.tensors[0]
        hollow.graph.input.append(helper.make_tensor_value_info(weight.name, first.proto.data_type, first.shape))
    for (path, origin), positions in gone.items():
        graph = usage.graphs[path]
        holder = graph.initializer if origin == "initializer" else graph.node
        for position in sorted(positions, reverse=True):
            del holder[position]

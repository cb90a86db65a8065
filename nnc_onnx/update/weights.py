"""An ONNX model taken apart into its weights and the hollow model around them, and put together again."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc_codec.differences import TensorId, model_id, tensor_id
from nnc_codec.formats import PackOptions, UnpackOptions
from nnc_codec.limits import Limits

from ..carriage import ElementType
from ..errors import CarriageError
from ..graph.usage import Usage
from ..hollow import clear_values, element_ids, element_of, embed, hollow_tensors, is_hollow, make_hollow
from ..model_io import EXTERNAL_THRESHOLD, all_tensors, load, model_writer, parse, written_bytes
from ..nnr.layout import recognise_nnr
from ..plan import PlannedTensor, plan_tensors
from ..recognise import recognise_onnx
from ..tensors import stored_nbytes, to_array

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

_FEW = 16
"""Tensors of fewer elements are kept exact."""


class Weight(NamedTuple):
    """One tensor of a model.

    Attributes:
        name: in bitstreams and reports; unique in the model.
        shape: in the model.
        element: its type.
        is_weight: whether packing would code it.
        must_be_exact: whether it is a number that other numbers are measured by, or a single one.
        values: at least one dimension; do not write to them.
        identity: its part in the model's id.
    """

    name: str
    shape: tuple[int, ...]
    element: ElementType
    is_weight: bool
    must_be_exact: bool
    values: NDArray[Any]
    identity: TensorId

    def with_values(self, values: NDArray[Any]) -> Weight:
        """The tensor with other values."""
        return self._replace(values=values, identity=_identity(self.name, values, self.shape))


class Weights(NamedTuple):
    """A model taken apart.

    Attributes:
        hollow: the model, its weights replaced by their names.
        tensors: the weights by name, in the model's order. Tensors of types that cannot be coded stay in `hollow`.
        opaque: parts of those in the model's id.
        nbytes: all files of the model it came from.
    """

    hollow: onnx.ModelProto
    tensors: dict[str, Weight]
    opaque: tuple[TensorId, ...]
    nbytes: int

    @property
    def id(self) -> str:
        """The model's id, of the weights and of the tensors that cannot be coded."""
        return model_id((*(weight.identity for weight in self.tensors.values()), *self.opaque))


def _identity(name: str, values: NDArray[Any], shape: tuple[int, ...]) -> TensorId:
    return tensor_id(name, values)._replace(shape=shape)


def _opaque_ids(proto: onnx.ModelProto) -> Iterable[TensorId]:
    """Parts of tensors that cannot be coded: strings, booleans, numbers of fewer than 8 bits, empty ones."""
    planned = plan_tensors(proto, Usage(proto.graph), PackOptions())
    for tensor, name in zip(planned, element_ids(planned), strict=True):
        if not is_hollow(tensor.proto):
            digest = hashlib.sha256(_opaque_bytes(tensor.proto)).digest()
            yield TensorId(name, tensor.dtype_name, tensor.shape, digest)


def _opaque_bytes(tensor: onnx.TensorProto) -> bytes:
    """Values that are the same however a file stores them, for the types whose storage onnx has settled."""
    from onnx import TensorProto

    if tensor.data_type == TensorProto.STRING:
        return b"".join(struct.pack("<Q", len(text)) + text for text in tensor.string_data)
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        small = tensor.data_type == TensorProto.COMPLEX64
        return np.array(tensor.float_data if small else tensor.double_data, "<f4" if small else "<f8").tobytes()
    return np.array(tensor.int32_data, np.int32).astype(np.uint8).tobytes()


def plain_copy(source: Path, plain: Path, limits: Limits, jobs: int) -> Path:
    """`source` itself if it is a plain ONNX model, else `plain`, into which it was decoded.

    Raises:
        FileAccessError, InvalidModelError, CarriageError, NNRError: it is no model, or a damaged one.
    """
    from ..nnr.unpacking import unpack_nnr
    from ..unpacking import unpack

    options = UnpackOptions(jobs=jobs, limits=limits)
    if recognise_nnr(source) is not None:
        unpack_nnr(source, plain, options)
    elif recognise_onnx(source) == "packed":
        unpack(source, plain, options)
    else:
        return source
    return plain


def take_apart(source: Path, executor: Executor) -> Weights:
    """A plain ONNX model, taken apart.

    Raises:
        FileAccessError, InvalidModelError, TruncatedModelError, ExternalDataError: bad files.
    """
    model = load(source)
    made = _split(model.proto, model.folder, model.nbytes, executor, lambda tensor, name: None)
    # Protobuf keeps the memory of values that were taken out until the whole message goes.
    return made._replace(hollow=parse(made.hollow.SerializeToString()))


def refill(hollow: onnx.ModelProto, weights: Weights, executor: Executor) -> Weights:
    """Another model of the same tensors: those that are hollow in `hollow` have their values in `weights`.

    Raises:
        CarriageError: the tensors are others, or a name is missing.
        ExternalDataError: a tensor refers to a file.
    """

    def known(tensor: PlannedTensor, name: str) -> Weight | None:
        element = element_of(tensor.proto)
        if element is None:
            return None
        weight = weights.tensors.get(element)
        if weight is None or element != name:
            raise CarriageError("the update has no values for it, and the base neither", tensor=element)
        return weight

    made = _split(hollow, Path(), weights.nbytes, executor, known)
    for name, weight in made.tensors.items():
        old = weights.tensors.get(name)
        if old is None or (old.shape, old.element) != (weight.shape, weight.element):
            raise CarriageError("not in the base with this type and shape", tensor=name)
    missing = weights.tensors.keys() - made.tensors.keys()
    if missing:
        raise CarriageError("in the base but not in the update's model", tensor=min(missing))
    return made


def _split(
    proto: onnx.ModelProto,
    folder: Path,
    nbytes: int,
    executor: Executor,
    known: Callable[[PlannedTensor, str], Weight | None],
) -> Weights:
    planned = plan_tensors(proto, Usage(proto.graph), PackOptions())
    pairs = list(zip(planned, element_ids(planned), strict=True))

    def weight_of(pair: tuple[PlannedTensor, str]) -> Weight | None:
        tensor, name = pair
        if tensor.element is None or tensor.elements == 0:
            return None
        old = known(tensor, name)
        if old is not None:
            if (old.shape, old.element) != (tensor.shape, tensor.element):
                raise CarriageError("the update gives it another type or shape than the base has", tensor=name)
            return old
        values = to_array(tensor.proto, folder).reshape(tensor.shape or (1,))
        return Weight(
            name,
            tensor.shape,
            tensor.element,
            tensor.reason is None,
            tensor.role == "quantization" or tensor.elements < _FEW,
            values,
            _identity(name, values, tensor.shape),
        )

    tensors = {}
    weights = list(executor.map(weight_of, pairs))
    for (tensor, name), weight in zip(pairs, weights, strict=True):
        if weight is not None:
            tensors[name] = weight
            make_hollow(tensor.proto, name)
    for other in all_tensors(proto):
        embed(other, folder)
    return Weights(proto, tensors, tuple(_opaque_ids(proto)), nbytes)


def write_model(weights: Weights, output: Path, *, external: bool | None, force: bool) -> int:
    """Put a model together and write it; its hollow model is filled, its weights are used up.

    Args:
        weights: the model.
        output: ONNX file to write.
        external: weights in a file beside it; ``None`` decides by size.
        force: overwrite the output.

    Returns:
        Bytes of all files written.

    Raises:
        OutputExistsError, FileAccessError, InvalidModelError: it cannot be written.
    """
    holes = list(hollow_tensors(weights.hollow, ()))
    if external is None:
        others = sum(stored_nbytes(t) for t in all_tensors(weights.hollow) if not is_hollow(t))
        total = sum(weights.tensors[name].values.nbytes for _, name in holes)
        external = total + others > EXTERNAL_THRESHOLD
    with model_writer(output, external=external, force=force) as writer:
        for tensor, name in holes:
            values = weights.tensors.pop(name).values
            clear_values(tensor)
            writer.put(tensor, np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        writer.finish(weights.hollow)
    return written_bytes(output, external=external)

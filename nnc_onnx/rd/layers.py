"""Which weights are multiplied with what: the layers of a model, as far as their outputs are linear in the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..graph.usage import Usage, Value
from ..graph.walk import GraphPath
from .random import Random

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

_MOST_HOPS = 4
_MOST_AXES = 8
_GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


class Matrix(NamedTuple):
    """A weight as the matrix that is multiplied.

    Attributes:
        rows, cols: sizes, in the order of the values.
        across: the dimension that is summed over is that of the rows, otherwise that of the columns.
        groups: how many parts of the rows have inputs of their own.
    """

    rows: int
    cols: int
    across: bool
    groups: int = 1

    @property
    def reduced(self) -> int:
        """Length of the dimension that is summed over."""
        return self.rows if self.across else self.cols


class Window(NamedTuple):
    """How a convolution walks over its input, one entry per spatial dimension.

    Attributes:
        kernel, strides, dilations: as in ONNX.
        pads: (before, after).
        groups: of channels.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...] | str
    groups: int


class Layer(NamedTuple):
    """One place where a weight is multiplied.

    Attributes:
        matrix: the weight.
        source: the value it is multiplied with.
        axis: of `source` that is summed over, counted from the end; unless `window` is given.
        window: for a convolution.
        delayed: `source` is a recurrent output [steps, directions, batch, n], of which a step sees the one before.
    """

    matrix: Matrix
    source: Value
    axis: int = -1
    window: Window | None = None
    delayed: bool = False

    @property
    def observation(self) -> tuple[object, ...]:
        """Layers that observe the same have the same second moments."""
        return self.source, self.axis, self.window, self.delayed, self.matrix.groups

    def observe(self, values: NDArray[Any], most: int, random: Random) -> NDArray[np.float32]:
        """Vectors that the weight is multiplied with.

        Args:
            values: of `source`.
            most: vectors wanted, taken at random if there are more.
            random: what takes them.

        Returns:
            float32 [groups, vectors, n]; no vectors if the shape of `values` is unexpected.
        """
        n, groups = self.matrix.reduced, self.matrix.groups
        nothing = np.empty((groups, 0, n), np.float32)
        if self.window is not None:
            found = _patches(values, self.window, most, random)
            return nothing if found.shape[0] != groups or found.shape[2] != n else found
        if self.delayed:
            if values.ndim != 4 or values.shape[1] != groups or values.shape[3] != n or values.shape[0] < 2:
                return nothing
            turned = values[1:] if groups == 1 else np.stack([values[:-1, 0], values[1:, 1]], axis=1)
            vectors = np.moveaxis(values[:-1] if groups == 1 else turned, 1, 0).reshape(groups, -1, n)
        else:
            if values.ndim < -self.axis or values.shape[self.axis] != n:
                return nothing
            flat = np.moveaxis(values, self.axis, -1)
            vectors = np.moveaxis(flat, 0, 0).reshape(groups, -1, n) if groups > 1 else flat.reshape(1, -1, n)
        if vectors.shape[1] > most:
            vectors = vectors[:, random.integers((most,), vectors.shape[1])]
        return np.asarray(vectors, np.float32)


def layers_of(graph: onnx.GraphProto, name: str, shape: tuple[int, ...], usage: Usage) -> list[Layer]:
    """Where the weight `name`, an input of the main graph, is multiplied.

    Recurrent layers whose states nobody reads get a name for them: an output of their node in `graph`.

    Returns:
        The layers; none if it is used in any other way, or as matrices of different kinds.
    """
    layers: dict[Layer, None] = {}
    for found in _uses(Value((), name), _Form(shape), usage, _MOST_HOPS):
        if found is None:
            return []
        layers.update(dict.fromkeys(found))
    return list(layers) if len({layer.matrix for layer in layers}) == 1 else []


class _Form(NamedTuple):
    """A weight on its way to where it is multiplied.

    Attributes:
        shape: its own shape.
        turned: it has been transposed.
        shuffled: it is a matrix whose rows have been picked and stacked: gates in another order.
    """

    shape: tuple[int, ...]
    turned: bool = False
    shuffled: bool = False


def _uses(value: Value, form: _Form, usage: Usage, hops: int) -> Iterator[list[Layer] | None]:
    """The layers of every use, or ``None`` for one that is something else."""
    for use in usage.uses(value):
        node = use.node
        if node is None or node.domain not in ("", "ai.onnx"):
            yield None
            continue
        after = _passed(node, use.position, use.path, form, usage) if hops else None
        if after is None:
            yield _layers_at(node, use.position, use.path, form, usage)
        else:
            yield from _uses(Value(use.path, node.output[0]), after, usage, hops - 1)


def _passed(node: onnx.NodeProto, position: int, path: GraphPath, form: _Form, usage: Usage) -> _Form | None:
    """What a weight is after a node that only moves its values; ``None`` if the node does more."""
    kind, is_matrix = node.op_type, len(form.shape) == 2
    if kind in ("Identity", "Cast"):
        return form
    if not is_matrix or form.turned:
        return None
    if kind == "Transpose" and not form.shuffled and _integers(node, "perm", (1, 0)) == (1, 0):
        return form._replace(turned=True)
    axes: Sequence[int] | None = None
    if kind == "Concat":
        axes = (_integer(node, "axis", 0),)
    elif kind in ("Slice", "Unsqueeze") and position == 0:
        at = 3 if kind == "Slice" else 1
        axes = _integers(node, "axes", ()) or _constant(node.input[at] if at < len(node.input) else "", path, usage)
    return form._replace(shuffled=True) if axes is not None and tuple(axes) == (0,) else None


def _constant(name: str, path: GraphPath, usage: Usage) -> tuple[int, ...] | None:
    """Integers that a value is known to be."""
    from onnx import numpy_helper

    value = usage.resolve(path, name)
    if value is None:
        return None
    graph = usage.graphs[value.path]
    held = [tensor for tensor in graph.initializer if tensor.name == name]
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] == name:
            held.extend(attribute.t for attribute in node.attribute if attribute.name == "value")
    if not held or held[0].data_type not in (6, 7) or math.prod(held[0].dims) > _MOST_AXES:
        return None
    return tuple(int(number) for number in numpy_helper.to_array(held[0]).reshape(-1))


def _layers_at(node: onnx.NodeProto, position: int, path: GraphPath, form: _Form, usage: Usage) -> list[Layer] | None:
    shape = form.shape

    def read(at: int) -> Value | None:
        return usage.resolve(path, node.input[at]) if at < len(node.input) and node.input[at] else None

    kind = node.op_type
    source = read(1 - position) if kind == "MatMul" else read(0)
    if source is None or source.name == node.input[position]:
        return None
    if kind in ("MatMul", "Gemm") and len(shape) == 2 and not form.shuffled:
        if kind == "Gemm" and position != 1:
            return None
        left = kind == "MatMul" and position == 0
        flipped = form.turned != (kind == "Gemm" and _integer(node, "transB", 0) == 1)
        axis = -2 if left or (kind == "Gemm" and _integer(node, "transA", 0) == 1) else -1
        return [Layer(Matrix(shape[0], shape[1], across=left == flipped), source, axis)]
    if form.turned:
        return None
    if form.shuffled:
        shape = (1, *shape)
    elif kind == "Conv" and position == 1 and len(shape) > 2:
        window = _window(node, shape)
        return [Layer(Matrix(shape[0], math.prod(shape[1:]), False, window.groups), source, window=window)]
    if kind in _GATES and position in (1, 2) and len(shape) == 3:
        directions = shape[0]
        if form.shuffled and _direction(node) == "bidirectional":
            return None
        if position == 1:
            return [Layer(Matrix(directions * shape[1], shape[2], False), source)]
        if _integer(node, "layout", 0) or directions > 2 or _direction(node) == "reverse":
            return None
        matrix = Matrix(directions * shape[1], shape[2], False, directions)
        if not node.output[0]:
            node.output[0] = f"{node.output[1] or node.output[-1]}.sequence"
        layers = [Layer(matrix, Value(path, node.output[0]), delayed=True)]
        initial = read(5)
        return [*layers, Layer(matrix, initial)] if initial is not None else layers
    return None


def _window(node: onnx.NodeProto, shape: tuple[int, ...]) -> Window:
    spatial = len(shape) - 2
    ones = (1,) * spatial
    automatic = next((a.s.decode("ascii", "replace") for a in node.attribute if a.name == "auto_pad"), "NOTSET")
    pads = _integers(node, "pads", (0,) * (2 * spatial))
    return Window(
        shape[2:],
        _integers(node, "strides", ones),
        _integers(node, "dilations", ones),
        automatic if automatic.startswith("SAME") else tuple(zip(pads[:spatial], pads[spatial:], strict=True)),
        _integer(node, "group", 1),
    )


def _patches(values: NDArray[Any], window: Window, most: int, random: Random) -> NDArray[np.float32]:
    """Vectors [groups, positions, channels of a group * kernel] that a convolution multiplies its weights with."""
    spatial = len(window.kernel)
    if values.ndim != spatial + 2 or values.shape[1] % window.groups or values.size == 0:
        return np.empty((0, 0, 0), np.float32)
    sizes = values.shape[2:]
    spans = [(kernel - 1) * step + 1 for kernel, step in zip(window.kernel, window.dilations, strict=True)]
    if isinstance(window.pads, str):
        pads = []
        for size, span, stride in zip(sizes, spans, window.strides, strict=True):
            total = max((-(-size // stride) - 1) * stride + span - size, 0)
            small, large = total // 2, total - total // 2
            pads.append((large, small) if window.pads == "SAME_LOWER" else (small, large))
    else:
        pads = list(window.pads)
    counts = [
        (size + sum(pad) - span) // stride + 1
        for size, pad, span, stride in zip(sizes, pads, spans, window.strides, strict=True)
    ]
    total = values.shape[0] * math.prod(counts)
    if min(counts) < 1:
        return np.empty((0, 0, 0), np.float32)
    picked = np.arange(total) if total <= most else random.integers((most,), total)
    places = np.unravel_index(picked, (values.shape[0], *counts))
    index: list[NDArray[np.int64]] = [places[0].reshape(-1, *(1,) * spatial)]
    inside = np.ones((len(picked), *window.kernel), np.bool_)
    for axis, (kernel, stride, step) in enumerate(zip(window.kernel, window.strides, window.dilations, strict=True)):
        along = places[axis + 1][:, None] * stride + np.arange(kernel)[None, :] * step - pads[axis][0]
        along = along.reshape(-1, *(kernel if axis == other else 1 for other in range(spatial)))
        inside &= (along >= 0) & (along < sizes[axis])
        index.append(along.clip(0, sizes[axis] - 1))
    # Padding is put into the patches: a padded copy of all values would take longer than all the rest.
    taken = np.where(inside[..., None], np.moveaxis(values, 1, -1)[tuple(index)], values.dtype.type(0))
    patches = np.moveaxis(taken, -1, 1)  # [positions, channels, *kernel]
    grouped = patches.reshape(len(picked), window.groups, -1)
    return np.ascontiguousarray(grouped.transpose(1, 0, 2), np.float32)


def _integer(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _integers(node: onnx.NodeProto, name: str, default: Sequence[int]) -> tuple[int, ...]:
    return next((tuple(attribute.ints) for attribute in node.attribute if attribute.name == name), tuple(default))


def _direction(node: onnx.NodeProto) -> str:
    return next((a.s.decode("ascii", "replace") for a in node.attribute if a.name == "direction"), "forward")

"""Values inside a network, made visible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph.usage import Usage, Value
from ..runtime.settings import require_onnxruntime
from .errors import CannotRunError
from .network import Feed, Network

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

_PREFIX = "onnx_nnc.seen."

Fetch = Callable[[Feed, Sequence[str]], dict[str, "NDArray[Any]"]]


def fetcher(network: Network, model: onnx.ModelProto) -> Fetch:
    """A function from a feed and names of outputs of `model`, a changed ``network.hollow``, to their values.

    Raises:
        CannotRunError: onnxruntime does not accept the model; also when the function is called.
    """
    runtime = require_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base but Exception
        raise CannotRunError(f"onnxruntime does not show inner values of the model: {error}") from error
    make = runtime.OrtValue.ortvalue_from_numpy
    own = {weight.name: make(weight.values) for weight in network.weights}

    def run(feed: Feed, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        if not names:
            return {}
        values = {**own, **{name: make(np.ascontiguousarray(a).reshape(np.shape(a))) for name, a in feed.items()}}
        try:
            outputs = session.run_with_ort_values(list(names), values)
        except Exception as error:  # as above
            raise CannotRunError(f"onnxruntime cannot run the model: {error}") from error
        return {name: value.numpy() for name, value in zip(names, outputs, strict=True)}

    return run


def expose(graph: onnx.GraphProto, values: set[Value], usage: Usage) -> dict[Value, str]:
    """Make values outputs of the model; returns the names under which they are seen.

    Values in branches of ``If`` are passed outwards; a branch that does not have them returns nothing in their
    place. Values in loop bodies are left out.
    """
    inputs = {value.name for value in graph.input}
    present = inputs | {value.name for value in graph.output}
    names: dict[Value, str] = {}
    for number, value in enumerate(sorted(values)):
        name = _carry_out(value, f"{_PREFIX}{number}", usage)
        if name is None:
            continue
        names[value] = name
        if name not in present:
            graph.output.add(name=name)
            present.add(name)
    return names


def _carry_out(value: Value, name: str, usage: Usage) -> str | None:
    """The name of an outer value that is `value`; ``None`` if there cannot be one."""
    from onnx import TensorProto, helper

    current = value.name
    if any(usage.owners[value.path[:depth]].op_type != "If" for depth in range(1, len(value.path) + 1)):
        return None
    for depth in range(len(value.path), 0, -1):
        path = value.path[:depth]
        owner = usage.owners[path]
        outer = f"{name}.{depth}"
        branches = [attribute.g for attribute in owner.attribute if attribute.name in ("then_branch", "else_branch")]
        for branch in branches:
            if branch is usage.graphs[path] or branch == usage.graphs[path]:
                branch.output.add(name=current)
                continue
            nothing = helper.make_tensor(f"{outer}.nothing", TensorProto.FLOAT, [0], [])
            branch.node.add().CopyFrom(helper.make_node("Constant", [], [nothing.name], value=nothing))
            branch.output.add(name=nothing.name)
        owner.output.append(outer)
        current = outer
    return current

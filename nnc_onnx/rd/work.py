"""How much may be measured: a budget in multiply-accumulates, so that it is the same on every machine."""

from __future__ import annotations

import math
from typing import NamedTuple

from .network import Feed, Network

BUDGET = 2e11
"""Multiply-accumulates spent on measuring; about ten seconds of two cores of 2020."""

MOST_SAMPLES = 8
"""Feeds a sensitivity is averaged over if the budget allows it."""

CHECK_SAMPLES = 16
"""Feeds that all weights together are tried on, a few times per plan; also the steps that states are fed back for."""

MOMENT_SAMPLES = 48
"""Made-up feeds that moments are taken from; other feeds than those that plans are judged by."""

_GUESSED_POSITIONS = 64
_WEIGHT_INPUT = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}


class Effort(NamedTuple):
    """What the budget allows.

    Attributes:
        samples: feeds.
        probes: quantization parameters that every tensor is tried with.
        operations: multiply-accumulates of one run.
    """

    samples: int
    probes: int
    operations: float


def effort(network: Network, feed: Feed, most_samples: int, most_probes: int, weights: int) -> Effort:
    """Samples and probes that fit the budget for so many weights, samples first; at least one of each."""
    once = max(operations(network, feed), 1.0)
    one = once * max(weights, 1)
    samples = int(BUDGET / (one * most_probes))
    if samples >= 1:
        return Effort(min(samples, most_samples), most_probes, once)
    return Effort(1, max(1, min(most_probes, int(BUDGET / one))), once)


def operations(network: Network, feed: Feed) -> float:
    """Multiply-accumulates of one run, from inferred shapes; guessed from the weights where those are unknown."""
    import onnx
    from onnx import shape_inference

    sized = onnx.ModelProto()
    sized.CopyFrom(network.hollow)
    for value in sized.graph.input:
        if value.name in feed:
            shape = value.type.tensor_type.shape
            shape.ClearField("dim")
            for size in feed[value.name].shape:
                shape.dim.add(dim_value=size)
    try:
        sized = shape_inference.infer_shapes(sized, data_prop=True)
    except Exception:  # onnx's inference raises several kinds; without shapes the guess below serves
        return float(sum(weight.values.size for weight in network.weights)) * _GUESSED_POSITIONS
    shapes: dict[str, list[int]] = {}
    for value in (*sized.graph.input, *sized.graph.value_info, *sized.graph.output):
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    total = 0.0
    by_name = {weight.name: weight.values for weight in network.weights}
    for node in sized.graph.node:
        for name in node.input:
            if name in by_name:
                weight = by_name[name]
                total += weight.size * _positions(node.op_type, shapes.get(node.output[0], []), weight.shape)
    return total


def _positions(kind: str, output: list[int], weight: tuple[int, ...]) -> float:
    """How often every element of a weight is used in one run."""
    if kind == "Gather":
        return 1 / max(weight[0], 1)
    if kind not in _WEIGHT_INPUT or not output or not all(output):
        return _GUESSED_POSITIONS
    if kind in ("Conv", "ConvTranspose"):
        return math.prod(output) / max(output[1], 1) if len(output) > 1 else _GUESSED_POSITIONS
    return math.prod(output) / max(output[-1], 1)

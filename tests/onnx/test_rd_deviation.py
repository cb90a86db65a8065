"""What counts as a change of the outputs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from onnx_graphs import FLOAT, model, tensor, value, weights

from nnc_codec.formats import PackOptions
from nnc_onnx.graph.usage import Usage
from nnc_onnx.plan import plan_tensors
from nnc_onnx.rd.deviation import Deviation
from nnc_onnx.rd.network import Network

pytest.importorskip("onnxruntime")

PLACES, SCORES, WIDTH = 4, 12, 32


def detector(tmp_path) -> Network:
    """Places in pixels and scores of classes in one output, as detectors have them."""
    nodes = [
        helper.make_node("MatMul", ["places", "x"], ["p"]),
        helper.make_node("MatMul", ["scores", "x"], ["s"]),
        helper.make_node("Sigmoid", ["s"], ["likely"]),
        helper.make_node("Concat", ["p", "likely"], ["y"], axis=1),
    ]
    made = model(
        nodes,
        [value("x", FLOAT, ["n", WIDTH, 50])],
        [value("y", FLOAT, ["n", PLACES + SCORES, 50])],
        [
            tensor("places", weights(PLACES, WIDTH, scale=100)),
            tensor("scores", weights(SCORES, WIDTH, seed=1, scale=0.2)),
        ],
    )
    return Network(made, plan_tensors(made, Usage(made.graph), PackOptions(min_elements=1)), tmp_path)


@pytest.mark.parametrize("rows", [PLACES, SCORES])
def test_places_do_not_hide_scores(tmp_path, rows: int) -> None:
    network = detector(tmp_path)
    x = np.random.default_rng(2).standard_normal((3, WIDTH, 50)).astype(np.float32)
    deviation = Deviation(network, [{"x": x}])
    weight = next(weight for weight in network.weights if len(weight.values) == rows)
    values = weight.values
    noise = np.random.default_rng(3).standard_normal(values.shape).astype(np.float32)
    changed = values + 0.1 * np.sqrt(np.mean(np.square(values))) * noise
    assert 0.002 < deviation({weight.name: changed}) < 0.02
    assert deviation({}) == 0


def test_outputs_that_are_no_numbers_are_the_largest_change(tmp_path) -> None:
    network = detector(tmp_path)
    x = np.zeros((1, WIDTH, 50), np.float32)
    x[0, :, 0] = 1
    deviation = Deviation(network, [{"x": x}])
    assert deviation({weight.name: np.full_like(weight.values, np.nan) for weight in network.weights}) >= 16


@pytest.mark.parametrize("background", [0.0, -9.0])
def test_a_background_does_not_hide_changes_of_a_map(tmp_path, background: float) -> None:
    """Log odds that are far below zero everywhere, and vary as little as without that."""
    nodes = [
        helper.make_node("MatMul", ["scores", "x"], ["s"]),
        helper.make_node("Add", ["s", "background"], ["b"]),
        helper.make_node("Sigmoid", ["b"], ["y"]),
    ]
    made = model(
        nodes,
        [value("x", FLOAT, ["n", WIDTH, 50])],
        [value("y", FLOAT, ["n", SCORES, 50])],
        [tensor("scores", weights(SCORES, WIDTH, scale=0.2)), tensor("background", np.full(1, background, np.float32))],
    )
    network = Network(made, plan_tensors(made, Usage(made.graph), PackOptions(min_elements=1)), tmp_path)
    x = np.random.default_rng(2).standard_normal((3, WIDTH, 50)).astype(np.float32)
    weight = next(weight for weight in network.weights if weight.values.size > 1)
    noise = np.random.default_rng(3).standard_normal(weight.values.shape).astype(np.float32)
    changed = weight.values + 0.1 * np.sqrt(np.mean(np.square(weight.values))) * noise
    assert 0.002 < Deviation(network, [{"x": x}])({weight.name: changed}) < 0.03

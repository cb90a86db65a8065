"""Weights that were clustered or quantized before come back as they are where that costs no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import nnc_onnx
from nnc_codec.formats import PackOptions
from nnc_onnx.rd import planner_for

ROWS, COLUMNS = 128, 192

NF4 = np.array(
    [-1, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0, 0.0795803, 0.1609302, 0.2461123,
     0.3379152, 0.4407098, 0.5626170, 0.7229568, 1],
    np.float32,
)  # fmt: skip


def gaussian() -> np.ndarray:
    return (np.random.default_rng(5).standard_normal((ROWS, COLUMNS)) * 0.05).astype(np.float32)


def ternary() -> np.ndarray:
    values = gaussian()
    return np.sign(values) * (np.abs(values) > 0.03) * np.float32(0.0371)


def four_bits() -> np.ndarray:
    values = gaussian()
    step = np.float32(np.abs(values).max() / 7)
    return np.rint(values / step).astype(np.float32) * step


def normal_float() -> np.ndarray:
    values, places = gaussian(), NF4 * np.float32(0.171)
    return places[np.abs(values[..., None] - places).argmin(-1)]


CASES = {"ternary": ternary, "four_bits": four_bits, "normal_float": normal_float}


def write_model(path: Path, *weights: np.ndarray) -> Path:
    nodes, names, value, width = [], [], "x", ROWS
    for number, weight in enumerate(weights):
        names.append(f"w{number}")
        nodes.append(helper.make_node("MatMul", [value, names[-1]], [f"y{number}"]))
        nodes.append(helper.make_node("Tanh", [f"y{number}"], [f"z{number}"]))
        value, width = f"z{number}", weight.shape[1]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", ROWS])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(weight, name) for name, weight in zip(names, weights, strict=True)],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def unpacked(packed: Path, tmp_path: Path) -> dict[str, np.ndarray]:
    plain = tmp_path / "plain.onnx"
    nnc_onnx.unpack(packed, plain)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(plain).graph.initializer}


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_clustered_weights_come_back(tmp_path: Path, case: str, planned: bool) -> None:
    weight = CASES[case]()
    source = write_model(tmp_path / "m.onnx", weight, gaussian().T.copy())
    packed = tmp_path / "m.nnc.onnx"
    report = nnc_onnx.pack(source, packed, planner=planner_for() if planned else None)
    clustered, usual = report.tensors
    assert clustered.method == "codebook" and clustered.error is not None and clustered.error.max_abs == 0
    assert clustered.bits_per_weight < 1.15 * usual.bits_per_weight
    assert usual.method == "dq"
    assert np.array_equal(unpacked(packed, tmp_path)["w0"], weight)


def test_a_codebook_that_is_larger_is_left(tmp_path: Path) -> None:
    """Eight bits a weight would be exact, but fewer lose nothing visible."""
    step = np.float32(np.abs(gaussian()).max() / 127)
    source = write_model(tmp_path / "m.onnx", np.rint(gaussian() / step).astype(np.float32) * step)
    report = nnc_onnx.pack(source, tmp_path / "m.nnc.onnx")
    assert report.tensors[0].method == "dq"


@pytest.mark.parametrize("options", [PackOptions(qp=-24), PackOptions(qp=-24, method="uniform")])
def test_who_asks_for_a_step_gets_it(tmp_path: Path, options: PackOptions) -> None:
    source = write_model(tmp_path / "m.onnx", normal_float())
    report = nnc_onnx.pack(source, tmp_path / "m.nnc.onnx", options)
    assert report.tensors[0].method == options.method and report.tensors[0].qp == -24


def test_half_precision(tmp_path: Path) -> None:
    weight = normal_float().astype(np.float16)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["n", ROWS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["n", COLUMNS])],
        [numpy_helper.from_array(weight, "w")],
    )
    source, packed = tmp_path / "m.onnx", tmp_path / "m.nnc.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), source)
    report = nnc_onnx.pack(source, packed)
    assert report.tensors[0].method == "codebook"
    assert np.array_equal(unpacked(packed, tmp_path)["w"], weight)

"""Graphs are simplified before packing where that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import nnc_onnx
from nnc_codec.errors import InvalidArgumentError
from nnc_codec.formats import PackOptions
from nnc_onnx.cli import main
from nnc_onnx.model_io import load
from nnc_onnx.optimize import OptimizeError, optimized
from nnc_onnx.rd import Goal, planner_for

runtime = pytest.importorskip("onnxruntime")

CHANNELS = 64


def residual_model(path: Path) -> Path:
    """Convolutions with batch normalization behind them, and an identity."""
    rng = np.random.default_rng(0)
    nodes, tensors, value, width = [], [], "x", 3
    for number in range(4):
        weight = rng.standard_normal((CHANNELS, width, 3, 3)) / np.sqrt(9 * width)
        tensors.append(numpy_helper.from_array(weight.astype(np.float32), f"w{number}"))
        for part, low, high in (("scale", 0.5, 1.5), ("bias", -1, 1), ("mean", -1, 1), ("var", 0.5, 2)):
            tensors.append(
                numpy_helper.from_array(rng.uniform(low, high, CHANNELS).astype(np.float32), f"{part}{number}")
            )
        nodes.append(helper.make_node("Conv", [value, f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1]))
        normalization = [f"{part}{number}" for part in ("scale", "bias", "mean", "var")]
        nodes.append(helper.make_node("BatchNormalization", [f"c{number}", *normalization], [f"b{number}"]))
        nodes.append(helper.make_node("Relu", [f"b{number}"], [f"r{number}"]))
        value, width = f"r{number}", CHANNELS
    nodes.append(helper.make_node("Identity", [value], ["y"]))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CHANNELS, 16, 16])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests")
    model.metadata_props.add(key="classes", value="cat dog")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return residual_model(tmp_path / "m.onnx")


def outputs(path: Path) -> np.ndarray:
    feed = {"x": np.random.default_rng(1).standard_normal((2, 3, 16, 16)).astype(np.float32)}
    return runtime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed)[0]


def test_normalization_is_folded_and_the_rest_is_kept(model: Path) -> None:
    proto = optimized(load(model)).proto
    assert {node.op_type for node in proto.graph.node} == {"Conv", "Relu"}
    onnx.checker.check_model(proto, full_check=True)
    source = onnx.load(model)
    assert proto.graph.input == source.graph.input and proto.graph.output == source.graph.output
    assert proto.metadata_props == source.metadata_props and proto.producer_name == "tests"
    assert proto.opset_import == source.opset_import and proto.ir_version == source.ir_version


def test_it_packs_smaller_and_computes_the_same(model: Path, tmp_path: Path) -> None:
    sizes = {}
    for optimize in (False, True):
        packed, plain = tmp_path / "p.onnx", tmp_path / f"{optimize}.onnx"
        options = PackOptions(optimize=optimize, force=True)
        report = nnc_onnx.pack(model, packed, options, planner=planner_for())
        sizes[optimize] = report.packed_bytes
        assert report.original_bytes == model.stat().st_size
        nnc_onnx.unpack(packed, plain)
        difference = outputs(plain) - outputs(model)
        assert np.square(difference).sum() < 0.05 * np.square(outputs(model)).sum()
    assert sizes[True] < sizes[False]


def test_the_same_bytes_every_time(model: Path, tmp_path: Path) -> None:
    written = []
    for number in range(2):
        packed = tmp_path / f"{number}.onnx"
        assert main(["pack", str(model), "-o", str(packed), "--fast", "--optimize", "-q"]) == 0
        written.append(packed.read_bytes())
    assert written[0] == written[1]


def test_a_size_and_a_bitstream(model: Path, tmp_path: Path) -> None:
    wanted = model.stat().st_size // 9
    packed = tmp_path / "m.nnc.onnx"
    report = nnc_onnx.pack(model, packed, PackOptions(optimize=True), planner=planner_for(Goal(target_bytes=wanted)))
    assert 0.95 * wanted <= report.packed_bytes <= wanted
    bitstream = tmp_path / "m.nnr"
    assert main(["pack", str(model), "-o", str(bitstream), "--optimize", "--fast", "-q"]) == 0
    assert main(["unpack", str(bitstream), "-o", str(tmp_path / "u.onnx"), "-q"]) == 0
    assert not any(node.op_type == "BatchNormalization" for node in onnx.load(tmp_path / "u.onnx").graph.node)


def test_a_model_that_does_not_run(tmp_path: Path, model: Path) -> None:
    proto = onnx.load(model)
    proto.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(proto, model)
    with pytest.raises(OptimizeError, match="does not optimize"):
        nnc_onnx.pack(model, tmp_path / "p.onnx", PackOptions(optimize=True))
    assert not (tmp_path / "p.onnx").exists()


def test_models_in_memory_are_refused(model: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="in files"):
        nnc_onnx.pack_model(onnx.load(model), PackOptions(optimize=True))

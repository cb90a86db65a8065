"""Tools that know nothing of the carriage leave a packed model usable."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_graphs as graphs
import pytest

from nnc_onnx import carriage
from nnc_onnx.packing import pack
from nnc_onnx.verification import verify

NAMES = ["mlp", "constants", "shared", "branches", "loop", "lstm", "quantized", "embedding", "float16"]


@pytest.fixture(params=NAMES)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A packed model."""
    (tmp_path / "m.onnx").write_bytes(graphs.ALL[request.param]().SerializeToString())
    pack(tmp_path / "m.onnx", tmp_path / "m.nnc.onnx")
    return tmp_path / "m.nnc.onnx"


def payloads(model: onnx.ModelProto) -> list[tuple[str, int, tuple[int, ...]]]:
    """(payload, CRC-32, shape) of every decode node; tools rename outputs and reorder nodes."""
    return sorted((d.payload, d.crc32, d.shape) for _, _, d in carriage.decode_nodes(model))


def check_intact(model: onnx.ModelProto, original: Path) -> None:
    """The same tensors decode to the same values after a tool has rewritten the model."""
    onnx.checker.check_model(model, full_check=True)
    rewritten = original.with_name("rewritten.onnx")
    rewritten.write_bytes(model.SerializeToString())
    assert payloads(model) == payloads(onnx.load(original))
    report = verify(rewritten)
    assert report.ok, report.findings


def test_onnxslim(target: Path) -> None:
    onnxslim = pytest.importorskip("onnxslim")
    check_intact(onnxslim.slim(onnx.load(target)), target)


def test_graphsurgeon_folding(target: Path) -> None:
    gs = pytest.importorskip("onnx_graphsurgeon")
    graph = gs.import_onnx(onnx.load(target))
    graph.fold_constants().cleanup().toposort()
    check_intact(gs.export_onnx(graph), target)


def test_shape_inference_sees_through_decode_nodes(target: Path) -> None:
    model = onnx.load(target)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    known = {value.name for value in inferred.graph.value_info} | {value.name for value in inferred.graph.output}
    for node in model.graph.node:
        if node.op_type in carriage.BY_GROUP_OP_NAME:
            continue  # biases of recurrent layers have no type of their own: no shape depends on them
        assert set(filter(None, node.output)) <= known, f"{node.op_type} lost its type"


@pytest.mark.parametrize("name", ["mlp", "constants", "shared", "lstm", "quantized"])
def test_version_converter(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(graphs.ALL[name]().SerializeToString())
    pack(tmp_path / "m.onnx", tmp_path / "m.nnc.onnx")
    model = onnx.load(tmp_path / "m.nnc.onnx")
    assert payloads(onnx.version_converter.convert_version(model, 18)) == payloads(model)

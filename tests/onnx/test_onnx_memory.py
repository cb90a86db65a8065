"""Models in memory, onnx-graphsurgeon graphs, and the public names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import onnx_graphs as graphs
import pytest

import nnc_onnx
from nnc_codec.errors import InvalidArgumentError
from nnc_codec.formats import PackOptions
from nnc_onnx import carriage, pack, pack_model, unpack, unpack_model


@pytest.mark.parametrize("name", graphs.ALL)
def test_memory_and_files_give_the_same(name: str, tmp_path: Path) -> None:
    model = graphs.ALL[name]()
    before = model.SerializeToString(deterministic=True)
    (tmp_path / "m.onnx").write_bytes(before)
    pack(tmp_path / "m.onnx", tmp_path / "p.onnx")
    packed, report = pack_model(model)
    assert model.SerializeToString(deterministic=True) == before, "the argument is not changed"
    assert packed == onnx.load(tmp_path / "p.onnx")
    assert report.packed_bytes == (tmp_path / "p.onnx").stat().st_size
    unpack(tmp_path / "p.onnx", tmp_path / "u.onnx")
    assert unpack_model(packed) == onnx.load(tmp_path / "u.onnx")


def test_refusals() -> None:
    packed, _ = pack_model(graphs.mlp(1))
    with pytest.raises(InvalidArgumentError, match="packed already"):
        pack_model(packed)
    with pytest.raises(InvalidArgumentError, match="not packed"):
        unpack_model(graphs.mlp(1))


def test_external_data_are_found_in_the_folder(tmp_path: Path) -> None:
    model = graphs.mlp(2)
    expected, _ = pack_model(model)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    packed, _ = pack_model(onnx.load(tmp_path / "m.onnx", load_external_data=False), folder=tmp_path)
    payloads = {tensor.name: tensor.raw_data for tensor in packed.graph.initializer}
    assert payloads == {tensor.name: tensor.raw_data for tensor in expected.graph.initializer}


def test_graphsurgeon_graphs() -> None:
    gs = pytest.importorskip("onnx_graphsurgeon")
    from nnc_onnx.graphsurgeon import pack_graph, unpack_graph

    model = graphs.mlp(2)
    graph = pack_graph(gs.import_onnx(model), PackOptions(qp=-24, group_below=0))
    assert [node.op for node in graph.nodes].count("NNRDecodeFloat") == 2
    exported = gs.export_onnx(graph)
    onnx.checker.check_model(exported, full_check=True)
    assert [decode.shape for _, _, decode in carriage.decode_nodes(exported)] == [(64, 64)] * 2
    plain = gs.export_onnx(unpack_graph(graph))
    assert [node.op_type for node in plain.graph.node] == [node.op_type for node in model.graph.node]
    with pytest.raises(InvalidArgumentError):
        unpack_graph(gs.import_onnx(model))


def test_public_names() -> None:
    assert sorted(nnc_onnx.__all__) == nnc_onnx.__all__
    for name in nnc_onnx.__all__:
        assert getattr(nnc_onnx, name) is not None
        assert name in dir(nnc_onnx)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        nnc_onnx.nothing  # noqa: B018


def test_importing_the_package_imports_nothing() -> None:
    code = (
        "import sys, nnc_onnx; sys.exit(' '.join({'numpy', 'onnx', 'onnxruntime', 'msgspec'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")

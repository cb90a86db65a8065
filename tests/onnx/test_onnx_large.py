"""Models beyond protobuf's 2 GiB: weights stay in external files, which are mapped and copied piece by piece."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from onnx import TensorProto, helper

from nnc_codec.formats import PackOptions, UnpackOptions
from nnc_onnx.model_io import ALIGNMENT, SMALL_ALIGNMENT, external_file_of, load
from nnc_onnx.packing import pack
from nnc_onnx.unpacking import unpack

GIB = 1 << 30
ROWS, COLUMNS = 2 << 20, 288  # 2.25 GiB of float32


def external(name: str, shape: tuple[int, ...], location: str, offset: int) -> TensorProto:
    """An initializer whose values lie in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    length = int(np.prod(shape)) * 4
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


@pytest.fixture
def large_model(tmp_path: Path) -> Path:
    """A lookup in a 2.25 GiB table that takes no room on disk, then a real weight."""
    weight = graphs.weights(COLUMNS, 256)
    with (tmp_path / "weights.bin").open("wb") as stream:
        stream.write(weight.tobytes())
        stream.truncate(ALIGNMENT * 16 + ROWS * COLUMNS * 4)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["row"]),
        helper.make_node("Add", ["row", "x"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w"], ["y"]),
    ]
    model = graphs.model(
        nodes,
        [graphs.value("ids", graphs.INT64, [2]), graphs.value("x", shape=[2, COLUMNS])],
        [graphs.value("y", shape=[2, 256])],
        [
            external("table", (ROWS, COLUMNS), "weights.bin", ALIGNMENT * 16),
            external("w", (COLUMNS, 256), "weights.bin", 0),
        ],
    )
    path = tmp_path / "large.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def on_disk(path: Path) -> int:
    """Bytes that a sparse file really takes."""
    return path.stat().st_blocks * 512


_PACK = """
import resource, sys
from nnc_codec.formats import PackOptions, UnpackOptions
from nnc_onnx.packing import pack
from nnc_onnx.unpacking import unpack
pack(sys.argv[1], sys.argv[2], PackOptions(exclude=("table",)))
unpack(sys.argv[2], sys.argv[3], UnpackOptions())
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("RssAnon")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs sparse files and /proc")
def test_models_over_two_gibibytes(large_model: Path, tmp_path: Path) -> None:
    target, plain = tmp_path / "packed.onnx", tmp_path / "plain.onnx"
    result = subprocess.run(
        [sys.executable, "-c", _PACK, str(large_model), str(target), str(plain)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) * 1024 < GIB, "the table was never in memory"
    assert target.stat().st_size < 1 << 20
    packed = external_file_of(target)
    assert packed.stat().st_size > 2 * GIB
    assert on_disk(packed) < 1 << 24, "holes stay holes"

    for path in (target, plain):
        onnx.checker.check_model(str(path), full_check=True)
    before, after = load(large_model), load(plain)
    assert [t.name for t in after.proto.graph.initializer] == [t.name for t in before.proto.graph.initializer]

    ort = pytest.importorskip("onnxruntime")
    from nnc_onnx.runtime.loader import InferenceSession

    feed = {"ids": np.array([0, ROWS - 1]), "x": graphs.weights(2, COLUMNS, scale=1)}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    lazy = InferenceSession(str(target), mode="lazy", sess_options=options).run(None, feed)[0]
    reference = ort.InferenceSession(str(plain), options).run(None, feed)[0]
    expected = feed["x"] @ graphs.weights(COLUMNS, 256)
    assert np.abs(lazy - expected).max() < 0.05 * np.abs(expected).max()
    assert np.abs(lazy - reference).max() <= 1e-5 * np.abs(reference).max()


def test_external_data_are_aligned_and_apart(tmp_path: Path) -> None:
    source, target = tmp_path / "m.onnx", tmp_path / "m.nnc.onnx"
    source.write_bytes(graphs.mlp(3, 512).SerializeToString())
    pack(source, target, PackOptions(external_data=True))
    ends = 0
    for tensor in load(target).proto.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            assert not tensor.name.endswith(".nnr")
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        assert place["location"] == "m.nnc.onnx.data"
        large = int(place["length"]) >= ALIGNMENT
        assert int(place["offset"]) % (ALIGNMENT if large else SMALL_ALIGNMENT) == 0
        assert int(place["offset"]) >= ends
        ends = int(place["offset"]) + int(place["length"])
    assert ends == external_file_of(target).stat().st_size


def test_external_and_embedded_hold_the_same(tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    source.write_bytes(graphs.constants().SerializeToString())
    pack(source, tmp_path / "a.onnx", PackOptions(external_data=True))
    pack(source, tmp_path / "b.onnx", PackOptions(external_data=False))
    for name in "ab":
        unpack(tmp_path / f"{name}.onnx", tmp_path / f"{name}_plain.onnx", UnpackOptions(external_data=False))
    assert (tmp_path / "a_plain.onnx").read_bytes() == (tmp_path / "b_plain.onnx").read_bytes()
    unpack(tmp_path / "a.onnx", tmp_path / "c.onnx", UnpackOptions(external_data=True))
    plain, spread = onnx.load(tmp_path / "a_plain.onnx"), onnx.load(tmp_path / "c.onnx")
    values = {n.output[0]: n.attribute[0].t.raw_data for n in plain.graph.node if n.op_type == "Constant"}
    for tensor in spread.graph.initializer:
        assert values[tensor.name] == tensor.raw_data
    assert os.path.exists(tmp_path / "c.onnx.data")


def test_external_sources_can_be_embedded(tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    onnx.save(
        graphs.mlp(), source, save_as_external_data=True, location="m.bin", size_threshold=0, convert_attribute=False
    )
    target = tmp_path / "elsewhere" / "o.onnx"
    target.parent.mkdir()
    pack(source, target)
    assert os.listdir(target.parent) == ["o.onnx"]
    onnx.checker.check_model(str(target), full_check=True)

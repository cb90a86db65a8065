"""Packed ONNX models become NNR files and NNR files become packed ONNX models; payloads stay what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest

import nnc_codec
from nnc_codec import InvalidArgumentError
from nnc_codec.files import OutputExistsError
from nnc_codec.formats import ConvertOptions, PackOptions, VerifyOptions
from nnc_codec.surgery import Topology, topologies, with_topology
from nnc_onnx.format import OnnxFormat
from nnc_onnx.nnr.convert import to_nnr, to_onnx
from nnc_onnx.nnr.format import NnrFormat
from nnc_onnx.nnr.packing import pack_nnr
from nnc_onnx.nnr.unpacking import unpack_nnr
from nnc_onnx.packing import pack
from nnc_onnx.unpacking import unpack
from nnc_onnx.verification import verify

OPTIONS = ConvertOptions()


def payloads(path: Path) -> list[bytes]:
    """Coded bytes of the tensors of a packed ONNX model or an NNR file."""
    model_format = NnrFormat() if path.suffix == ".nnr" else OnnxFormat()
    streams = [bytes(data) for _, data in model_format.bitstreams(path)]
    found = []
    for data in streams:
        for unit in nnc_codec.open(data).units:
            if unit.data_unit is not None:
                found.append(data[unit.payload_offset : unit.end])
    return sorted(found)


@pytest.mark.parametrize("name", graphs.ALL)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    source, coded = tmp_path / "m.onnx", tmp_path / "m.nnc.onnx"
    source.write_bytes(graphs.ALL[name]().SerializeToString(deterministic=True))
    pack(source, coded, PackOptions())
    to_nnr(coded, tmp_path / "m.nnr", OPTIONS)
    report = to_onnx(tmp_path / "m.nnr", tmp_path / "back.onnx", OPTIONS)
    assert payloads(tmp_path / "m.nnr") == payloads(tmp_path / "back.onnx")
    assert {tensor.action for tensor in report.tensors} <= {"carried", "renamed", "plain"}
    onnx.checker.check_model(onnx.load(tmp_path / "back.onnx"))
    unpack(coded, tmp_path / "one.onnx")
    unpack(tmp_path / "back.onnx", tmp_path / "other.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()
    assert verify(tmp_path / "back.onnx", VerifyOptions(against=tmp_path / "one.onnx")).ok


@pytest.mark.parametrize("name", graphs.ALL)
def test_the_packed_model_is_what_packing_makes(name: str, tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    source.write_bytes(graphs.ALL[name]().SerializeToString(deterministic=True))
    pack_nnr(source, tmp_path / "m.nnr")
    to_onnx(tmp_path / "m.nnr", tmp_path / "m.nnc.onnx", OPTIONS)
    pack(source, tmp_path / "direct.onnx")
    assert payloads(tmp_path / "m.nnc.onnx") == payloads(tmp_path / "direct.onnx")
    left, right = onnx.load(tmp_path / "m.nnc.onnx"), onnx.load(tmp_path / "direct.onnx")
    assert [node.op_type for node in left.graph.node] == [node.op_type for node in right.graph.node]
    unpack_nnr(tmp_path / "m.nnr", tmp_path / "plain.onnx")
    assert verify(tmp_path / "m.nnc.onnx", VerifyOptions(against=tmp_path / "plain.onnx")).ok


def test_what_cannot_stay_coded_is_decoded(tmp_path: Path) -> None:
    model = graphs.mlp()
    pack_nnr(_saved(model, tmp_path / "m.onnx"), tmp_path / "m.nnr")
    bitstream = nnc_codec.open(tmp_path / "m.nnr")
    (topology,) = topologies(bitstream)
    hollow = onnx.ModelProto.FromString(topology.data)
    hollow.graph.input.append(graphs.value("w1", shape=[64, 64]))
    changed = Topology(topology.storage_format, hollow.SerializeToString())
    (tmp_path / "m.nnr").write_bytes(with_topology(bitstream, changed))
    report = to_onnx(tmp_path / "m.nnr", tmp_path / "got.onnx", OPTIONS)
    actions = {tensor.name: tensor.action for tensor in report.tensors if tensor.name.startswith("w")}
    assert actions == {"w0": "carried", "w1": "raw", "w2": "carried"}
    got = {tensor.name: tensor for tensor in onnx.load(tmp_path / "got.onnx").graph.initializer}
    assert np.array_equal(onnx.numpy_helper.to_array(got["w1"]), bitstream["w1"].decode())


def _saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def test_files_without_model_and_existing_outputs_are_refused(tmp_path: Path) -> None:
    source = _saved(graphs.mlp(), tmp_path / "m.onnx")
    pack_nnr(source, tmp_path / "m.nnr", PackOptions(topology="none"))
    with pytest.raises(InvalidArgumentError, match="no topology"):
        NnrFormat().convert(tmp_path / "m.nnr", tmp_path / "x.onnx", "onnx", OPTIONS)
    with pytest.raises(OutputExistsError):
        NnrFormat().convert(source, tmp_path / "m.nnr", "nnr", OPTIONS)
    assert not (tmp_path / "x.onnx").exists()

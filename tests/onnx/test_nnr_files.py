"""NNR files carry an ONNX model there and back, and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

import nnc_codec
from nnc_codec import CorruptError, InvalidArgumentError, Limits, NNRError, UnsupportedError
from nnc_codec.files import OutputExistsError
from nnc_codec.formats import PackOptions, UnpackOptions, VerifyOptions
from nnc_codec.surgery import Topology, extract, reorder, topologies, with_base_model_id, with_topology
from nnc_codec.syntax.enums import TopologyStorageFormat as Storage
from nnc_onnx.errors import CarriageError, ExternalDataError
from nnc_onnx.hollow import ELEMENT_KEY, hollow_tensors
from nnc_onnx.nnr.format import NnrFormat
from nnc_onnx.nnr.inspection import inspect_nnr, verify_nnr
from nnc_onnx.nnr.layout import RECORD_KEY, recognise_nnr
from nnc_onnx.nnr.packing import pack_nnr
from nnc_onnx.nnr.unpacking import unpack_nnr
from nnc_onnx.packing import pack
from nnc_onnx.unpacking import unpack

OPTIONS = PackOptions(jobs=2)


def save(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def packed(model: ModelProto, folder: Path, options: PackOptions = OPTIONS) -> Path:
    source = save(model, folder / "m.onnx")
    pack_nnr(source, folder / "m.nnr", options)
    return folder / "m.nnr"


def topology_of(path: Path) -> ModelProto:
    (found,) = topologies(nnc_codec.open(path))
    assert found.storage_format == Storage.NNR_TPL_ONNX
    return onnx.ModelProto.FromString(found.data)


def with_model(path: Path, model: ModelProto) -> Path:
    data = with_topology(nnc_codec.open(path), Topology(Storage.NNR_TPL_ONNX, model.SerializeToString()))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", graphs.ALL)
@pytest.mark.parametrize("topology", ["deflate", "raw"])
def test_the_model_comes_back_with_the_values_of_the_other_carriage(name: str, topology: str, tmp_path: Path) -> None:
    source = save(graphs.ALL[name](), tmp_path / "m.onnx")
    report = pack_nnr(source, tmp_path / "m.nnr", PackOptions(topology=topology))
    assert report.coded and report.packed_bytes == (tmp_path / "m.nnr").stat().st_size
    assert verify_nnr(tmp_path / "m.nnr", VerifyOptions(against=source)).ok
    unpack_nnr(tmp_path / "m.nnr", tmp_path / "got.onnx")
    pack(source, tmp_path / "m.nnc.onnx", OPTIONS)
    unpack(tmp_path / "m.nnc.onnx", tmp_path / "expected.onnx")
    got, original = onnx.load(tmp_path / "got.onnx"), onnx.load(source)
    # Decode nodes may leave a tensor in an outer graph, so the order can differ.
    assert sorted(values_of(got)) == sorted(values_of(onnx.load(tmp_path / "expected.onnx")))
    for proto in (got, original):
        for tensor in tensors_of(proto.graph):
            tensor.raw_data = b""
    assert got == original


def tensors_of(graph: onnx.GraphProto) -> list[TensorProto]:
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                found.append(attribute.t)
            elif attribute.type == onnx.AttributeProto.GRAPH:
                found += tensors_of(attribute.g)
    return found


def values_of(model: ModelProto) -> list[bytes]:
    return [tensor.raw_data for tensor in tensors_of(model.graph)]


def test_the_topology_holds_no_coded_weight_twice(tmp_path: Path) -> None:
    path = packed(graphs.mlp(), tmp_path, PackOptions(topology="raw", group_below=0))
    proto = topology_of(path)
    hollow = {tensor.name: element for tensor, element in hollow_tensors(proto, ())}
    assert hollow == {f"w{i}": f"w{i}" for i in range(3)}
    assert list(nnc_codec.open(path)) == ["w0", "w1", "w2"]
    assert proto.ByteSize() < 4000
    assert [numpy_helper.to_array(t).shape for t in proto.graph.initializer if t.name.startswith("b")] == [(64,)] * 3


def test_same_names_in_different_branches_are_kept_apart(tmp_path: Path) -> None:
    names = list(nnc_codec.open(packed(graphs.branches(local_names=True), tmp_path)))
    assert len(names) == len(set(names)) == 3
    assert "both" in names and {"0.then_branch/w", "0.else_branch/w"} < set(names)


def test_equal_tensors_share_a_data_unit(tmp_path: Path) -> None:
    path = packed(graphs.shared(), tmp_path)
    assert list(nnc_codec.open(path)) == ["w"]
    unpack_nnr(path, tmp_path / "got.onnx")
    got = {tensor.name: tensor.raw_data for tensor in onnx.load(tmp_path / "got.onnx").graph.initializer}
    assert got["w"] == got["copy"]


def test_bytes_do_not_depend_on_threads(tmp_path: Path) -> None:
    one = packed(graphs.lstm(), tmp_path, PackOptions(jobs=1)).read_bytes()
    assert packed(graphs.lstm(), tmp_path, PackOptions(jobs=4, force=True)).read_bytes() == one


def test_bare_tensors_are_the_whole_model(tmp_path: Path) -> None:
    source = save(graphs.quantized(), tmp_path / "m.onnx")
    report = pack_nnr(source, tmp_path / "m.nnr", PackOptions(topology="none"))
    assert not report.notes and len(report.coded) == len(report.tensors) == 5
    bitstream = nnc_codec.open(tmp_path / "m.nnr")
    assert [unit.type_name for unit in bitstream.units] == ["NNR_STR", "NNR_MPS", *["NNR_NDU"] * 5]
    decoded = nnc_codec.decode(tmp_path / "m.nnr")
    for tensor in graphs.quantized().graph.initializer:
        original = numpy_helper.to_array(tensor)
        got = decoded[tensor.name].reshape(original.shape)
        if original.dtype == np.float32:
            np.testing.assert_allclose(got, original, rtol=1e-3)
        else:
            np.testing.assert_array_equal(got, original)
    assert verify_nnr(tmp_path / "m.nnr", VerifyOptions(against=source)).ok


def test_bare_files_name_what_they_lack(tmp_path: Path) -> None:
    source = save(graphs.not_for_coding(), tmp_path / "m.onnx")
    report = pack_nnr(source, tmp_path / "m.nnr", PackOptions(topology="none"))
    missing = {note.split()[0] for note in report.notes}
    assert missing == {"nan", "mask", "empty"}
    assert missing == {tensor.name for tensor in report.tensors if tensor.treatment == "plain"}
    assert set(nnc_codec.open(tmp_path / "m.nnr")) == {tensor.name for tensor in report.coded}


def test_without_topology_there_are_only_arrays(tmp_path: Path) -> None:
    path = packed(graphs.mlp(), tmp_path, PackOptions(topology="none"))
    with pytest.raises(InvalidArgumentError, match="no topology") as caught:
        unpack_nnr(path, tmp_path / "got.onnx")
    assert ".npz" in str(caught.value.hint)
    assert not (tmp_path / "got.onnx").exists()
    report = unpack_nnr(path, tmp_path / "got.npz")
    assert report.tensors == 6
    expected = nnc_codec.decode(path)
    with np.load(tmp_path / "got.npz") as arrays:
        assert list(arrays) == list(expected)
        assert all(arrays[name].tobytes() == expected[name].tobytes() for name in expected)
    first = (tmp_path / "got.npz").read_bytes()
    unpack_nnr(path, tmp_path / "got.npz", UnpackOptions(force=True))
    assert (tmp_path / "got.npz").read_bytes() == first


@pytest.mark.parametrize("storage", [Storage.NNR_TPL_NNEF, Storage.NNR_TPL_PYT])
def test_topologies_of_other_kinds_are_named(storage: int, tmp_path: Path) -> None:
    path = packed(graphs.mlp(), tmp_path)
    path.write_bytes(with_topology(nnc_codec.open(path), Topology(storage, b"graph net()\0")))
    with pytest.raises(UnsupportedError, match=Storage(storage).name):
        unpack_nnr(path, tmp_path / "got.onnx")
    assert inspect_nnr(path).packed and verify_nnr(path).ok


def test_a_hollow_model_of_another_tool_is_filled_by_name(tmp_path: Path) -> None:
    path = packed(graphs.mlp(), tmp_path)
    model = topology_of(path)
    for tensor in model.graph.initializer:
        if tensor.external_data:
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    del model.metadata_props[:]
    data = Topology(Storage.NNR_TPL_ONNX, model.SerializeToString() + b"\0")
    path.write_bytes(with_topology(nnc_codec.open(path), data))
    unpack_nnr(path, tmp_path / "got.onnx")
    decoded = nnc_codec.decode(path)
    got = {tensor.name: tensor.raw_data for tensor in onnx.load(tmp_path / "got.onnx").graph.initializer}
    assert all(got[name] == decoded[name].tobytes() for name in ("w0", "w1", "w2"))


def test_a_model_in_a_bitstream_cannot_reach_for_files(tmp_path: Path) -> None:
    path = packed(graphs.mlp(), tmp_path)
    model = topology_of(path)
    tensor = model.graph.initializer[1]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="m.onnx")
    tensor.external_data.add(key=ELEMENT_KEY, value="w0")
    with pytest.raises(ExternalDataError):
        unpack_nnr(with_model(path, model), tmp_path / "got.onnx")
    assert not (tmp_path / "got.onnx").exists()


def change_shape(model: ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 32


def change_type(model: ModelProto) -> None:
    model.graph.initializer[0].data_type = TensorProto.INT32


def change_name(model: ModelProto) -> None:
    model.graph.initializer[0].external_data[0].value = "elsewhere"


def change_record(model: ModelProto) -> None:
    for entry in model.metadata_props:
        entry.value = entry.value.replace("units_sha256", "other")


def change_version(model: ModelProto) -> None:
    for entry in model.metadata_props:
        entry.value = entry.value.replace('"format":"1"', '"format":"2"')


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (change_shape, "NNC-E212"),
        (change_type, "NNC-E212"),
        (change_name, "NNC-E212"),
        (change_record, "NNC-E212"),
        (change_version, "NNC-E213"),
    ],
)
def test_a_model_that_contradicts_its_bitstream_is_refused(change: object, code: str, tmp_path: Path) -> None:
    path = packed(graphs.mlp(), tmp_path)
    model = topology_of(path)
    change(model)
    with_model(path, model)
    with pytest.raises(NNRError) as caught:
        unpack_nnr(path, tmp_path / "got.onnx")
    assert caught.value.code == code
    report = verify_nnr(path)
    assert [finding.code for finding in report.findings] == [code] and report.exit_code in (3, 5)


def test_shared_data_units_do_not_escape_the_limits(tmp_path: Path) -> None:
    path = packed(graphs.mlp(), tmp_path)
    model = topology_of(path)
    for index in range(50):
        copy = model.graph.initializer.add()
        copy.CopyFrom(model.graph.initializer[0])
        copy.name = f"copy{index}"
    with_model(path, model)
    with pytest.raises(NNRError, match="max_total_elements"):
        unpack_nnr(path, tmp_path / "got.onnx", UnpackOptions(limits=Limits(max_total_elements=20 * 64 * 64)))


def test_changed_units_are_found(tmp_path: Path) -> None:
    path = packed(graphs.mlp(), tmp_path)
    bitstream = nnc_codec.open(path)
    data = bytearray(path.read_bytes())
    data[bitstream.units[-1].end - 40] ^= 4
    path.write_bytes(data)
    assert not verify_nnr(path).ok
    with pytest.raises(CarriageError, match="SHA-256"):
        unpack_nnr(path, tmp_path / "got.onnx")


def test_reordered_files_stay_whole_and_parts_do_not(tmp_path: Path) -> None:
    path = packed(graphs.mlp(), tmp_path)
    bitstream = nnc_codec.open(path)
    part = extract(bitstream, ["w1"])
    path.write_bytes(reorder(bitstream, ["w2", "w0"]))
    assert verify_nnr(path).ok
    path.write_bytes(part)
    assert not verify_nnr(path).ok
    with pytest.raises(CarriageError):
        unpack_nnr(path, tmp_path / "got.onnx")


def test_damaged_topologies_are_corrupt(tmp_path: Path) -> None:
    path = packed(graphs.mlp(), tmp_path)
    whole = topology_of(path).SerializeToString()
    data = with_topology(nnc_codec.open(path), Topology(Storage.NNR_TPL_ONNX, whole[: len(whole) // 2]))
    path.write_bytes(data)
    with pytest.raises(CorruptError):
        unpack_nnr(path, tmp_path / "got.onnx")


def test_every_cut_and_many_flips_end_in_a_typed_error_or_the_right_result(tmp_path: Path) -> None:
    path = packed(graphs.mlp(1, 33), tmp_path)
    whole = path.read_bytes()
    unpack_nnr(path, tmp_path / "good.onnx")
    good = (tmp_path / "good.onnx").read_bytes()
    generator = np.random.default_rng(0)
    broken = [whole[:size] for size in range(4, len(whole), 37)]
    for _ in range(150):
        changed = bytearray(whole)
        changed[generator.integers(len(whole))] ^= 1 << generator.integers(8)
        broken.append(bytes(changed))
    for data in broken:
        path.write_bytes(data)
        try:
            unpack_nnr(path, tmp_path / "got.onnx", UnpackOptions(force=True, limits=Limits(max_elements=1 << 16)))
        except NNRError:
            continue
        # Bits that mean nothing for the values, e.g. independently_decodable_flag.
        assert (tmp_path / "got.onnx").read_bytes() == good


def test_updates_are_no_models(tmp_path: Path) -> None:
    path = packed(graphs.mlp(), tmp_path)
    differences = {"w0": np.ones((4, 4), np.float32)}
    update = nnc_codec.encode(differences, base=nnc_codec.UpdateState())
    path.write_bytes(with_base_model_id(nnc_codec.open(update), "sha256:0"))
    with pytest.raises(InvalidArgumentError, match="update"):
        unpack_nnr(path, tmp_path / "got.onnx")
    assert "sha256:0" in inspect_nnr(path).notes[0]
    assert unpack_nnr(path, tmp_path / "got.npz").notes


def test_recognition_is_by_content(tmp_path: Path) -> None:
    path = packed(graphs.mlp(), tmp_path)
    unnamed = tmp_path / "file.bin"
    path.rename(unnamed)
    assert recognise_nnr(unnamed) == "packed"
    for data in (b"", b"\0\4", b"\0\4\6\1", b"PK\3\4", graphs.mlp().SerializeToString()):
        unnamed.write_bytes(data)
        assert recognise_nnr(unnamed) is None
    assert recognise_nnr(tmp_path) is None


def test_what_can_go_wrong_before_the_work(tmp_path: Path) -> None:
    path = packed(graphs.mlp(), tmp_path)
    with pytest.raises(OutputExistsError):
        pack_nnr(tmp_path / "m.onnx", path)
    with pytest.raises(InvalidArgumentError, match="NNR file already"):
        pack_nnr(path, tmp_path / "other.nnr")
    save(graphs.mlp(1, 8), tmp_path / "tiny.onnx")
    with pytest.raises(InvalidArgumentError, match="no tensor to code"):
        pack_nnr(tmp_path / "tiny.onnx", tmp_path / "tiny.nnr", PackOptions(group_below=0))
    assert not (tmp_path / "tiny.nnr").exists()


def test_external_data_come_along_and_go(tmp_path: Path) -> None:
    model = graphs.mlp()
    onnx.save(model, tmp_path / "e.onnx", save_as_external_data=True, size_threshold=0)
    pack_nnr(tmp_path / "e.onnx", tmp_path / "e.nnr")
    unpack_nnr(tmp_path / "e.nnr", tmp_path / "plain.onnx", UnpackOptions(external_data=True))
    assert (tmp_path / "plain.onnx.data").stat().st_size >= 3 * 64 * 64 * 4
    packed(graphs.mlp(), tmp_path)
    unpack_nnr(tmp_path / "m.nnr", tmp_path / "same.onnx")
    left, right = onnx.load(tmp_path / "plain.onnx"), onnx.load(tmp_path / "same.onnx")
    assert values_of(left) == values_of(right)


def test_inspection_tells_types_errors_and_origin(tmp_path: Path) -> None:
    report = inspect_nnr(packed(graphs.typed("bfloat16"), tmp_path))
    (tensor,) = report.tensors
    assert (tensor.dtype, tensor.shape, tensor.treatment) == ("bfloat16", (64, 64), "coded")
    assert tensor.error is not None and tensor.original_bytes == 2 * 64 * 64
    assert report.format == "nnr" and report.carriage == "1" and report.producer.startswith("onnx-nnc")
    assert RECORD_KEY not in (report.manifest or "")


def test_running_unpacks_first(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from nnc_codec.formats import RunOptions

    path = packed(graphs.mlp(), tmp_path)
    unpack_nnr(path, tmp_path / "plain.onnx")
    report = NnrFormat().run(path, RunOptions(runs=1, against=tmp_path / "plain.onnx"))
    assert report.format == "nnr" and report.comparison[0].identical


def test_a_planner_may_choose(tmp_path: Path) -> None:
    def plan(model: object, planned: list, options: PackOptions, progress: object) -> tuple[list, tuple[str, ...]]:
        kept = [tensor._replace(reason="not today") if tensor.name == "w1" else tensor for tensor in planned]
        return kept, ("planned",)

    source = save(graphs.mlp(), tmp_path / "m.onnx")
    report = pack_nnr(source, tmp_path / "m.nnr", PackOptions(group_below=0), planner=plan)
    assert report.notes == ("planned",)
    assert list(nnc_codec.open(tmp_path / "m.nnr")) == ["w0", "w2"]


@pytest.mark.parametrize("name", graphs.ALL)
def test_packed_models_give_their_payloads_away(name: str, tmp_path: Path) -> None:
    source = save(graphs.ALL[name](), tmp_path / "m.onnx")
    pack(source, tmp_path / "m.nnc.onnx", OPTIONS)
    unpack(tmp_path / "m.nnc.onnx", tmp_path / "expected.onnx")
    report = pack_nnr(tmp_path / "m.nnc.onnx", tmp_path / "carried.nnr")
    assert "carried over" in report.notes[0]
    pack_nnr(source, tmp_path / "direct.nnr")
    carried, direct = nnc_codec.open(tmp_path / "carried.nnr"), nnc_codec.open(tmp_path / "direct.nnr")
    held = [sorted(tensor.decode().tobytes() for tensor in stream.values()) for stream in (carried, direct)]
    assert held[0] == held[1]
    assert verify_nnr(tmp_path / "carried.nnr", VerifyOptions(against=tmp_path / "expected.onnx")).ok
    unpack_nnr(tmp_path / "carried.nnr", tmp_path / "got.onnx")
    assert (tmp_path / "got.onnx").read_bytes() == (tmp_path / "expected.onnx").read_bytes()


def test_damaged_packed_models_are_refused(tmp_path: Path) -> None:
    pack(save(graphs.mlp(), tmp_path / "m.onnx"), tmp_path / "m.nnc.onnx", OPTIONS)
    model = onnx.load(tmp_path / "m.nnc.onnx")
    payload = next(tensor for tensor in model.graph.initializer if tensor.name == "w1.nnr")
    payload.raw_data = payload.raw_data[:-2] + b"xy"
    with pytest.raises(CarriageError, match="CRC-32"):
        pack_nnr(save(model, tmp_path / "bad.onnx"), tmp_path / "m.nnr")
    assert not (tmp_path / "m.nnr").exists()

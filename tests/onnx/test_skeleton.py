"""Models read without their large values, and staged ones."""

from __future__ import annotations

import os
import sys

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnc_codec.files import FileAccessError
from nnc_onnx.errors import CarriageError, InvalidModelError, TruncatedModelError
from nnc_onnx.graph.usage import Value
from nnc_onnx.runtime.loader import InferenceSession
from nnc_onnx.runtime.shell import shell_weights, unpack_shell
from nnc_onnx.runtime.skeleton import LARGE, read_skeleton
from nnc_onnx.runtime.staging import staged
from nnc_onnx.tensors import is_external, read_bytes

CPU = ["CPUExecutionProvider"]


@pytest.fixture
def path(tmp_path):
    """Two packed weights, of a large and a small payload, and a large plain table of indexes."""
    made, _ = models.chain(2, 160, 96)
    made.graph.initializer.append(numpy_helper.from_array(np.arange(96, dtype=np.int64).repeat(16), "table"))
    made.graph.initializer.append(numpy_helper.from_array(np.arange(96, dtype=np.int64), "order"))
    made.graph.node.append(helper.make_node("Gather", ["x2", "order"], ["y"], axis=1))
    made.graph.node.append(helper.make_node("Identity", ["table"], ["z"]))
    made.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 96]))
    made.graph.output.append(helper.make_tensor_value_info("z", TensorProto.INT64, [96 * 16]))
    path = tmp_path / "m.nnc.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def test_only_large_values_stay_in_the_file(path):
    whole, skeleton = onnx.load(path), read_skeleton(path)
    assert len(skeleton.proto.SerializeToString()) < path.stat().st_size / 4
    for full, hollow in zip(whole.graph.initializer, skeleton.proto.graph.initializer, strict=True):
        assert (hollow.name, hollow.data_type, hollow.dims) == (full.name, full.data_type, full.dims)
        assert is_external(hollow) == (len(full.raw_data) >= LARGE)
        assert read_bytes(hollow, skeleton.folder).tobytes() == full.raw_data
    del whole.graph.initializer[:], skeleton.proto.graph.initializer[:]
    assert skeleton.proto == whole


def test_bytes_and_links_are_parsed_whole(path, tmp_path):
    link = tmp_path / "link.onnx"
    link.symlink_to(path)
    whole = onnx.load(path)
    assert read_skeleton(path.read_bytes()).proto == whole
    assert read_skeleton(link).proto == whole


def test_cut_anywhere_is_an_error_or_another_model(path, tmp_path):
    data = path.read_bytes()
    cut = tmp_path / "cut.onnx"
    for length in range(1, len(data), 997):
        cut.write_bytes(data[:length])
        with pytest.raises((TruncatedModelError, InvalidModelError)):
            read_skeleton(cut)


def test_bytes_changed_anywhere_end_in_a_typed_error_or_a_model(path, tmp_path):
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    changed = tmp_path / "changed.onnx"
    for position in generator.integers(0, len(data), 200):
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(generator.integers(8))
        changed.write_bytes(damaged)
        try:
            model = read_skeleton(changed)
        except (InvalidModelError, TruncatedModelError):
            continue
        assert model.proto.HasField("graph")


def test_part_of_the_weights_becomes_constant(path):
    with staged(read_skeleton(path), {Value((), "W1")}) as ready:
        onnx.checker.check_model(str(ready))
        loaded = onnx.load(ready)
        folder = ready.parent
    assert not folder.exists()
    assert [node.op_type for node in loaded.graph.node if node.domain] == ["NNRDecodeFloat"]
    names = {tensor.name for tensor in loaded.graph.initializer}
    assert "W1" in names and "W0.nnr" in names and "W1.nnr" not in names
    assert {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.graph.initializer}["table"].shape == (
        96 * 16,
    )
    assert all(value.name != "W1" for value in loaded.graph.value_info)


def test_values_from_every_place_survive(path):
    feeds = {"x0": models.weights(3, 96, seed=2)}
    expected = InferenceSession(path.read_bytes(), providers=CPU, mode="lazy").run(None, feeds)
    for wishes in ({"mode": "eager"}, {"mode": "cache", "cache_bytes": 0.6}, {"mode": "lazy"}):
        got = InferenceSession(path, providers=CPU, **wishes).run(None, feeds)
        for a, b in zip(got, expected, strict=True):
            assert np.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("wishes", [{"mode": "eager"}, {"mode": "cache", "cache_bytes": 0.6}])
def test_external_data_in_a_folder_that_the_options_name(tmp_path, wishes):
    made, _ = models.chain(2, 160, 96)
    (tmp_path / "data").mkdir()
    written = models.save_external(made, tmp_path / "data" / "m.onnx")
    path = tmp_path / "m.onnx"
    written.rename(path)
    options = ort.SessionOptions()
    key = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(key, str(tmp_path / "data"))
    for source in (path, path.read_bytes()):
        session = InferenceSession(source, options, providers=CPU, **wishes)
        assert session.run(None, {"x0": models.weights(3, 96, seed=2)})[0].shape == (3, 96)
        assert options.get_session_config_entry(key) == str(tmp_path / "data")


def test_payload_that_a_constant_and_a_coded_tensor_share():
    array = models.weights(64, 64)
    item, twin = models.Packed("A", array), models.Packed("B", array, bits=models.payload(array, "A"))
    twin.node.input[0] = "A.nnr"
    nodes = [helper.make_node("MatMul", ["x", "A"], ["h"]), helper.make_node("MatMul", ["h", "B"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in "xy"]
    made = models.model(nodes, ends[:1], ends[1:], [item, twin])
    del made.graph.initializer[1]
    data = made.SerializeToString()
    feeds = {"x": models.weights(3, 64, seed=7)}
    expected = InferenceSession(data, providers=CPU, mode="lazy").run(None, feeds)[0]
    session = InferenceSession(data, providers=CPU, mode="cache", cache_bytes=64 * 64 * 4, cache_levels=False)
    assert session.plan.constant_bytes == 64 * 64 * 4
    assert np.allclose(session.run(None, feeds)[0], expected, atol=1e-6)


def test_damage_is_found_while_loading(path):
    made = onnx.load(path)
    tensor = next(tensor for tensor in made.graph.initializer if tensor.name == "W1.nnr")
    damaged = bytearray(tensor.raw_data)
    damaged[len(damaged) // 2] ^= 4
    tensor.raw_data = bytes(damaged)
    path.write_bytes(made.SerializeToString())
    with pytest.raises(CarriageError) as caught:
        InferenceSession(path, providers=CPU, mode="eager")
    assert caught.value.tensor == "W1"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a folder that cannot be written")
def test_no_room_for_the_weights(path, tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    monkeypatch.setattr("tempfile.tempdir", str(closed))
    with pytest.raises(FileAccessError, match="TMPDIR"):
        InferenceSession(path, providers=CPU, mode="eager")


def test_missing_temporary_folder_is_a_typed_error(path, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(FileAccessError, match="TMPDIR"):
        InferenceSession(path, providers=CPU, mode="eager")


@pytest.mark.skipif(
    not hasattr(ort.SessionOptions, "add_external_initializers_from_files_in_memory"),
    reason="not in this onnxruntime",
)
def test_shell_runs_on_weights_in_memory(path, tmp_path):
    shell = tmp_path / "shell.onnx"
    report = unpack_shell(path, shell)
    assert report.unpacked_bytes == shell.stat().st_size < path.stat().st_size / 2
    assert not shell.with_name("shell.onnx.data").exists()
    loaded = onnx.load(shell, load_external_data=False)
    assert not loaded.metadata_props and all(not node.domain for node in loaded.graph.node)
    weights = shell_weights(path).tobytes()
    options = ort.SessionOptions()
    options.add_external_initializers_from_files_in_memory(["shell.onnx.data"], [weights], [len(weights)])
    feeds = {"x0": models.weights(3, 96, seed=2)}
    got = ort.InferenceSession(shell.read_bytes(), options, providers=CPU).run(None, feeds)
    expected = InferenceSession(path, providers=CPU, mode="eager").run(None, feeds)
    for a, b in zip(got, expected, strict=True):
        assert a.tobytes() == b.tobytes()
    shell.with_name("shell.onnx.data").write_bytes(weights)
    onnx.checker.check_model(str(shell), full_check=True)

"""Lazy, eager and unpacked sessions give the same bits."""

from __future__ import annotations

import gc
from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnc_codec.errors import InvalidArgumentError
from nnc_onnx.carriage import ELEMENT_TYPES
from nnc_onnx.runtime.library import get_library_path, reset_stats, stats
from nnc_onnx.runtime.loader import InferenceSession, register
from nnc_onnx.runtime.settings import uses_only_cpu
from nnc_onnx.runtime.skeleton import read_skeleton
from nnc_onnx.runtime.staging import staged

CPU = ["CPUExecutionProvider"]


def same_kernels() -> ort.SessionOptions:
    """Options under which onnxruntime computes alike with constant and with decoded weights.

    It prepacks constant weights, and its kernels for packed weights add in another order at batch size 1.
    """
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def run_everywhere(
    made: onnx.ModelProto, packed: list[models.Packed], feeds: dict[str, np.ndarray]
) -> list[np.ndarray]:
    """Outputs of the lazy session, after comparing them with the eager and the plain one."""
    data = made.SerializeToString()
    lazy = InferenceSession(data, same_kernels(), providers=CPU, mode="lazy")
    first, second = lazy.run(None, feeds), lazy.run(None, feeds)
    eager = InferenceSession(data, same_kernels(), providers=CPU, mode="eager").run(None, feeds)
    unpacked = models.plain(made, packed).SerializeToString()
    plain = ort.InferenceSession(unpacked, same_kernels(), providers=CPU).run(None, feeds)
    for others in (second, eager, plain):
        for a, b in zip(first, others, strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape
            assert a.tobytes() == b.tobytes()
    return first


@pytest.mark.parametrize("element", ELEMENT_TYPES, ids=lambda element: element.suffix)
@pytest.mark.parametrize("after", [False, True])
def test_every_element_type_comes_out_as_decoded(element, after):
    item = models.Packed("W", models.weights(13, 21, dtype=element.dtype_name), after="x" if after else None)
    cast = helper.make_node("Cast", ["W"], ["y"], to=TensorProto.DOUBLE)
    made = models.model(
        [cast, helper.make_node("Identity", ["x"], ["z"])],
        [helper.make_tensor_value_info("x", TensorProto.INT64, [2])],
        [
            helper.make_tensor_value_info("y", TensorProto.DOUBLE, [13, 21]),
            helper.make_tensor_value_info("z", TensorProto.INT64, [2]),
        ],
        [item],
    )
    y = run_everywhere(made, [item], {"x": np.arange(2)})[0]
    assert np.array_equal(y, item.values.astype(np.float64))
    if not element.is_float:
        assert np.array_equal(y, item.array.astype(np.float64))


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 1, 5), (2, 3, 4, 5), (1, 1, 1, 1, 1, 6)])
def test_any_rank(shape):
    item = models.Packed("W", models.weights(*shape))
    made = models.model(
        [helper.make_node("Neg", ["W"], ["y"])],
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [item],
    )
    assert np.array_equal(run_everywhere(made, [item], {})[0], -item.values)


def test_chain_of_layers():
    made, packed = models.chain(6, 96, 40)
    x = models.weights(5, 40, seed=9)
    assert run_everywhere(made, packed, {"x0": x})[0].shape == (5, 40)


def test_one_payload_serves_several_consumers():
    item = models.Packed("W", models.weights(24, 24), after="x")
    made = models.model(
        [helper.make_node("MatMul", ["x", "W"], ["a"]), helper.make_node("MatMul", ["a", "W"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 24])],
        [item],
    )
    run_everywhere(made, [item], {"x": models.weights(2, 24, seed=1)})


def test_decoded_tensor_is_graph_output():
    item = models.Packed("W", models.weights(24, 24))
    made = models.model([], [], [helper.make_tensor_value_info("W", TensorProto.FLOAT, [24, 24])], [item])
    assert np.array_equal(run_everywhere(made, [item], {})[0], item.values)


def test_consumer_that_works_in_place():
    item = models.Packed("W", models.weights(64, 64), after="x")
    made = models.model(
        [
            helper.make_node("Sigmoid", ["W"], ["s"]),
            helper.make_node("Tanh", ["s"], ["t"]),
            helper.make_node("MatMul", ["x", "t"], ["y"]),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 64])],
        [item],
    )
    run_everywhere(made, [item], {"x": models.weights(2, 64, seed=1)})


def body_graph(name: str, nodes, outputs, inputs=(), packed=(), inner_payload=True) -> onnx.GraphProto:
    return helper.make_graph(
        [item.node for item in packed] + list(nodes),
        name,
        list(inputs),
        list(outputs),
        [item.initializer for item in packed] if inner_payload else [],
        value_info=[item.info for item in packed],
    )


@pytest.mark.parametrize("inner_payload", [True, False], ids=["payload inside", "payload outside"])
def test_branch_not_taken_decodes_nothing(inner_payload):
    taken, other = (
        models.Packed("A", models.weights(16, 16)),
        models.Packed("B", models.weights(16, 16, seed=1)),
    )
    branches = {
        f"{name}_branch": body_graph(
            name,
            [helper.make_node("MatMul", ["x", item.node.output[0]], [f"{name}_y"])],
            [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)],
            packed=[item],
            inner_payload=inner_payload,
        )
        for name, item in (("then", taken), ("else", other))
    }
    made = models.model(
        [helper.make_node("If", ["c"], ["y"], **branches)],
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 16]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 16])],
        [],
        [] if inner_payload else [taken.initializer, other.initializer],
    )
    x = models.weights(2, 16, seed=2)
    for condition, item in ((True, taken), (False, other)):
        y = run_everywhere(made, [taken, other], {"x": x, "c": np.array(condition)})[0]
        assert np.allclose(y, x @ item.values, atol=1e-5)
    session = InferenceSession(made.SerializeToString(), providers=CPU, mode="lazy")
    reset_stats()
    session.run(None, {"x": x, "c": np.array(True)})
    assert stats().decodes == 1


@pytest.mark.parametrize("inside", [True, False], ids=["decode inside", "decode outside"])
def test_loop_body(inside):
    item = models.Packed("W", models.weights(16, 16))
    body = body_graph(
        "body",
        [helper.make_node("MatMul", ["h", "W"], ["h2"]), helper.make_node("Identity", ["go"], ["go2"])],
        [
            helper.make_tensor_value_info("go2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h2", TensorProto.FLOAT, [2, 16]),
        ],
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, 16]),
        ],
        packed=[item] if inside else [],
    )
    made = models.model(
        [helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 16])],
        [] if inside else [item],
        [numpy_helper.from_array(np.array(4), "trips")],
    )
    x = models.weights(2, 16, seed=3)
    run_everywhere(made, [item], {"x": x})
    session = InferenceSession(made.SerializeToString(), providers=CPU, mode="lazy")
    reset_stats()
    session.run(None, {"x": x})
    assert stats().computes == (4 if inside else 1)


def test_scan_body():
    item = models.Packed("W", models.weights(16, 16))
    body = body_graph(
        "body",
        [
            helper.make_node("MatMul", ["step", "W"], ["p"]),
            helper.make_node("Add", ["state", "p"], ["state2"]),
            helper.make_node("Identity", ["state2"], ["out"]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16]) for name in ("state2", "out")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16]) for name in ("state", "step")],
        packed=[item],
    )
    made = models.model(
        [helper.make_node("Scan", ["s0", "xs"], ["last", "all"], body=body, num_scan_inputs=1)],
        [
            helper.make_tensor_value_info("s0", TensorProto.FLOAT, [1, 16]),
            helper.make_tensor_value_info("xs", TensorProto.FLOAT, [5, 1, 16]),
        ],
        [
            helper.make_tensor_value_info("last", TensorProto.FLOAT, [1, 16]),
            helper.make_tensor_value_info("all", TensorProto.FLOAT, [5, 1, 16]),
        ],
        [],
    )
    feeds = {"s0": np.zeros((1, 16), np.float32), "xs": models.weights(5, 1, 16, seed=4)}
    run_everywhere(made, [item], feeds)


def test_external_data_next_to_the_model(tmp_path):
    made, packed = models.chain(4, 96, 40)
    x = {"x0": models.weights(5, 40, seed=9)}
    expected = run_everywhere(made, packed, x)[0]
    path = models.save_external(made, tmp_path / "packed.onnx")
    for source in (path, str(path)):
        for mode in ("lazy", "eager", "auto"):
            got = InferenceSession(source, providers=CPU, mode=mode).run(None, x)[0]
            assert got.tobytes() == expected.tobytes()


def test_eager_leaves_no_file_and_keeps_other_external_data(tmp_path, monkeypatch):
    made, item = models.linear()
    bias = models.weights(96, seed=5)
    made.graph.node[-1].output[0] = "m"
    made.graph.node.append(helper.make_node("Add", ["m", "bias"], ["y"]))
    made.graph.initializer.append(numpy_helper.from_array(bias, "bias"))
    path = models.save_external(made, tmp_path / "packed.onnx")
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    x = models.weights(3, 48, seed=6)
    session = InferenceSession(path, providers=CPU, mode="eager")
    assert not list(folder.iterdir())
    before = session.run(None, {"x": x})[0]
    session.set_providers(CPU)
    assert not list(folder.iterdir())
    assert session.run(None, {"x": x})[0].tobytes() == before.tobytes()
    assert np.allclose(before, x @ item.values + bias, atol=1e-5)


def test_staged_model_is_plain_and_valid(tmp_path):
    made, packed = models.chain(2, 96, 40)
    with staged(read_skeleton(made.SerializeToString())) as path:
        onnx.checker.check_model(str(path), full_check=True)
        loaded = onnx.load(str(path))
    assert [tensor.name for tensor in loaded.graph.initializer] == ["W0", "W1"]
    assert [entry.domain for entry in loaded.opset_import] == [""]
    for tensor, item in zip(loaded.graph.initializer, packed, strict=True):
        assert numpy_helper.to_array(tensor).tobytes() == item.values.tobytes()


def test_payload_that_is_a_graph_input_as_well():
    made, item = models.linear()
    size = len(numpy_helper.to_array(item.initializer))
    made.graph.input.append(helper.make_tensor_value_info("W.nnr", TensorProto.UINT8, [size]))
    x = models.weights(3, 48, seed=6)
    for mode in ("lazy", "cache", "eager"):
        run = InferenceSession(made.SerializeToString(), providers=CPU, mode=mode)
        assert [value.name for value in run.get_inputs()] == ["x"]
        assert np.allclose(run.run(None, {"x": x})[0], x @ item.values, atol=1e-5)


def test_plain_model_passes_through_unchanged():
    made, item = models.linear()
    plain = models.plain(made, [item]).SerializeToString()
    options = ort.SessionOptions()
    session = InferenceSession(plain, options, providers=CPU)
    assert isinstance(session, ort.InferenceSession)
    assert options.enable_mem_pattern and options.enable_mem_reuse
    x = models.weights(3, 48, seed=6)
    assert np.allclose(session.run(None, {"x": x})[0], x @ item.values, atol=1e-5)


def test_own_session_with_registered_options():
    made, item = models.linear()
    options = ort.SessionOptions()
    register(options)
    register(options)
    x = models.weights(3, 48, seed=6)
    for _ in range(2):
        session = ort.InferenceSession(made.SerializeToString(), options, providers=CPU)
        assert np.allclose(session.run(None, {"x": x})[0], x @ item.values, atol=1e-5)


def test_library_path_is_enough():
    made, item = models.linear()
    options = ort.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    session = ort.InferenceSession(made.SerializeToString(), options, providers=CPU)
    x = models.weights(3, 48, seed=6)
    assert np.allclose(session.run(None, {"x": x})[0], x @ item.values, atol=1e-5)


def test_subclass_and_io_binding():
    class Mine(InferenceSession):
        pass

    made, item = models.linear()
    session = Mine(made.SerializeToString(), providers=CPU)
    x = models.weights(3, 48, seed=6)
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    assert np.allclose(binding.copy_outputs_to_cpu()[0], x @ item.values, atol=1e-5)


def test_counters_follow_the_sessions():
    gc.collect()
    made, item = models.linear()
    alive = stats().kernels
    reset_stats()
    session = InferenceSession(made.SerializeToString(), providers=CPU, mode="lazy", recode=False)
    assert stats().kernels == alive + 1
    for _ in range(3):
        session.run(None, {"x": models.weights(3, 48, seed=6)})
    now = stats()
    assert (now.computes, now.decodes, now.failures) == (3, 3, 0)
    assert now.decoded_bytes == 3 * item.array.nbytes
    del session
    gc.collect()
    assert stats().kernels == alive


def test_model_on_disk_without_write_access(tmp_path: Path):
    made, item = models.linear()
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    tmp_path.chmod(0o555)
    try:
        x = models.weights(3, 48, seed=6)
        for mode in ("lazy", "eager"):
            got = InferenceSession(path, providers=CPU, mode=mode).run(None, {"x": x})[0]
            assert np.allclose(got, x @ item.values, atol=1e-5)
    finally:
        tmp_path.chmod(0o755)


def test_payload_beyond_two_gigabytes(tmp_path):
    made, item = models.linear()
    path = tmp_path / "model.onnx"
    bits = numpy_helper.to_array(item.initializer).tobytes()
    offset = 3 << 30
    with open(tmp_path / "model.onnx.data", "wb") as stream:
        stream.seek(offset)
        stream.write(bits)
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "model.onnx.data"), ("offset", offset), ("length", len(bits))):
        tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(made.SerializeToString())
    x = models.weights(3, 48, seed=6)
    for mode in ("lazy", "cache", "eager"):
        got = InferenceSession(path, providers=CPU, mode=mode).run(None, {"x": x})[0]
        assert np.allclose(got, x @ item.values, atol=1e-5)


def test_which_providers_get_decoded_weights_up_front():
    options = ort.SessionOptions()
    assert uses_only_cpu(None, options) and uses_only_cpu([], options) and uses_only_cpu(CPU, options)
    assert uses_only_cpu([("CPUExecutionProvider", {})], options)
    assert not uses_only_cpu(["CUDAExecutionProvider", "CPUExecutionProvider"], options)
    assert not uses_only_cpu([("CoreMLExecutionProvider", {}), "CPUExecutionProvider"], None)


def test_model_in_ort_format(tmp_path):
    made, item = models.linear()
    options = ort.SessionOptions()
    register(options, mode="lazy")
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(made.SerializeToString(), options, providers=CPU)
    x = models.weights(3, 48, seed=6)
    for mode in ("lazy", "cache", "auto"):
        got = InferenceSession(tmp_path / "model.ort", providers=CPU, mode=mode).run(None, {"x": x})[0]
        assert np.allclose(got, x @ item.values, atol=1e-5)
    with pytest.raises(InvalidArgumentError, match="ORT format"):
        InferenceSession(tmp_path / "model.ort", providers=CPU, mode="eager")

"""Packing keeps a model valid and its outputs right, whatever way its weights sit in the graph."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from onnx import ModelProto, helper

import nnc_codec
from nnc_codec.errors import InvalidArgumentError
from nnc_codec.files import FileAccessError, OutputExistsError
from nnc_codec.formats import PackOptions, Progress, UnpackOptions
from nnc_codec.report import PackReport
from nnc_onnx import carriage
from nnc_onnx.coding import measure
from nnc_onnx.errors import InvalidModelError, TruncatedModelError
from nnc_onnx.manifest import parse_manifest
from nnc_onnx.packing import pack
from nnc_onnx.runtime.loader import InferenceSession
from nnc_onnx.unpacking import unpack

ort = pytest.importorskip("onnxruntime")

OPTIONS = PackOptions(jobs=2)
ALONE = PackOptions(jobs=2, group_below=0)
"""Vectors stay plain and every weight has a payload of its own."""


def save(model: ModelProto, path: Path, *, full_check: bool = True) -> Path:
    """Write `model` after checking that the test itself is right."""
    onnx.checker.check_model(model, full_check=full_check)
    path.write_bytes(model.SerializeToString())
    return path


def packed(model: ModelProto, folder: Path, options: PackOptions = OPTIONS) -> tuple[ModelProto, PackReport, Path]:
    """The packed model, its report and its path."""
    source = save(model, folder / "m.onnx")
    target = folder / "m.nnc.onnx"
    report = pack(source, target, options)
    return onnx.load(target), report, target


def session(path: Path, mode: str | None = None) -> ort.InferenceSession:
    """A session in which constants and computed weights go through the same kernels."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.log_severity_level = 3
    if mode is None:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    from nnc_onnx.runtime.loader import InferenceSession

    return InferenceSession(str(path), options, mode=mode)


def feed(session: ort.InferenceSession) -> dict[str, np.ndarray]:
    """Reproducible inputs."""
    from nnc_onnx.runtime.running import random_inputs

    return random_inputs(session.get_inputs(), 0, {"n": 3, "b": 3})


def decode_names(model: ModelProto) -> list[str]:
    """Outputs of all decode nodes."""
    return [decode.output for _, _, decode in carriage.decode_nodes(model)]


@pytest.mark.parametrize("name", graphs.ALL)
@pytest.mark.parametrize("group_below", [0, 4096, 1 << 20])
def test_every_kind_of_graph_survives(name: str, group_below: int, tmp_path: Path) -> None:
    model, report, target = packed(graphs.ALL[name](), tmp_path, PackOptions(group_below=group_below))
    assert report.coded, "something is packed in every one of these graphs"
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, strict_mode=True)

    plain = tmp_path / "plain.onnx"
    unpack(target, plain)
    onnx.checker.check_model(onnx.load(plain), full_check=True)

    lazy, eager, unpacked = session(target, "lazy"), session(target, "eager"), session(plain)
    inputs = feed(unpacked)
    if "cond" in inputs:
        choices = [{**inputs, "cond": np.array(flag)} for flag in (True, False)]
    else:
        choices = [inputs]
    original = session(tmp_path / "m.onnx")
    for choice in choices:
        expected = unpacked.run(None, choice)
        for other in (lazy.run(None, choice), eager.run(None, choice)):
            for left, right in zip(expected, other, strict=True):
                assert left.tobytes() == right.tobytes()
        for left, right in zip(expected, original.run(None, choice), strict=True):
            assert left.shape == right.shape
            assert measure(right, left).rel_rms < 0.2


def test_payloads_are_bitstreams_of_their_own(tmp_path: Path) -> None:
    model, _, _ = packed(graphs.mlp(), tmp_path, ALONE)
    payloads = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name.endswith(".nnr")}
    assert sorted(payloads) == ["w0.nnr", "w1.nnr", "w2.nnr"]
    for name, tensor in payloads.items():
        decoded = nnc_codec.decode(tensor.raw_data)
        assert list(decoded) == [name.removesuffix(".nnr")]
        assert decoded["w" + name[1]].shape == (64, 64)


def test_carriage_is_format_1(tmp_path: Path) -> None:
    model, report, _ = packed(graphs.mlp(2), tmp_path, ALONE)
    metadata = carriage.metadata(model)
    assert metadata["onnx_nnc.format"] == "1"
    assert metadata["onnx_nnc.codec"] == "tag:iso.org,2023:15938-17"
    assert metadata["purpose"] == "test"
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 17), ("onnx_nnc", 1)]
    manifest = parse_manifest(metadata["onnx_nnc.manifest"])
    assert manifest.source_sha256 == hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest()
    assert [entry.name for entry in manifest.tensors] == ["w0", "w1"]
    for entry, tensor in zip(manifest.tensors, report.coded, strict=True):
        assert entry.error is not None and tensor.error is not None
        assert entry.error.rel_rms == pytest.approx(tensor.error.rel_rms, rel=1e-2)
    typed = {item.name: item for item in model.graph.value_info}
    assert [dim.dim_value for dim in typed["w0"].type.tensor_type.shape.dim] == [64, 64]


def test_decode_waits_for_the_data_of_its_consumer(tmp_path: Path) -> None:
    model, _, _ = packed(graphs.mlp(3), tmp_path, ALONE)
    after = {decode.output: decode.after for _, _, decode in carriage.decode_nodes(model)}
    assert after == {"w0": "x", "w1": "r0", "w2": "r1"}
    kinds = [node.op_type for node in model.graph.node]
    assert kinds[:2] == ["NNRDecodeFloat", "MatMul"]
    assert [i for i, kind in enumerate(kinds) if kind == "NNRDecodeFloat"] == [0, 4, 8]


def test_decode_waits_for_the_deepest_input(tmp_path: Path) -> None:
    model, _, _ = packed(graphs.lstm(), tmp_path, ALONE)
    after = {decode.output: decode.after for _, _, decode in carriage.decode_nodes(model)}
    assert after == {"w0": "x", "r0": "x", "w1": "s0", "r1": "s0"}


def test_biases_of_recurrent_layers_are_no_weights(tmp_path: Path) -> None:
    _, report, _ = packed(graphs.lstm(), tmp_path, PackOptions(min_elements=1, group_below=0))
    reasons = {tensor.name: tensor.reason for tensor in report.tensors}
    assert reasons["b0"] == "vector (LSTM input 3)"
    assert reasons["axes"] == "shape-like operand (Squeeze input 1)"


def test_shared_weights_are_decoded_and_stored_once(tmp_path: Path) -> None:
    model, report, _ = packed(graphs.shared(), tmp_path)
    assert sorted(decode_names(model)) == ["copy", "w"]
    assert [tensor.name for tensor in model.graph.initializer] == ["w.nnr"]
    assert {tensor.name: tensor.same_as for tensor in report.coded} == {"w": None, "copy": "w"}


def test_branches_decode_only_what_they_use(tmp_path: Path) -> None:
    model, _, _ = packed(graphs.branches(), tmp_path)
    where = {decode.output: path for path, _, decode in carriage.decode_nodes(model)}
    assert where["both"] == ()
    assert len(where["w_then"]) == len(where["w_else"]) == 1
    assert where["w_then"] != where["w_else"]


def test_branches_may_use_the_same_name(tmp_path: Path) -> None:
    model, _, target = packed(graphs.branches(local_names=True), tmp_path)
    found = [(path, decode.payload) for path, _, decode in carriage.decode_nodes(model) if decode.output == "w"]
    assert len({path for path, _ in found}) == 2
    assert len({payload for _, payload in found}) == 2
    unpack(target, tmp_path / "p.onnx")
    branch = onnx.load(tmp_path / "p.onnx").graph.node[0].attribute
    assert all([tensor.name for tensor in attribute.g.initializer] == ["w"] for attribute in branch)


@pytest.mark.parametrize("local", [False, True])
def test_loops_decode_once(local: bool, tmp_path: Path) -> None:
    model, _, _ = packed(graphs.loop(local=local), tmp_path)
    assert [(path, d.output, d.after) for path, _, d in carriage.decode_nodes(model)] == [((), "w", "start")]


def test_constant_nodes_are_lifted_and_come_back(tmp_path: Path) -> None:
    source = graphs.constants()
    model, _, target = packed(source, tmp_path)
    assert [node.op_type for node in model.graph.node].count("Constant") == 1
    unpack(target, tmp_path / "p.onnx")
    plain = onnx.load(tmp_path / "p.onnx")
    assert not plain.graph.initializer
    restored = {node.output[0]: node.name for node in plain.graph.node if node.op_type == "Constant"}
    assert restored == {"w0": "first constant", "axes": "", "w1": ""}


def test_equal_names_of_constant_nodes_do_not_reach_decode_nodes(tmp_path: Path) -> None:
    source = graphs.constants()
    for node in source.graph.node:
        node.name = "twice" if node.op_type == "Constant" else node.name
    model, _, target = packed(source, tmp_path)
    names = [node.name for node in model.graph.node if node.name]
    assert len(names) == len(set(names))
    InferenceSession(target)


def test_integers_are_exact(tmp_path: Path) -> None:
    model, report, target = packed(graphs.quantized(), tmp_path)
    kinds = {decode.output: node.op_type for _, node, decode in carriage.decode_nodes(model)}
    assert kinds == {"q": "NNRDecodeInt8", "u": "NNRDecodeUInt8"}
    assert all(tensor.error is not None and tensor.error.max_abs == 0 for tensor in report.coded)
    unpack(target, tmp_path / "p.onnx")
    before = {tensor.name: tensor for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer}
    after = {tensor.name: tensor for tensor in onnx.load(tmp_path / "p.onnx").graph.initializer}
    assert before == after


def test_index_tables_and_exported_initializers(tmp_path: Path) -> None:
    model, _, _ = packed(graphs.embedding(), tmp_path)
    kinds = {decode.output: node.op_type for _, node, decode in carriage.decode_nodes(model)}
    assert kinds == {
        "table": "NNRDecodeFloat",
        "positions": "NNRDecodeInt64",
        "exported": "NNRDecodeFloat",
    }


@pytest.mark.parametrize(("dtype", "op"), [("float16", "Float16"), ("float64", "Double"), ("bfloat16", "BFloat16")])
def test_float_types_keep_their_type(dtype: str, op: str, tmp_path: Path) -> None:
    model, report, target = packed(graphs.typed(dtype), tmp_path)
    assert [node.op_type for _, node, _ in carriage.decode_nodes(model)] == ["NNRDecode" + op]
    assert report.coded[0].dtype == dtype
    unpack(target, tmp_path / "p.onnx")
    before = onnx.load(tmp_path / "m.onnx").graph.initializer[0]
    after = onnx.load(tmp_path / "p.onnx").graph.initializer[0]
    assert (before.name, before.data_type, list(before.dims)) == (after.name, after.data_type, list(after.dims))


def test_what_stays_plain_says_why(tmp_path: Path) -> None:
    options = PackOptions(include=("*",), min_elements=0, group_below=0)
    source = save(graphs.not_for_coding(), tmp_path / "m.onnx")
    report = pack(source, tmp_path / "o.onnx", options)
    reasons = {tensor.name: tensor.reason for tensor in report.tensors}
    assert reasons == {
        "shape": "shape-like operand (Reshape input 1)",
        "overridable": "its value can be replaced by the caller",
        "nan": "it contains NaN or infinity",
        "scalar": "scalar",
        "bias": "coding would not make it smaller",
        "mask": "element type bool cannot be coded",
        "empty": "empty",
        "unread": "nothing reads it",
        "noise": "nothing reads it",
    }
    before, after = onnx.load(source), onnx.load(tmp_path / "o.onnx")
    assert before.graph == after.graph


def test_incompressible_integers_stay_plain(tmp_path: Path) -> None:
    made = graphs.quantized()
    noise = np.random.default_rng(0).integers(-128, 128, (64, 64)).astype(np.int8)
    made.graph.initializer[0].CopyFrom(graphs.tensor("q", noise))
    _, report, _ = packed(made, tmp_path)
    reasons = {tensor.name: tensor.reason for tensor in report.tensors}
    assert reasons["q"] == "coding would not make it smaller"


def test_include_exclude_and_minimum(tmp_path: Path) -> None:
    source = save(graphs.mlp(3), tmp_path / "m.onnx")

    def names(**options: object) -> list[str]:
        report = pack(source, tmp_path / "o.onnx", PackOptions(force=True, group_below=0, **options))
        return [tensor.name for tensor in report.coded]

    assert names() == ["w0", "w1", "w2"]
    assert names(exclude=("w1",)) == ["w0", "w2"]
    assert names(min_elements=5000) == []
    assert names(min_elements=5000, include=("w[02]",)) == ["w0", "w2"]
    assert names(include=("w*",), exclude=("w0",)) == ["w1", "w2"]


def test_custom_operators_get_their_constants(tmp_path: Path) -> None:
    made = graphs.model(
        [helper.make_node("Special", ["x", "w"], ["y"], domain="acme")],
        [graphs.value("x", shape=[2, 64])],
        [graphs.value("y", shape=[2, 64])],
        [graphs.tensor("w", graphs.weights(64, 64))],
        extra_opsets=[("acme", 1)],
    )
    source = save(made, tmp_path / "m.onnx")
    report = pack(source, tmp_path / "a.onnx")
    assert report.tensors[0].reason == "read by an operator of an unknown domain (acme.Special input 1)"
    assert pack(source, tmp_path / "b.onnx", PackOptions(include=("w",))).coded


def test_names_defined_twice_stay(tmp_path: Path) -> None:
    made = graphs.mlp(1)
    made.graph.initializer.append(graphs.tensor("w0", graphs.weights(64, 64, seed=7)))
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    report = pack(tmp_path / "m.onnx", tmp_path / "o.onnx", ALONE)
    assert not report.coded
    assert report.tensors[0].reason == "its name is defined twice"


def test_local_functions_are_followed_by_their_domain(tmp_path: Path) -> None:
    made = graphs.model(
        [helper.make_node("Dense", ["x", "w"], ["y"], domain="local")],
        [graphs.value("x", shape=[2, 64])],
        [graphs.value("y", shape=[2, 64])],
        [graphs.tensor("w", graphs.weights(64, 64))],
        extra_opsets=[("local", 1)],
    )
    body = [helper.make_node("MatMul", ["a", "b"], ["c"]), helper.make_node("Relu", ["c"], ["d"])]
    opsets = [helper.make_opsetid("", graphs.OPSET)]
    made.functions.append(helper.make_function("local", "Dense", ["a", "b"], ["d"], body, opsets))
    model, _, target = packed(made, tmp_path)
    assert decode_names(model) == ["w"]
    unpack(target, tmp_path / "p.onnx")
    inputs = feed(session(tmp_path / "p.onnx"))
    results = [session(tmp_path / "p.onnx").run(None, inputs), session(target, "lazy").run(None, inputs)]
    assert results[0][0].tobytes() == results[1][0].tobytes()


def test_sparse_initializers_stay(tmp_path: Path) -> None:
    made = graphs.mlp(1)
    made.graph.node.append(helper.make_node("Add", ["r0", "sparse"], ["z"]))
    made.graph.output[0].name = "z"
    values = graphs.tensor("sparse", np.array([1.5], np.float32))
    made.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, graphs.tensor("", np.array([3], np.int64)), [64])
    )
    # onnx's full check knows no operator with sparse inputs, although runtimes accept them.
    source, target = save(made, tmp_path / "m.onnx", full_check=False), tmp_path / "o.onnx"
    pack(source, target)
    assert onnx.load(target).graph.sparse_initializer == made.graph.sparse_initializer
    unpack(target, tmp_path / "p.onnx")
    assert onnx.load(tmp_path / "p.onnx").graph.sparse_initializer == made.graph.sparse_initializer


def test_old_ir_is_raised_to_where_initializers_are_no_inputs(tmp_path: Path) -> None:
    model, _, target = packed(graphs.old_ir(), tmp_path)
    assert model.ir_version == 4
    assert [value.name for value in model.graph.input] == ["x"]
    unpack(target, tmp_path / "p.onnx")
    assert [value.name for value in onnx.load(tmp_path / "p.onnx").graph.input] == ["x"]


def test_values_on_a_grid_are_exact(tmp_path: Path) -> None:
    made = graphs.mlp(1)
    table = np.random.default_rng(0).integers(-3, 4, (64, 64)).astype(np.float32) / 4
    made.graph.initializer[0].CopyFrom(graphs.tensor("w0", table))
    _, report, target = packed(made, tmp_path)
    assert report.coded[0].error is not None and report.coded[0].error.max_abs == 0
    unpack(target, tmp_path / "p.onnx")
    assert np.array_equal(onnx.numpy_helper.to_array(onnx.load(tmp_path / "p.onnx").graph.initializer[0]), table)


@pytest.mark.parametrize("scale", [3.4e38, 1e9, 65504, 1e-5, 1e-9, 1e-40])
@pytest.mark.parametrize("kind", ["mask", "gaussian"])
def test_values_of_any_range_pack(kind: str, scale: float, tmp_path: Path) -> None:
    made = graphs.mlp(1)
    array = np.clip(graphs.weights(64, 64, scale=0.3), -1, 1) * np.float32(scale)
    if kind == "mask":
        array = np.where(array > 0, np.float32(0), np.float32(-scale))
    made.graph.initializer[0].CopyFrom(graphs.tensor("w0", array))
    _, report, _ = packed(made, tmp_path)
    tensor = report.tensors[0]
    if tensor.treatment == "coded":
        assert tensor.error is not None and tensor.error.rel_rms < 0.05
    else:
        assert tensor.reason == "coding would not make it smaller"


def test_bytes_do_not_depend_on_workers(tmp_path: Path) -> None:
    source = save(graphs.mlp(6), tmp_path / "m.onnx")
    outputs = []
    for jobs in (1, 2, 5):
        pack(source, tmp_path / f"{jobs}.onnx", PackOptions(jobs=jobs))
        outputs.append((tmp_path / f"{jobs}.onnx").read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]


def test_payload_names_avoid_what_is_there(tmp_path: Path) -> None:
    made = graphs.mlp(1)
    made.graph.node[0].output[0] = made.graph.node[1].input[0] = "w0.nnr"
    model, _, _ = packed(made, tmp_path, ALONE)
    assert [decode.payload for _, _, decode in carriage.decode_nodes(model)] == ["w0.nnr2"]


def test_progress_reaches_the_total(tmp_path: Path) -> None:
    seen: list[Progress] = []
    pack(save(graphs.mlp(3), tmp_path / "m.onnx"), tmp_path / "o.onnx", ALONE, progress=seen.append)
    assert [item.done for item in seen] == [16384, 32768, 49152]
    assert {item.total for item in seen} == {49152}


def test_unsorted_graphs_pack_without_waiting(tmp_path: Path) -> None:
    made = graphs.mlp(2)
    nodes = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend(reversed(nodes))
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    pack(tmp_path / "m.onnx", tmp_path / "o.onnx")
    assert {d.after for _, _, d in carriage.decode_nodes(onnx.load(tmp_path / "o.onnx"))} == {None}


class TestRefusals:
    """Nothing is written when packing is refused."""

    def test_existing_output(self, tmp_path: Path) -> None:
        source = save(graphs.mlp(1), tmp_path / "m.onnx")
        target = tmp_path / "o.onnx"
        target.write_text("mine")
        with pytest.raises(OutputExistsError):
            pack(source, target)
        assert target.read_text() == "mine"
        pack(source, target, PackOptions(force=True))
        assert onnx.load(target).graph.name == "g"

    def test_output_is_input(self, tmp_path: Path) -> None:
        source = save(graphs.mlp(1), tmp_path / "m.onnx")
        before = source.read_bytes()
        with pytest.raises(InvalidArgumentError, match="is the input"):
            pack(source, source, PackOptions(force=True))
        assert source.read_bytes() == before

    def test_missing_source(self, tmp_path: Path) -> None:
        with pytest.raises(FileAccessError, match="no such file"):
            pack(tmp_path / "no.onnx", tmp_path / "o.onnx")

    def test_not_onnx(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_text("hello, I am a text file\n" * 9)
        with pytest.raises((InvalidModelError, TruncatedModelError)):
            pack(tmp_path / "m.onnx", tmp_path / "o.onnx")
        assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]

    def test_truncated(self, tmp_path: Path) -> None:
        source = save(graphs.mlp(1), tmp_path / "m.onnx")
        source.write_bytes(source.read_bytes()[:5000])
        with pytest.raises(TruncatedModelError):
            pack(source, tmp_path / "o.onnx")

    def test_packed_already(self, tmp_path: Path) -> None:
        _, _, target = packed(graphs.mlp(1), tmp_path)
        with pytest.raises(InvalidArgumentError, match="packed already"):
            pack(target, tmp_path / "again.onnx")

    def test_plain_models_cannot_be_unpacked(self, tmp_path: Path) -> None:
        source = save(graphs.mlp(1), tmp_path / "m.onnx")
        with pytest.raises(InvalidArgumentError, match="is not packed"):
            unpack(source, tmp_path / "o.onnx", UnpackOptions())

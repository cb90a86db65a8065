"""Whole models: 42 exports, plain and packed, in both directions, with payloads byte for byte the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import ALL, ARCHITECTURES, build
from onnx import helper, numpy_helper
from support import GRAPH, check_both_ways, one_node, sample_variables, variables_of, write_model

import nnc_codec
import nnc_nnef
from nnc_codec.errors import CorruptError, InvalidArgumentError, NNRError
from nnc_codec.files import OutputExistsError
from nnc_codec.formats import ConvertOptions, PackOptions, RunOptions
from nnc_codec.params import Block, EncodeParams
from nnc_nnef.archive_writer import from_bytes, write_archive
from nnc_nnef.convert import ConvertSettings, to_nnef, to_onnx, write_nnef
from nnc_nnef.convert.check import random_inputs
from nnc_nnef.convert.trace import Placeholders
from nnc_nnef.errors import CarryError, ConversionError, MismatchError
from nnc_nnef.format import NnefFormat
from nnc_nnef.layout import Payload, packed_members
from nnc_nnef.units import Unit, cut

pytest.importorskip("onnxruntime")
TRACT_READS = {"mlp", "cnn", "block", "gru", "lstm_h", "lstm_y", "squeezenet", "mobilenetv2", "mobilenetv3",
    "shufflenet",
               "resnet18", "efficientnet"}  # fmt: skip


@pytest.mark.parametrize(("name", "opset"), ALL, ids=[f"{name}-{opset}" for name, opset in ALL])
def test_exports_convert_both_ways(name: str, opset: int, tmp_path: Path) -> None:
    model = build(name, opset)
    graph = check_both_ways(model)
    if name not in TRACT_READS:
        return
    try:
        import tract
    except ImportError:
        return
    path = write_model(tmp_path / "m.nnef.tgz", variables_of(graph), text=graph.text)
    inputs = random_inputs(graph.inputs, model)
    runnable = tract.nnef().load(str(path)).into_runnable()
    results = runnable.run([inputs[port.onnx] for port in graph.inputs])
    from nnc_nnef.convert.check import run_onnx

    expected = run_onnx(model.SerializeToString(), inputs)
    for result, reference in zip(results, expected, strict=True):
        assert np.abs(result.to_numpy() - reference).max() <= 1e-4 * max(np.abs(reference).max(), 1e-6)


def payload_bytes(bitstream: bytes) -> bytes:
    """The arithmetic codeword alone."""
    (unit,) = [u for u in nnc_codec.open(bitstream).units if u.data_unit is not None]
    return bitstream[unit.payload_offset : unit.end]


def onnx_payloads(path: Path) -> dict[str, bytes]:
    """The bitstream of every coded tensor, of members of groups too."""
    from nnc_onnx.graph.usage import Usage
    from nnc_onnx.model_io import load
    from nnc_onnx.payloads import packed_tensors, read_payload

    model = load(path)
    return {item.decode.output: bytes(read_payload(item, model)) for item in packed_tensors(Usage(model.proto.graph))}


def packed_onnx(folder: Path, model: onnx.ModelProto, **options: object) -> Path:
    import nnc_onnx

    onnx.save(model, folder / "m.onnx")
    nnc_onnx.pack(folder / "m.onnx", folder / "m.nnc.onnx", PackOptions(min_elements=64, **options))
    return folder / "m.nnc.onnx"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_payloads_are_carried_untouched_both_ways(name: str, tmp_path: Path) -> None:
    source = packed_onnx(tmp_path, build(name, 17))
    there = to_nnef(source, tmp_path / "m.nnc.nnef.tar")
    back = to_onnx(tmp_path / "m.nnc.nnef.tar", tmp_path / "b.nnc.onnx")
    first, last = onnx_payloads(source), onnx_payloads(tmp_path / "b.nnc.onnx")
    carried = {t.name: t.target for t in there.tensors if t.action in ("carried", "renamed")}
    returned = {t.name: t.target for t in back.tensors if t.action in ("carried", "renamed")}
    assert carried.keys() == first.keys() and len(first) >= 2
    # A graph wants vectors with ones before or behind as constants, because a decode node does not reshape.
    lost = set(carried.values()) - set(returned)
    assert all({t.action for t in back.tensors if t.name == label} == {"plain"} for label in lost)
    assert len(returned) >= 2
    with nnc_nnef.open(tmp_path / "m.nnc.nnef.tar") as model:
        for before, label in carried.items():
            assert payload_bytes(first[before]) == payload_bytes(model[label].unit().bitstream)
            if label in returned:
                assert payload_bytes(first[before]) == payload_bytes(last[returned[label]])
    assert all(comparison.error for comparison in (*there.comparison, *back.comparison))
    assert nnc_nnef.verify(tmp_path / "m.nnc.nnef.tar").ok


def test_conversion_is_deterministic(tmp_path: Path) -> None:
    source = packed_onnx(tmp_path, build("mlp", 17))
    for name in ("a.nnef.tar", "b.nnef.tar"):
        to_nnef(source, tmp_path / name)
    assert (tmp_path / "a.nnef.tar").read_bytes() == (tmp_path / "b.nnef.tar").read_bytes()


def test_packed_nnef_runs(tmp_path: Path) -> None:
    to_nnef(packed_onnx(tmp_path, build("cnn", 17)), tmp_path / "m.nnef.tar")
    nnc_nnef.unpack(tmp_path / "m.nnef.tar", tmp_path / "u.nnef.tgz")
    report = nnc_nnef.run(tmp_path / "m.nnef.tar", RunOptions(against=tmp_path / "u.nnef.tgz", runs=1, mode="lazy"))
    assert report.format == "nnef" and report.comparison[0].shape == (1, 10)
    assert report.comparison[0].error is not None and report.comparison[0].error.rel_rms < 1e-5


def test_a_wrong_conversion_is_refused_and_nothing_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(build("mlp", 17), tmp_path / "m.onnx")
    convert = write_nnef.convert_graph

    def wrong(*args: object, **kwargs: object) -> object:
        graph = convert(*args, **kwargs)
        import msgspec

        return msgspec.structs.replace(graph, text=graph.text.replace("tanh(", "sigmoid("))

    monkeypatch.setattr(write_nnef, "convert_graph", wrong)
    with pytest.raises(MismatchError) as caught:
        to_nnef(tmp_path / "m.onnx", tmp_path / "m.nnef")
    assert caught.value.exit_code == 4
    assert not (tmp_path / "m.nnef").exists()


def test_outputs_are_not_overwritten(tmp_path: Path) -> None:
    onnx.save(build("mlp", 17), tmp_path / "m.onnx")
    to_nnef(tmp_path / "m.onnx", tmp_path / "m.nnef.tgz", ConvertSettings(check=False))
    with pytest.raises(OutputExistsError):
        to_nnef(tmp_path / "m.onnx", tmp_path / "m.nnef.tgz")
    with pytest.raises((OutputExistsError, InvalidArgumentError)):
        to_onnx(tmp_path / "m.nnef.tgz", tmp_path / "m.onnx")


def test_plain_model_through_the_format(tmp_path: Path) -> None:
    source = write_model(tmp_path / "m.nnef.tgz")
    form = NnefFormat()
    report = form.convert(source, tmp_path / "m.onnx", "onnx", ConvertOptions())
    assert {t.action for t in report.tensors} == {"plain"} and report.comparison
    names = {proto.name for proto in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert names >= {"fc1/weight", "fc1/bias", "fc2.weight"}
    with pytest.raises(InvalidArgumentError):
        form.convert(source, tmp_path / "m.tf", "tensorflow", ConvertOptions())


# The cases in which a payload cannot be carried.


def archive_of(path: Path, bitstream: bytes, shape: tuple[int, ...], text: str, label: str = "w") -> Path:
    stream = nnc_codec.open(bitstream)
    members = [from_bytes("graph.nnef", text.encode()), from_bytes("weights.nnr", bitstream)]
    assert label in stream and shape
    write_archive(path, members)
    return path


def one_variable(shape: tuple[int, ...], x: tuple[int, ...] = (2, 80)) -> str:
    return (
        f"version 1.0;\ngraph g(x) -> (y) {{ x = external<scalar>(shape = {list(x)});"
        f" w = variable<scalar>(shape = {list(shape)}, label = 'w'); y = matmul(x, w); }}\n"
    )


def test_units_of_several_tensors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {"w": rng.standard_normal((80, 70)).astype(np.float32), "b": rng.standard_normal(80).astype(np.float32)}
    bitstream = nnc_codec.encode(tensors, EncodeParams(blocks=(Block(weight="w", bias="b"),), topology=False))
    path = archive_of(tmp_path / "m.nnef.tar", bitstream, (80, 70), one_variable((80, 70)))
    with pytest.raises(CarryError) as caught:
        to_onnx(path, tmp_path / "m.onnx")
    assert caught.value.reason == "several-tensors" and caught.value.tensor == "w"
    assert not (tmp_path / "m.onnx").exists()
    for policy, action, coded in (("raw", "raw", 0), ("reencode", "reencoded", 1)):
        report = to_onnx(path, tmp_path / f"{policy}.onnx", ConvertSettings(payloads=policy))
        assert [(t.name, t.action, t.reason) for t in report.tensors] == [("w", action, "several-tensors")]
        assert len(onnx_payloads(tmp_path / f"{policy}.onnx")) == coded


def test_types_nnef_lacks(tmp_path: Path) -> None:
    import ml_dtypes

    weight = np.random.default_rng(0).standard_normal((80, 70)).astype(ml_dtypes.bfloat16)
    nodes = [helper.make_node("Cast", ["w"], ["f"], to=1), helper.make_node("MatMul", ["x", "f"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, (2, 80))], [helper.make_tensor_value_info("y", 1, (2,
            70))],
        [helper.make_tensor("w", 16, weight.shape, weight.tobytes(), raw=True)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    source = packed_onnx(tmp_path, model)
    with pytest.raises(CarryError) as caught:
        to_nnef(source, tmp_path / "m.nnef.tar")
    assert caught.value.reason == "type"
    for policy, action in (("raw", "raw"), ("reencode", "reencoded")):
        report = to_nnef(source, tmp_path / f"{policy}.nnef.tar", ConvertSettings(payloads=policy))
        assert [(t.name, t.action, t.reason) for t in report.tensors] == [("w", action, "type")]
        with nnc_nnef.open(tmp_path / f"{policy}.nnef.tar") as opened:
            assert opened["w"].coded == (policy == "reencode")


@pytest.mark.parametrize("change", ["transpose", "copy", "astype", "shrink", "read"])
def test_a_conversion_that_touches_a_weight_is_noticed(change: str) -> None:
    placeholders = Placeholders()
    array = placeholders.make("w", (3, 4), np.float32)
    traced = placeholders.find(array.reshape(1, 12))
    assert traced is not None and (traced.name, traced.change, traced.shape) == ("w", "same", (1, 12))
    if change == "transpose":
        found = placeholders.find(array.T)
        assert found is not None and found.change == "transposed"
    elif change == "shrink":
        base = array.view(np.ndarray)[:2]
        found = placeholders.find(base)
        assert found is not None and found.change == "resized"
    elif change in ("copy", "astype"):
        with pytest.raises(CarryError):
            array.copy() if change == "copy" else array.astype(np.float64)
        assert placeholders.find(np.array(array.view(np.ndarray))) is None
    else:
        for read in (lambda: array[0], lambda: array + 1, array.tolist, lambda: np.exp(array), lambda: bool(array[0])):
            with pytest.raises(CarryError) as caught:
                read()
            assert caught.value.reason == "value-read"


def test_different_parameter_sets_stay_in_different_bitstreams() -> None:
    values = sample_variables()
    payloads = {}
    for density, label in ((2, "fc1/weight"), (3, "fc2.weight")):
        params = EncodeParams(qp=-20, qp_density=density, topology=False)
        unit = cut(nnc_codec.encode({label: values[label]}, params))
        payloads[label] = Payload(unit=unit, shape=values[label].shape, item=(0, 32))
    names = [member.name for member in packed_members(GRAPH.encode(), None, payloads, [])]
    assert names == ["graph.nnef", "weights.nnr.json", "weights.nnr", "weights.1.nnr"]


def test_labels_that_differ_in_case_only_are_told_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((60, 60)).astype(np.float32) for name in ("W", "w")}
    nodes = [helper.make_node("MatMul", ["x", "W"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, (1, 60))], [helper.make_tensor_value_info("y", 1, (1,
            60))],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    source = packed_onnx(tmp_path, made, group_below=0)
    report = to_nnef(source, tmp_path / "m.nnef.tar")
    assert {t.name: (t.target, t.action) for t in report.tensors} == {"W": ("W", "carried"), "w": ("w_2", "renamed")}


def test_damaged_payloads_are_not_carried(tmp_path: Path) -> None:
    source = packed_onnx(tmp_path, build("mlp", 17))
    model = onnx.load(source)
    proto = next(p for p in model.graph.initializer if p.name.endswith(".nnr"))
    proto.raw_data = proto.raw_data[:-1] + bytes([proto.raw_data[-1] ^ 255])
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(CorruptError):
        to_nnef(tmp_path / "bad.onnx", tmp_path / "m.nnef.tar")


def test_sparse_initializers_are_refused(tmp_path: Path) -> None:
    model = one_node("MatMul", [("x", (2, 4), 1), ("w", np.eye(4, dtype=np.float32))])
    dense = model.graph.initializer.pop()
    sparse = model.graph.sparse_initializer.add(dims=[4, 4])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), dense.name))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.asarray([5], np.int64)))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match="sparse"):
        to_nnef(tmp_path / "m.onnx", tmp_path / "m.nnef")


def test_units_that_depend_on_others_are_refused() -> None:
    values = sample_variables()
    bitstream = nnc_codec.encode({k: v for k, v in values.items() if v.shape[0] > 1}, EncodeParams(topology=False))
    with pytest.raises(NNRError):
        cut(bitstream)
    assert Unit(b"a", b"b").bitstream == b"ab"


def test_units_under_layer_parameters_are_read_but_not_carried(tmp_path: Path) -> None:
    """A unit behind a layer parameter set decodes with its bitstream; on its own it would change its meaning."""
    values = sample_variables()["fc2.weight"]
    bitstream = nnc_codec.encode({"w": values}, EncodeParams(qp=-20, topology=False))
    stream = nnc_codec.open(bitstream)
    parts = [stream.unit_bytes(unit.index) for unit in stream.units]
    with pytest.raises(NNRError):
        cut(b"".join([*parts, parts[-1]]))
    text = one_variable((64, 96), (2, 64))
    path = archive_of(tmp_path / "m.nnef.tar", bitstream, (64, 96), text)
    report = to_onnx(path, tmp_path / "m.onnx")
    assert report.tensors[0].action == "carried"


def test_weights_that_get_lost_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from nnc_nnef.convert import onnx_to_nnef

    translate = onnx_to_nnef._translate

    def copying(source: object, skeleton: object) -> object:
        graph = translate(source, skeleton)
        for op in graph.operations:
            if op.type == "variable":
                op.output.data = np.zeros(op.output.shape, np.float32)
        return graph

    monkeypatch.setattr(onnx_to_nnef, "_translate", copying)
    with pytest.raises(CarryError) as caught:
        onnx_to_nnef.convert_graph(build("mlp", 17))
    assert caught.value.reason == "dropped"


def test_replaceable_initializers_become_constants_and_are_reported() -> None:
    model = one_node("MatMul", [("x", (2, 40), 1), ("w", np.ones((40, 40), np.float32))])
    model.graph.input.append(helper.make_tensor_value_info("w", 1, (40, 40)))
    graph = check_both_ways(model)
    assert any("default value" in note for note in graph.notes)


def test_archives_of_stock_nnef_tools_convert(tmp_path: Path) -> None:
    """Recursive fragments included: nnef-tools writes an LSTM as a loop that calls itself."""
    from nnef_tools.conversion.onnx_to_nnef import Converter
    from nnef_tools.io.nnef import Writer
    from nnef_tools.io.onnx import Reader

    onnx.save(build("lstm_h", 18), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    (node,) = [n for n in model.graph.node if n.op_type == "LSTM"]
    node.output[0] = ""
    onnx.save(model, tmp_path / "m.onnx")
    try:
        graph = Converter()(Reader()(str(tmp_path / "m.onnx")))
    except Exception:
        pytest.skip("this nnef-tools cannot convert the model")
    definitions, dependencies = Converter.defined_operations(), Converter.defined_operation_dependencies()
    Writer(fragments=definitions, fragment_dependencies=dependencies)(graph, str(tmp_path / "m.nnef"))
    report = to_onnx(tmp_path / "m.nnef", tmp_path / "b.onnx")
    assert report.comparison


def test_external_data_are_found(tmp_path: Path) -> None:
    onnx.save_model(
        build("block", 18), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=1000
    )
    report = to_nnef(tmp_path / "m.onnx", tmp_path / "m.nnef.tgz")
    assert report.comparison


def test_models_the_interpreter_cannot_check_are_refused_unless_told(tmp_path: Path) -> None:
    text = (
        "version 1.0;\ngraph g(x) -> (y) { x = external<scalar>(shape = [1, 2, 4, 4]);"
        " y = multilinear_upsample(x, factor = [3, 3], method = 'aligned'); }\n"
    )
    source = write_model(tmp_path / "m.nnef.tgz", {}, text=text)
    with pytest.raises(NNRError, match="--no-check"):
        to_onnx(source, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
    report = to_onnx(source, tmp_path / "m.onnx", ConvertSettings(check=False))
    assert not report.comparison

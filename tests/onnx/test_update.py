"""Updates lead from one ONNX model to another, and only from the right one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import nnc_codec
from nnc_codec import InvalidArgumentError, NNRError, UpdateState
from nnc_codec.abilities import ApplyOptions, DiffOptions
from nnc_codec.files import FileAccessError, OutputExistsError
from nnc_codec.formats import PackOptions
from nnc_codec.surgery import model_parameter_set, with_base_model_id
from nnc_codec.updates import NotAnUpdateError, UpdateChainError, WrongBaseError, open_update
from nnc_onnx import schemas
from nnc_onnx.coding import measure
from nnc_onnx.nnr.packing import pack_nnr
from nnc_onnx.nnr.unpacking import unpack_nnr
from nnc_onnx.packing import pack
from nnc_onnx.unpacking import unpack
from nnc_onnx.update.structure import TopologyChangedError
from nnc_onnx.update.updates import apply, diff

FORCE = ApplyOptions(force=True)


def save(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def all_tensors(graph: onnx.GraphProto) -> list[TensorProto]:
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                found.append(attribute.t)
            elif attribute.type == onnx.AttributeProto.GRAPH:
                found += all_tensors(attribute.g)
    return found


def arrays(model: ModelProto) -> list[np.ndarray]:
    return [numpy_helper.to_array(tensor) for tensor in all_tensors(model.graph)]


def tuned(model: ModelProto, *, seed: int = 0, share: float = 0.1, size: float = 0.05) -> ModelProto:
    """The model with some weights moved a little; integers move by one. Shape-like tensors stay."""
    generator = np.random.default_rng(seed)
    made = ModelProto()
    made.CopyFrom(model)
    for tensor in all_tensors(made.graph):
        values = numpy_helper.to_array(tensor)
        if values.size < 64 or values.dtype == bool:
            continue
        moved = generator.random(values.shape) < share
        if values.dtype.kind in "iu":
            changed = values + moved.astype(values.dtype)
        else:
            step = generator.standard_normal(values.shape) * size * float(np.nanstd(values.astype(np.float64)))
            changed = np.where(moved, values.astype(np.float64) + step, values.astype(np.float64)).astype(values.dtype)
        tensor.ClearField("float_data")
        tensor.raw_data = changed.tobytes()
    return made


def pair(model: ModelProto, folder: Path, **options: object) -> tuple[Path, Path]:
    return save(model, folder / "base.onnx"), save(tuned(model, **options), folder / "new.onnx")


def relative(original: np.ndarray, result: np.ndarray) -> float:
    return measure(original.reshape(-1), result.reshape(-1)).rel_rms if original.size else 0.0


@pytest.mark.parametrize("name", graphs.ALL)
def test_the_result_is_as_close_as_a_packed_model(name: str, tmp_path: Path) -> None:
    base, new = pair(graphs.ALL[name](), tmp_path)
    report = diff(base, new, tmp_path / "u.nnr")
    applied = apply(base, [tmp_path / "u.nnr"], tmp_path / "got.onnx")
    assert applied.model_id == report.result_model_id
    wanted, got, before = onnx.load(new), onnx.load(tmp_path / "got.onnx"), onnx.load(base)
    direct = pack(new, tmp_path / "direct.onnx")
    worst_direct = max((tensor.error.rel_rms for tensor in direct.coded if tensor.error), default=0.0)
    for old, fresh, result in zip(arrays(before), arrays(wanted), arrays(got), strict=True):
        assert result.dtype == fresh.dtype and result.shape == fresh.shape
        if fresh.dtype.kind in "iu":
            assert np.array_equal(result, fresh)
        elif np.array_equal(old, fresh):
            assert result.tobytes() == old.tobytes()
        else:
            assert relative(fresh, result) <= max(worst_direct, 1e-3)
            assert relative(fresh, result) < 0.6 * relative(fresh, old)


@pytest.mark.parametrize("kind", ["packed", "nnr"])
def test_coded_models_count_with_their_decoded_values(kind: str, tmp_path: Path) -> None:
    base, _ = pair(graphs.mlp(), tmp_path)
    if kind == "packed":
        coded = tmp_path / "base.nnc.onnx"
        pack(base, coded)
        unpack(coded, tmp_path / "plain.onnx")
    else:
        coded = tmp_path / "base.nnr"
        pack_nnr(base, coded)
        unpack_nnr(coded, tmp_path / "plain.onnx")
    new = save(tuned(onnx.load(tmp_path / "plain.onnx")), tmp_path / "tuned.onnx")
    report = diff(coded, new, tmp_path / "u.nnr")
    from_plain = diff(tmp_path / "plain.onnx", new, tmp_path / "v.nnr")
    assert (tmp_path / "u.nnr").read_bytes() == (tmp_path / "v.nnr").read_bytes()
    assert report.base_model_id == from_plain.base_model_id
    apply(coded, [tmp_path / "u.nnr"], tmp_path / "one.onnx")
    apply(tmp_path / "plain.onnx", [tmp_path / "u.nnr"], tmp_path / "other.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()
    with pytest.raises(WrongBaseError):
        apply(base, [tmp_path / "u.nnr"], tmp_path / "no.onnx")


def test_the_result_is_base_plus_decoded_differences(tmp_path: Path) -> None:
    base, new = pair(graphs.mlp(), tmp_path)
    diff(base, new, tmp_path / "u.nnr")
    apply(base, [tmp_path / "u.nnr"], tmp_path / "got.onnx")
    differences = nnc_codec.decode(tmp_path / "u.nnr", base=UpdateState(history=True))
    got = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / "got.onnx").graph.initializer}
    for tensor in onnx.load(base).graph.initializer:
        assert np.array_equal(got[tensor.name], numpy_helper.to_array(tensor) + differences[tensor.name])


def test_unchanged_tensors_cost_nothing(tmp_path: Path) -> None:
    model = graphs.mlp(8)
    base = save(model, tmp_path / "base.onnx")
    moved = numpy_helper.to_array(model.graph.initializer[0]).copy()
    moved[3, 4] += 0.5
    model.graph.initializer[0].raw_data = moved.tobytes()
    report = diff(base, save(model, tmp_path / "new.onnx"), tmp_path / "u.nnr")
    assert [tensor.name for tensor in report.changed] == ["w0"]
    assert list(nnc_codec.open(tmp_path / "u.nnr")) == ["w0"]
    assert report.update_bytes == (tmp_path / "u.nnr").stat().st_size < 400
    same = diff(base, base, tmp_path / "same.nnr")
    assert not same.changed and same.update_bytes < 300 and same.result_model_id == same.base_model_id
    apply(base, [tmp_path / "same.nnr"], tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx").read_bytes() == base.read_bytes()


def test_storage_and_order_of_tensors_do_not_matter(tmp_path: Path) -> None:
    base, new = pair(graphs.mlp(), tmp_path)
    model = onnx.load(base)
    first = model.graph.initializer[0]
    values = numpy_helper.to_array(first)
    first.ClearField("raw_data")
    first.float_data.extend(values.reshape(-1).tolist())
    onnx.save(model, tmp_path / "other.onnx", save_as_external_data=True, size_threshold=9000)
    assert diff(base, new, tmp_path / "u.nnr").base_model_id == (
        diff(tmp_path / "other.onnx", new, tmp_path / "v.nnr").base_model_id
    )
    apply(tmp_path / "other.onnx", [tmp_path / "u.nnr"], tmp_path / "got.onnx")
    apply(base, [tmp_path / "u.nnr"], tmp_path / "expected.onnx")
    left, right = onnx.load(tmp_path / "got.onnx"), onnx.load(tmp_path / "expected.onnx")
    assert [a.tobytes() for a in arrays(left)] == [a.tobytes() for a in arrays(right)]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_floats_stay_in_their_type(dtype: str, tmp_path: Path) -> None:
    base, new = pair(graphs.typed(dtype), tmp_path, share=1.0)
    report = diff(base, new, tmp_path / "u.nnr")
    assert report.tensors[0].dtype == dtype and report.tensors[0].change == "quantized"
    apply(base, [tmp_path / "u.nnr"], tmp_path / "got.onnx")
    (wanted,), (got,) = arrays(onnx.load(new)), arrays(onnx.load(tmp_path / "got.onnx"))
    assert got.dtype == wanted.dtype and relative(wanted, got) < 0.03


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_integers_are_exact_over_their_whole_range(dtype: str, tmp_path: Path) -> None:
    info = np.iinfo(dtype)
    generator = np.random.default_rng(2)
    base_values, new_values = (
        generator.integers(info.min, info.max, (40, 40), dtype=dtype, endpoint=True) for _ in range(2)
    )
    new_values[:30] = base_values[:30]

    def model(values: np.ndarray) -> ModelProto:
        table = graphs.tensor("table", values)
        onnx_type = table.data_type
        return graphs.model(
            [helper.make_node("Gather", ["table", "ids"], ["y"])],
            [graphs.value("ids", graphs.INT64, [2])],
            [graphs.value("y", onnx_type, [2, 40])],
            [table],
        )

    base, new = save(model(base_values), tmp_path / "b.onnx"), save(model(new_values), tmp_path / "n.onnx")
    report = diff(base, new, tmp_path / "u.nnr")
    assert report.tensors[0].change == ("carried" if info.bits == 64 else "exact")
    apply(base, [tmp_path / "u.nnr"], tmp_path / "got.onnx")
    assert np.array_equal(arrays(onnx.load(tmp_path / "got.onnx"))[0], new_values)


def test_what_no_data_unit_can_hold_travels_whole(tmp_path: Path) -> None:
    base = save(graphs.not_for_coding(), tmp_path / "base.onnx")
    model = graphs.not_for_coding()
    by_name = {tensor.name: tensor for tensor in model.graph.initializer}
    by_name["nan"].raw_data = graphs.weights(64, 64).tobytes()
    by_name["scalar"].raw_data = np.float32(1e-30).tobytes()
    by_name["mask"].raw_data = np.zeros((64, 64), bool).tobytes()
    by_name["bias"].raw_data = (graphs.weights(64) + 1).tobytes()
    report = diff(base, save(model, tmp_path / "new.onnx"), tmp_path / "u.nnr")
    changes = {tensor.name: tensor.change for tensor in report.changed}
    assert changes == {"nan": "carried", "scalar": "carried", "bias": "quantized"}
    assert len(report.notes) == 2 and report.topology_bytes > 0
    apply(base, [tmp_path / "u.nnr"], tmp_path / "got.onnx")
    got = {tensor.name: tensor.raw_data for tensor in onnx.load(tmp_path / "got.onnx").graph.initializer}
    for name in ("nan", "scalar", "mask", "noise", "empty", "unread"):
        assert got[name] == by_name[name].raw_data, name


def opaque_model(names: list[str], flags: list[bool], low: bytes, *, raw: bool) -> ModelProto:
    """Tensors of types that cannot be coded, beside a weight."""
    strings = TensorProto(name="names", data_type=TensorProto.STRING, dims=[len(names)])
    strings.string_data.extend(name.encode() for name in names)
    mask = TensorProto(name="mask", data_type=TensorProto.BOOL, dims=[len(flags)])
    eighths = TensorProto(name="eighths", data_type=TensorProto.FLOAT8E4M3FN, dims=[len(low)])
    if raw:
        mask.raw_data, eighths.raw_data = bytes(flags), low
    else:
        mask.int32_data.extend(map(int, flags))
        eighths.int32_data.extend(low)
    return graphs.model(
        [
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            *(helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("names", "mask", "eighths")),
        ],
        [graphs.value("x", shape=[2, 64])],
        [graphs.value("y", shape=[2, 64])],
        [graphs.tensor("w", graphs.weights(64, 64)), strings, mask, eighths],
    )


def test_tensors_of_types_that_cannot_be_coded(tmp_path: Path) -> None:
    first = (["a", "bc"], [True, False], b"\x38\xb8")
    base = save(opaque_model(*first, raw=False), tmp_path / "base.onnx")
    again = save(opaque_model(*first, raw=True), tmp_path / "again.onnx")
    ids = {diff(path, path, tmp_path / f"{path.stem}.nnr").base_model_id for path in (base, again)}
    assert len(ids) == 1
    others = [(["ab", "c"], *first[1:]), (first[0], [False, True], first[2]), (*first[:2], b"\x38\xb9")]
    for number, other in enumerate(others):
        new = save(opaque_model(*other, raw=True), tmp_path / f"{number}.onnx")
        report = diff(base, new, tmp_path / f"{number}.nnr")
        assert report.result_model_id not in ids and report.topology_bytes > 0
        ids.add(report.result_model_id)
        apply(base, [tmp_path / f"{number}.nnr"], tmp_path / f"got{number}.onnx")
        assert (tmp_path / f"got{number}.onnx").read_bytes() == new.read_bytes()
    assert len(ids) == 4


def test_quantization_parameters_are_exact(tmp_path: Path) -> None:
    base = save(graphs.quantized(), tmp_path / "base.onnx")
    model = graphs.quantized()
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "scale")
    scale.raw_data = (np.full(64, 0.01, np.float32) * np.linspace(0.9, 1.1, 64, dtype=np.float32)).tobytes()
    report = diff(base, save(model, tmp_path / "new.onnx"), tmp_path / "u.nnr")
    assert [(tensor.change, tensor.method) for tensor in report.changed] == [("exact", "raw")]
    apply(base, [tmp_path / "u.nnr"], tmp_path / "got.onnx")
    assert (tmp_path / "got.onnx").read_bytes() == (tmp_path / "new.onnx").read_bytes()


def test_what_is_no_tensor_comes_along(tmp_path: Path) -> None:
    base = save(graphs.lstm(), tmp_path / "base.onnx")
    model = tuned(graphs.lstm())
    model.producer_name = "somebody else"
    model.metadata_props.add(key="epoch", value="7")
    model.graph.node[0].doc_string = "first layer"
    model.graph.node[0].attribute.append(helper.make_attribute("clip", 3.0))
    report = diff(base, save(model, tmp_path / "new.onnx"), tmp_path / "u.nnr")
    assert report.topology_bytes > 0
    apply(base, [tmp_path / "u.nnr"], tmp_path / "got.onnx")
    got = onnx.load(tmp_path / "got.onnx")
    for proto in (got, model):
        for tensor in proto.graph.initializer:
            tensor.raw_data = b""
    assert got == model


def add_tensor(model: ModelProto) -> None:
    model.graph.initializer.append(graphs.tensor("extra", graphs.weights(64, 64)))


def drop_tensor(model: ModelProto) -> None:
    del model.graph.initializer[-1]


def reshape(model: ModelProto) -> None:
    model.graph.initializer[1].dims[:] = [1, 64]


def retype(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(graphs.tensor(tensor.name, numpy_helper.to_array(tensor).astype(np.float16)))


def other_operator(model: ModelProto) -> None:
    model.graph.node[2].op_type = "Tanh"


def other_connection(model: ModelProto) -> None:
    model.graph.node[3].input[0] = "a0"


def another_node(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["r2"], ["more"]))


def other_output(model: ModelProto) -> None:
    model.graph.output[0].name = "a2"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (add_tensor, "adds 1 tensors to the base: 'extra'"),
        (drop_tensor, "lacks 1 tensors of the base: 'b2'"),
        (reshape, r"float32\[64\] in the base, float32\[1, 64\]"),
        (retype, "float16"),
        (other_operator, "node 2 of the graph is Tanh"),
        (other_connection, "node 3 of the graph is"),
        (another_node, "10 nodes, in the base 9"),
        (other_output, "outputs of the graph"),
    ],
)
def test_another_network_is_refused_with_a_reason(
    change: Callable[[ModelProto], None], reason: str, tmp_path: Path
) -> None:
    base = save(graphs.mlp(), tmp_path / "base.onnx")
    model = graphs.mlp()
    change(model)
    with pytest.raises(TopologyChangedError, match=reason) as caught:
        diff(base, save(model, tmp_path / "new.onnx"), tmp_path / "u.nnr")
    assert caught.value.exit_code == 5 and caught.value.hint
    assert not (tmp_path / "u.nnr").exists()


def test_changes_inside_branches_are_seen(tmp_path: Path) -> None:
    base = save(graphs.branches(local_names=True), tmp_path / "base.onnx")
    model = graphs.branches(local_names=True)
    model.graph.node[0].attribute[0].g.node[1].op_type = "Sub"
    with pytest.raises(TopologyChangedError, match="_branch of node 0"):
        diff(base, save(model, tmp_path / "new.onnx"), tmp_path / "u.nnr")


def chain_of(folder: Path, count: int = 3, **options: object) -> tuple[Path, list[Path], list[Path]]:
    """A base, `count` models after it, and the updates that lead from one to the next."""
    model = graphs.mlp()
    base = save(model, folder / "base.onnx")
    models, updates = [], []
    for number in range(count):
        model = tuned(model, seed=number // 2)
        models.append(save(model, folder / f"new{number}.onnx"))
        updates.append(folder / f"u{number}.nnr")
        diff(base, models[-1], updates[-1], DiffOptions(after=tuple(updates[:-1]), **options))
    return base, models, updates


def test_chains_can_be_applied_at_once_or_step_by_step(tmp_path: Path) -> None:
    base, _, updates = chain_of(tmp_path, 4)
    assert any(
        unit.data_unit.temporal_context_modeling_flag
        for update in updates
        for unit in nnc_codec.open(update).units
        if unit.data_unit is not None
    )
    report = apply(base, updates, tmp_path / "all.onnx")
    assert [update.applied for update in report.updates] == [True] * 4
    current = base
    for index in range(4):
        target = tmp_path / f"step{index}.onnx"
        stepwise = apply(current, updates[: index + 1], target)
        assert [update.applied for update in stepwise.updates] == [False] * index + [True]
        current = target
    assert current.read_bytes() == (tmp_path / "all.onnx").read_bytes()
    assert stepwise.model_id == report.model_id


def test_a_diff_may_start_from_a_model_that_holds_the_updates(tmp_path: Path) -> None:
    base, models, updates = chain_of(tmp_path, 2)
    apply(base, updates[:1], tmp_path / "held.onnx")
    report = diff(tmp_path / "held.onnx", models[1], tmp_path / "same.nnr", DiffOptions(after=(updates[0],)))
    assert (tmp_path / "same.nnr").read_bytes() == updates[1].read_bytes()
    assert report.base_model_id == open_update(updates[0]).note.result


def test_without_context_every_update_stands_alone(tmp_path: Path) -> None:
    base, _, updates = chain_of(tmp_path, 3, temporal_context=False, history=False)
    assert all(open_update(update).note.follows is None for update in updates)
    apply(base, updates, tmp_path / "all.onnx")
    apply(base, updates[:2], tmp_path / "two.onnx")
    apply(tmp_path / "two.onnx", updates[2:], tmp_path / "got.onnx")
    assert (tmp_path / "got.onnx").read_bytes() == (tmp_path / "all.onnx").read_bytes()


@pytest.mark.parametrize(("temporal", "history"), [(True, False), (False, True)])
def test_each_context_can_be_used_alone(temporal: bool, history: bool, tmp_path: Path) -> None:
    base, models, updates = chain_of(tmp_path, 3, temporal_context=temporal, history=history)
    report = apply(base, updates, tmp_path / "got.onnx")
    assert report.model_id == open_update(updates[-1]).note.result
    for wanted, got in zip(arrays(onnx.load(models[-1])), arrays(onnx.load(tmp_path / "got.onnx")), strict=True):
        assert relative(wanted, got) < 0.02


def test_chains_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    base, models, updates = chain_of(tmp_path, 3)
    target = tmp_path / "got.onnx"
    apply(base, updates[:1], tmp_path / "one.onnx")
    with pytest.raises(UpdateChainError, match="needs the update before"):
        apply(tmp_path / "one.onnx", updates[1:], target)
    with pytest.raises(UpdateChainError, match="does not follow"):
        apply(base, [updates[0], updates[2]], target)
    with pytest.raises(UpdateChainError):
        apply(base, [updates[0], updates[0]], target)
    with pytest.raises(WrongBaseError):
        apply(models[0], updates, target)
    with pytest.raises(WrongBaseError):
        diff(models[1], models[2], tmp_path / "u.nnr", DiffOptions(after=(updates[0],)))
    apply(base, updates, target)
    with pytest.raises(WrongBaseError, match="already"):
        apply(target, updates, tmp_path / "twice.onnx")
    assert WrongBaseError.exit_code == UpdateChainError.exit_code == 4


def test_bytes_do_not_depend_on_threads_or_runs(tmp_path: Path) -> None:
    base, new = pair(graphs.lstm(), tmp_path)
    diff(base, new, tmp_path / "one.nnr", DiffOptions(jobs=1))
    diff(base, new, tmp_path / "many.nnr", DiffOptions(jobs=5))
    assert (tmp_path / "one.nnr").read_bytes() == (tmp_path / "many.nnr").read_bytes()
    apply(base, [tmp_path / "one.nnr"], tmp_path / "one.onnx", ApplyOptions(jobs=1))
    apply(base, [tmp_path / "one.nnr"], tmp_path / "many.onnx", ApplyOptions(jobs=5))
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "many.onnx").read_bytes()


def test_the_elements_are_the_standards(tmp_path: Path) -> None:
    base, new = pair(graphs.mlp(), tmp_path)
    report = diff(base, new, tmp_path / "u.nnr")
    bitstream = nnc_codec.open(tmp_path / "u.nnr")
    parameters = model_parameter_set(bitstream)
    assert parameters is not None
    assert parameters.base_model_id == report.base_model_id and report.base_model_id.startswith("sha256:")
    assert parameters.mps_parent_signalling_enabled_flag == 1
    headers = {name: bitstream.units[tensor.unit].data_unit for name, tensor in bitstream.items()}
    order = [tensor.name for tensor in onnx.load(base).graph.initializer]
    for name, header in headers.items():
        assert header.parent_node_id_present_flag == header.node_id_present_flag == header.put_node_depth == 1
        assert header.parameter_id == order.index(name)


def test_other_bitstreams_are_no_updates(tmp_path: Path) -> None:
    base, _ = pair(graphs.mlp(), tmp_path)
    path = tmp_path / "u.nnr"
    differences = {"w0": np.ones((64, 64), np.float32)}
    update = nnc_codec.encode(differences, base=UpdateState())
    for data, match in (
        (nnc_codec.encode(differences), "not differences"),
        (update, "which model it updates"),
        (with_base_model_id(nnc_codec.open(update), "sha256:00"), "which model it makes"),
    ):
        path.write_bytes(data)
        with pytest.raises(NotAnUpdateError, match=match):
            apply(base, [path], tmp_path / "got.onnx")
    path.write_bytes(b"something else")
    with pytest.raises(NNRError):
        apply(base, [path], tmp_path / "got.onnx")
    for nowhere in (tmp_path, tmp_path / "missing.nnr"):
        with pytest.raises(FileAccessError):
            apply(base, [nowhere], tmp_path / "got.onnx")
    with pytest.raises(InvalidArgumentError, match="no update"):
        apply(base, [], tmp_path / "got.onnx")


@pytest.mark.parametrize("with_topology", [False, True])
def test_damage_is_found_or_harmless(with_topology: bool, tmp_path: Path) -> None:
    base, new = pair(graphs.mlp(1, 24), tmp_path)
    path = tmp_path / "u.nnr"
    if with_topology:
        model = onnx.load(new)
        model.metadata_props.add(key="epoch", value="7")
        save(model, new)
    diff(base, new, path)
    whole = path.read_bytes()
    apply(base, [path], tmp_path / "good.onnx")
    good = (tmp_path / "good.onnx").read_bytes()
    generator = np.random.default_rng(1)
    broken = [whole[:size] for size in range(0, len(whole), 41)]
    for _ in range(200):
        changed = bytearray(whole)
        changed[generator.integers(len(whole))] ^= 1 << generator.integers(8)
        broken.append(bytes(changed))
    refused = 0
    for data in broken:
        path.write_bytes(data)
        try:
            apply(base, [path], tmp_path / "got.onnx", FORCE)
        except NNRError as error:
            refused += 1
            assert error.exit_code in (1, 3, 4, 5)
            continue
        assert (tmp_path / "got.onnx").read_bytes() == good
    assert refused > 0.7 * len(broken)


def test_nothing_is_overwritten_or_left_half_done(tmp_path: Path) -> None:
    base, new = pair(graphs.mlp(), tmp_path)
    diff(base, new, tmp_path / "u.nnr")
    with pytest.raises(OutputExistsError):
        diff(base, new, tmp_path / "u.nnr")
    with pytest.raises(OutputExistsError):
        apply(base, [tmp_path / "u.nnr"], new)
    with pytest.raises(InvalidArgumentError, match="is the input"):
        apply(base, [tmp_path / "u.nnr"], base, FORCE)
    with pytest.raises(WrongBaseError):
        apply(new, [tmp_path / "u.nnr"], tmp_path / "got.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.onnx", "new.onnx", "u.nnr"]


def test_a_coarser_qp_makes_a_smaller_update(tmp_path: Path) -> None:
    base, new = pair(graphs.mlp(), tmp_path, share=1.0)
    usual = diff(base, new, tmp_path / "usual.nnr").update_bytes
    fine = diff(base, new, tmp_path / "fine.nnr", DiffOptions(qp=-60)).update_bytes
    nothing = diff(base, new, tmp_path / "nothing.nnr", DiffOptions(qp=0))
    assert nothing.update_bytes < usual < fine
    assert nothing.result_model_id == nothing.base_model_id


def test_reports_satisfy_their_schemas(tmp_path: Path) -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    from nnc_codec.report import to_json

    base, new = pair(graphs.mlp(), tmp_path)
    made = diff(base, new, tmp_path / "u.nnr")
    validator(schemas.schema("diff-report")).validate(json.loads(to_json(made)))
    applied = apply(base, [tmp_path / "u.nnr"], tmp_path / "got.onnx")
    validator(schemas.schema("apply-report")).validate(json.loads(to_json(applied)))
    note = nnc_codec.open(tmp_path / "u.nnr").units[2].payload
    validator(schemas.schema("update-note")).validate(json.loads(note.text))
    pack_nnr(base, tmp_path / "m.nnr", PackOptions())
    model = onnx.ModelProto()
    from nnc_codec.surgery import topologies

    (topology,) = topologies(nnc_codec.open(tmp_path / "m.nnr"))
    model.ParseFromString(topology.data)
    (record,) = [entry.value for entry in model.metadata_props if entry.key == "onnx_nnc.nnr"]
    validator(schemas.schema("nnr-record")).validate(json.loads(record))

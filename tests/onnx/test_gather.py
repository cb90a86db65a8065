"""Tables of which only rows are read: a packed model decodes the rows that it is asked for, not the table."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import nnc_codec
from nnc_codec import syntax
from nnc_codec.bitstream import Bitstream
from nnc_onnx.coding import LEAST_TABLE_ELEMENTS, table_scan_order
from nnc_onnx.errors import CarriageError
from nnc_onnx.graph.usage import Usage
from nnc_onnx.model_io import Model
from nnc_onnx.packing import pack_model
from nnc_onnx.runtime.gather import row_rewrite, row_tables
from nnc_onnx.runtime.library import reset_stats, stats
from nnc_onnx.runtime.loader import InferenceSession, register

CPU = ["CPUExecutionProvider"]
ROWS, COLUMNS = 1000, 48
CACHED = {"mode": "cache", "cache_bytes": 1 << 20, "resident": False}


def table(*shape: int, name: str = "T", dtype: str = "float32", scan_order: int = 1, **params: object) -> models.Packed:
    array = models.weights(*shape, dtype=dtype)
    return models.Packed(name, array, bits=models.payload(array, name, scan_order=scan_order, **params))


def lookup(
    item: models.Packed,
    indices: Sequence[int | str | None] | None = ("n",),
    index_type: int = TensorProto.INT64,
    **attributes: object,
) -> onnx.ModelProto:
    """``y = T[i]``."""
    element = helper.np_dtype_to_tensor_dtype(item.array.dtype)
    return models.model(
        [helper.make_node("Gather", ["T", "i"], ["y"], **attributes)],
        [helper.make_tensor_value_info("i", index_type, indices)],
        [helper.make_tensor_value_info("y", element, None)],
        [item],
    )


def session(made: onnx.ModelProto, threads: int = 1, **settings: object) -> InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return InferenceSession(made.SerializeToString(), options, providers=CPU, **(settings or {"mode": "lazy"}))


def indices_of(*shape: int, rows: int = ROWS, dtype: str = "int64", seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-rows, rows, shape).astype(dtype)


@pytest.fixture(autouse=True)
def no_other_sessions() -> None:
    gc.collect()
    reset_stats()


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8", "uint8", "int32", "int64"])
@pytest.mark.parametrize("settings", [{"mode": "lazy"}, CACHED])
def test_rows_are_those_of_the_decoded_table(dtype, settings):
    item = table(ROWS, COLUMNS, dtype=dtype)
    run = session(lookup(item, ("a", "b")), **settings)
    for seed in range(3):
        i = indices_of(7, 5, seed=seed)
        output = run.run(None, {"i": i})[0]
        assert output.dtype == item.array.dtype
        assert np.array_equal(output, item.values[i])
    assert stats().decodes == 0
    assert stats().row_hits + stats().row_misses == 3 * 35


@pytest.mark.parametrize("shape", [(), (1,), (0,), (9,), (3, 0, 2), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("settings", [{"mode": "lazy"}, CACHED])
def test_indices_of_any_rank_and_type(shape, dtype, settings):
    item = table(ROWS, COLUMNS)
    index_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    run = session(lookup(item, [None] * len(shape), index_type), **settings)
    i = indices_of(*shape, dtype=dtype)
    output = run.run(None, {"i": i})[0]
    assert output.shape == (*shape, COLUMNS)
    assert np.array_equal(output, item.values[i])


@pytest.mark.parametrize("shape", [(ROWS, 6, 8), (ROWS, 2, 3, 4, 2), (1003, 31)])
@pytest.mark.parametrize("scan_order", [1, 2, 3, 4])
def test_tables_of_any_shape(shape, scan_order):
    item = table(*shape, scan_order=scan_order)
    i = np.array([0, shape[0] - 1, -1, 7, 8, 7, 500])
    assert np.array_equal(session(lookup(item)).run(None, {"i": i})[0], item.values[i])
    assert stats().row_misses == len(i)


@pytest.mark.parametrize("params", [{"method": "uniform"}, {"method": "codebook", "qp": -12}, {"method": "raw"}])
def test_every_method(params):
    item = table(ROWS, COLUMNS, **params)
    i = indices_of(50)
    assert np.array_equal(session(lookup(item)).run(None, {"i": i})[0], item.values[i])


@pytest.mark.parametrize("index", [ROWS, -ROWS - 1, 2**62, -(2**63)])
def test_index_out_of_range_is_the_error_of_gather(index):
    made = lookup(table(ROWS, COLUMNS))
    messages = []
    for settings in ({"mode": "lazy"}, CACHED, {"mode": "eager"}):
        run = session(made, **settings)
        with pytest.raises(Exception, match="out of data bounds") as caught:
            run.run(None, {"i": np.array([0, index])})
        messages.append((type(caught.value), str(caught.value).partition("Status Message: ")[2]))
        assert run.run(None, {"i": np.array([3])})[0].shape == (1, COLUMNS)
    assert len(set(messages)) == 1


def test_rows_asked_for_again_are_not_decoded_again():
    item = table(ROWS, COLUMNS)
    run = session(lookup(item), **CACHED)
    i = np.arange(0, 400, 7)
    for _ in range(5):
        assert np.array_equal(run.run(None, {"i": i})[0], item.values[i])
    assert (stats().row_misses, stats().row_hits) == (len(i), 4 * len(i))


@pytest.mark.parametrize("recode", [True, False])
def test_few_rows_stay_without_a_budget(recode):
    """A 32nd of the table, in whole chunks of 16 KiB; what does not fit is made again."""
    item = table(20000, COLUMNS)
    run = session(lookup(item), mode="lazy", recode=recode)
    few, many = np.arange(400), indices_of(3000, rows=20000)
    for _ in range(3):
        assert np.array_equal(run.run(None, {"i": few})[0], item.values[few])
    assert (stats().row_misses, stats().row_hits) == (len(few), 2 * len(few))
    for _ in range(3):
        assert np.array_equal(run.run(None, {"i": many})[0], item.values[many])
    assert stats().row_hits < 2 * len(few) + len(many)
    assert stats().cache_peak_bytes == 0


@pytest.mark.parametrize("budget", [0, 1 << 10, 64 << 10, 300 << 10, 1 << 20])
def test_rows_stay_within_the_budget(budget):
    item = table(20000, COLUMNS)
    run = session(lookup(item), mode="cache", cache_bytes=budget, resident=False)
    for seed in range(30):
        i = indices_of(300, rows=20000, seed=seed)
        assert np.array_equal(run.run(None, {"i": i})[0], item.values[i])
    assert stats().cache_peak_bytes <= budget // 4
    assert (stats().cache_bytes > 0) == (budget >= 64 << 10)
    del run
    gc.collect()
    assert stats().cache_bytes == 0


def test_rows_and_tensors_share_the_budget():
    made, packed = models.chain(6, 128, COLUMNS)
    item = table(4000, COLUMNS)
    made.graph.node.insert(0, item.node)
    made.graph.initializer.append(item.initializer)
    made.graph.value_info.append(item.info)
    made.graph.node.insert(7, helper.make_node("Gather", ["T", "i"], ["x0"]))
    del made.graph.input[:]
    made.graph.input.append(helper.make_tensor_value_info("i", TensorProto.INT64, ["n"]))
    budget = 4 * packed[0].values.nbytes
    run = session(made, mode="cache", cache_bytes=budget, resident=False)
    lazy = session(made)
    for seed in range(20):
        i = indices_of(40, rows=4000, seed=seed)
        assert run.run(None, {"i": i})[0].tobytes() == lazy.run(None, {"i": i})[0].tobytes()
    assert 0 < stats().cache_peak_bytes <= budget
    assert stats().cache_hits > 0


def test_what_is_no_look_up_stays_a_decoded_table():
    item = table(ROWS, COLUMNS)
    i, x = np.array([1, 2]), models.weights(3, COLUMNS, seed=4)
    inputs = [helper.make_tensor_value_info("i", TensorProto.INT64, ["n"])]
    value = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    made = lookup(item, axis=1)
    assert np.array_equal(session(made).run(None, {"i": i})[0], item.values[:, i])
    made = models.model(
        [helper.make_node("Gather", ["T", "i"], ["e"]), helper.make_node("Gemm", ["x", "T"], ["y"], transB=1)],
        [*inputs, helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, COLUMNS])],
        [*value, helper.make_tensor_value_info("e", TensorProto.FLOAT, None)],
        [item],
    )
    outputs = session(made).run(None, {"i": i, "x": x})
    assert np.allclose(outputs[0], x @ item.values.T, atol=1e-5)
    assert np.array_equal(outputs[1], item.values[i])
    made = lookup(item)
    made.graph.output.append(item.info)
    assert np.array_equal(session(made).run(None, {"i": i})[1], item.values)
    assert stats().row_misses == 0
    assert stats().decodes == 3


def test_table_without_entry_points_is_decoded():
    item = table(ROWS, COLUMNS, scan_order=0)
    i = indices_of(9)
    assert np.array_equal(session(lookup(item)).run(None, {"i": i})[0], item.values[i])
    assert (stats().row_misses, stats().decodes) == (0, 1)


def test_axis_may_be_counted_from_the_end():
    item = table(ROWS, COLUMNS)
    i = indices_of(9)
    assert np.array_equal(session(lookup(item, axis=-2)).run(None, {"i": i})[0], item.values[i])
    assert stats().row_misses == 9


def test_two_look_ups_share_rows():
    item = table(ROWS, COLUMNS)
    made = models.model(
        [helper.make_node("Gather", ["T", "i"], ["y"]), helper.make_node("Gather", ["T", "j"], ["z"])],
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["n"]) for name in "ij"],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "yz"],
        [item],
    )
    i = np.arange(10)
    outputs = session(made, **CACHED).run(None, {"i": i, "j": i})
    assert np.array_equal(outputs[0], item.values[i])
    assert np.array_equal(outputs[1], item.values[i])
    assert (stats().row_misses, stats().row_hits) == (10, 10)


def test_eager_sessions_and_own_sessions_give_the_same_rows():
    item = table(ROWS, COLUMNS)
    made, i = lookup(item), indices_of(9)
    options = ort.SessionOptions()
    register(options, mode="cache")
    for run in (session(made, mode="eager"), ort.InferenceSession(made.SerializeToString(), options, providers=CPU)):
        assert np.array_equal(run.run(None, {"i": i})[0], item.values[i])
    assert stats().row_misses == 0


def in_branch(item: models.Packed, *, decode_inside: bool) -> onnx.ModelProto:
    """``y = T[i] if c else zeros``."""
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    nodes = [helper.make_node("Gather", ["T", "i"], ["y"])]
    then = helper.make_graph(
        [item.node, *nodes] if decode_inside else nodes, "then", [], [value], value_info=[item.info]
    )
    zeros = numpy_helper.from_array(np.zeros((1, COLUMNS), np.float32), "zeros")
    other = helper.make_graph([helper.make_node("Identity", ["zeros"], ["y"])], "else", [], [value], [zeros])
    made = models.model(
        [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
        [
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("i", TensorProto.INT64, ["n"]),
        ],
        [value],
        [item],
    )
    if decode_inside:
        del made.graph.node[0], made.graph.value_info[:]
    return made


@pytest.mark.parametrize("decode_inside", [False, True])
@pytest.mark.parametrize("settings", [{"mode": "lazy"}, CACHED])
def test_look_up_in_a_branch(decode_inside, settings):
    item = table(ROWS, COLUMNS)
    run = session(in_branch(item, decode_inside=decode_inside), **settings)
    i = indices_of(6)
    for _ in range(2):
        assert np.array_equal(run.run(None, {"c": np.array(True), "i": i})[0], item.values[i])
    misses = stats().row_misses
    assert misses > 0
    assert not run.run(None, {"c": np.array(False), "i": i})[0].any()
    assert (stats().row_misses, stats().decodes) == (misses, 0)


def test_look_up_in_a_loop():
    item = table(ROWS, COLUMNS)
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["T", "step"], ["row"]),
            helper.make_node("Add", ["sum_in", "row"], ["sum_out"]),
            helper.make_node("Identity", ["go_in"], ["go_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_in", TensorProto.FLOAT, [COLUMNS]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", TensorProto.FLOAT, [COLUMNS]),
        ],
    )
    made = models.model(
        [helper.make_node("Loop", ["times", "", "zero"], ["y"], body=body)],
        [helper.make_tensor_value_info("times", TensorProto.INT64, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [COLUMNS])],
        [item],
        [numpy_helper.from_array(np.zeros(COLUMNS, np.float32), "zero")],
    )
    total = np.zeros(COLUMNS, np.float32)
    for row in item.values[:20]:
        total = total + row
    for settings in ({"mode": "lazy"}, CACHED):
        output = session(made, **settings).run(None, {"times": np.array(20)})[0]
        assert np.array_equal(output, total)
    assert stats().decodes == 0


def test_payload_name_with_another_meaning_inside_is_left_alone():
    """No onnxruntime loads such a model today, but it is valid ONNX."""
    item = table(ROWS, COLUMNS)
    made = in_branch(item, decode_inside=False)
    (then,) = (branch.g for branch in made.graph.node[1].attribute if branch.name == "then_branch")
    then.initializer.append(numpy_helper.from_array(np.zeros(3, np.uint8), "T.nnr"))
    tables = row_tables(Usage(made.graph), Model(made, Path(), Path(), ()))
    assert tables == {("T", "T.nnr")}
    before = made.SerializeToString()
    row_rewrite(tables)(made)
    assert made.SerializeToString() == before


def test_external_payload(tmp_path):
    item = table(ROWS, COLUMNS)
    path = models.save_external(lookup(item), tmp_path / "m.onnx")
    i = indices_of(20)
    for settings in ({"mode": "lazy"}, CACHED):
        run = InferenceSession(str(path), providers=CPU, **settings)
        assert np.array_equal(run.run(None, {"i": i})[0], item.values[i])
    assert stats().decodes == 0


@pytest.mark.parametrize("settings", [{"mode": "lazy"}, CACHED])
def test_damaged_table_is_reported_with_its_name(settings):
    item = table(ROWS, COLUMNS)
    data = bytearray(item.initializer.raw_data)
    data[-20] ^= 4
    item.initializer.raw_data = bytes(data)
    run = session(lookup(item), **settings)
    with pytest.raises(CarriageError, match="CRC-32") as caught:
        run.run(None, {"i": np.array([1])})
    assert caught.value.tensor == "T"


def with_wrong_entry_points(bits: bytes) -> bytes:
    """The same codeword, but no decoder that trusts the entry points gets the tensor out of it."""
    stream = Bitstream(bits)
    (unit,) = (unit for unit in stream.units if unit.data_unit is not None)
    header = unit.data_unit
    points = header.cabac_entry_point_list
    wrong = [point.replace(cabac_offset_list=point.cabac_offset_list ^ 85) for point in points.entry_points]
    changed = header.replace(cabac_entry_point_list=points.replace(entry_points=tuple(wrong)))
    rewritten = syntax.write_unit(
        unit.header.replace(compressed_data_unit_header=changed),
        bits[unit.payload_offset : unit.end],
        stream._contexts[unit.index],
        long_form=unit.long_form,
    )
    return bits[: unit.offset] + rewritten + bits[unit.end :]


@pytest.mark.parametrize("method", ["dq", "uniform"])
def test_wrong_entry_points_do_no_harm(method):
    array = models.weights(ROWS, COLUMNS)
    right = models.payload(array, "T", scan_order=1, method=method)
    wrong = with_wrong_entry_points(right)
    assert wrong != right
    item = models.Packed("T", array, bits=wrong)
    assert np.array_equal(item.values, nnc_codec.decode_single(right, array.dtype, array.shape))
    i = indices_of(40)
    for settings in ({"mode": "lazy"}, CACHED):
        assert np.array_equal(session(lookup(item), **settings).run(None, {"i": i})[0], item.values[i])
    whole = models.model([], [], [item.info], [item])
    assert np.array_equal(session(whole, threads=3).run(None, {})[0], item.values)


def test_many_threads_look_up_in_one_table():
    item = table(5000, COLUMNS)
    run = session(lookup(item), threads=2, mode="cache", cache_bytes=300 << 10, resident=False)
    failures: list[int] = []

    def work(number: int) -> None:
        for turn in range(60):
            i = indices_of(120, rows=5000, seed=1000 * number + turn)
            if not np.array_equal(run.run(None, {"i": i})[0], item.values[i]):
                failures.append(turn)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
    assert stats().row_hits > 0


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((30522, 384), 2),
        ((50257, 768), 1),
        ((1000000, 16), 4),
        ((100000, 128), 3),
        ((LEAST_TABLE_ELEMENTS // 64 - 1, 64), 0),
        ((1 << 20, 1), 0),
        ((1 << 20,), 0),
    ],
)
def test_height_of_block_rows(shape, expected):
    assert table_scan_order(shape) == expected


def test_packed_table_is_read_by_rows():
    array = models.weights(2000, 64)
    dense = models.weights(64, 96, seed=2)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["T", "i"], ["e"]), helper.make_node("MatMul", ["e", "W"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("i", TensorProto.INT64, ["a", "b"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b", 96])],
        [numpy_helper.from_array(array, "T"), numpy_helper.from_array(dense, "W")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=models.IR_VERSION)
    packed, _ = pack_model(made)
    i = indices_of(3, 5, rows=2000)
    expected = session(packed, mode="eager").run(None, {"i": i})[0]
    reset_stats()
    run = session(packed)
    assert np.allclose(run.run(None, {"i": i})[0], expected, atol=1e-6)
    assert (stats().row_misses, stats().decodes) == (15, 1)
    assert [value.shape for value in run.get_outputs()] == [["a", "b", 96]]

"""Where cost that is not linear would show: very many small tensors, one very large one, headers alone."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nncodec.nnc
import numpy as np
import onnx
from measuring import Row, least, peak_bytes, scaling, threads_row, timed

import nnc_codec
from nnc_codec import EncodeParams
from nnc_codec.formats import PackOptions
from nnc_onnx import inspect, pack, unpack

Tensors = dict[str, np.ndarray]
FEW, MANY = 1_000, 10_000
PARAMS = EncodeParams(qp=-4)


def small_tensors(count: int, side: int = 16) -> Tensors:
    """Square matrices."""
    generator = np.random.default_rng(0)
    return {f"layer{i}.weight": generator.standard_normal((side, side), np.float32) for i in range(count)}


def headers() -> Iterator[Row]:
    """``open``, which reads headers and nothing else."""
    data = nnc_codec.encode(small_tensors(200, 64), PARAMS)
    milliseconds = 1e3 * least([lambda: nnc_codec.open(data)], 30)[0]
    yield Row("extremes", "open(), ms", "200 tensors", f"{milliseconds:.2f}")


def many() -> Iterator[Row]:
    """Microseconds per tensor of 256 weights; NNCodec is asked for the fewer tensors only."""
    gc.collect()
    gc.freeze()  # what NNCodec's libraries keep must not be walked through again and again while tensors are counted
    for count in (FEW, MANY):
        yield from _many(small_tensors(count), count == FEW)
    gc.unfreeze()


def _many(tensors: Tensors, side_by_side: bool) -> Iterator[Row]:
    with ThreadPoolExecutor(1) as one:
        coded, encode = timed(lambda: nnc_codec.encode(tensors, PARAMS, executor=one))
        _, parse = timed(lambda: nnc_codec.open(coded))
        _, decode = timed(lambda: nnc_codec.decode(coded, executor=one))
    theirs: dict[str, float] = {}
    if side_by_side:
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder, "theirs.nnc"))
            _, theirs["encode"] = timed(lambda: nncodec.nnc.compress(tensors, file, qp=-4, use_dq=True, param_opt=True))
            _, theirs["decode"] = timed(lambda: nncodec.nnc.decompress(file))
    for what, seconds in (("encode", encode), ("open", parse), ("decode", decode)):
        other = theirs.get(what)
        yield Row(
            "extremes",
            f"{what}, us per tensor",
            f"{len(tensors)} tensors of 256 weights",
            f"{1e6 * seconds / len(tensors):.0f}",
            "" if other is None else f"{1e6 * other / len(tensors):.0f}",
            "" if other is None else f"{other / seconds:.1f}",
        )


def models() -> Iterator[Row]:
    """Microseconds per tensor of ONNX models with many small tensors."""
    for count in (FEW, MANY):
        with tempfile.TemporaryDirectory() as folder:
            source, packed, plain = (Path(folder, name) for name in ("many.onnx", "many.nnc.onnx", "plain.onnx"))
            onnx.save(_chain(small_tensors(count)), source)
            for what, action in (
                ("pack", lambda: pack(source, packed, PackOptions(jobs=1))),  # noqa: B023 - called at once
                ("inspect", lambda: inspect(packed)),  # noqa: B023
                ("unpack", lambda: unpack(packed, plain)),  # noqa: B023
            ):
                _, seconds = timed(action)
                data = f"ONNX model of {count} tensors of 256 weights"
                yield Row("extremes", f"{what}, us per tensor", data, f"{1e6 * seconds / count:.0f}")


def _chain(tensors: Tensors) -> onnx.ModelProto:
    """A model that multiplies its input with one matrix after the other."""
    sides = [len(values) for values in tensors.values()]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", [f"x{i}", name], [f"x{i + 1}"]) for i, name in enumerate(tensors)],
        "chain",
        [onnx.helper.make_tensor_value_info("x0", onnx.TensorProto.FLOAT, [1, sides[0]])],
        [onnx.helper.make_tensor_value_info(f"x{len(sides)}", onnx.TensorProto.FLOAT, [1, sides[-1]])],
        [onnx.numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


def against(what: str, data: str, grown: int, bound: int, bounded: str) -> Row:
    """A row of the table of memory."""
    return Row(
        "memory", what, data, f"{grown / 1e6:.0f} MB", f"{bounded}: {bound / 1e6:.0f} MB", f"{grown / bound:.2f}"
    )


def touch() -> None:
    """Use what coding uses."""
    with ThreadPoolExecutor(1) as one:
        nnc_codec.decode(nnc_codec.encode(small_tensors(2, 64), PARAMS, executor=one), executor=one)


def memory() -> Iterator[Row]:
    """Growth of the resident set next to what has to be there."""
    values = np.random.default_rng(0).standard_normal((8 << 10, 1 << 10), np.float32)
    yield from _memory("one tensor of 32 MB", values)
    tensors = {f"w{i}": values[1024 * i : 1024 * (i + 1)] for i in range(8)}

    def encode() -> bytes:
        with ThreadPoolExecutor(1) as one:
            return nnc_codec.encode(tensors, PARAMS, executor=one)

    bound = 2 * tensors["w0"].nbytes + len(encode())
    yield against("encode", "8 tensors of 4 MB", peak_bytes(encode, touch), bound, "2 x tensor + output")


def _memory(data: str, values: np.ndarray) -> Iterator[Row]:
    coded = nnc_codec.encode({"w": values}, PARAMS)
    grown = peak_bytes(lambda: nnc_codec.encode({"w": values}, PARAMS), touch)
    yield against("encode", data, grown, 2 * values.nbytes + len(coded), "2 x tensor + output")
    grown = peak_bytes(lambda: nnc_codec.decode(coded), touch)
    yield against("decode", data, grown, values.nbytes + len(coded), "output + payload")


def large(megabytes: int) -> Iterator[Row]:
    """One tensor, through the codec and through an ONNX model."""
    data = f"one tensor of {megabytes} MB"
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "large.onnx"), Path(folder, "large.nnc.onnx")
        million = _save(megabytes, source)
        values = np.fromfile(source.with_name("weights.bin"), np.float32).reshape(-1, 1 << 10)
        yield from _large(data, values)
        yield from _memory(data, values)
        del values
        _, seconds = timed(lambda: pack(source, target, PackOptions(qp=-4, jobs=1)))
        yield Row("extremes", "pack an ONNX model, Mw/s", data, f"{million / seconds:.1f}")
        _, seconds = timed(lambda: inspect(target))
        yield Row("extremes", "inspect the packed model, ms", data, f"{1e3 * seconds:.0f}")


def _large(data: str, values: np.ndarray) -> Iterator[Row]:
    million = values.size / 1e6
    with ThreadPoolExecutor(1) as one:
        coded, seconds = timed(lambda: nnc_codec.encode({"w": values}, PARAMS, executor=one))
        yield Row("extremes", "encode, Mw/s", data, f"{million / seconds:.1f}")
    _, seconds = timed(lambda: nnc_codec.open(coded))
    yield Row("extremes", "open, ms", data, f"{1e3 * seconds:.1f}")
    gained = scaling(lambda executor: nnc_codec.decode(coded, executor=executor))
    yield Row("extremes", "decode, Mw/s", data, f"{million / gained.seconds:.1f}")
    yield threads_row("decompress", data, gained)


def _save(megabytes: int, path: Path) -> float:
    """A model that multiplies its input with a tensor, which lies in a file beside it; million weights."""
    shape = (megabytes << 8, 1 << 10)
    generator = np.random.default_rng(0)
    with path.with_name("weights.bin").open("wb") as file:
        for _ in range(megabytes):
            generator.standard_normal((1 << 8, shape[1]), np.float32).tofile(file)
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=shape)
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "large",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, shape[0]])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, shape[1]])],
        [weight],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    path.write_bytes(model.SerializeToString())
    return shape[0] * shape[1] / 1e6


def rows(megabytes: int) -> Iterator[Row]:
    """All of them."""
    yield from headers()
    yield from many()
    yield from models()
    yield from memory()
    if megabytes:
        yield from large(megabytes)

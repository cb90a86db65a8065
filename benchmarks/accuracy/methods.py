"""Ways of making a model smaller. Each yields (label, bytes, metric); the metric is ``None`` where nothing is lost."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper
from tasks import Run, runner

from nnc_codec.formats import PackOptions
from nnc_onnx import pack
from nnc_onnx.rd import Goal, planner_for
from nnc_onnx.unpacking import unpack

NNCODEC_QPS = (-20, -23, -26, -29, -32, -35, -38)


class Absent(Exception):
    """Something a method needs is not installed."""


class Context(NamedTuple):
    """What methods work with.

    Attributes:
        model: the original.
        folder: for temporary files.
        score: metric of something that runs.
        feeds: real inputs.
        nncodec: Python interpreter with NNCodec.
    """

    model: Path
    folder: Path
    score: Callable[[Run], float]
    feeds: Callable[[], list[dict[str, Any]]]
    nncodec: Path | None


Result = Iterator[tuple[str, int, float | None]]


def _packed(context: Context, label: str, planner: Any) -> Result:
    target, plain = context.folder / "packed.onnx", context.folder / "plain.onnx"
    report = pack(context.model, target, PackOptions(force=True), planner=planner)
    unpack(target, plain)
    metric = context.score(runner(plain))
    plain.unlink()
    yield label, report.packed_bytes, metric


def statistics(context: Context) -> Result:
    """Steps from the statistics of every tensor."""
    return _packed(context, "onnx-nnc statistics", None)


def planned(context: Context) -> Result:
    """Steps from made-up inputs."""
    for preset in ("high", "balanced", "small"):
        yield from _packed(context, f"onnx-nnc planned {preset}", planner_for(Goal(preset=preset)))


def calibrated(context: Context) -> Result:
    """Steps from real inputs."""
    feeds = context.feeds()
    for preset in ("high", "balanced", "small"):
        planner = planner_for(Goal(preset=preset), calibration=feeds)
        yield from _packed(context, f"onnx-nnc calibrated {preset}", planner)


def int8(context: Context) -> Result:
    """onnxruntime's dynamic quantization."""
    from onnxruntime.quantization import quantize_dynamic

    target = context.folder / "int8.onnx"
    quantize_dynamic(context.model, target)
    yield "onnxruntime int8 dynamic", target.stat().st_size, context.score(runner(target))


def half(context: Context) -> Result:
    """Weights rounded to float16, computed with as float32."""
    model = onnx.load(context.model)
    saved = 0
    for tensor in _float_tensors(model):
        values = numpy_helper.to_array(tensor).astype(np.float16)
        saved += values.nbytes
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    target = context.folder / "half.onnx"
    onnx.save(model, target)
    yield "float16 weights", context.model.stat().st_size - saved, context.score(runner(target))


def zstd(context: Context) -> Result:
    """zstd, level 19."""
    try:
        import zstandard
    except ImportError as error:
        raise Absent("no zstandard") from error
    yield "zstd -19", len(zstandard.ZstdCompressor(level=19).compress(context.model.read_bytes())), None


def brotli(context: Context) -> Result:
    """brotli, quality 11."""
    try:
        import brotli as package
    except ImportError as error:
        raise Absent("no brotli") from error
    yield "brotli -11", len(package.compress(context.model.read_bytes(), quality=11)), None


def nncodec(context: Context) -> Result:
    """NNCodec with one qp for all tensors."""
    if context.nncodec is None:
        raise Absent("no interpreter given")
    model = onnx.load(context.model)
    tensors = _float_tensors(model)
    source = context.folder / "weights.npz"
    arrays = {f"t{number:05d}": numpy_helper.to_array(tensor) for number, tensor in enumerate(tensors)}
    names = [name for name, array in arrays.items() if array.size > 1 and array.ndim]
    np.savez(source, **{name: arrays[name] for name in names})
    originals = [bytes(tensor.SerializeToString()) for tensor in tensors]
    for name, tensor in zip(arrays, tensors, strict=True):
        if name in names:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    graph = len(zlib.compress(model.SerializeToString(), 9))
    for tensor, data in zip(tensors, originals, strict=True):
        tensor.ParseFromString(data)
    child = Path(__file__).with_name("nncodec_child.py")
    for qp in NNCODEC_QPS:
        decoded = context.folder / "decoded.npz"
        command = [str(context.nncodec), str(child), str(source), str(decoded), str(qp)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        with np.load(decoded) as values:
            for name, tensor in zip(arrays, tensors, strict=True):
                if name in names:
                    array = values[name].reshape(arrays[name].shape).astype(np.float32)
                    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        target = context.folder / "nncodec.onnx"
        onnx.save(model, target)
        size = int(done.stdout.split()[-1]) + graph
        yield f"NNCodec qp {qp}", size, context.score(runner(target))


def _float_tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    from nnc_onnx.model_io import all_tensors

    return [tensor for tensor in all_tensors(model) if tensor.data_type == onnx.TensorProto.FLOAT]


METHODS: dict[str, Callable[[Context], Result]] = {
    "statistics": statistics,
    "planned": planned,
    "calibrated": calibrated,
    "nncodec": nncodec,
    "int8": int8,
    "half": half,
    "zstd": zstd,
    "brotli": brotli,
}

"""Other ways of making a model smaller: onnxruntime's quantizers, float16, lossless compressors."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from context import Absent, Context, Outcome, Outcomes, Stopwatch
from onnx import numpy_helper
from tasks import float_tensors, graph_bytes, runner


def int8_dynamic(context: Context) -> Outcomes:
    """Weights as int8, activations quantized as they come."""
    from onnxruntime.quantization import quantize_dynamic

    target = context.folder / "int8.onnx"
    with Stopwatch() as encoding:
        quantize_dynamic(context.model, target)
    yield _run_as_it_is(context, "onnxruntime int8 dynamic", target, encoding)


def int8_static(context: Context) -> Outcomes:
    """Weights and activations as int8, ranges from the real inputs, weights by channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, feeds: Sequence[dict[str, Any]]) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

    feeds = context.feeds()
    prepared, target = context.folder / "prepared.onnx", context.folder / "static.onnx"
    with Stopwatch() as encoding:
        try:
            quant_pre_process(context.model, prepared)
        except Exception:  # its shape inference gives up on some models; the quantizer itself does not need it
            prepared.write_bytes(context.model.read_bytes())
        quantize_static(prepared, target, Reader(feeds), quant_format=QuantFormat.QDQ, per_channel=True)
    yield _run_as_it_is(context, "onnxruntime int8 static QDQ", target, encoding)


def nbits(context: Context) -> Outcomes:
    """Weights of MatMul in 4 bits, blocks of 32."""
    try:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    except ImportError as error:
        raise Absent("no onnx_ir") from error
    target = context.folder / "nbits.onnx"
    with Stopwatch() as encoding:
        quantizer = MatMulNBitsQuantizer(str(context.model), bits=4, block_size=32, is_symmetric=False)
        quantizer.process()
        quantizer.model.save_model_to_file(str(target))
    if all(node.op_type != "MatMulNBits" for node in onnx.load(target).graph.node):
        raise Absent("no MatMul with a weight")
    yield _run_as_it_is(context, "onnxruntime 4-bit MatMulNBits", target, encoding)


def half(context: Context) -> Outcomes:
    """Weights rounded to float16, computed with as float32."""
    target = context.folder / "half.onnx"
    with Stopwatch() as encoding:
        model = onnx.load(context.model)
        saved = 0
        for tensor in float_tensors(model):
            values = numpy_helper.to_array(tensor).astype(np.float16)
            saved += values.nbytes
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
        onnx.save(model, target)
    metric = context.score(runner(target))
    yield Outcome("float16 weights", context.model.stat().st_size - saved, metric, encoding.took)


def zstd(context: Context) -> Outcomes:
    """zstd, level 19."""
    try:
        import zstandard
    except ImportError as error:
        raise Absent("no zstandard") from error
    coder, decoder = zstandard.ZstdCompressor(level=19), zstandard.ZstdDecompressor()
    return _lossless(context.model.read_bytes(), "zstd -19", coder.compress, decoder.decompress)


def brotli(context: Context) -> Outcomes:
    """brotli, quality 11."""
    try:
        import brotli as package
    except ImportError as error:
        raise Absent("no brotli") from error
    data = context.model.read_bytes()
    return _lossless(data, "brotli -11", lambda plain: package.compress(plain, quality=11), package.decompress)


def xz(context: Context) -> Outcomes:
    """xz, preset 9."""
    data = context.model.read_bytes()
    return _lossless(data, "xz -9", lambda plain: lzma.compress(plain, preset=9), lzma.decompress)


def zipnn(context: Context) -> Outcomes:
    """zipnn on the float32 values, the graph compressed by zlib."""
    try:
        import zipnn as package
    except ImportError as error:
        raise Absent("no zipnn") from error
    model = onnx.load(context.model)
    tensors = float_tensors(model)
    # The values alone: in a whole file few are aligned, and ends that are no float crash it.
    data = b"".join(numpy_helper.to_array(tensor).tobytes() for tensor in tensors)
    coder = package.ZipNN(input_format="byte", bytearray_dtype="float32")
    # It reorders the bytes it is given in place, so it gets a copy.
    outcomes = _lossless(data, "zipnn", lambda plain: bytes(coder.compress(bytearray(plain))), coder.decompress)
    for outcome in outcomes:
        yield outcome._replace(nbytes=outcome.nbytes + graph_bytes(model, tensors))


def _lossless(
    data: bytes, label: str, compress: Callable[[bytes], bytes], decompress: Callable[[bytes], Any]
) -> Outcomes:
    with Stopwatch() as encoding:
        packed = compress(data)
    with Stopwatch() as decoding:
        plain = decompress(packed)
    if bytes(plain) != data:
        raise ValueError(f"{label} gives other bytes back")
    yield Outcome(label, len(packed), None, encoding.took, decoding.took)


def _run_as_it_is(context: Context, label: str, target: Path, encoding: Stopwatch) -> Outcome:
    return Outcome(label, target.stat().st_size, context.score(runner(target)), encoding.took)

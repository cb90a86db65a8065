"""Python interface against Python interface: all float tensors of ONNX models, compressed and back."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import nncodec.nnc
import numpy as np
import onnx
from measuring import Row, least, scaling, threads_row, timed

import nnc_codec

Tensors = dict[str, np.ndarray]
QP = -32


def float_tensors(path: Path) -> Tensors:
    """The float32 initializers of a model with one dimension or more."""
    model = onnx.load(path)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    return {n: np.ascontiguousarray(a) for n, a in arrays.items() if a.dtype == np.float32 and a.ndim and a.size}


def their_compress(tensors: Tensors, path: Path) -> None:
    """A file by NNCodec with the options of :func:`our_compress`."""
    nncodec.nnc.compress(tensors, bitstream_path=str(path), qp=QP, use_dq=True, param_opt=True)


def our_compress(tensors: Tensors, executor: Executor) -> bytes:
    """A bitstream by this package."""
    return nnc_codec.encode(tensors, nnc_codec.EncodeParams(qp=QP), executor=executor)


def same_weights(ours: Tensors, theirs: Tensors) -> None:
    """Refuse to time two things that differ."""
    if ours.keys() != theirs.keys() or not all(np.array_equal(ours[name], theirs[name]) for name in ours):
        raise SystemExit("whole model: decoded weights differ")


def rows(models: Sequence[Path], repeat: int) -> Iterator[Row]:
    """The table of whole models."""
    for path in models:
        yield from _model(path.stem, float_tensors(path), repeat)
    if models:
        yield from yardsticks(models[0])


def _model(name: str, tensors: Tensors, repeat: int) -> Iterator[Row]:
    million = sum(a.size for a in tensors.values()) / 1e6
    data = f"{name}: {million:.2f} million weights, {len(tensors)} tensors"

    def rates(what: str, ours: float, theirs: float) -> Row:
        return Row("model", what, data, f"{million / ours:.1f}", f"{million / theirs:.2f}", f"{theirs / ours:.1f}")

    with ThreadPoolExecutor(1) as one, tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "theirs.nnc")
        actions: list[Callable[[], object]] = [
            lambda: our_compress(tensors, one),
            lambda: their_compress(tensors, file),
        ]
        yield rates("compress", *least(actions, repeat))
        stream = file.read_bytes()
        own = our_compress(tensors, one)
        same_weights(nnc_codec.decode(own), nnc_codec.decode(stream))
        same_weights(nnc_codec.decode(stream), nncodec.nnc.decompress(str(file)))
        actions = [
            lambda: nnc_codec.decode(stream, executor=one),
            lambda: nncodec.nnc.decompress(str(file)),
        ]
        yield rates("decompress", *least(actions, 2 * repeat))
    plain = sum(a.nbytes for a in tensors.values())
    yield Row("model", f"size, bytes (float32: {plain})", data, str(len(own)), str(len(stream)))
    for what, gained in (
        ("compress", scaling(lambda executor: our_compress(tensors, executor))),
        ("decompress", scaling(lambda executor: nnc_codec.decode(own, executor=executor))),
    ):
        yield threads_row(what, data, gained)


def yardsticks(path: Path) -> Iterator[Row]:
    """What general-purpose compressors make of the float32 bytes of a model."""
    plain = b"".join(a.tobytes() for a in float_tensors(path).values())
    packers: list[tuple[str, Callable[[bytes], bytes]]] = [("zlib 6", lambda b: zlib.compress(b, 6))]
    for module, name, make in (
        ("zstandard", "zstd 3", lambda m: m.ZstdCompressor(level=3).compress),
        ("zstandard", "zstd 19", lambda m: m.ZstdCompressor(level=19).compress),
        ("brotli", "brotli 9", lambda m: lambda b: m.compress(b, quality=9)),
    ):
        try:
            packers.append((name, make(import_module(module))))
        except ImportError:
            continue
    for name, pack in packers:
        packed, seconds = timed(lambda pack=pack: pack(plain))
        size = f"{len(packed)} ({len(packed) / len(plain):.1%})"
        yield Row("yardsticks", name, path.stem, size, theirs=f"{len(plain) / 4e6 / seconds:.2f}")

"""Python interface against Python interface: all float tensors of an ONNX model, compressed and back."""

from __future__ import annotations

import ctypes
import os
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import nncodec.nnc
import numpy as np
import onnx

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


def our_compress(tensors: Tensors, workers: int) -> bytes:
    """A bitstream by this package."""
    with ThreadPoolExecutor(workers) as executor:
        return nnc_codec.encode(tensors, nnc_codec.EncodeParams(qp=QP), executor=executor)


def our_decompress(data: bytes, workers: int) -> Tensors:
    """All tensors of a bitstream."""
    with ThreadPoolExecutor(workers) as executor:
        return nnc_codec.decode(data, executor=executor)


def seconds(action: Callable[[], object], repeat: int, clock: Callable[[], float]) -> float:
    """Shortest time of several runs."""
    times = []
    for _ in range(repeat):
        start = clock()
        action()
        times.append(clock() - start)
    return min(times)


def resident_peak() -> int:
    """Largest resident set of this process in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def peak_bytes(action: Callable[[], object]) -> int:
    """Growth of the resident set while an action runs, in a process of its own (Linux)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        # Arrays come from the system and go back to it (M_MMAP_THRESHOLD), so that none hides in memory freed before.
        ctypes.CDLL(None).mallopt(-3, 1 << 16)
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts at the present size
        before = resident_peak()
        action()
        os.write(write, str(resident_peak() - before).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return int(pipe.read())


def many_tensors(count: int) -> bytes:
    """A bitstream of many tensors."""
    generator = np.random.default_rng(0)
    tensors = {f"layer{i}.weight": generator.normal(0, 1, (64, 64)).astype(np.float32) for i in range(count)}
    return nnc_codec.encode(tensors, nnc_codec.EncodeParams(qp=-4))


def memory(count: int) -> list[tuple[str, str]]:
    """Peak memory on one large tensor, next to what has to be there."""
    values = np.random.default_rng(0).laplace(0, 1, (count >> 10, 1 << 10)).astype(np.float32)
    data = our_compress({"w": values}, 1)
    encode = peak_bytes(lambda: our_compress({"w": values}, 1)) / (values.nbytes + len(data))
    decode = peak_bytes(lambda: our_decompress(data, 1)) / (values.nbytes + len(data))
    return [
        (f"peak memory of encode over tensor + output, {values.nbytes >> 20} MB tensor", f"{encode:.2f}"),
        (f"peak memory of decode over output + payload, {values.nbytes >> 20} MB tensor", f"{decode:.2f}"),
    ]


def measure(path: Path, repeat: int) -> list[tuple[str, str]]:
    """What the whole-model table says: name and value."""
    tensors = float_tensors(path)
    million = sum(a.size for a in tensors.values()) / 1e6
    plain = b"".join(a.tobytes() for a in tensors.values())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "theirs.nnc")
        theirs = seconds(lambda: their_compress(tensors, file), 1, time.process_time)
        data = file.read_bytes()
        back = seconds(lambda: nncodec.nnc.decompress(str(file)), repeat, time.process_time)
    ours = seconds(lambda: our_compress(tensors, 1), repeat, time.process_time)
    ours_back = seconds(lambda: our_decompress(data, 1), repeat, time.process_time)
    own = our_compress(tensors, 1)
    for name, values in our_decompress(data, 1).items():
        if not np.array_equal(values, nnc_codec.decode(own)[name]):
            raise SystemExit(f"{name}: decoded weights differ")
    one, two = (seconds(lambda w=w: our_compress(tensors, w), repeat, time.perf_counter) for w in (1, 2))
    one_back, two_back = (seconds(lambda w=w: our_decompress(own, w), repeat, time.perf_counter) for w in (1, 2))
    many = many_tensors(200)
    facts = [
        ("weights, million; tensors", f"{million:.2f}; {len(tensors)}"),
        ("compress, ours / NNCodec, Mw/s of processor time", f"{million / ours:.1f} / {million / theirs:.2f}"),
        ("compress, ratio", f"{theirs / ours:.1f}"),
        ("decompress, ours / NNCodec, Mw/s of processor time", f"{million / ours_back:.1f} / {million / back:.2f}"),
        ("decompress, ratio", f"{back / ours_back:.1f}"),
        ("size, ours / NNCodec / float32, bytes", f"{len(own)} / {len(data)} / {len(plain)}"),
        ("two threads against one, compress / decompress, wall", f"{one / two:.2f} / {one_back / two_back:.2f}"),
        ("open() of 200 tensors, ms", f"{1e3 * seconds(lambda: nnc_codec.open(many), 5, time.process_time):.2f}"),
        *memory(8 << 20),
    ]  # fmt: skip
    return facts + yardsticks(plain, million)


def yardsticks(plain: bytes, million: float) -> list[tuple[str, str]]:
    """What general-purpose compressors make of the float32 bytes."""
    packers: list[tuple[str, Callable[[bytes], bytes]]] = [("zlib 6", lambda b: zlib.compress(b, 6))]
    try:
        packers.append(("zstd 19", import_module("zstandard").ZstdCompressor(level=19).compress))
        brotli = import_module("brotli")
        packers.append(("brotli 9", lambda b: brotli.compress(b, quality=9)))
    except ImportError:
        pass
    facts = []
    for name, pack in packers:
        start = time.process_time()
        size = len(pack(plain))
        rate = million / (time.process_time() - start)
        facts.append((f"{name} of the float32 bytes: bytes; Mw/s", f"{size}; {rate:.2f}"))
    return facts

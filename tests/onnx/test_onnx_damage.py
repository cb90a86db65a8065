"""Damaged packed files: an error, or tensors that are exactly right. Never a crash, never a wrong tensor."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_graphs as graphs
import pytest

from nnc_codec.errors import CorruptError, NNRError
from nnc_codec.formats import DEFAULT_LIMITS, PackOptions, UnpackOptions
from nnc_onnx.errors import CarriageError, ExternalDataError, InvalidModelError
from nnc_onnx.graph.usage import Usage
from nnc_onnx.model_io import external_file_of, load
from nnc_onnx.packing import pack
from nnc_onnx.payloads import decode_payload, packed_tensors, read_payload
from nnc_onnx.unpacking import unpack

NAMES = ["mlp", "constants", "shared", "branches", "loop", "scan", "lstm", "quantized", "embedding", "float16"]
FLIPS_PER_FILE = 100


@pytest.fixture(scope="module")
def packed_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Ten packed models of a few kilobytes."""
    folder = tmp_path_factory.mktemp("packed")
    files = {}
    for name in NAMES:
        source, target = folder / f"{name}.onnx", folder / f"{name}.nnc.onnx"
        source.write_bytes(graphs.ALL[name]().SerializeToString())
        pack(source, target, PackOptions(qp=-20))
        files[name] = target.read_bytes()
    return files


def decoded(path: Path) -> set[tuple[str, tuple[int, ...], bytes]]:
    """(type, shape, values) of all coded tensors of the model, through every check that unpacking makes."""
    model = load(path)
    values = set()
    for tensor in packed_tensors(Usage(model.proto.graph)):
        array = decode_payload(tensor, read_payload(tensor, model), DEFAULT_LIMITS)
        values.add((str(array.dtype), array.shape, array.tobytes()))
    return values


def is_refused(path: Path, right: set[tuple[str, tuple[int, ...], bytes]]) -> bool:
    """Decode a damaged file; what is decoded in spite of the damage must be right."""
    try:
        found = decoded(path)
    except NNRError:
        return True
    assert found <= right, "a wrong tensor without an error"
    return False


def flips(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Copies of `data` with one bit changed."""
    generator = np.random.default_rng(seed)
    for bit in generator.integers(0, 8 * len(data), count):
        changed = bytearray(data)
        changed[bit >> 3] ^= 1 << (bit & 7)
        yield bytes(changed)


@pytest.mark.parametrize("name", NAMES)
def test_bit_flips(name: str, packed_files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(packed_files[name])
    right = decoded(path)
    refused = 0
    for changed in flips(packed_files[name], FLIPS_PER_FILE, NAMES.index(name)):
        path.write_bytes(changed)
        refused += is_refused(path, right)
    assert refused > FLIPS_PER_FILE // 10


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation(name: str, packed_files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(packed_files[name])
    right = decoded(path)
    for length in reversed(range(len(packed_files[name]))):
        os.truncate(path, length)
        is_refused(path, right)


def test_truncated_files_are_refused_whole(packed_files: dict[str, bytes], tmp_path: Path) -> None:
    """A file that lost its end is not half unpacked, and the output does not appear."""
    data = packed_files["mlp"]
    source, target = tmp_path / "m.onnx", tmp_path / "o.onnx"
    for length in (1, 100, len(data) // 2, len(data) - 2000, len(data) - 1):
        source.write_bytes(data[:length])
        with pytest.raises((CorruptError, InvalidModelError)):
            unpack(source, target)
        assert not target.exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx"]


def test_damaged_payload_names_the_tensor(packed_files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(packed_files["mlp"])
    payload = next(iter(load(path).proto.graph.initializer)).raw_data
    path.write_bytes(packed_files["mlp"].replace(payload, payload[:-9] + bytes([payload[-9] ^ 1]) + payload[-8:]))
    with pytest.raises(CarriageError, match=r"CRC-32 .*tensor 'w0'"):
        unpack(path, tmp_path / "o.onnx")


def test_damaged_external_data(tmp_path: Path) -> None:
    source, target = tmp_path / "m.onnx", tmp_path / "m.nnc.onnx"
    source.write_bytes(graphs.mlp().SerializeToString())
    pack(source, target, PackOptions(external_data=True))
    data = external_file_of(target)
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    with pytest.raises(ExternalDataError, match="ends 1 bytes early"):
        unpack(target, tmp_path / "o.onnx")
    data.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CarriageError, match="CRC-32"):
        unpack(target, tmp_path / "o.onnx")
    data.unlink()
    with pytest.raises(ExternalDataError, match="missing"):
        unpack(target, tmp_path / "o.onnx")
    data.symlink_to("/etc/passwd")
    with pytest.raises(ExternalDataError, match="link"):
        unpack(target, tmp_path / "o.onnx")


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "a/../../secret", "", "C:\\x", "x\\..\\y"])
def test_external_data_stay_in_the_folder(location: str, tmp_path: Path) -> None:
    made = graphs.mlp(1)
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (tmp_path / "secret").write_bytes(bytes(64 * 64 * 4))
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ExternalDataError):
        pack(folder / "m.onnx", folder / "o.onnx")


def test_limits_are_checked_before_memory_is_taken(packed_files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(packed_files["mlp"])
    limits = type(DEFAULT_LIMITS)(max_elements=100)
    with pytest.raises(NNRError) as caught:
        unpack(path, tmp_path / "o.onnx", UnpackOptions(limits=limits))
    assert caught.value.code == "NNC-E105"


_RUN_DAMAGED = """
import sys
from pathlib import Path
import numpy as np
from nnc_codec.errors import NNRError
from nnc_onnx.runtime.running import session_options
from nnc_onnx.runtime.loader import InferenceSession
folder = Path(sys.argv[1])
x = {"x": np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)}
right = InferenceSession(str(folder / "right.onnx"), session_options(), mode="lazy").run(None, x)
wrong = 0
for path in sorted(folder.glob("flip*.onnx")):
    try:
        got = InferenceSession(str(path), session_options(), mode="lazy").run(None, x)
    except Exception:
        continue
    wrong += got[0].tobytes() != right[0].tobytes()
print("survived", wrong)
"""


def test_flipped_payload_bits_never_reach_an_output(packed_files: dict[str, bytes], tmp_path: Path) -> None:
    """The runtime refuses every flip inside a payload; the process survives all flips."""
    pytest.importorskip("onnxruntime")
    data = packed_files["shared"]
    path = tmp_path / "right.onnx"
    path.write_bytes(data)
    payload = next(t.raw_data for t in load(path).proto.graph.initializer if t.name.endswith(".nnr"))
    start = data.index(payload)
    for number, changed in enumerate(flips(payload, 60, 1)):
        (tmp_path / f"flip{number:03}.onnx").write_bytes(data[:start] + changed + data[start + len(payload) :])
    result = subprocess.run(
        [sys.executable, "-c", _RUN_DAMAGED, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert result.stdout.split() == ["survived", "0"], result.stderr[-2000:]

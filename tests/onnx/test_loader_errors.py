"""Bad models and bad environments end in one typed error, never in a crash or a wrong tensor."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import models
import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from nnc_codec.errors import CorruptError, InvalidArgumentError, NNRError, TruncatedError
from nnc_codec.files import FileAccessError
from nnc_onnx.carriage import DOMAIN, FORMAT_KEY
from nnc_onnx.errors import (
    CarriageError,
    ExternalDataError,
    InvalidModelError,
    TruncatedModelError,
    UnsupportedCarriageError,
)
from nnc_onnx.runtime import library
from nnc_onnx.runtime import settings as runtime_settings
from nnc_onnx.runtime.errors import LibraryMissingError, RuntimeMissingError, RuntimeTooOldError, from_native
from nnc_onnx.runtime.loader import InferenceSession, register

ROOT = Path(__file__).resolve().parents[2]
CPU = ["CPUExecutionProvider"]


def quiet() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options


def run(made, mode: str):
    x = models.weights(3, 48, seed=6)
    data = made if isinstance(made, bytes | str | Path) else made.SerializeToString()
    return InferenceSession(data, quiet(), providers=CPU, mode=mode).run(None, {"x": x})[0]


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text and text
    return text


@pytest.fixture(params=["lazy", "eager"])
def mode(request) -> str:
    return request.param


def test_wrong_crc(mode):
    made, _ = models.linear(crc32=1)
    with pytest.raises(CarriageError, match="CRC-32") as caught:
        run(made, mode)
    assert caught.value.tensor == "W" and caught.value.code == "NNC-E212"
    one_line(caught.value)


@pytest.mark.parametrize("shape", [(96, 48), (48, 97), (4608,), (48, 96, 1), (2**31, 2**31), (0, 96)])
def test_wrong_shape(mode, shape):
    made, _ = models.linear(shape=shape)
    del made.graph.value_info[:]
    made.graph.node[1].CopyFrom(helper.make_node("Neg", ["W"], ["y"]))
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, None))
    with pytest.raises(NNRError) as caught:
        run(made, mode)
    one_line(caught.value)


@pytest.mark.parametrize("kept", [0, 1, 10, 0.5, -1])
def test_truncated_payload_with_right_crc(mode, kept):
    bits = models.payload(models.weights(48, 96))
    bits = bits[: int(len(bits) * kept) if isinstance(kept, float) else kept if kept >= 0 else len(bits) + kept]
    made, _ = models.linear(bits=bits)
    with pytest.raises(CorruptError) as caught:
        run(made, mode)
    one_line(caught.value)
    if bits:
        assert isinstance(caught.value, TruncatedError) or kept == -1


def test_flipped_bits_are_errors(mode):
    bits = models.payload(models.weights(48, 96))
    generator = np.random.default_rng(1)
    for position in generator.integers(0, len(bits) * 8, 40):
        damaged = bytearray(bits)
        damaged[position >> 3] ^= 1 << (position & 7)
        made, _ = models.linear(bits=bytes(damaged), crc32=zlib.crc32(bits))
        with pytest.raises(CarriageError):
            run(made, mode)


def test_flipped_bits_with_matching_crc_never_crash(mode):
    bits = models.payload(models.weights(48, 96))
    generator = np.random.default_rng(2)
    for position in generator.integers(0, len(bits) * 8, 200):
        damaged = bytearray(bits)
        damaged[position >> 3] ^= 1 << (position & 7)
        made, _ = models.linear(bits=bytes(damaged))
        try:
            assert run(made, mode).shape == (3, 96)
        except NNRError as error:
            one_line(error)


@pytest.mark.parametrize("name", ["shape", "crc32"])
def test_missing_attribute(mode, name):
    made, _ = models.linear()
    for index, attribute in enumerate(made.graph.node[0].attribute):
        if attribute.name == name:
            del made.graph.node[0].attribute[index]
    with pytest.raises(Exception, match=rf"{name}|attribute"):
        run(made, mode)


@pytest.mark.parametrize("value", [-1, 1 << 32])
def test_crc_attribute_out_of_range(mode, value):
    made, _ = models.linear(crc32=value)
    with pytest.raises(CarriageError):
        run(made, mode)


def test_payload_of_another_type_than_the_operator(mode):
    bits = models.payload(models.weights(48, 96, dtype="int32"))
    made, _ = models.linear(models.weights(48, 96, dtype="int8"), bits=bits, after=False)
    made.graph.node[1].op_type = "Identity"
    del made.graph.node[1].input[0]
    made.graph.output[0].type.tensor_type.elem_type = 3
    with pytest.raises(NNRError) as caught:
        InferenceSession(made.SerializeToString(), quiet(), providers=CPU, mode=mode).run(
            None, {"x": np.zeros((1, 48), np.int8)}
        )
    one_line(caught.value)


@pytest.mark.parametrize("version", [0, 2, 99])
def test_unknown_operator_version(mode, version):
    made, _ = models.linear()
    next(entry for entry in made.opset_import if entry.domain == DOMAIN).version = version
    with pytest.raises(UnsupportedCarriageError, match="operator set"):
        run(made, mode)


def test_unknown_format(mode):
    made, _ = models.linear()
    helper.set_model_props(made, {FORMAT_KEY: "2"})
    with pytest.raises(UnsupportedCarriageError, match="format"):
        run(made, mode)


def test_unknown_operator(mode):
    made, _ = models.linear()
    made.graph.node[0].op_type = "NNRDecodeComplex64"
    with pytest.raises(Exception, match="NNRDecodeComplex64"):
        run(made, mode)


def test_payload_is_not_an_initializer():
    made, item = models.linear()
    del made.graph.initializer[:]
    bits = numpy_helper.to_array(item.initializer)
    made.graph.input.append(helper.make_tensor_value_info("W.nnr", 2, [len(bits)]))
    x = models.weights(3, 48, seed=6)
    with pytest.raises(CarriageError, match="initializer"):
        InferenceSession(made.SerializeToString(), quiet(), providers=CPU, mode="eager")
    session = InferenceSession(made.SerializeToString(), quiet(), providers=CPU, mode="lazy")
    for _ in range(2):
        y = session.run(None, {"x": x, "W.nnr": bits})[0]
        assert np.allclose(y, x @ item.values, atol=1e-5)
        with pytest.raises(CarriageError, match="CRC-32"):
            session.run(None, {"x": x, "W.nnr": bits[::-1].copy()})


def test_missing_file(tmp_path, mode):
    with pytest.raises(FileAccessError, match="nowhere"):
        run(tmp_path / "nowhere.onnx", mode)


def test_folder_and_empty_file(tmp_path, mode):
    (tmp_path / "empty.onnx").touch()
    for path in (tmp_path, tmp_path / "empty.onnx"):
        with pytest.raises(InvalidModelError):
            run(path, mode)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"hello, this is no model", b"\x89PNG\r\n\x1a\n", b"\xff" * 64, struct.pack("<Q", 8)],
)
def test_not_onnx(tmp_path, mode, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises((InvalidModelError, TruncatedModelError)) as caught:
            run(source, mode)
        one_line(caught.value)


def test_every_truncation_of_a_model(mode):
    data = models.linear()[0].SerializeToString()
    good = run(data, mode)
    for size in [*range(0, 400, 7), *range(400, len(data) - 150, 97), *range(len(data) - 150, len(data))]:
        try:
            assert run(data[:size], mode).tobytes() == good.tobytes()
        except NNRError as error:
            one_line(error)


def test_truncated_external_data(tmp_path, mode):
    path = models.save_external(models.linear()[0], tmp_path / "model.onnx")
    data = tmp_path / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-5])
    with pytest.raises(Exception, match=r"external|out of bounds|exceeds|beyond|(?i:data)"):
        run(path, mode)
    data.unlink()
    with pytest.raises((ExternalDataError, Exception)):
        run(path, mode)


def test_unknown_mode():
    with pytest.raises(InvalidArgumentError, match="mode"):
        run(models.linear()[0], "sometimes")


def test_eager_cannot_be_registered():
    with pytest.raises(InvalidArgumentError, match="InferenceSession"):
        register(ort.SessionOptions(), mode="eager")


def test_missing_library(monkeypatch):
    monkeypatch.setattr(library, "__file__", str(ROOT / "nowhere" / "library.py"))
    library.load_library.cache_clear()
    with pytest.raises(LibraryMissingError, match="missing") as caught:
        run(models.linear()[0], "lazy")
    assert caught.value.code == "NNC-E222" and caught.value.hint
    library.load_library.cache_clear()


def test_library_that_is_none(tmp_path, monkeypatch):
    (tmp_path / "libonnx_nnc_ops.so").write_bytes(b"not a library")
    monkeypatch.setattr(library, "__file__", str(tmp_path / "runtime" / "library.py"))
    library.load_library.cache_clear()
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(LibraryMissingError, match="cannot be loaded"):
        run(models.linear()[0], "lazy")
    library.load_library.cache_clear()


@pytest.mark.parametrize("version", ["1.16.3", "1.9.0", "0.5", "nonsense", ""])
def test_old_onnxruntime(monkeypatch, version):
    monkeypatch.setattr(ort, "__version__", version)
    with pytest.raises(RuntimeTooOldError, match=r"1\.17") as caught:
        runtime_settings.require_onnxruntime()
    assert caught.value.code == "NNC-E221"


def test_no_onnxruntime(tmp_path):
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from nnc_codec.errors import NNRError\n"
        "try:\n    import nnc_onnx.runtime.loader\n"
        "except NNRError as error: print(type(error).__name__, error.code, isinstance(error, ImportError))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["RuntimeMissingError", "NNC-E220", "True"]
    assert issubclass(RuntimeMissingError, ImportError)


def test_exceptions_of_others_stay_what_they_are():
    assert from_native(RuntimeError("no code in here")) is None
    assert from_native(RuntimeError("NNC-E999: tensor 'W': unknown")) is None
    session = InferenceSession(models.linear()[0].SerializeToString(), quiet(), providers=CPU)
    with pytest.raises(Exception, match="x") as caught:
        session.run(None, {"x": np.zeros((2, 5), np.float32)})
    assert not isinstance(caught.value, NNRError)


def test_native_line_is_taken_apart():
    line = "Status Message: NNC-E102: tensor 'a: b': the payload ends early (level, bit 77)"
    error = from_native(RuntimeError(line))
    assert isinstance(error, TruncatedError)
    assert (error.tensor, error.bit_offset) == ("a: b", 77)
    assert error.message == "the payload ends early (level)"

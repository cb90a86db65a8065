"""Real models: packed without a flag they stay valid, small and right."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from nnc_codec.formats import VerifyOptions
from nnc_onnx.packing import pack
from nnc_onnx.verification import verify

pytest.importorskip("onnxruntime")

EVAL = Path(__file__).parents[3] / "shared" / "eval"

INPUTS: dict[str, dict[str, Any]] = {
    "efficientnet_lite0": {"x": (1, 3, 224, 224)},
    "magika": {"bytes": np.arange(2048, dtype=np.int32)[None] % 257},
    "minilm_l6": {"ids": np.arange(12)[None] + 1000, "mask": np.ones((1, 12), np.int64)},
    "nsnet2": {"input": (1, 20, 161)},
    "ppocr4_rec": {"x": (1, 3, 48, 96)},
    "ppocr_cls": {"x": (2, 3, 48, 192)},
    "silero_vad": {"input": (1, 576), "state": (2, 1, 128), "sr": np.array(16000)},
}


def write_inputs(name: str, path: Path) -> Path:
    """Inputs of sensible shapes; Gaussian where nothing else is said."""
    generator = np.random.default_rng(0)
    arrays = {
        key: generator.standard_normal(value).astype(np.float32) if isinstance(value, tuple) else value
        for key, value in INPUTS[name].items()
    }
    np.savez(path, **arrays)
    return path


def check(source: Path, inputs: Path, folder: Path, *, largest: float) -> None:
    """Pack, check, and compare outputs of the packed and the unpacked model bit for bit."""
    target = folder / "m.nnc.onnx"
    report = pack(source, target)
    assert report.ratio < largest
    onnx.checker.check_model(str(target), full_check=True)
    onnx.shape_inference.infer_shapes(onnx.load(target), strict_mode=True)
    verified = verify(target, VerifyOptions(against=source, run=True, inputs=inputs))
    assert verified.ok, verified.findings
    assert verified.checks == ("crc32", "headers", "decode", "sha256", "original", "run")
    assert all(output.identical for output in verified.outputs)


@pytest.mark.parametrize("name", INPUTS)
def test_evaluation_models(name: str, tmp_path: Path) -> None:
    source = EVAL / "models" / f"{name}.onnx"
    if not source.is_file():
        pytest.skip("the evaluation models are not here")
    # Half of ppocr_cls lies in vectors and Constant nodes of a few numbers.
    check(source, write_inputs(name, tmp_path / "x.npz"), tmp_path, largest=0.45 if name == "ppocr_cls" else 0.27)


def test_magika_from_its_wheel(tmp_path: Path) -> None:
    found = importlib.util.find_spec("magika")
    if found is None or found.origin is None:
        pytest.skip("magika is not installed")
    models = sorted(Path(found.origin).parent.glob("models/*/model.onnx"))
    assert models, "the wheel brings its model"
    check(models[-1], write_inputs("magika", tmp_path / "x.npz"), tmp_path, largest=0.2)

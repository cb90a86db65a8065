"""Models that people ship: from installed packages, and from a folder of wheels if there is one.

``ONNX_NNC_WHEELS`` names a folder with wheels (``pip download --no-deps rapidocr-onnxruntime silero-vad ...``).
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nnc_codec.formats import PackOptions
from nnc_nnef.convert import ConvertSettings, to_nnef, to_onnx

pytest.importorskip("onnxruntime")

RATE = {"fixed_inputs": {"sr": np.asarray(16000, np.int64)}}
VOICE = {"input_shapes": {"input": (1, 576), "state": (2, 1, 128)}}
MODELS: dict[str, tuple[str, dict]] = {
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": ("rapidocr_onnxruntime", {"input_shapes": {"x": (1, 3, 48, 192)}}),
    "ch_PP-OCRv4_det_infer.onnx": ("rapidocr_onnxruntime", {"input_shapes": {"x": (1, 3, 64, 64)}}),
    "ch_PP-OCRv4_rec_infer.onnx": ("rapidocr_onnxruntime", {"input_shapes": {"x": (1, 3, 48, 64)}}),
    "silero_vad.onnx": ("silero_vad", {**VOICE, **RATE}),
    "silero_vad_16k_op15.onnx": ("silero_vad", {**VOICE, **RATE}),
    "silero_vad_half.onnx": ("silero_vad", VOICE),
    "silero_vad_op18_ifless.onnx": ("silero_vad", {**VOICE, **RATE}),
    "silero_vad_16k_sequence.onnx": ("silero_vad", {"dims": {"sequence_length": 3}}),
    "nmp.onnx": ("basic_pitch", {}),
    "common.onnx": ("ddddocr", {"dims": {"image_width": 64}}),
    "320n.onnx": ("nudenet", {"dims": {"height": 64, "width": 64}}),
    "PP-OCRv6_det_small.onnx": ("rapidocr-", {"input_shapes": {"x": (1, 3, 64, 64)}}),
}  # fmt: skip


def carried_both_ways(source: Path, folder: Path, settings: dict) -> None:
    import nnc_onnx

    nnc_onnx.pack(source, folder / "m.nnc.onnx", PackOptions(method="uniform"))
    there = to_nnef(folder / "m.nnc.onnx", folder / "m.nnef.tar", ConvertSettings(**settings))
    back = to_onnx(folder / "m.nnef.tar", folder / "b.nnc.onnx")
    count = sum(t.action in ("carried", "renamed") for t in there.tensors)
    assert count and count == sum(t.action == "carried" for t in back.tensors)
    assert all(t.action in ("carried", "renamed", "plain") for t in (*there.tensors, *back.tensors))
    assert there.comparison and back.comparison


def test_magika(tmp_path: Path) -> None:
    package = pytest.importorskip("magika")
    (source,) = sorted(Path(package.__file__).parent.glob("models/standard*/model.onnx"))[-1:]
    carried_both_ways(source, tmp_path, {})


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_shipped_models(name: str, tmp_path: Path) -> None:
    folder = os.environ.get("ONNX_NNC_WHEELS")
    if not folder:
        pytest.skip("ONNX_NNC_WHEELS is not set")
    prefix, settings = MODELS[name]
    for wheel in Path(folder).glob(f"{prefix}*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            members = [member for member in archive.namelist() if member.endswith(f"/{name}")]
            if members:
                (tmp_path / "source.onnx").write_bytes(archive.read(members[0]))
                carried_both_ways(tmp_path / "source.onnx", tmp_path, settings)
                return
    pytest.skip(f"no wheel with {name}")

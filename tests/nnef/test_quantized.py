"""Quantized NNEF: levels stay integers in the archive and in ONNX, and mean what graph.quant says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support import write_model

import nnc_nnef
from nnc_codec.formats import PackOptions
from nnc_nnef import dat
from nnc_nnef.convert import to_onnx
from nnc_nnef.convert.check import run_onnx
from nnc_nnef.errors import ConversionError

pytest.importorskip("onnxruntime")

TEXT = """version 1.0;
graph g(x) -> (y)
{
    x = external<scalar>(shape = [2, 80]);
    w = variable<scalar>(shape = [70, 80], label = 'w');
    h = matmul(x, w, transposeB = true);
    y = relu(h);
}
"""
CASES = {
    "zero point": (
        "zero_point_linear_quantize(zero_point = 120, scale = 0.01, bits = 8, signed = false, symmetric = false)", 2,
        lambda q: (q - 120) * 0.01,
    ),
    "zero point per channel": (
        f"zero_point_linear_quantize(zero_point = 3, scale = {[round(0.01 + i / 1000, 3) for i in range(70)]},"
        " bits = 8, signed = true, symmetric = false)", 3,
        lambda q: (q - 3) * np.asarray([0.01 + i / 1000 for i in range(70)])[:, None],
    ),
    "min and max": (
        "min_max_linear_quantize(min = -1.0, max = 1.5, bits = 8, signed = false, symmetric = false)", 2,
        lambda q: q / 255 * 2.5 - 1.0,
    ),
    "signed symmetric": (
        "min_max_linear_quantize(min = -1.0, max = 1.0, bits = 8, signed = true, symmetric = true)", 3,
        lambda q: (q + 127) / 254 * 2.0 - 1.0,
    ),
    "linear": ("linear_quantize(min = -0.5, max = 0.75, bits = 8)", 2, lambda q: q / 255 * 1.25 - 0.5),
}  # fmt: skip


def model(path: Path, quant: str, item: int) -> tuple[Path, np.ndarray]:
    rng = np.random.default_rng(0)
    levels = np.round(rng.standard_normal((70, 80)) * 8 + (120 if item == 2 else 0))
    data = dat.build(levels.astype(np.uint8 if item == 2 else np.int8), item=(item, 8))
    extra = {"w.dat": data, "graph.quant": f'"w": {quant};\n'.encode() if quant else b""}
    return write_model(path, {}, text=TEXT, extra=extra), levels


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_levels_mean_what_graph_quant_says(name: str, packed: bool, tmp_path: Path) -> None:
    quant, item, meaning = CASES[name]
    source, levels = model(tmp_path / "m.nnef.tar", quant, item)
    if packed:
        nnc_nnef.pack(source, tmp_path / "p.nnef.tar", PackOptions())
        source = tmp_path / "p.nnef.tar"
    report = to_onnx(source, tmp_path / "m.onnx")
    assert report.tensors[0].action == ("carried" if packed else "plain")
    x = np.random.default_rng(1).standard_normal((2, 80)).astype(np.float32)
    (y,) = run_onnx(str(tmp_path / "m.onnx"), {"x": x})
    assert np.allclose(y, np.maximum(x @ meaning(levels).T, 0), atol=1e-3)
    converted = onnx.load(tmp_path / "m.onnx")
    kinds = {node.op_type for node in converted.graph.node if node.domain == "onnx_nnc"}
    assert kinds == ({"NNRDecodeUInt8" if item == 2 else "NNRDecodeInt8"} if packed else set())


@pytest.mark.parametrize("quant", ["", "logarithmic_quantize(max = 1.0, bits = 8)"])
def test_integers_without_a_linear_meaning_are_refused(quant: str, tmp_path: Path) -> None:
    source, _ = model(tmp_path / "m.nnef.tar", quant, 2)
    with pytest.raises(ConversionError):
        to_onnx(source, tmp_path / "m.onnx")


def test_quantized_activations_are_reported(tmp_path: Path) -> None:
    quant = CASES["zero point"][0]
    source, _ = model(tmp_path / "m.nnef.tar", f'{quant};\n"h": {quant}', 2)
    report = to_onnx(source, tmp_path / "m.onnx")
    assert any("activations" in note for note in report.notes)

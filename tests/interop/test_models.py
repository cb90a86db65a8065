"""NNCodec decodes what this project makes of real models, to the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference

import nnc_codec
from nnc_codec import EncodeParams

ROOT = Path(__file__).parents[2]
LARGEST = 5 << 20
"""Larger tensors would only take longer."""


def model_files() -> list[Path]:
    found = sorted((ROOT.parent / "shared" / "eval" / "models").rglob("*.onnx"))
    try:
        import magika

        found += sorted(Path(magika.__file__).parent.rglob("*.onnx"))
    except ImportError:
        pass
    return [path for path in found if path.stat().st_size < 40 << 20]


MODELS = model_files()
if not MODELS:
    pytest.skip("no model at hand: neither magika nor shared/eval", allow_module_level=True)
onnx = pytest.importorskip("onnx")


def initializers(path: Path) -> dict[str, np.ndarray]:
    model = onnx.load(path)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    return {
        name: array
        for name, array in arrays.items()
        if array.dtype.kind in "fi" and array.ndim and 0 < array.nbytes < LARGEST and abs(array).max() < 2**31
    }


def graphs(graph: Any) -> Iterator[Any]:
    """A graph and the graphs in its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                if inner.node:
                    yield from graphs(inner)


def names_for_the_reference(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """It takes names with _G or _H for factors of a decomposition."""
    return {name.replace("_G", "-G").replace("_H", "-H"): array for name, array in arrays.items()}


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
@pytest.mark.parametrize("params", [EncodeParams(), EncodeParams(method="uniform", qp=-24, row_skipping=True)])
def test_tensors_of_a_model(path: Path, params: EncodeParams) -> None:
    arrays = names_for_the_reference(initializers(path))
    data = nnc_codec.encode(arrays, params)
    ours = nnc_codec.decode(data)
    theirs = reference.decode(data)
    assert sorted(ours) == sorted(theirs) == sorted(arrays)
    for name, value in ours.items():
        # NNCodec ignores nnr_decompressed_data_format and returns float32 or int32.
        wide = nnc_codec.open(data)[name].decode(dtype=theirs[name].dtype)
        assert wide.tobytes() == np.ascontiguousarray(theirs[name]).tobytes(), name
        assert value.tobytes() == wide.astype(value.dtype).tobytes(), name


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_payloads_of_a_packed_model(path: Path, tmp_path: Path) -> None:
    """Every payload in a packed model is a bitstream that NNCodec reads."""
    packing = pytest.importorskip("nnc_onnx.packing")
    packed = tmp_path / "packed.onnx"
    packing.pack(path, packed)
    model = onnx.load(packed)
    read = {node.input[0] for graph in graphs(model.graph) for node in graph.node if node.domain == "onnx_nnc"}
    payloads = [t for graph in graphs(model.graph) for t in graph.initializer if t.name in read]
    assert read and len(payloads) == len(read)
    for tensor in payloads:
        data = bytes(onnx.numpy_helper.to_array(tensor))
        ours = nnc_codec.open(data)
        if any(coded.size * 4 > LARGEST or "_G" in name or "_H" in name for name, coded in ours.items()):
            continue
        theirs = reference.decode(data)
        assert sorted(theirs) == sorted(ours)
        for name, coded in ours.items():
            wanted = np.ascontiguousarray(theirs[name])
            assert coded.decode(dtype=wanted.dtype).tobytes() == wanted.tobytes(), name

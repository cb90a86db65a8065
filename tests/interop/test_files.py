"""NNCodec reads NNR files without topology, and updates, to the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference

import nnc_codec
from nnc_codec import UpdateState

onnx = pytest.importorskip("onnx")

from nnc_codec.abilities import DiffOptions  # noqa: E402 - needs the packages checked for above
from nnc_codec.formats import PackOptions  # noqa: E402
from nnc_onnx import diff, pack_nnr  # noqa: E402


def write_model(path: Path, seed: int = 0) -> Path:
    """Two matrices and two biases; every seed moves some of the weights of the seed before."""
    generator = np.random.default_rng(0)
    helper = onnx.helper
    arrays = {
        name: generator.standard_normal(shape).astype(np.float32) * np.float32(0.1)
        for name, shape in {"w0": (48, 64), "b0": (64,), "w1": (64, 40), "b1": (40,)}.items()
    }
    for step in range(seed):
        generator = np.random.default_rng(step // 2)
        for name, array in arrays.items():
            moved = generator.random(array.shape) < 0.2
            arrays[name] = np.where(moved, array * np.float32(1.02), array)
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["m0"]),
        helper.make_node("Add", ["m0", "b0"], ["a0"]),
        helper.make_node("MatMul", ["a0", "w1"], ["m1"]),
        helper.make_node("Add", ["m1", "b1"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", onnx.TensorProto.FLOAT, [1, 48])],
        [value("y", onnx.TensorProto.FLOAT, [1, 40])],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def test_files_without_topology(tmp_path: Path) -> None:
    pack_nnr(write_model(tmp_path / "m.onnx"), tmp_path / "m.nnr", PackOptions(topology="none"))
    data = (tmp_path / "m.nnr").read_bytes()
    reference.same(nnc_codec.decode(data), reference.decode(data))


@pytest.mark.parametrize("temporal", [False, True])
@pytest.mark.parametrize("history", [False, True])
def test_chains_of_updates(temporal: bool, history: bool, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base.onnx")
    ours, theirs = UpdateState(history=True), reference.State(history)
    updates: list[Path] = []
    for number in range(1, 5):
        new, update = write_model(tmp_path / f"{number}.onnx", number), tmp_path / f"{number}.nnr"
        diff(
            base,
            new,
            update,
            DiffOptions(after=tuple(updates), temporal_context=temporal, history=history),
        )
        updates.append(update)
        if not temporal and not history:
            # Without context every update begins a new sequence.
            ours, theirs = UpdateState(history=True), reference.State(history)
        data = update.read_bytes()
        reference.same(nnc_codec.decode(data, base=ours), reference.decode(data, theirs))

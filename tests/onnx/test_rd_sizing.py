"""Sizes that are asked for: kept to the byte, and used up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_graphs import FLOAT, model, tensor, value, weights

import nnc_onnx
from nnc_codec.formats import PackOptions
from nnc_onnx.nnr.packing import pack_nnr
from nnc_onnx.rd import Goal, planner_for
from nnc_onnx.rd.allocate import Item, for_bits
from nnc_onnx.rd.curves import Curve
from nnc_onnx.rd.errors import GoalError
from nnc_onnx.rd.sizing import refined

onnxruntime = pytest.importorskip("onnxruntime")

EVAL = Path(__file__).parents[3] / "shared" / "eval"


def uneven() -> onnx.ModelProto:
    """Most weights are in one tensor, some in tensors so small that they share a bitstream."""
    width, steps = 48, 8
    nodes = [helper.make_node("MatMul", ["x", "large"], ["v0"])]
    held = [tensor("large", weights(600, width, scale=0.1))]
    for step in range(steps):
        nodes.append(helper.make_node("MatMul", [f"v{step}", f"w{step}"], [f"m{step}"]))
        nodes.append(helper.make_node("Add", [f"m{step}", f"b{step}"], [f"v{step + 1}"]))
        held.append(tensor(f"w{step}", weights(width, width, seed=step, scale=0.2)))
        held.append(tensor(f"b{step}", weights(width, seed=step)))
    return model(nodes, [value("x", FLOAT, ["n", 600])], [value(f"v{steps}", FLOAT, ["n", width])], held)


def inputs(count: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(3).standard_normal((count, 600)).astype(np.float32)}


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("ratio", [0.1, 0.13, 0.17])
def test_a_share_of_the_original(tmp_path, ratio: float, calibrated: bool) -> None:
    source, target = tmp_path / "model.onnx", tmp_path / "packed.onnx"
    onnx.save(uneven(), source)
    planner = planner_for(Goal(target_ratio=ratio), calibration=inputs(64) if calibrated else None)
    nnc_onnx.pack(source, target, PackOptions(), planner=planner)
    share = target.stat().st_size / source.stat().st_size / ratio
    assert 0.99 <= share <= 1


def test_weights_in_a_file_of_their_own_count(tmp_path) -> None:
    source, target = tmp_path / "model.onnx", tmp_path / "packed.onnx"
    onnx.save(uneven(), source, save_as_external_data=True, location="w.data", size_threshold=0)
    planner = planner_for(Goal(target_bytes=26_000))
    report = nnc_onnx.pack(source, target, PackOptions(external_data=True), planner=planner)
    files = [target, tmp_path / "packed.onnx.data"]
    assert report.packed_bytes == sum(file.stat().st_size for file in files)
    assert 25_740 <= report.packed_bytes <= 26_000


def test_the_size_of_an_nnr_file(tmp_path) -> None:
    source, target = tmp_path / "model.onnx", tmp_path / "packed.nnr"
    onnx.save(uneven(), source)
    pack_nnr(source, target, planner=planner_for(Goal(target_bytes=26_000), packer=pack_nnr))
    assert 25_740 <= target.stat().st_size <= 26_000


def test_what_is_left_over_goes_where_it_pays_most() -> None:
    qps = np.arange(8)
    bits, mse = 8.0 - qps, 4.0 ** (qps - 8.0)
    large = Item(Curve(qps, bits, mse), 1000, 1.0, 1000 * mse)
    small = [Item(Curve(qps, bits, mse), 10, 1.0, gain * 10 * mse) for gain in (0.5, 0.9)]
    items = [large, *small]
    equal = for_bits(items, 4130.0)
    assert equal.bits == 4080
    better = refined(items, equal, 4130.0)
    assert (better.bits, better.qps) == (4130, (4, 2, 1))
    assert better.deviation < equal.deviation
    assert refined(items, equal, equal.bits) == equal


@pytest.mark.parametrize("name", ["magika", "silero_vad"])
def test_evaluation_models(tmp_path, name: str) -> None:
    source, target = EVAL / "models" / f"{name}.onnx", tmp_path / "packed.onnx"
    if not source.exists():
        pytest.skip("the evaluation models are not here")
    nnc_onnx.pack(source, target, planner=planner_for(Goal(target_ratio=0.1)))
    assert 0.99 <= target.stat().st_size / (0.1 * source.stat().st_size) <= 1


def test_nothing_is_left_behind_by_what_cannot_be_reached(tmp_path) -> None:
    source = tmp_path / "model.onnx"
    onnx.save(uneven(), source)
    with pytest.raises(GoalError, match="cannot be packed into 500 bytes") as caught:
        nnc_onnx.pack(source, tmp_path / "packed.onnx", planner=planner_for(Goal(target_bytes=500)))
    assert "not planned takes" in str(caught.value.hint)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]

"""Ten rounds of fine-tuning of a real model, sent as updates: the example, with every step checked."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import nnc_codec
from nnc_codec import UpdateState
from nnc_onnx.packing import pack

EXAMPLE = Path(__file__).parents[2] / "examples" / "updates.py"
ROUNDS = 10

pytestmark = pytest.mark.slow


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("updates_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def magika() -> Path:
    found = importlib.util.find_spec("magika")
    models = sorted(Path(found.origin).parent.glob("models/*/model.onnx")) if found and found.origin else []
    if not models:
        pytest.skip("the magika wheel is not installed")
    return models[-1]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list]:
    model, folder = magika(), tmp_path_factory.mktemp("updates")
    return model, folder, example().run(model, folder, ROUNDS)


def test_updates_are_a_small_fraction_of_the_model(sent: tuple[Path, Path, list]) -> None:
    model, folder, results = sent
    packed = pack(folder / "received.onnx", folder / "received.nnc.onnx").packed_bytes
    for result in results:
        assert result.sizes["both"] < 0.1 * packed
        assert result.sizes["both"] < 0.02 * model.stat().st_size
        assert result.error < 2e-3


def test_context_makes_updates_smaller(sent: tuple[Path, Path, list]) -> None:
    _, _, results = sent
    assert len(set(results[0].sizes.values())) == 1
    for result in results[1:]:
        assert result.sizes["both"] <= min(result.sizes["temporal"], result.sizes["history"])
        assert max(result.sizes["temporal"], result.sizes["history"]) < 0.95 * result.sizes["none"]
        assert result.units > 0


def test_the_receiver_has_what_direct_decoding_gives(sent: tuple[Path, Path, list]) -> None:
    model, folder, _ = sent
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(model).graph.initializer}
    state = UpdateState(history=True)
    for number in range(1, ROUNDS + 1):
        for name, change in nnc_codec.decode(folder / f"update{number}.both.nnr", base=state).items():
            values[name] = values[name] + change.reshape(values[name].shape)
    received = {t.name: numpy_helper.to_array(t) for t in onnx.load(folder / "received.onnx").graph.initializer}
    assert received.keys() == values.keys()
    for name, expected in values.items():
        assert np.array_equal(received[name], expected, equal_nan=expected.dtype.kind == "f"), name


def test_the_receiver_computes_what_the_sender_does(sent: tuple[Path, Path, list]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    _, folder, _ = sent
    outputs = []
    for path in (folder / f"round{ROUNDS}.onnx", folder / "received.onnx"):
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (feed,) = session.get_inputs()
        shape = [size if isinstance(size, int) else 4 for size in feed.shape]
        data = np.random.default_rng(0).integers(0, 256, shape).astype(np.int32)
        outputs.append(session.run(None, {feed.name: data})[0])
    assert np.abs(outputs[0] - outputs[1]).max() < 0.01

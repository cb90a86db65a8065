"""Payloads are read once; from then on sessions go on from a recoded form that gives the same bits."""

from __future__ import annotations

import gc
import os
import shutil
import threading
from pathlib import Path

import models
import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from nnc_onnx.runtime.library import reset_stats, stats
from nnc_onnx.runtime.loader import InferenceSession, register

CPU = ["CPUExecutionProvider"]
LAYERS = 6


@pytest.fixture(autouse=True)
def no_other_sessions() -> None:
    gc.collect()
    reset_stats()


def options(threads: int = 1) -> ort.SessionOptions:
    made = ort.SessionOptions()
    made.intra_op_num_threads = threads
    made.log_severity_level = 4
    return made


def whole(item: models.Packed) -> bytes:
    """A model whose output is the decoded tensor."""
    element = helper.np_dtype_to_tensor_dtype(item.array.dtype)
    nodes = [helper.make_node("Identity", ["W"], ["y"])]
    return models.model(nodes, [], [helper.make_tensor_value_info("y", element, None)], [item]).SerializeToString()


def outliers(share: float, size: float) -> np.ndarray:
    array = models.weights(300, 500)
    far = np.random.default_rng(1).random(array.shape) < share
    array[far] *= np.float32(size)
    return array


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize(
    "params", [{}, {"method": "uniform", "qp": -12}, {"method": "codebook", "qp": -12}, {"scan_order": 2}, {"qp": -70}]
)
@pytest.mark.parametrize("shape", [(700, 300), (1, 1500), (8193, 9), (65536, 2)])
def test_same_bits(dtype, params, shape):
    array = models.weights(*shape, dtype=dtype)
    item = models.Packed("W", array, bits=models.payload(array, **params))
    for threads in (1, 3):
        run = InferenceSession(whole(item), options(threads), providers=CPU, mode="lazy")
        for _ in range(3):
            assert run.run(None, {})[0].tobytes() == item.values.tobytes()
    counts = stats()
    assert (counts.decodes, counts.recodings, counts.recoded_reads) == (1, 1, 6)


@pytest.mark.parametrize(("share", "size", "qp"), [(0.001, 50, -24), (0.05, 50, -24), (0.001, 5000, -60), (0, 1, -50)])
def test_integers_of_any_size(share, size, qp):
    array = outliers(share, size)
    item = models.Packed("W", array, bits=models.payload(array, qp=qp))
    run = InferenceSession(whole(item), options(), providers=CPU, mode="lazy")
    for _ in range(3):
        assert run.run(None, {})[0].tobytes() == item.values.tobytes()
    assert stats().recodings == 1


@pytest.mark.parametrize(("qp", "method"), [(-120, "dq"), (-24, "raw")])
def test_what_is_not_worth_it_is_decoded_at_each_use(qp, method):
    array = outliers(0.1, 1000)
    params = {"method": method} if method == "raw" else {"qp": qp}
    item = models.Packed("W", array, bits=models.payload(array, **params))
    run = InferenceSession(whole(item), options(), providers=CPU, mode="lazy")
    for _ in range(3):
        assert run.run(None, {})[0].tobytes() == item.values.tobytes()
    assert (stats().recodings, stats().decodes, stats().recoded_bytes) == (0, 3, 0)


def test_it_takes_about_the_memory_of_the_payload():
    array = models.weights(1000, 400)
    bits = models.payload(array)
    run = InferenceSession(whole(models.Packed("W", array, bits=bits)), options(), providers=CPU, mode="lazy")
    assert stats().recoded_bytes == 0
    run.run(None, {})
    assert stats().recoded_bytes < 1.3 * len(bits)
    del run
    gc.collect()
    assert stats().recoded_bytes == 0


def test_sessions_share_it():
    made, _ = models.chain(LAYERS, 128, 64)
    feeds = {"x0": models.weights(5, 64, seed=9)}
    runs = [
        InferenceSession(made.SerializeToString(), options(), providers=CPU, mode="lazy"),
        InferenceSession(
            made.SerializeToString(), options(), providers=CPU, mode="cache", cache_bytes=1, resident=False
        ),
    ]
    expected = InferenceSession(made.SerializeToString(), options(), providers=CPU, mode="lazy", recode=False)
    for run in (*runs, *runs):
        assert run.run(None, feeds)[0].tobytes() == expected.run(None, feeds)[0].tobytes()
    assert stats().recodings == LAYERS
    alone = stats().recoded_bytes
    del runs[0], run
    gc.collect()
    assert stats().recoded_bytes == alone


@pytest.mark.parametrize("budget", [0.1, 0.4])
@pytest.mark.parametrize("levels", [False, True])
def test_the_cache_is_filled_from_it(budget, levels):
    made, items = models.chain(LAYERS, 128, 64)
    feeds = {"x0": models.weights(5, 64, seed=9)}
    expected = InferenceSession(made.SerializeToString(), options(), providers=CPU, mode="lazy", recode=False)
    cached = InferenceSession(
        made.SerializeToString(),
        options(),
        providers=CPU,
        mode="cache",
        cache_bytes=budget,
        resident=False,
        cache_levels=levels,
    )
    wanted = expected.run(None, feeds)[0].tobytes()
    assert {cached.run(None, feeds)[0].tobytes() for _ in range(3)} == {wanted}
    reset_stats()
    assert {cached.run(None, feeds)[0].tobytes() for _ in range(5)} == {wanted}
    assert stats().decodes == 0
    assert stats().cache_peak_bytes <= budget * sum(item.array.nbytes for item in items)


def test_many_threads_at_the_first_run():
    made, _ = models.chain(LAYERS, 128, 64)
    feeds = {"x0": models.weights(5, 64, seed=9)}
    wanted = InferenceSession(made.SerializeToString(), options(), providers=CPU, mode="lazy", recode=False).run(
        None, feeds
    )[0]
    run = InferenceSession(made.SerializeToString(), options(), providers=CPU, mode="lazy")
    outputs: list[bytes] = []
    threads = [threading.Thread(target=lambda: outputs.append(run.run(None, feeds)[0].tobytes())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == [wanted.tobytes()] * 6
    assert stats().recodings == LAYERS


@pytest.mark.parametrize("recode", [False, True])
def test_options_of_the_user(recode):
    made, item = models.linear()
    own = options()
    register(own, mode="lazy", recode=recode)
    run = ort.InferenceSession(made.SerializeToString(), own, providers=CPU)
    x = models.weights(3, 48, seed=6)
    for _ in range(3):
        assert np.allclose(run.run(None, {"x": x})[0], x @ item.values, atol=1e-5)
    assert stats().decodes == (1 if recode else 3)


def lookup(item: models.Packed) -> bytes:
    return models.model(
        [helper.make_node("Gather", ["T", "i"], ["y"])],
        [helper.make_tensor_value_info("i", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(item.array.dtype), None)],
        [item],
    ).SerializeToString()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("settings", [{"mode": "lazy"}, {"mode": "cache", "cache_bytes": 100_000, "resident": False}])
@pytest.mark.parametrize("qp", [-24, -50])
def test_tables_are_recoded_when_much_of_them_is_read(dtype, settings, qp):
    array = models.weights(2000, 50, dtype=dtype)
    array[::300, 3] *= 100
    item = models.Packed("T", array, bits=models.payload(array, "T", scan_order=1, qp=qp))
    run = InferenceSession(lookup(item), options(3), providers=CPU, **settings)
    generator = np.random.default_rng(0)
    for count in (5, 5, 2000, 300, 1, 2000, 77):
        i = generator.integers(-2000, 2000, count)
        assert run.run(None, {"i": i})[0].tobytes() == item.values[i].tobytes()
    assert (stats().decodes, stats().recodings) == (1, 1)
    reset_stats()
    few = InferenceSession(lookup(item), options(), providers=CPU, mode="lazy", recode=False)
    for _ in range(3):
        few.run(None, {"i": np.arange(2000)})
    assert stats().recodings == 0


@pytest.fixture
def packed_file(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    made, item = models.linear()
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    x = models.weights(3, 48, seed=6)
    return path, x, x @ item.values


@pytest.mark.skipif(os.name != "posix", reason="payloads are copied elsewhere")
@pytest.mark.parametrize("own", [False, True])
def test_payloads_are_read_from_the_file(packed_file, tmp_path, own):
    path, x, expected = packed_file
    before = sorted(tmp_path.iterdir())
    session = InferenceSession(path, None if own else options(), providers=CPU, mode="lazy")
    assert sorted(tmp_path.iterdir()) == before
    assert np.allclose(session.run(None, {"x": x})[0], expected, atol=1e-5)
    path.unlink()
    assert np.allclose(session.run(None, {"x": x})[0], expected, atol=1e-5)


def test_files_that_cannot_be_linked(packed_file, monkeypatch):
    path, x, expected = packed_file

    def refuse(*_: object, **__: object) -> None:
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", refuse)
    session = InferenceSession(path, options(), providers=CPU, mode="lazy")
    assert np.allclose(session.run(None, {"x": x})[0], expected, atol=1e-5)


def test_options_serve_for_models_in_several_folders(packed_file, tmp_path):
    path, x, expected = packed_file
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(path, other / "copy.onnx")
    same = options()
    for model in (path, other / "copy.onnx", path):
        session = InferenceSession(model, same, providers=CPU, mode="lazy")
        assert np.allclose(session.run(None, {"x": x})[0], expected, atol=1e-5)

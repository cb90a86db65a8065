"""Made-up and calibration inputs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_graphs import FLOAT, INT64, mlp, model, tensor, value, weights

from nnc_codec.formats import PackOptions
from nnc_onnx.graph.usage import Usage
from nnc_onnx.plan import plan_tensors
from nnc_onnx.rd.calibration import load_calibration
from nnc_onnx.rd.errors import CalibrationError, CannotRunError
from nnc_onnx.rd.inputs import SERIES, Synthetic
from nnc_onnx.rd.network import Network
from nnc_onnx.rd.pictures import picture, scene
from nnc_onnx.rd.random import Random
from nnc_onnx.rd.sounds import sound, talk
from nnc_onnx.rd.states import STEPS, StatePair, continued
from nnc_onnx.rd.tolerance import feeds_back, limits_of
from nnc_onnx.rd.writing import written

pytest.importorskip("onnxruntime")


def network_of(made: onnx.ModelProto, tmp_path) -> Network:
    planned = plan_tensors(made, Usage(made.graph), PackOptions(min_elements=1))
    wanted = [t for t in planned if t.reason is None and t.element is not None and t.element.is_float]
    return Network(made, wanted, tmp_path)


def embedding() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Cast", ["mask"], ["m"], to=FLOAT),
        helper.make_node("Unsqueeze", ["m", "axis"], ["m3"]),
        helper.make_node("Mul", ["rows", "m3"], ["masked"]),
        helper.make_node("MatMul", ["masked", "w"], ["y"]),
    ]
    return model(
        nodes,
        [value("ids", INT64, ["n", "t"]), value("mask", INT64, ["n", "t"])],
        [value("y", FLOAT, ["n", "t", 8])],
        [tensor("table", weights(50, 16)), tensor("w", weights(16, 8)), tensor("axis", np.array([2]))],
    )


def recurrent() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Add", ["x", "state"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w"], ["product"]),
        helper.make_node("Tanh", ["product"], ["stateN"]),
        helper.make_node("ReduceSum", ["stateN"], ["y"]),
    ]
    return model(
        nodes,
        [value("x", FLOAT, [1, 64]), value("state", FLOAT, [1, 64])],
        [value("y", FLOAT, None), value("stateN", FLOAT, [1, 64])],
        [tensor("w", weights(64, 64))],
    )


def test_token_ids_stay_inside_the_table_and_masks_are_ones(tmp_path):
    feed = Synthetic(network_of(embedding(), tmp_path)).feeds(1)[0]
    assert feed["ids"].shape == feed["mask"].shape
    assert feed["ids"].min() >= 0 and feed["ids"].max() < 50
    assert len(np.unique(feed["ids"])) > 5
    assert (feed["mask"] == 1).all()


def test_integers_take_the_values_they_are_compared_with(tmp_path):
    nodes = [
        helper.make_node("Equal", ["kind", "kinds"], ["same"]),
        helper.make_node("Cast", ["same"], ["hot"], to=FLOAT),
        helper.make_node("MatMul", ["hot", "w"], ["y"]),
    ]
    made = model(
        nodes,
        [value("kind", INT64, ["n", 1])],
        [value("y", FLOAT, ["n", 4])],
        [tensor("kinds", np.array([3, 70, 900])), tensor("w", weights(3, 4))],
    )
    for feed in Synthetic(network_of(made, tmp_path)).feeds(8):
        assert feed["kind"].item() in (3, 70, 900)


def test_free_picture_size_is_found_by_trying(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("AveragePool", ["c"], ["p"], kernel_shape=[48, 1]),
        helper.make_node("Squeeze", ["p", "axis"], ["y"]),
    ]
    made = model(
        nodes,
        [value("x", FLOAT, ["n", 3, "h", "w"])],
        [value("y", FLOAT, None)],
        [tensor("k", weights(8, 3, 3, 3)), tensor("axis", np.array([2]))],
    )
    feed = Synthetic(network_of(made, tmp_path)).feeds(1)[0]
    assert feed["x"].shape == (1, 3, 48, 192)


def test_a_network_that_narrows_heights_gets_pictures_of_lines(tmp_path):
    nodes = [helper.make_node("Conv", ["x", "k"], ["y"], pads=[1, 1, 1, 1], strides=[2, 1])]
    made = model(
        nodes,
        [value("x", FLOAT, ["n", 3, "h", "w"])],
        [value("y", FLOAT, None)],
        [tensor("k", weights(8, 3, 3, 3))],
    )
    assert Synthetic(network_of(made, tmp_path)).feeds(1)[0]["x"].shape == (1, 3, 48, 192)


@pytest.mark.parametrize(
    ("shape", "scenes"),
    [
        ([1, 3, 64, 64], True),
        ([1, 64, 64, 3], True),
        ([1, 3, 32, 128], False),
        ([1, 32, 128, 1], False),
        ([1, 9], False),
    ],
)
def test_only_what_is_no_line_of_writing_is_a_scene(shape, scenes, tmp_path):
    made = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", FLOAT, shape)],
        [value("y", FLOAT, None)],
        [tensor("w", weights(shape[-1], 2))],
    )
    assert Synthetic(network_of(made, tmp_path)).scenes == scenes
    assert feeds_back(tokens=False, scenes=scenes) != scenes


def test_states_are_recognised(tmp_path):
    synthetic = Synthetic(network_of(recurrent(), tmp_path))
    assert [tuple(pair) for pair in synthetic.states] == [("state", "stateN")]


def test_string_inputs_cannot_be_made_up(tmp_path):
    nodes = [helper.make_node("Identity", ["s"], ["t"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    made = model(
        nodes,
        [value("s", TensorProto.STRING, [1]), value("x", FLOAT, [1, 8])],
        [value("t", TensorProto.STRING, [1]), value("y", FLOAT, [1, 8])],
        [tensor("w", weights(8, 8))],
    )
    with pytest.raises(CannotRunError, match="no numeric tensor"):
        Synthetic(network_of(made, tmp_path))


def test_random_numbers_are_the_same_everywhere():
    assert Random(3, 1).integers((4,), 1000).tolist() == Random(3, 1).integers((4,), 1000).tolist()
    assert Random(3, 1).normal((4,)).tolist() != Random(3, 2).normal((4,)).tolist()
    noise = Random(1).normal((100_000,))
    assert abs(float(noise.mean())) < 0.02 and abs(float(noise.std()) - 1) < 0.02
    signal = Random(1).signal((1, 256, 256), 2)
    assert abs(float(signal.std()) - 1) < 0.2
    neighbours = np.corrcoef(signal[0, :, 1:].ravel(), signal[0, :, :-1].ravel())[0, 1]
    assert neighbours > 0.5


@pytest.mark.parametrize("number", range(8))
def test_pictures_have_edges_and_smooth_areas(number):
    made = picture(Random(number), (3, 64, 96), number)
    assert made.shape == (3, 64, 96) and made.dtype == np.float32
    assert np.array_equal(made, picture(Random(number), (3, 64, 96), number))
    assert made.min() >= -1 and made.max() <= 1 and made.std() > 0.05
    neighbours = np.corrcoef(made[:, :, 1:].ravel(), made[:, :, :-1].ravel())[0, 1]
    apart = np.corrcoef(made[:, :, 24:].ravel(), made[:, :, :-24].ravel())[0, 1]
    assert neighbours > 0.5 and neighbours > apart


def test_pictures_vary_more_in_brightness_than_in_colour():
    scenes = np.stack([scene(Random(number), (3, 64, 64)) for number in range(20)])
    grey = scenes.mean(axis=1, keepdims=True)
    assert grey.std() > 2 * (scenes - grey).std()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 7), (4, 300, 2), (1, 2, 2), (3, 48, 320)])
def test_pictures_of_any_size_can_be_made(shape):
    for number in range(4):
        assert np.isfinite(picture(Random(number), shape, number)).all()


def test_a_line_of_writing_fills_a_low_picture_and_a_text_a_high_one():
    line = [written(Random(number), np.zeros((1, 48, 320), np.float32))[0] for number in range(8)]
    text = [written(Random(number), np.zeros((1, 224, 224), np.float32))[0] for number in range(8)]
    # Signs differ from column to column; between lines of text are rows without any.
    for made in line:
        assert np.count_nonzero(made.std(axis=1) > 0.01) > 12
    blanks = [int(np.count_nonzero(np.diff((made.std(axis=1) > 0.01).astype(int)) == 1)) for made in text]
    assert max(blanks) > 3
    assert len({made.tobytes() for made in line}) == len(line)


def test_channels_behind_are_filled_like_channels_in_front(tmp_path):
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "k"], ["y"]),
    ]
    made = model(
        nodes, [value("x", FLOAT, [2, 32, 40, 3])], [value("y", FLOAT, None)], [tensor("k", weights(8, 3, 3, 3))]
    )
    pictures = Synthetic(network_of(made, tmp_path)).feeds(1)[0]["x"]
    assert pictures.shape == (2, 32, 40, 3)
    assert np.corrcoef(pictures[:, :, 1:].ravel(), pictures[:, :, :-1].ravel())[0, 1] > 0.5
    assert not np.array_equal(pictures[0], pictures[1])


def test_sounds_are_tones_and_noise_of_several_levels(tmp_path):
    feeds = [feed["x"] for feed in Synthetic(network_of(mlp(width=64), tmp_path)).feeds(8)]
    levels = [float(np.sqrt(np.square(feed).mean())) for feed in feeds]
    assert max(levels) > 10 * min(levels)


def test_talk_has_voices_that_repeat_and_pauses():
    spoken = [talk(Random(number), 32000) for number in range(6)]
    for made in spoken:
        assert made.shape == (32000,) and made.dtype == np.float32 and np.isfinite(made).all()
        loud = np.sqrt(np.square(made.reshape(-1, 320)).mean(axis=1))
        assert np.quantile(loud, 0.05) < 0.2 * np.quantile(loud, 0.9)
        power = np.square(np.abs(np.fft.rfft(made)))
        assert power[: 4000 * 2].sum() > 0.5 * power.sum()
    assert len({made.tobytes() for made in spoken}) == len(spoken)


@pytest.mark.parametrize("length", [1, 64, 576, 16000])
def test_sounds_of_any_length_can_be_made(length):
    for number in range(12):
        made = sound(Random(number), length, number)
        assert made.shape == (length,) and np.abs(made).max() <= 4
        assert np.array_equal(made, sound(Random(number), length, number))


def test_sounds_go_on_from_step_to_step_where_states_do(tmp_path):
    feeds = Synthetic(network_of(recurrent(), tmp_path)).feeds(2 * STEPS)
    run = np.concatenate([feed["x"].ravel() for feed in feeds[:STEPS]])
    assert np.array_equal(run, sound(Random(0, 0), 64 * STEPS, 0))
    assert all((feed["state"] == 0).all() for feed in feeds)


def test_samples_may_lie_before_a_single_channel(tmp_path):
    made = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", FLOAT, ["n", 12000, 1])],
        [value("y", FLOAT, None)],
        [tensor("w", weights(1, 8))],
    )
    feed = Synthetic(network_of(made, tmp_path)).feeds(1)[0]["x"]
    assert feed.shape == (1, 12000, 1)
    assert np.array_equal(feed.ravel(), sound(Random(0, 0), 12000, 0))


def test_states_go_round_and_begin_again(tmp_path):
    network = network_of(recurrent(), tmp_path)
    synthetic = Synthetic(network)
    feeds = synthetic.feeds(STEPS + 2)
    fed = list(continued(network.run, network.outputs, feeds, synthetic.states))
    assert len(fed) == len(feeds)
    assert np.array_equal(fed[1][0]["state"], fed[0][1][1])
    assert (fed[STEPS][0]["state"] == 0).all()


def test_recurrent_models_get_finer_weights_and_signals_smaller_changes():
    plain = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "plain", [], [])
    body = helper.make_graph([helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=4)], "body", [], [])
    hidden = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=plain)], "hidden", [], []
    )
    usual = limits_of(plain, (), 0.01, fed_back=True)
    assert limits_of(plain, (), 0.01).noise > usual.noise
    assert limits_of(hidden, (), 0.01).noise < usual.noise
    assert limits_of(hidden, (), 0.01, fed_back=True).noise == usual.noise
    assert limits_of(hidden, (), 1.0, fed_back=True).noise > usual.noise
    assert limits_of(plain, (StatePair("state", "stateN"),), 0.01).change < usual.change
    assert limits_of(plain, (), 1.0).change < usual.change
    assert limits_of(plain, (), 0.0, tokens=True).change > usual.change


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({}, "lacks input 'x'"),
        ({"x": np.zeros((2, 64), np.float32), "z": np.zeros(1)}, "'z', which is no input"),
        ({"x": np.zeros((2, 63), np.float32)}, "shape"),
        ({"x": np.zeros((0, 64), np.float32)}, "empty"),
        ({"x": np.full((2, 64), np.nan, np.float32)}, "NaN"),
        ({"x": np.full((2, 64), "a")}, "not of numbers"),
    ],
)
def test_bad_calibration_inputs_are_refused(feed, message, tmp_path):
    inputs = Synthetic(network_of(mlp(width=64), tmp_path)).inputs
    with pytest.raises(CalibrationError, match=message):
        load_calibration([feed], inputs)


def test_calibration_files_are_read_and_cut(tmp_path):
    inputs = Synthetic(network_of(mlp(width=64), tmp_path)).inputs
    np.savez(tmp_path / "inputs.npz", x=np.ones((20, 64), np.float64))
    feeds = load_calibration(tmp_path / "inputs.npz", inputs)
    assert sum(len(feed["x"]) for feed in feeds) == 20
    assert all(feed["x"].dtype == np.float32 for feed in feeds)
    with pytest.raises(CalibrationError, match="no calibration inputs"):
        load_calibration([], inputs)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_calibration(tmp_path / "broken.npz", inputs)


def test_series_of_vectors_are_smooth_and_at_several_levels(tmp_path):
    made = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", FLOAT, ["n", "frames", 64])],
        [value("y", FLOAT, None)],
        [tensor("w", weights(64, 64))],
    )
    feeds = [feed["x"] for feed in Synthetic(network_of(made, tmp_path)).feeds(8)]
    assert all(feed.shape == (1, SERIES, 64) for feed in feeds)
    first = feeds[0][0]
    assert np.corrcoef(first[1:].ravel(), first[:-1].ravel())[0, 1] > 0.5
    means = [float(feed.mean()) for feed in feeds]
    assert max(means) - min(means) > 1


def test_scalars_that_are_bounds_let_everything_pass(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("GreaterOrEqual", ["product", "least"], ["above"]),
        helper.make_node("Less", ["product", "most"], ["below"]),
        helper.make_node("And", ["above", "below"], ["inside"]),
        helper.make_node("Cast", ["inside"], ["passed"], to=FLOAT),
        helper.make_node("Mul", ["product", "passed"], ["scaled"]),
        helper.make_node("Mul", ["scaled", "gain"], ["y"]),
    ]
    made = model(
        nodes,
        [value("x", FLOAT, [1, 64]), *(value(name, FLOAT, []) for name in ("least", "most", "gain"))],
        [value("y", FLOAT, None), value("passed", FLOAT, None)],
        [tensor("w", weights(64, 64))],
    )
    network = network_of(made, tmp_path)
    feed = Synthetic(network).feeds(1)[0]
    assert feed["gain"] == 1
    assert network.run(feed)[1].all()

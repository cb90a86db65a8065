"""What calibration inputs show of a model, and weights coded so that its layers change least."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_graphs import FLOAT, model, tensor, value, weights

import nnc_onnx
from nnc_codec.formats import PackOptions
from nnc_onnx.graph.usage import Usage
from nnc_onnx.plan import plan_tensors
from nnc_onnx.rd import Goal, planner_for
from nnc_onnx.rd.activations import Moments, joined_moments, observe
from nnc_onnx.rd.calibration import shared_out
from nnc_onnx.rd.deviation import Deviation
from nnc_onnx.rd.network import Network
from nnc_onnx.rd.study import study_model

onnxruntime = pytest.importorskip("onnxruntime")


def network(made: onnx.ModelProto, folder) -> Network:
    planned = plan_tensors(made, Usage(made.graph), PackOptions(min_elements=1))
    return Network(made, [tensor for tensor in planned if tensor.name.startswith("w")], folder)


def seen(made: onnx.ModelProto, folder, *feeds: dict[str, np.ndarray]) -> dict[str, Moments]:
    """Moments by the weight's own name."""
    built = network(made, folder)
    names = {weight.name: weight.tensors[0].name for weight in built.weights}
    return {names[name]: moments for name, moments in observed(built, *feeds).items()}


def observed(built: Network, *feeds: dict[str, np.ndarray]) -> dict[str, Moments]:
    with ThreadPoolExecutor(2) as executor:
        return observe(built, feeds, executor)


def noise(*shape: int, seed: int = 7) -> np.ndarray:
    generator = np.random.default_rng([seed, *shape])
    return (generator.standard_normal(shape) + 0.3).astype(np.float32)


def second(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    return wide.T @ wide / len(wide)


def test_products(tmp_path) -> None:
    made = model(
        [
            helper.make_node("MatMul", ["x", "w1"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Gemm", ["b", "w2"], ["c"], transB=1),
            helper.make_node("Transpose", ["w3"], ["t"], perm=[1, 0]),
            helper.make_node("MatMul", ["c", "t"], ["y"]),
        ],
        [value("x", FLOAT, ["n", 12])],
        [value("y", FLOAT, ["n", 6])],
        [tensor("w1", weights(12, 10)), tensor("w2", weights(8, 10)), tensor("w3", weights(6, 8))],
    )
    x = noise(40, 12)
    found = seen(made, tmp_path, {"x": x[:15]}, {"x": x[15:]})
    b = np.maximum(x @ weights(12, 10), 0)
    c = b @ weights(8, 10).T
    for name, inputs, across in (("w1", x, True), ("w2", b, False), ("w3", c, False)):
        np.testing.assert_allclose(found[name].mean[0], second(inputs), rtol=1e-4, atol=1e-7)
        assert (found[name].matrix.across, found[name].vectors) == (across, 40)


@pytest.mark.parametrize(
    ("groups", "strides", "dilations", "pads", "automatic"),
    [
        (1, [1, 1], [1, 1], [1, 1, 1, 1], None),
        (2, [2, 1], [1, 2], [0, 1, 2, 0], None),
        (4, [1, 2], [1, 1], None, None),
        (4, [2, 2], [1, 1], None, "SAME_UPPER"),
        (1, [2, 2], [1, 1], None, "SAME_LOWER"),
    ],
)
def test_convolutions(tmp_path, groups, strides, dilations, pads, automatic) -> None:
    """A quadratic form of the moments is the mean power of the outputs, whatever the walk over the input."""
    attributes = {"group": groups, "strides": strides, "dilations": dilations}
    attributes |= {"pads": pads} if pads else {}
    attributes |= {"auto_pad": automatic} if automatic else {}
    filters = weights(8, 4 // groups, 3, 3)
    made = model(
        [helper.make_node("Conv", ["x", "w"], ["y"], **attributes)],
        [value("x", FLOAT, ["n", 4, "h", "v"])],
        [value("y", FLOAT, ["n", 8, "p", "q"])],
        [tensor("w", filters)],
    )
    feed = {"x": noise(3, 4, 9, 8)}
    moments = seen(made, tmp_path, feed)["w"]
    assert moments.mean.shape == (groups, 36 // groups, 36 // groups)
    (outputs,) = onnxruntime.InferenceSession(made.SerializeToString()).run(None, feed)
    power = np.square(outputs.astype(np.float64)).mean(axis=(0, 2, 3))
    matrix = filters.astype(np.float64).reshape(groups, 8 // groups, -1)
    np.testing.assert_allclose((matrix @ moments.mean * matrix).sum(-1).reshape(-1), power, rtol=1e-4)


@pytest.mark.parametrize("directions", [1, 2])
def test_recurrent_layers_see_their_states(tmp_path, directions: int) -> None:
    size, steps = 6, 9
    made = model(
        [
            helper.make_node(
                "GRU", ["x", "w", "wr"], ["", "last"], hidden_size=size,
                direction="forward" if directions == 1 else "bidirectional",
            )
        ],
        [value("x", FLOAT, [steps, 2, 5])],
        [value("last", FLOAT, [directions, 2, size])],
        [tensor("w", weights(directions, 3 * size, 5, scale=0.5)), tensor("wr", weights(directions, 3 * size, size))],
    )  # fmt: skip
    x = noise(steps, 2, 5)
    found = seen(made, tmp_path, {"x": x})
    np.testing.assert_allclose(found["w"].mean[0], second(x.reshape(-1, 5)), rtol=1e-4)
    made.graph.node[0].output[0] = "all"
    made.graph.output.append(value("all", FLOAT, [steps, directions, 2, size]))
    states = onnxruntime.InferenceSession(made.SerializeToString()).run(["all"], {"x": x})[0]
    np.testing.assert_allclose(found["wr"].mean[0], second(states[:-1, 0].reshape(-1, size)), rtol=1e-4, atol=1e-8)
    if directions == 2:
        np.testing.assert_allclose(found["wr"].mean[1], second(states[1:, 1].reshape(-1, size)), rtol=1e-4, atol=1e-8)


def test_a_branch_is_seen_when_it_is_taken(tmp_path) -> None:
    def branch(name: str, size: int) -> onnx.GraphProto:
        inner = [
            helper.make_node("MatMul", ["x", f"w{name}"], [f"{name}.a"]),
            helper.make_node("Relu", [f"{name}.a"], [f"{name}.b"]),
            helper.make_node("MatMul", [f"{name}.b", f"w{name}2"], [f"{name}.y"]),
        ]
        held = [tensor(f"w{name}", weights(8, size)), tensor(f"w{name}2", weights(size, 4))]
        return helper.make_graph(inner, name, [], [value(f"{name}.y")], held)

    made = model(
        [helper.make_node("If", ["which"], ["y"], then_branch=branch("t", 6), else_branch=branch("e", 7))],
        [value("which", onnx.TensorProto.BOOL, []), value("x", FLOAT, ["n", 8])],
        [value("y", FLOAT, ["n", 4])],
    )
    x = noise(30, 8)
    found = seen(made, tmp_path, {"which": np.array(True), "x": x})
    np.testing.assert_allclose(found["wt2"].mean[0], second(np.maximum(x @ weights(8, 6), 0)), rtol=1e-4, atol=1e-7)
    assert "we2" not in found


def test_weights_used_otherwise_have_no_moments(tmp_path) -> None:
    made = model(
        [
            helper.make_node("Gather", ["w", "i"], ["a"]),
            helper.make_node("MatMul", ["a", "w"], ["b"]),
            helper.make_node("Add", ["b", "w2"], ["y"]),
        ],
        [value("i", onnx.TensorProto.INT64, ["n"])],
        [value("y", FLOAT, ["n", 9])],
        [tensor("w", weights(9, 9)), tensor("w2", weights(1, 9))],
    )
    assert seen(made, tmp_path, {"i": np.arange(5)}) == {}


def perceptron() -> onnx.ModelProto:
    """Two layers whose inputs have few directions."""
    return model(
        [
            helper.make_node("MatMul", ["x", "w1"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "w2"], ["y"]),
        ],
        [value("x", FLOAT, ["n", 96])],
        [value("y", FLOAT, ["n", 64])],
        [tensor("w1", weights(96, 128, scale=0.1)), tensor("w2", weights(128, 64, scale=0.1))],
    )


def correlated(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(1).standard_normal((12, 96))
    return (generator.standard_normal((count, 12)) @ mixing + 0.2 * generator.standard_normal((count, 96))).astype("f4")


@pytest.mark.parametrize("method", ["dq", "uniform"])
def test_calibrated_models_are_smaller_at_the_same_error(tmp_path, method: str) -> None:
    """Judged on inputs that planning did not see."""
    source, fresh = tmp_path / "model.onnx", correlated(200, seed=3)
    onnx.save(perceptron(), source)
    (wanted,) = onnxruntime.InferenceSession(str(source)).run(None, {"x": fresh})
    outcome = []
    for name, calibration in (("plain", None), ("calibrated", {"x": correlated(256, seed=2)})):
        target, back = tmp_path / f"{name}.onnx", tmp_path / f"{name}.plain.onnx"
        planner = planner_for(Goal(target_ratio=0.16), calibration=calibration)
        report = nnc_onnx.pack(source, target, PackOptions(method=method), planner=planner)
        nnc_onnx.unpack(target, back)
        (got,) = onnxruntime.InferenceSession(str(back)).run(None, {"x": fresh})
        outcome.append((report.packed_bytes, float(np.square(got - wanted).mean())))
    (_, plain), (size, calibrated) = outcome
    assert size <= 0.16 * source.stat().st_size
    assert calibrated < 0.6 * plain


def test_effects_of_large_steps_do_not_saturate(tmp_path) -> None:
    """The error of a weight of mostly zeros hardly grows any more; what feedback leaves of it at the outputs does."""
    planned = plan_tensors(made := perceptron(), Usage(made.graph), PackOptions(min_elements=1))
    with ThreadPoolExecutor(2) as executor:
        study = study_model(made, planned, tmp_path, PackOptions(), {"x": correlated(256, seed=2)}, executor)
    for item in study.items:
        per_step = np.diff(np.log2(item.deviation[item.curve.bits < 2]))
        np.testing.assert_allclose(per_step, 2 / 4, atol=1e-6)
        assert np.diff(np.log2(item.curve.mse[-6:])).mean() < 0.4


def test_the_same_bytes_with_any_number_of_workers(tmp_path) -> None:
    source = tmp_path / "model.onnx"
    onnx.save(perceptron(), source)
    packed = []
    for jobs in (1, 3):
        target = tmp_path / f"{jobs}.onnx"
        planner = planner_for(calibration={"x": correlated(64, seed=2)})
        nnc_onnx.pack(source, target, PackOptions(jobs=jobs), planner=planner)
        packed.append(target.read_bytes())
    assert packed[0] == packed[1]


def test_half_precision_weights(tmp_path) -> None:
    """What planning chose is what is coded, although 16 bits hold multiples of a step only roughly."""
    made = perceptron()
    for held in made.graph.initializer:
        held.CopyFrom(tensor(held.name, onnx.numpy_helper.to_array(held).astype(np.float16)))
    for number, node in enumerate(list(made.graph.node)):
        if node.op_type == "MatMul":
            made.graph.node.insert(0, helper.make_node("Cast", [node.input[1]], [f"wide{number}"], to=FLOAT))
            node.input[1] = f"wide{number}"
    source, target = tmp_path / "half.onnx", tmp_path / "half.nnc.onnx"
    onnx.save(made, source)
    planned = []
    planner = planner_for(calibration={"x": correlated(64, seed=2)}, inform=planned.append)
    nnc_onnx.pack(source, target, PackOptions(), planner=planner)
    back = tmp_path / "back.onnx"
    nnc_onnx.unpack(target, back)
    decoded = {held.name: onnx.numpy_helper.to_array(held) for held in onnx.load(back).graph.initializer}
    assert len(planned[0].values) == 2
    for tensor_value, values in planned[0].values.items():
        np.testing.assert_array_equal(decoded[tensor_value.name], values)


def test_recurrent_weights_whose_gates_are_put_in_order_first(tmp_path) -> None:
    """As PyTorch exports them: rows sliced, stacked in another order, and given a direction."""
    size, steps = 4, 7

    def gates(name: str, made: str) -> list[onnx.NodeProto]:
        parts = [f"{made}.{k}" for k in range(3)]
        cut = [helper.make_node("Slice", [name, f"at{k}", f"at{k + 1}", "zero"], [parts[k]]) for k in range(3)]
        stacked = helper.make_node("Concat", [parts[1], parts[0], parts[2]], [f"{made}.all"], axis=0)
        return [*cut, stacked, helper.make_node("Unsqueeze", [f"{made}.all", "zero"], [made])]

    made = model(
        [
            *gates("w", "a"),
            *gates("wr", "b"),
            helper.make_node("GRU", ["x", "a", "b", "", "", "h"], ["", "y"], hidden_size=size),
        ],
        [value("x", FLOAT, [steps, 1, 5]), value("h", FLOAT, [1, 1, size])],
        [value("y", FLOAT, [1, 1, size])],
        [
            tensor("w", weights(3 * size, 5, scale=0.5)),
            tensor("wr", weights(3 * size, size)),
            tensor("zero", np.array([0])),
            *(tensor(f"at{k}", np.array([k * size])) for k in range(4)),
        ],
    )
    x, h = noise(steps, 1, 5), noise(1, 1, size)
    found = seen(made, tmp_path, {"x": x, "h": h})
    np.testing.assert_allclose(found["w"].mean[0], second(x.reshape(-1, 5)), rtol=1e-4)
    made.graph.node[-1].output[0] = "all"
    made.graph.output.append(value("all", FLOAT, [steps, 1, 1, size]))
    states = onnxruntime.InferenceSession(made.SerializeToString()).run(["all"], {"x": x, "h": h})[0]
    before = np.concatenate([h.reshape(1, size), states[:-1].reshape(-1, size)])
    np.testing.assert_allclose(found["wr"].mean[0], second(before), rtol=1e-4, atol=1e-8)


def test_plans_are_judged_by_feeds_that_were_not_fed_back() -> None:
    feeds = [{"x": np.full(1, number)} for number in range(9)]
    seen, judged = shared_out(feeds)
    assert [int(feed["x"][0]) for feed in judged] == [2, 6]
    assert [int(feed["x"][0]) for feed in seen] == [0, 1, 3, 4, 5, 7, 8]
    assert shared_out(feeds[:3]) == (feeds[:3], feeds[:3])


def test_what_few_vectors_show_does_not_make_a_layer_look_harmless(tmp_path) -> None:
    """A wide layer that few vectors were seen of: on those errors vanish, on others they do not."""
    made = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", FLOAT, ["n", 512])],
        [value("y", FLOAT, ["n", 48])],
        [tensor("w", weights(512, 48, scale=0.1))],
    )
    feeds = {"x": np.random.default_rng(4).standard_normal((64, 512)).astype(np.float32)}
    planned = plan_tensors(made, Usage(made.graph), PackOptions(min_elements=1))
    with ThreadPoolExecutor(2) as executor:
        study = study_model(made, planned, tmp_path, PackOptions(), feeds, executor)
    fresh = Deviation(study.network, [{"x": np.random.default_rng(9).standard_normal((64, 512)).astype(np.float32)}])
    weight, item = study.weights[0], study.items[0]
    qp = item.curve.qp_at(3.0)
    happens = fresh({weight.name: study.code(weight, qp, PackOptions()).values})
    assert 0.6 < float(item.deviation[qp - int(item.curve.qps[0])]) / happens < 1.6


def test_moments_of_all_inputs_are_those_of_their_parts(tmp_path) -> None:
    made, x = perceptron(), correlated(64, seed=2)
    built = network(made, tmp_path)
    whole = observed(built, {"x": x})
    joined = joined_moments(observed(built, {"x": x[:48]}), observed(built, {"x": x[48:]}), 16 / 64)
    for name, moments in whole.items():
        np.testing.assert_allclose(joined[name].mean, moments.mean, rtol=1e-4, atol=1e-6)
        assert joined[name].vectors == moments.vectors == 64
    assert joined_moments(whole, {}, 0.25) == whole

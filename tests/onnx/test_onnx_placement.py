"""Decode nodes wait for an activation that does not depend on what they decode, in any graph."""

from __future__ import annotations

import onnx
import onnx_graphs as graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, helper

from nnc_onnx.graph.placement import Placement
from nnc_onnx.graph.usage import Usage, Value
from nnc_onnx.graph.walk import captured_names, common_prefix, node_inputs


def placement(model: ModelProto, *names: str) -> Placement:
    """The placement of the named tensors of the main graph."""
    return Placement(Usage(model.graph), [Value((), name) for name in names])


def chain(*nodes: NodeProto) -> ModelProto:
    """A model with inputs x and z, a weight w and the given nodes."""
    return graphs.model(
        list(nodes),
        [graphs.value("x", shape=[64, 64]), graphs.value("z", shape=[64, 64])],
        [graphs.value(nodes[-1].output[0], shape=[64, 64])],
        [graphs.tensor("w", graphs.weights(64, 64)), graphs.tensor("v", graphs.weights(64, 64, seed=1))],
    )


def node(kind: str, inputs: str, output: str) -> NodeProto:
    """``node("Add", "a b", "c")``."""
    return helper.make_node(kind, inputs.split(), [output])


def test_weights_are_followed_to_the_node_that_joins_an_activation() -> None:
    model = chain(
        node("Relu", "x", "a"),
        node("Transpose", "w", "t"),
        node("Add", "t v", "sum"),
        node("MatMul", "a sum", "y"),
    )
    places = placement(model, "w", "v")
    assert places.after(Value((), "w"), ()) == "a"
    assert places.after(Value((), "v"), ()) == "a"


def test_the_first_consumer_decides() -> None:
    model = chain(node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("MatMul", "b w", "y"))
    assert placement(model, "w").after(Value((), "w"), ()) == "x"


def test_the_deepest_input_decides() -> None:
    model = chain(
        node("MatMul", "x v", "deep"),
        node("Relu", "z", "shallow"),
        helper.make_node("Gemm", ["shallow", "w", "deep"], ["y"]),
    )
    assert placement(model, "w", "v").after(Value((), "w"), ()) == "deep"


def test_weights_that_meet_no_activation_wait_for_nothing() -> None:
    model = chain(node("Add", "w v", "y"))
    assert placement(model, "w", "v").after(Value((), "w"), ()) is None


def test_sequences_are_not_waited_for() -> None:
    model = chain(
        node("SequenceConstruct", "x x", "s"),
        helper.make_node("SequenceInsert", ["s", "w"], ["t"]),
        node("SequenceAt", "t zero", "y"),
    )
    model.graph.initializer.append(graphs.tensor("zero", graphs.weights(1)))
    assert placement(model, "w").after(Value((), "w"), ()) is None


def test_prefix_and_captures() -> None:
    assert common_prefix([("0.body", "1.then"), ("0.body", "2.else")]) == ("0.body",)
    assert common_prefix([("0.a",), ()]) == ()
    looped = graphs.loop(local=False).graph.node[1]
    assert captured_names(looped.attribute[0].g) == ["w"]
    assert node_inputs(looped) == ["count", "start", "w"]


@st.composite
def random_models(draw: st.DrawFn) -> ModelProto:
    """Square matrices flowing through random nodes; any of them may be a weight, an input or a result."""
    values = ["x", "z", "w0", "w1", "w2"]
    nodes = []
    for index in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["MatMul", "Add", "Mul", "Relu", "Identity", "Transpose", "If"]))
        left, right = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        output = f"n{index}"
        if kind == "If":
            bodies = [
                helper.make_graph(
                    [node("MatMul", f"{left} {right}", f"{output}_{branch}")],
                    branch,
                    [],
                    [graphs.value(f"{output}_{branch}", shape=[64, 64])],
                )
                for branch in ("then", "else")
            ]
            nodes.append(helper.make_node("If", ["flag"], [output], then_branch=bodies[0], else_branch=bodies[1]))
        else:
            nodes.append(node(kind, left if kind in ("Relu", "Identity", "Transpose") else f"{left} {right}", output))
        values.append(output)
    return graphs.model(
        nodes,
        [
            graphs.value("x", shape=[64, 64]),
            graphs.value("z", shape=[64, 64]),
            graphs.value("flag", onnx.TensorProto.BOOL, []),
        ],
        [graphs.value(values[-1], shape=[64, 64])],
        [graphs.tensor(f"w{index}", graphs.weights(64, 64, seed=index)) for index in range(3)],
    )


def depends_on(model: ModelProto, name: str, target: str) -> bool:
    """Whether the value `name` of the main graph is computed from `target`."""
    makers = {output: item for item in model.graph.node for output in item.output}
    pending, seen = [name], set()
    while pending:
        current = pending.pop()
        if current == target:
            return True
        if current in seen:
            continue
        seen.add(current)
        if current in makers:
            pending.extend(node_inputs(makers[current]))
    return False


@settings(max_examples=150, deadline=None)
@given(random_models())
def test_no_cycles_in_random_graphs(model: ModelProto) -> None:
    names = [f"w{index}" for index in range(3)]
    places = placement(model, *names)
    produced = {output for item in model.graph.node for output in item.output} | {"x", "z", "flag"}
    for name in names:
        value = Value((), name)
        path = places.graph_for(value)
        after = places.after(value, path)
        if path == () and after is not None:
            assert after in produced
            assert not depends_on(model, after, name)
        elif after is not None:
            assert Usage(model.graph).resolve(path, after) is not None

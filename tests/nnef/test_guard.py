"""Texts that crash the Khronos parser are refused; ours and ordinary ones pass."""

from __future__ import annotations

import pytest
from support import GRAPH

from nnc_codec.errors import LimitExceededError, NNRError
from nnc_nnef import guard
from nnc_nnef.child import ChildLimits, trial_parse
from nnc_nnef.errors import GraphTextError, LabelError
from nnc_nnef.labels import check_label, make_label, member_of
from nnc_nnef.parse import parse_graph

EXPRESSIONS = "version 1.0;\nextension KHR_enable_fragment_definitions;\nextension KHR_enable_operator_expressions;\n"


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000, "[" * 100_000, "{" * 70, "-" * 1_000_000, "- " * 1000, "!" * 20, "-\t-\n" * 50,
        "graph G(x) -> (y) { x = external(shape = [3000000000]); y = copy(x); }",
        "graph G(x) -> (y) { x = external(shape = [99999999999999999999999999]); }",
        "graph G(x) -> (y) { x = external(shape = [1); y = copy(x]; }",
        "graph G", "'" + "a" * 5000 + "'", "graph \x00", "graph é", "a$b", "'unfinished", "#only a comment\n}",
    ],
)  # fmt: skip
def test_dangerous_texts_never_reach_the_parser(text: str) -> None:
    if text == "graph G":
        with pytest.raises(GraphTextError):
            parse_graph(text)
        return
    with pytest.raises(NNRError):
        guard.check_text(text)


def test_size_and_statement_limits() -> None:
    with pytest.raises(LimitExceededError):
        guard.check_text(";" * 300_000)
    with pytest.raises(LimitExceededError):
        guard.check_text(" " * (17 << 20))


def test_ordinary_texts_pass() -> None:
    guard.check_text(GRAPH + "# (((((((((((( comment\n" + "x = external(shape = [1, -1], label = 'a((((b');")
    assert not guard.needs_trial(GRAPH)
    assert guard.needs_trial(EXPRESSIONS + GRAPH)
    assert not guard.needs_trial("# fragment of a comment\n" + GRAPH)
    assert guard.needs_trial(";" * 30_000)


@pytest.mark.parametrize(
    "body",
    [
        "graph G(x) -> (y) { x = external(shape = [4 / 0]); y = copy(x); }",
        "fragment f(x: tensor<scalar>) -> (y: tensor<scalar>) { y = f(x); }"
        " graph G(x) -> (y) { x = external(shape = [4]); y = f(x); }",
    ],
)
def test_crashes_happen_in_a_child_process(body: str) -> None:
    with pytest.raises(GraphTextError, match=r"signal|cannot be parsed"):
        parse_graph(EXPRESSIONS + body, lowered=["f"])


def test_endless_parsing_is_stopped() -> None:
    doubling = "".join(
        f"fragment f{i}(x: tensor<scalar>) -> (y: tensor<scalar>) {{ y = f{i - 1}(f{i - 1}(x)); }}\n"
        for i in range(1, 40)
    )
    text = (
        EXPRESSIONS + "fragment f0(x: tensor<scalar>) -> (y: tensor<scalar>) { y = relu(x); }\n" + doubling
        + "graph G(x) -> (y) { x = external(shape = [4]); y = f39(x); }"
    )  # fmt: skip
    with pytest.raises(GraphTextError):
        trial_parse(text, None, [f"f{i}" for i in range(40)], ChildLimits(seconds=5, memory_bytes=1 << 29))


@pytest.mark.parametrize(
    "label", ["../x", "a/../../x", "", "/", "//etc/x", "a//b", "a/./b", ".", "é", "a b", "a\\b", "x" * 600]
)
def test_unsafe_labels_are_refused(label: str) -> None:
    with pytest.raises(LabelError):
        check_label(label)


def test_labels_name_members() -> None:
    assert member_of("/conv1/filter") == "conv1/filter.dat"
    assert member_of("fc2.weight") == "fc2.weight.dat"


def test_made_labels_are_legal_and_unique() -> None:
    taken: set[str] = set()
    for name in (
        "onnx::Conv_1",
        "onnx__Conv_1",
        "ONNX_Conv_1",
        "../x",
        "",
        "a//b",
        "/model/w",
        "é",
        "w:0",
        "w_0",
        "...",
    ):
        label = make_label(name, taken)
        assert check_label(label) == label
        assert label.casefold() not in taken
        taken.add(label.casefold())

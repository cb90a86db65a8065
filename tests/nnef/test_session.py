"""The reference interpreter runs in a child process: what kills or floods it is an error here, nothing more."""

from __future__ import annotations

import time

import numpy as np
import pytest
from support import GRAPH, sample_variables

from nnc_nnef.child import ChildLimits
from nnc_nnef.errors import SessionError
from nnc_nnef.session import by_label, interpretable, run_session, used_operations

X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 64)


def graph(body: str) -> str:
    return f"version 1.0;\ngraph g(x) -> (y) {{ x = external<scalar>(shape = [1, 64]); {body} }}\n"


def test_it_computes() -> None:
    values = sample_variables()
    (y,) = run_session(GRAPH, by_label(values), [X])
    hidden = np.maximum(X @ values["fc1/weight"].T + values["fc1/bias"], 0)
    assert np.allclose(y, hidden @ values["fc2.weight"].T, atol=1e-5)


def test_half_and_wide_variables_are_adapted() -> None:
    body = "v = variable<scalar>(shape = [1, 64], label = 'v'); y = add(x, v);"
    (y,) = run_session(graph(body), by_label({"v": np.ones((1, 64), np.float16)}), [X])
    assert np.allclose(y, X + 1)
    with pytest.raises(SessionError):
        interpretable(np.asarray([1 << 40]))


@pytest.mark.parametrize(
    "body",
    [
        "y = softplus(z);",
        "y = update(x, x);",
        "i = cast<integer>(x); y = gather(x, i, axis = 7);",
        "c = external<logical>(shape = [1, 1]); y = select(c, x, 0.0);",
    ],
)
def test_models_it_cannot_run_are_errors(body: str) -> None:
    with pytest.raises(SessionError):
        run_session(graph(body), [], [X])


def test_crashes_are_errors() -> None:
    # The interpreter reads past a literal when the condition of a selection is broadcast.
    body = "a = slice(x, axes = [1], begin = [0], end = [1]); c = gt(a, 0.0); y = select(c, x, 0.5);"
    text = graph(body).replace("[1, 64]", "[3, 64]")
    try:
        run_session(text, [], [np.repeat(X, 3, 0)])
    except SessionError as error:
        assert "signal" in str(error)


@pytest.mark.parametrize("shape", ["2000000000, 2000000000", "60000, 60000", "1, 1, 1, 1, 1, 1, 1, 1, 100000000000"])
def test_memory_is_bounded(shape: str) -> None:
    text = f"version 1.0;\ngraph g(x) -> (y) {{ x = external<scalar>(shape = [{shape}]); y = relu(x); }}\n"
    with pytest.raises(SessionError):
        run_session(text, [], [X], limits=ChildLimits(memory_bytes=1 << 30))


def test_time_is_bounded() -> None:
    text = "version 1.0;\ngraph g(x) -> (y) { x = external<scalar>(shape = [1500, 1500]);"
    text += " a = matmul(x, x); b = matmul(a, a); c = matmul(b, b); y = matmul(c, c); }"
    start = time.monotonic()
    with pytest.raises(SessionError, match=r"no answer|signal"):
        run_session(text, [], [np.ones((1500, 1500), np.float32)], limits=ChildLimits(seconds=2))
    assert time.monotonic() - start < 60


def test_operations_of_a_text() -> None:
    text = GRAPH + "# y = nothing(x);\nfragment twice(x: tensor<scalar>) -> (y: tensor<scalar>) { y = add(x, x); }"
    assert used_operations(text) >= {"external", "variable", "linear", "relu", "matmul", "twice"}
    assert "nothing" not in used_operations(text)

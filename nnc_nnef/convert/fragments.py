"""Definitions of the operations that our ``graph.nnef`` files define themselves."""

from __future__ import annotations

# nnef-tools writes `exp(-x * x)`; some readers take the minus sign for that of a literal.
_ERF = """
fragment erf( x: tensor<scalar> ) -> ( y: tensor<scalar> )
{
    t = 1.0 / (1.0 + 0.3275911 * abs(x));
    z = 1.0 - (((((1.061405429 * t + -1.453152027) * t) + 1.421413741) * t + -0.284496736) * t + 0.254829592) * t
        * exp(0.0 - x * x);
    y = sign(x) * z;
}
"""

DEFINITIONS = {"erf": _ERF}

#: Operations the reference interpreter executes; every other one has to be expanded by its fragment.
INTERPRETED = frozenset(
    {
        "external", "constant", "variable", "neg", "not", "abs", "sign", "exp", "log", "log2", "sin",
        "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
        "round", "floor", "ceil", "sqrt", "sqr", "rsqrt", "rsqr", "rcp", "copy", "sigmoid", "relu",
        "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "add", "sub", "mul", "div", "pow",
        "min", "max", "and", "or", "lt", "gt", "le", "ge", "eq", "ne", "select", "sum_reduce",
        "mean_reduce", "min_reduce", "max_reduce", "any_reduce", "all_reduce", "conv", "deconv", "box",
        "debox", "sum_pool", "sum_unpool", "avg_pool", "avg_unpool", "min_pool", "max_pool", "reshape",
        "squeeze", "unsqueeze", "transpose", "concat", "split", "stack", "unstack", "pad", "tile",
        "slice", "gather", "cast", "matmul", "linear", "softmax", "argmin_reduce", "argmax_reduce",
        "multilinear_upsample", "update",
    }
)  # fmt: skip

"""Generated tensors and options; the same on every run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Rng = np.random.Generator


@dataclass(frozen=True)
class Case:
    """What both encoders get; ``options`` are those of ``nnc.compress``."""

    name: str
    tensors: Arrays = field(repr=False)
    options: dict[str, Any]


SHAPES = (
    (1,), (2,), (17,), (300,), (1, 9), (9, 1), (2, 2), (5, 3), (8, 8), (16, 64), (9, 65), (34, 70), (70, 33),
    (150, 20), (4, 3, 3, 3), (20, 7, 3, 3), (3, 2, 4, 2, 3), (1, 1, 1, 1), (65, 2, 3),
)  # fmt: skip


def weights(rng: Rng, shape: tuple[int, ...], kind: str = "") -> np.ndarray:
    """Gaussian, heavy-tailed, sparse, with zero rows, constant, tied, positive, zero or large weights."""
    kind = kind or str(rng.choice(["gauss", "tails", "sparse", "rows", "flat", "ties", "positive", "zero", "large"]))
    values = rng.standard_normal(shape) * 2.0 ** rng.integers(-6, 2)
    if kind == "tails":
        values = values**3
    elif kind == "sparse":
        values *= rng.random(shape) < 0.1
    elif kind == "rows":
        values[rng.random(shape[0]) < 0.5] = 0
    elif kind == "flat":
        values[...] = values.flat[0]
    elif kind == "ties":
        values = np.round(values * 16) / 32
    elif kind == "positive":
        values = np.abs(values)
    elif kind == "zero":
        values[...] = 0
    elif kind == "large":
        values *= 1000
    return values.astype(np.float32)


def qp_at(rng: Rng, density: int) -> int:
    """A QP that gives steps from 2**-9 to 2**-1, within the field of the density."""
    return max(int(rng.integers(-9 << density, -1 << density)), -(32 << density))


def coder(rng: Rng, shapes: list[tuple[int, ...]]) -> dict[str, Any]:
    """Options of the entropy coder. NNCodec fails on single rows and columns with a block scan."""
    thin = any(len(s) > 1 and (s[0] == 1 or np.prod(s[1:]) == 1) for s in shapes)
    return {
        "scan_order": 0 if thin else int(rng.choice([0, 0, 1, 2, 3, 4])),
        "row_skipping": bool(rng.random() < 0.4),
        "param_opt": bool(rng.random() < 0.7),
        "cabac_unary_length_minus1": int(rng.choice([10, 10, 10, 0, 1, 4, 30])),
    }


def quantizer(rng: Rng) -> dict[str, Any]:
    density = int(rng.choice([2, 2, 2, 0, 1, 3, 4, 5, 6, 7]))
    return {
        "qp_density": density,
        "qp": qp_at(rng, density),
        "nonweight_qp": [None, qp_at(rng, density)][int(rng.integers(2))],
        "use_dq": bool(rng.random() < 0.5),
    }


def plain(count: int = 500) -> Iterator[Case]:
    for number in range(count):
        rng = np.random.default_rng([1, number])
        shape = SHAPES[number % len(SHAPES)]
        options = quantizer(rng) | coder(rng, [shape])
        yield Case(f"plain-{number}", {"w": weights(rng, shape)}, options)


def several(count: int = 60) -> Iterator[Case]:
    """Several tensors, QPs of their own, opt_qp, and integers between them."""
    for number in range(count):
        rng = np.random.default_rng([2, number])
        wide = [s for s in SHAPES if (s[0] > 1 and np.prod(s[1:]) > 1) or len(s) == 1]
        # opt_qp of NNCodec fails without a matrix.
        shapes = [(34, 70), *(wide[int(i)] for i in rng.integers(0, len(wide), int(rng.integers(1, 5))))]
        tensors = {f"layer{i}.weight": weights(rng, s, "gauss") for i, s in enumerate(shapes)}
        tensors["steps"] = rng.integers(-9, 10, 3).astype(np.int32)
        options = quantizer(rng) | coder(rng, shapes)
        if number % 3 == 1:
            options["opt_qp"] = True
        if number % 3 == 2:
            options["qp_per_tensor"] = {"layer0.weight": qp_at(rng, options["qp_density"])}
        options["device_id"] = int(rng.integers(0, 5))
        yield Case(f"several-{number}", tensors, options)


def integers(count: int = 60) -> Iterator[Case]:
    for number in range(count):
        rng = np.random.default_rng([3, number])
        shape = SHAPES[number % len(SHAPES)]
        top = int(rng.choice([1, 3, 40, 5000, 2**31 - 1]))
        array = rng.integers(-top, top, shape, endpoint=True).astype(np.int32)
        array *= rng.random(shape) < rng.choice([0.1, 1.0])
        yield Case(f"integers-{number}", {"n": array}, coder(rng, [shape]))


def codebooks(mode: int, count: int = 60) -> Iterator[Case]:
    for number in range(count):
        rng = np.random.default_rng([4, mode, number])
        shape = SHAPES[number % len(SHAPES)]
        few = rng.standard_normal(int(rng.integers(1, 12)))
        array = rng.choice(few, shape).astype(np.float32)
        if number % 4 == 3:
            array = np.clip(weights(rng, shape, "gauss"), -2, 2)
        options = quantizer(rng) | coder(rng, [shape]) | {"codebook_mode": mode}
        octave = 1 << options["qp_density"]
        options["qp"] = max(options["qp"], -5 * octave)  # else every zero of a long codebook is tried
        options["nonweight_qp"] = options["qp"]
        yield Case(f"codebook{mode}-{number}", {"w": array}, options)


def bit_depths(count: int = 60) -> Iterator[Case]:
    for number in range(count):
        rng = np.random.default_rng([5, number])
        shape = SHAPES[number % len(SHAPES)]
        options = coder(rng, [shape]) | {"use_dq": False, "int_quant_bw": int(rng.integers(2, 17))}
        kind = str(rng.choice(["gauss", "tails", "sparse", "rows", "ties", "positive", "zero"]))
        yield Case(f"bits-{number}", {"w": weights(rng, shape, kind)}, options)


TYPES = {
    "weight.ls": "w.weight_scaling",
    "bias": "w.bias",
    "bn.beta": "bn.bias",
    "bn.gamma": "bn.weight",
    "bn.mean": "bn.running_mean",
    "bn.var": "bn.running_var",
}


def blocks(count: int = 90) -> Iterator[Case]:
    """A weight with companions, next to a tensor of its own; folded batch norm, codebooks, bit depths."""
    shapes = [s for s in SHAPES if len(s) > 1 and s[0] > 1 and np.prod(s[1:]) > 1]
    for number in range(count):
        rng = np.random.default_rng([6, number])
        shape = shapes[number % len(shapes)]
        types = ["weight.ls"] * (number & 1) + ["bias"] * (number >> 1 & 1)
        if number >> 2 & 1 or not types:
            types += ["bn.beta", "bn.gamma", "bn.mean", "bn.var"]
        tensors = {"w.weight": weights(rng, shape, "gauss"), "other": weights(rng, (12, 10), "gauss")}
        tensors |= {TYPES[kind]: weights(rng, shape[:1], "positive") for kind in types}
        owned = [name for name in tensors if name != "other"]
        options = quantizer(rng) | coder(rng, [shape])
        options["block_id_and_param_type"] = {
            "block_identifier": {name: "B" for name in owned},
            "parameter_type": {"w.weight": "weight"} | {TYPES[kind]: kind for kind in types},
        }
        if number % 5 == 1:
            options["bnf"] = True
        if number % 5 == 2:
            options |= {"int_quant_bw": 8, "use_dq": False}
        if number % 5 == 3:
            options["opt_qp"] = True
        yield Case(f"block-{number}", tensors, options)


@dataclass(frozen=True)
class Sequence:
    """Updates one after the other."""

    name: str
    updates: list[Arrays] = field(repr=False)
    options: dict[str, Any]
    tca: bool
    history: bool


def sequences(count: int = 48, length: int = 4) -> Iterator[Sequence]:
    for number in range(count):
        rng = np.random.default_rng([7, number])
        tca, history = bool(number & 1), bool(number >> 1 & 1)
        shapes = [(30, 24), (30,), (6, 4, 3, 3)]
        options = {"qp": int(rng.integers(-24, -8)), "use_dq": bool(number >> 2 & 1)} | coder(rng, shapes)
        if options["use_dq"] and options["scan_order"]:
            options["row_skipping"] = False  # see test_defects.py
        touched = [rng.random(s) < 0.3 for s in shapes]
        updates = []
        for step in range(length):
            update = {
                f"t{i}.weight": (rng.standard_normal(s) * on * 0.5).astype(np.float32)
                for i, (s, on) in enumerate(zip(shapes, touched, strict=True))
            }
            update["steps"] = rng.integers(-1, 2, 5).astype(np.int32)
            if step == 2:
                update["t1.weight"][...] = 0  # left out of the stream
            updates.append(update)
        yield Sequence(f"sequence-{number}", updates, options, tca, history)

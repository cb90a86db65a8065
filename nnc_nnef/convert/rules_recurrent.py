"""Rules that unroll LSTM, GRU and RNN.

Every step is written with products, slices and activations; the weight tensors stay whole, so their payloads can be
carried over. The input products of all steps are one matrix product.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from .rules import Rewriter, Rule

Nodes = list[NodeProto]
_MAX_STEPS = 4096
_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_KNOWN = frozenset({"Sigmoid", "Tanh", "Relu"})


class _Direction:
    """One direction of a recurrent layer: weights of the direction and a step function."""

    def __init__(self, r: Rewriter, index: int, batch: int, hidden: int) -> None:
        self.r = r
        self.kind = r.node.op_type
        self.batch, self.hidden = batch, hidden
        self._cuts: dict[tuple[str, int, int], str] = {}
        self.gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[self.kind]
        self.weight = self._part(1, index)
        self.recurrent = self._part(2, index)
        self.bias = self._part(3, index) if r.input(3) else ""
        self.peephole = self._part(7, index) if self.kind == "LSTM" and r.input(7) else ""
        count = len(_DEFAULTS[self.kind])
        names = list(r.attribs.get("activations") or _DEFAULTS[self.kind] * 2)
        names = [name.decode() if isinstance(name, bytes) else name for name in names]
        self.activations = names[index * count : (index + 1) * count]
        unknown = [name for name in self.activations if name not in _KNOWN]
        if unknown:
            raise r.refuse(f"activation {unknown[0]} has no NNEF counterpart")
        self.bias_r = self._bias_half(1) if self.bias else ""
        self.h = self._state(5, index)
        self.c = self._state(6, index) if self.kind == "LSTM" else ""

    def _part(self, number: int, index: int) -> str:
        shape = self.r.shape(number)
        name = self.r.input(number)
        if shape[0] > 1:
            name = self.r.slice(name, 0, index, index + 1)
        return self.r.reshape(name, shape[1:])

    def _state(self, number: int, index: int) -> str:
        r = self.r
        if not r.input(number):
            return r.like(np.zeros((self.batch, self.hidden)))
        axis = 1 if r.attribs.get("layout", 0) else 0
        name = r.input(number)
        if r.shape(number)[axis] > 1:
            name = r.slice(name, axis, index, index + 1)
        return r.reshape(name, (self.batch, self.hidden))

    def _bias_half(self, half: int) -> str:
        size = self.gates * self.hidden
        return self.r.slice(self.bias, 0, half * size, (half + 1) * size)

    def project(self, x: str) -> str:
        """Input products of all steps: [steps * batch, gates * hidden]."""
        inputs = [x, self.weight] + ([self._bias_half(0)] if self.bias else [])
        return self.r.op("Gemm", *inputs, transB=1)

    def _gate(self, x: str, gate: int) -> str:
        return self.r.slice(x, 1, gate * self.hidden, (gate + 1) * self.hidden)

    def _cut(self, name: str, begin: int, end: int) -> str:
        # Constant over time, so written once and not once a step.
        key = (name, begin, end)
        if key not in self._cuts:
            self._cuts[key] = self.r.slice(name, 0, begin * self.hidden, end * self.hidden)
        return self._cuts[key]

    def step(self, x: str, h: str, c: str) -> tuple[str, str]:
        """New hidden and cell state from the projected input of one step."""
        r = self.r
        if self.kind == "GRU":
            return self._gru(x, h), ""
        inputs = [h, self.recurrent] + ([self.bias_r] if self.bias else [])
        z = r.op("Add", x, r.op("Gemm", *inputs, transB=1))
        f = self.activations
        if self.kind == "RNN":
            return r.op(f[0], z), ""
        # ONNX orders the gates input, output, forget, cell; peepholes input, output, forget.
        i, o, g, cell = (self._gate(z, gate) for gate in range(4))
        if self.peephole:
            i = r.op("Add", i, r.op("Mul", c, self._cut(self.peephole, 0, 1)))
            g = r.op("Add", g, r.op("Mul", c, self._cut(self.peephole, 2, 3)))
        kept = r.op("Mul", r.op(f[0], g), c)
        c = r.op("Add", kept, r.op("Mul", r.op(f[0], i), r.op(f[1], cell)))
        if self.peephole:
            o = r.op("Add", o, r.op("Mul", c, self._cut(self.peephole, 1, 2)))
        return r.op("Mul", r.op(f[0], o), r.op(f[2], c)), c

    def _gru(self, x: str, h: str) -> str:
        r, f = self.r, self.activations
        update, reset, hidden = (self._gate(x, gate) for gate in range(3))
        if r.attribs.get("linear_before_reset", 0):
            inputs = [h, self.recurrent] + ([self.bias_r] if self.bias else [])
            z = r.op("Gemm", *inputs, transB=1)
            update, reset = (r.op(f[0], r.op("Add", a, self._gate(z, i))) for i, a in enumerate((update, reset)))
            hidden = r.op("Add", hidden, r.op("Mul", reset, self._gate(z, 2)))
        else:
            gated = [h, self._cut(self.recurrent, 0, 2)]
            plain = [self._cut(self.recurrent, 2, 3)]
            if self.bias:
                gated.append(self._cut(self.bias_r, 0, 2))
                plain.append(self._cut(self.bias_r, 2, 3))
            z = r.op("Gemm", *gated, transB=1)
            update, reset = (r.op(f[0], r.op("Add", a, self._gate(z, i))) for i, a in enumerate((update, reset)))
            hidden = r.op("Add", hidden, r.op("Gemm", r.op("Mul", reset, h), *plain, transB=1))
        new = r.op(f[1], hidden)
        # (1 - z) * new + z * h, with one product less.
        return r.op("Add", new, r.op("Mul", update, r.op("Sub", h, new)))


def recurrent(r: Rewriter) -> Nodes:
    """LSTM, GRU, RNN in any direction and layout, with any of their outputs."""
    layout = r.attribs.get("layout", 0)
    shape = r.shape()
    steps, batch = (shape[1], shape[0]) if layout else (shape[0], shape[1])
    hidden = int(r.attribs.get("hidden_size") or r.shape(2)[-1])
    direction = r.attribs.get("direction", "forward")
    if r.attribs.get("clip") or r.attribs.get("input_forget"):
        raise r.refuse("clip and input_forget have no NNEF counterpart")
    if r.input(4) and not (r.value(4, "sequence_lens") == steps).all():
        raise r.refuse("sequences of different lengths have no NNEF counterpart")
    if steps > _MAX_STEPS:
        raise r.refuse(f"{steps} steps to unroll, above {_MAX_STEPS}", hint="choose a shorter input shape")
    x = r.op("Transpose", r.input(0), perm=[1, 0, 2]) if layout else r.input(0)
    flat = r.reshape(x, (steps * batch, shape[2]))
    lines: list[list[str]] = []
    last_h: list[str] = []
    last_c: list[str] = []
    for index, name in enumerate({"bidirectional": ["forward", "reverse"]}.get(direction, [direction])):
        way = _Direction(r, index, batch, hidden)
        projected = way.project(flat)
        h, c = way.h, way.c
        states = [""] * steps
        for t in range(steps) if name == "forward" else reversed(range(steps)):
            part = r.slice(projected, 0, t * batch, (t + 1) * batch) if steps > 1 else projected
            h, c = way.step(part, h, c)
            states[t] = h
        lines.append(states)
        last_h.append(h)
        last_c.append(c)
    if r.output(0):
        _sequence(r, lines, steps, batch, hidden, layout)
    for number, states in ((1, last_h), (2, last_c)):
        if r.output(number):
            joined = states[0] if len(states) == 1 else r.op("Concat", *states, axis=1 if layout else 0)
            if layout or len(states) == 1:
                r.reshape(joined, r.out_shape(number), to=r.output(number))
            else:
                r.reshape(joined, (len(states), batch, hidden), to=r.output(number))
    return r.nodes


def _sequence(r: Rewriter, lines: list[list[str]], steps: int, batch: int, hidden: int, layout: int) -> None:
    ways = len(lines)
    # All states, step by step: [steps * ways * batch, hidden].
    flat = [lines[way][t] for t in range(steps) for way in range(ways)]
    joined = flat[0] if len(flat) == 1 else r.op("Concat", *flat, axis=0)
    shaped = r.reshape(joined, (steps, ways, batch, hidden), to=None if layout else r.output(0))
    if layout:
        r.op("Transpose", shaped, perm=[2, 0, 1, 3], to=r.output(0))


RECURRENT: dict[str, Rule] = dict.fromkeys(("LSTM", "GRU", "RNN"), recurrent)

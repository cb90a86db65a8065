"""NNCodec with one qp for all tensors, as its users call it."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from context import Absent, Context, Outcome, Outcomes, Took
from onnx import numpy_helper
from tasks import float_tensors, graph_bytes, runner

COARSE_QPS = (-20, -23, -26, -29, -32, -35, -38)
STRIDE = 3
COARSEST, FINEST = -8, -62
LABEL = "NNCodec qp"


def nncodec(context: Context) -> Outcomes:
    """Every third qp; further ones until the metric is lost on the one side and kept on the other; then the two
    between the coarsest that keeps it and the next."""
    if context.nncodec is None:
        raise Absent("no interpreter given")
    with closing(_Coder(context, context.nncodec)) as coder:
        yield from _points(coder)


def _points(coder: _Coder) -> Outcomes:
    kept: dict[int, bool] = {}
    for qp in COARSE_QPS:
        yield coder.outcome(qp, kept)
    while kept[max(kept)] and max(kept) + STRIDE <= COARSEST:
        yield coder.outcome(max(kept) + STRIDE, kept)
    while not any(kept.values()) and min(kept) - STRIDE >= FINEST:
        yield coder.outcome(min(kept) - STRIDE, kept)
    if any(kept.values()):
        for qp in range(max(qp for qp in kept if kept[qp]) + STRIDE - 1, max(qp for qp in kept if kept[qp]), -1):
            yield coder.outcome(qp, kept)


class _Coder:
    """Codes one model with several qps."""

    def __init__(self, context: Context, python: Path) -> None:
        self._context = context
        self._model = onnx.load(context.model)
        self._tensors = float_tensors(self._model)
        self._arrays = {f"t{n:05d}": numpy_helper.to_array(tensor) for n, tensor in enumerate(self._tensors)}
        self._names = [name for name, array in self._arrays.items() if array.size > 1 and array.ndim]
        self._source = context.folder / "weights.npz"
        np.savez(self._source, **{name: self._arrays[name] for name in self._names})
        self._decoded = context.folder / "decoded.npz"
        child = Path(__file__).with_name("nncodec_child.py")
        self._child = subprocess.Popen(
            [str(python), str(child), str(self._source), str(self._decoded)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        coded = [tensor for name, tensor in zip(self._arrays, self._tensors, strict=True) if name in self._names]
        self._graph = graph_bytes(self._model, coded)

    def outcome(self, qp: int, kept: dict[int, bool]) -> Outcome:
        """One qp; its size is that of the bitstream plus the graph compressed by zlib."""
        said = self._ask(qp)
        with np.load(self._decoded) as values:
            for name, tensor in zip(self._arrays, self._tensors, strict=True):
                if name in self._names:
                    array = values[name].reshape(self._arrays[name].shape).astype(np.float32)
                    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        target = self._context.folder / "nncodec.onnx"
        onnx.save(self._model, target)
        metric = self._context.score(runner(target))
        kept[qp] = self._context.keeps(metric)
        size = said["bytes"] + self._graph
        return Outcome(f"{LABEL} {qp}", size, metric, Took(*said["encode"]), Took(*said["decode"]))

    def close(self) -> None:
        """End the child."""
        self._child.communicate()

    def _ask(self, qp: int) -> dict[str, Any]:
        """Have the arrays coded and decoded; sizes and times."""
        stdin, stdout = self._child.stdin, self._child.stdout
        if stdin is None or stdout is None:
            raise ChildProcessError("no pipe to NNCodec")
        stdin.write(f"{qp}\n")
        stdin.flush()
        while line := stdout.readline():
            # NNCodec prints things of its own.
            if line.startswith("{"):
                said: dict[str, Any] = json.loads(line)
                return said
        raise ChildProcessError(f"NNCodec ended at qp {qp}")

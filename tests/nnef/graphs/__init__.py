"""42 models like those torch exports: 14 architectures at opsets 11, 17 and 18."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from .sequence import block, emb, gru, lstm_h, lstm_y
from .vision import cnn, deconv, efficientnet, mlp, mobilenetv2, mobilenetv3, resnet18, shufflenet, squeezenet

ARCHITECTURES: dict[str, Callable[[int], onnx.ModelProto]] = {
    function.__name__: function
    for function in (
        mlp, cnn, block, emb, deconv, gru, lstm_h, lstm_y, squeezenet, mobilenetv2, mobilenetv3, shufflenet, resnet18,
        efficientnet,
    )
}  # fmt: skip
OPSETS = (11, 17, 18)
ALL = [(name, opset) for name in ARCHITECTURES for opset in OPSETS]


def build(name: str, opset: int) -> onnx.ModelProto:
    """One of the 42 models."""
    return ARCHITECTURES[name](opset)

"""Convolutional architectures, small in width but complete in kind."""

from __future__ import annotations

import numpy as np
import onnx

from .builder import Builder


def mlp(opset: int) -> onnx.ModelProto:
    b = Builder("mlp", opset)
    x = b.input("input", 2, 24)
    x = b.op("Relu", b.linear(x, "fc1", 24, 96))
    x = b.op("Tanh", b.linear(x, "fc2", 96, 64))
    return b.finish(b.op("Softmax", b.linear(x, "fc3", 64, 10), axis=1))


def cnn(opset: int) -> onnx.ModelProto:
    b = Builder("cnn", opset)
    x = b.input("input", 1, 3, 20, 20)
    x = b.op("Relu", b.batch_norm(b.conv(x, "conv1", 3, 16, 3), "bn1", 16))
    x = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4, ceil_mode=0)
    x = b.op("LeakyRelu", b.conv(x, "conv2", 16, 32, 3), alpha=0.1)
    x = b.op("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=0, count_include_pad=1)
    x = b.op("Sigmoid", b.conv(x, "conv3", 32, 32, 3))
    return b.finish(b.linear(b.pool_to_vector(x, 32), "fc", 32, 10))


def deconv(opset: int) -> onnx.ModelProto:
    b = Builder("deconv", opset)
    x = b.input("input", 1, 8, 6, 6)
    weight = b.weight("up.weight", 8, 16, 4, 4)
    x = b.op("ConvTranspose", x, weight, b.weight("up.bias", 16), kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4,
             dilations=[1, 1], group=1)  # fmt: skip
    x = b.op("PRelu", x, b.weight("prelu.weight", 16, 1, 1, scale=0.2))
    sizes = b.init(np.asarray([1, 1, 2, 2], np.float32), "scales")
    roi = b.init(np.zeros(0, np.float32), "roi") if opset < 13 else ""
    x = b.op("Resize", x, roi, sizes, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    x = b.op("Relu", b.conv(x, "conv", 16, 8, 3))
    x = b.op("Resize", x, roi, sizes, mode="linear", coordinate_transformation_mode="half_pixel")
    return b.finish(b.op("Tanh", b.conv(x, "head", 8, 3, 1)))


def squeezenet(opset: int) -> onnx.ModelProto:
    b = Builder("squeezenet", opset)
    x = b.input("input", 1, 3, 33, 33)
    x = b.op("Relu", b.conv(x, "features.0", 3, 16, 3, stride=2, pad=0))
    cin = 16
    for i, (s, e) in enumerate(((8, 16), (8, 24), (12, 32))):
        x = b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[0] * 4, ceil_mode=1) if i != 1 else x
        s1 = b.op("Relu", b.conv(x, f"fire{i}.squeeze", cin, s, 1))
        e1 = b.op("Relu", b.conv(s1, f"fire{i}.expand1x1", s, e, 1))
        e3 = b.op("Relu", b.conv(s1, f"fire{i}.expand3x3", s, e, 3))
        x, cin = b.op("Concat", e1, e3, axis=1), 2 * e
    x = b.op("Relu", b.conv(x, "classifier.1", cin, 10, 1))
    return b.finish(b.pool_to_vector(x, 10))


def resnet18(opset: int) -> onnx.ModelProto:
    b = Builder("resnet18", opset)
    x = b.input("input", 1, 3, 32, 32)
    x = b.op("Relu", b.conv(x, "conv1", 3, 12, 7, stride=2))
    x = b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=0)
    cin = 12
    for layer, cout in enumerate((12, 16, 24, 32), 1):
        for block in range(2):
            stride = 2 if layer > 1 and block == 0 else 1
            name = f"layer{layer}.{block}"
            y = b.op("Relu", b.conv(x, f"{name}.conv1", cin, cout, 3, stride))
            y = b.conv(y, f"{name}.conv2", cout, cout, 3)
            if stride != 1 or cin != cout:
                x = b.conv(x, f"{name}.downsample.0", cin, cout, 1, stride)
            x, cin = b.op("Relu", b.op("Add", y, x)), cout
    return b.finish(b.linear(b.pool_to_vector(x, cin), "fc", cin, 10))


def _inverted(
    b: Builder, x: str, name: str, cin: int, cout: int, k: int, stride: int, expand: int, act, se=None
) -> str:
    hidden = cin * expand
    y = act(b.conv(x, f"{name}.expand", cin, hidden, 1)) if expand != 1 else x
    y = act(b.conv(y, f"{name}.depthwise", hidden, hidden, k, stride, groups=hidden))
    if se is not None:
        y = se(y, f"{name}.se", hidden)
    y = b.conv(y, f"{name}.project", hidden, cout, 1)
    return b.op("Add", x, y) if stride == 1 and cin == cout else y


def mobilenetv2(opset: int) -> onnx.ModelProto:
    b = Builder("mobilenetv2", opset)
    x = b.relu6(b.conv(b.input("input", 1, 3, 32, 32), "features.0.0", 3, 8, 3, 2))
    cin = 8
    for i, (t, c, s) in enumerate(((1, 8, 1), (6, 12, 2), (6, 12, 1), (6, 16, 2), (6, 16, 1))):
        x, cin = _inverted(b, x, f"features.{i + 1}", cin, c, 3, s, t, b.relu6), c
    x = b.relu6(b.conv(x, "features.18.0", cin, 48, 1))
    return b.finish(b.linear(b.pool_to_vector(x, 48), "classifier.1", 48, 10))


def mobilenetv3(opset: int) -> onnx.ModelProto:
    b = Builder("mobilenetv3", opset)

    def se(x: str, name: str, channels: int) -> str:
        pooled = b.mean(x, [-1, -2]) if b.dynamo else b.op("GlobalAveragePool", x)
        y = b.op("Relu", b.conv(pooled, f"{name}.fc1", channels, 8, 1))
        return b.op("Mul", b.hard_sigmoid(b.conv(y, f"{name}.fc2", 8, channels, 1)), x)

    relu = lambda x: b.op("Relu", x)  # noqa: E731
    x = b.hard_swish(b.conv(b.input("input", 1, 3, 32, 32), "features.0.0", 3, 8, 3, 2))
    cin = 8
    for i, (t, c, k, s, act, squeeze) in enumerate(
        (
            (1, 8, 3, 2, relu, se),
            (4, 12, 3, 2, relu, None),
            (3, 12, 5, 1, b.hard_swish, se),
            (6, 16, 5, 2, b.hard_swish, se),
        )
    ):
        x, cin = _inverted(b, x, f"features.{i + 1}", cin, c, k, s, t, act, squeeze), c
    x = b.hard_swish(b.conv(x, "features.12.0", cin, 48, 1))
    x = b.hard_swish(b.linear(b.pool_to_vector(x, 48), "classifier.0", 48, 64))
    return b.finish(b.linear(x, "classifier.3", 64, 10))


def efficientnet(opset: int) -> onnx.ModelProto:
    b = Builder("efficientnet", opset)

    def silu(x: str) -> str:
        return b.op("Mul", x, b.op("Sigmoid", x))

    def se(x: str, name: str, channels: int) -> str:
        pooled = b.mean(x, [2, 3])
        y = silu(b.conv(pooled, f"{name}.fc1", channels, 4, 1))
        return b.op("Mul", b.op("Sigmoid", b.conv(y, f"{name}.fc2", 4, channels, 1)), x)

    x = silu(b.conv(b.input("input", 1, 3, 32, 32), "features.0.0", 3, 8, 3, 2))
    cin = 8
    for i, (t, c, k, s) in enumerate(((1, 8, 3, 1), (4, 12, 3, 2), (4, 12, 3, 1), (4, 16, 5, 2), (4, 16, 5, 1))):
        x, cin = _inverted(b, x, f"features.{i + 1}", cin, c, k, s, t, silu, se), c
    x = silu(b.conv(x, "features.8.0", cin, 64, 1))
    return b.finish(b.linear(b.pool_to_vector(x, 64), "classifier.1", 64, 10))


def shufflenet(opset: int) -> onnx.ModelProto:
    b = Builder("shufflenet", opset)

    def shuffle(x: str, channels: int) -> str:
        if b.dynamo:
            h = w = {24: 4, 48: 2}[channels]
            y = b.view(x, 1, 2, channels // 2, h, w)
            return b.view(b.op("Transpose", y, perm=[0, 2, 1, 3, 4]), 1, channels, h, w)
        n, h, w = b.size(x, 0), b.size(x, 2), b.size(x, 3)
        y = b.view(x, n, 2, channels // 2, h, w)
        return b.view(b.op("Transpose", y, perm=[0, 2, 1, 3, 4]), n, -1, h, w)

    def branch(x: str, name: str, cin: int, cout: int, stride: int) -> str:
        y = b.op("Relu", b.conv(x, f"{name}.0", cin, cout, 1))
        y = b.conv(y, f"{name}.3", cout, cout, 3, stride, groups=cout)
        return b.op("Relu", b.conv(y, f"{name}.5", cout, cout, 1))

    x = b.op("Relu", b.conv(b.input("input", 1, 3, 32, 32), "conv1.0", 3, 12, 3, 2))
    x = b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=0)
    cin = 12
    for stage, channels in enumerate((24, 48), 2):
        half = channels // 2
        left = b.conv(x, f"stage{stage}.0.branch1.0", cin, cin, 3, 2, groups=cin)
        left = b.op("Relu", b.conv(left, f"stage{stage}.0.branch1.2", cin, half, 1))
        x = b.op("Concat", left, branch(x, f"stage{stage}.0.branch2", cin, half, 2), axis=1)
        x = shuffle(x, channels)
        first, second = b.split(x, 2, 1, half)
        x = b.op("Concat", first, branch(second, f"stage{stage}.1.branch2", half, half, 1), axis=1)
        x, cin = shuffle(x, channels), channels
    x = b.op("Relu", b.conv(x, "conv5.0", cin, 64, 1))
    return b.finish(b.linear(b.mean(x, [2, 3], keepdims=0), "fc", 64, 10))

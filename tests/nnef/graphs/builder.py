"""Writes ONNX graphs the way torch's exporters do at opset 11, 17 (TorchScript) and 18 (dynamo)."""

from __future__ import annotations

import math
import zlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """One graph in the making; weights are random but the same for every run."""

    def __init__(self, name: str, opset: int) -> None:
        self.name = name
        self.opset = opset
        self.dynamo = opset >= 18
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.count = 0

    def fresh(self, hint: str) -> str:
        self.count += 1
        return f"{hint}_{self.count}" if self.dynamo else f"/{hint}_{self.count}_output_0"

    def input(self, name: str, *shape: int | str, dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def init(self, value: np.ndarray, name: str) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, name: str, *shape: int, scale: float | None = None) -> str:
        fan = math.prod(shape[1:]) or 1
        values = self.rng.standard_normal(shape) * (scale if scale is not None else 1.5 / math.sqrt(fan))
        return self.init(values.astype(np.float32), name)

    def ints(self, *values: int) -> str:
        """A constant the way the exporter writes it: an initializer from dynamo, else a Constant node."""
        array = np.asarray(values, np.int64)
        name = self.fresh("Constant")
        if self.dynamo:
            return self.init(array, name)
        self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        return name

    def scalar(self, value: float | int, dtype: type = np.float32) -> str:
        name = self.fresh("Constant")
        array = np.asarray(value, dtype)
        self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attribs: object) -> str | list[str]:
        names = [self.fresh(kind) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=self.fresh(f"n_{kind}"), **attribs))
        return names[0] if outputs == 1 else names

    def finish(self, *outputs: str) -> onnx.ModelProto:
        infos = []
        for i, name in enumerate(outputs):
            final = f"output{i}" if len(outputs) > 1 else "output"
            for node in self.nodes:
                node.output[:] = [final if n == name else n for n in node.output]
                node.input[:] = [final if n == name else n for n in node.input]
            infos.append(onnx.ValueInfoProto(name=final))
            infos[-1].type.tensor_type.elem_type = TensorProto.FLOAT
        graph = helper.make_graph(self.nodes, "main_graph", self.inputs, infos, self.initializers)
        ir = {11: 6, 17: 8, 18: 8}[self.opset]
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        for info in inferred.graph.output:
            # Checked models need an output shape even where it is only known at run time.
            if not info.type.tensor_type.HasField("shape"):
                info.type.tensor_type.shape.dim.add(dim_param="batch")
                info.type.tensor_type.shape.dim.add(dim_param="features")
        onnx.checker.check_model(inferred)
        del inferred.graph.value_info[:]
        return inferred

    # Operations that exporters spell differently from opset to opset.

    def mean(self, x: str, axes: list[int], keepdims: int = 1) -> str:
        if self.opset >= 18:
            return self.op("ReduceMean", x, self.ints(*axes), keepdims=keepdims)
        return self.op("ReduceMean", x, axes=axes, keepdims=keepdims)

    def unsqueeze(self, x: str, axis: int) -> str:
        return self.op("Unsqueeze", x, self.ints(axis)) if self.opset >= 13 else self.op("Unsqueeze", x, axes=[axis])

    def squeeze(self, x: str, axis: int) -> str:
        return self.op("Squeeze", x, self.ints(axis)) if self.opset >= 13 else self.op("Squeeze", x, axes=[axis])

    def split(self, x: str, parts: int, axis: int, size: int) -> list[str]:
        if self.opset >= 18:
            return self.op("Split", x, outputs=parts, axis=axis, num_outputs=parts)
        if self.opset >= 13:
            return self.op("Split", x, self.ints(*[size] * parts), outputs=parts, axis=axis)
        return self.op("Split", x, outputs=parts, axis=axis, split=[size] * parts)

    def size(self, x: str, axis: int) -> str:
        """A dimension computed at run time, as TorchScript's exporter does for `view` and `reshape`."""
        shape = self.op("Shape", x)
        return self.op("Gather", shape, self.scalar(axis, np.int64), axis=0)

    def view(self, x: str, *sizes: int | str) -> str:
        """Reshape; sizes given as names are computed at run time."""
        if all(isinstance(s, int) for s in sizes):
            return self.op("Reshape", x, self.ints(*sizes))
        parts = [self.unsqueeze(s, 0) if isinstance(s, str) else self.ints(s) for s in sizes]
        return self.op("Reshape", x, self.op("Concat", *parts, axis=0))

    def conv(
        self, x: str, name: str, cin: int, cout: int, k: int, stride: int = 1, groups: int = 1, pad: int | None = None
    ) -> str:
        p = k // 2 if pad is None else pad
        weight = self.weight(f"{name}.weight", cout, cin // groups, k, k)
        bias = self.weight(f"{name}.bias", cout, scale=0.1)
        return self.op(
            "Conv",
            x,
            weight,
            bias,
            dilations=[1, 1],
            group=groups,
            kernel_shape=[k, k],
            pads=[p] * 4,
            strides=[stride] * 2,
        )

    def batch_norm(self, x: str, name: str, channels: int) -> str:
        scale = self.init(self.rng.uniform(0.5, 1.5, channels).astype(np.float32), f"{name}.weight")
        bias = self.weight(f"{name}.bias", channels, scale=0.1)
        mean = self.weight(f"{name}.running_mean", channels, scale=0.1)
        variance = self.init(self.rng.uniform(0.5, 1.5, channels).astype(np.float32), f"{name}.running_var")
        return self.op("BatchNormalization", x, scale, bias, mean, variance, epsilon=1e-5, momentum=0.9)

    def linear(self, x: str, name: str, fan_in: int, fan_out: int) -> str:
        weight = self.weight(f"{name}.weight", fan_out, fan_in)
        bias = self.weight(f"{name}.bias", fan_out, scale=0.1)
        return self.op("Gemm", x, weight, bias, alpha=1.0, beta=1.0, transB=1)

    def linear_nd(self, x: str, name: str, fan_in: int, fan_out: int) -> str:
        """A linear layer on a tensor of rank 3: MatMul with a transposed weight, then Add."""
        weight = self.weight(f"onnx::MatMul_{name}", fan_in, fan_out, scale=1 / math.sqrt(fan_in))
        return self.op("Add", self.weight(f"{name}.bias", fan_out, scale=0.1), self.op("MatMul", x, weight))

    def layer_norm(self, x: str, name: str, size: int) -> str:
        scale = self.init(self.rng.uniform(0.5, 1.5, size).astype(np.float32), f"{name}.weight")
        bias = self.weight(f"{name}.bias", size, scale=0.1)
        if self.opset >= 17:
            return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5)
        centered = self.op("Sub", x, self.mean(x, [-1]))
        variance = self.mean(self.op("Pow", centered, self.scalar(2.0)), [-1])
        spread = self.op("Sqrt", self.op("Add", variance, self.scalar(1e-5)))
        return self.op("Add", self.op("Mul", self.op("Div", centered, spread), scale), bias)

    def gelu(self, x: str) -> str:
        erf = self.op("Erf", self.op("Div", x, self.scalar(math.sqrt(2.0))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", erf, self.scalar(1.0))), self.scalar(0.5))

    def hard_sigmoid(self, x: str) -> str:
        return self.op("HardSigmoid", x, alpha=1.0 / 6.0)

    def hard_swish(self, x: str) -> str:
        if self.opset >= 17:
            return self.op("HardSwish", x)
        return self.op("Mul", x, self.hard_sigmoid(x))

    def relu6(self, x: str) -> str:
        return self.op("Clip", x, self.scalar(0.0), self.scalar(6.0))

    def flatten(self, x: str) -> str:
        return self.op("Flatten", x, axis=1)

    def pool_to_vector(self, x: str, channels: int) -> str:
        """adaptive_avg_pool2d(1) and flatten: GlobalAveragePool, or ReduceMean from dynamo."""
        if self.dynamo:
            return self.view(self.mean(x, [-1, -2]), 1, channels)
        return self.flatten(self.op("GlobalAveragePool", x))

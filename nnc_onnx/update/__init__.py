"""Updates between ONNX models: making, chaining and adding them."""

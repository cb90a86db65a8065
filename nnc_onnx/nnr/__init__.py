"""NNR files (`.nnr`) that carry a whole ONNX model or its bare tensors."""

"""Running packed models in onnxruntime: sessions, what they keep decoded, and the native operators."""

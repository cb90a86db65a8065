"""Sessions whose weights are in the cache or coded, and nowhere else."""

from __future__ import annotations

import onnxruntime as ort

from nnc_onnx.runtime.loader import InferenceSession


def caching_session(model: bytes, cache_bytes: int, threads: int = 1, *, levels: bool) -> InferenceSession:
    """A session that decodes what the cache does not hold."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return InferenceSession(
        model,
        options,
        providers=["CPUExecutionProvider"],
        mode="cache",
        cache_bytes=cache_bytes,
        resident=False,
        cache_levels=levels,
        recode=False,
    )

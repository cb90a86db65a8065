"""NNCodec gives back clustered tensors of packed models as they were."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from nnc_codec.params import EncodeParams

coding = pytest.importorskip("nnc_onnx.coding")


def centroids(kind: str) -> np.ndarray:
    if kind == "uniform":
        return np.arange(-7, 8, dtype=np.float32) * np.float32(0.0213)
    return np.sort(np.random.default_rng(1).standard_normal(16) * 0.06).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["uniform", "clustered"])
@pytest.mark.parametrize("shape", [(128, 96), (40, 12, 3, 3)])
def test_clustered_tensors(kind: str, dtype: str, shape: tuple[int, ...]) -> None:
    places = centroids(kind).astype(dtype)
    weights = np.random.default_rng(2).standard_normal(shape) * 0.05
    array = places[np.abs(weights[..., None] - places).argmin(-1)]
    wanted = EncodeParams(qp=-40, nonweight_qp=-40, topology=False)
    data, used = coding.encode_smallest("w", array, wanted, array)
    assert used.method == "codebook"
    assert np.array_equal(reference.decode(data)["w"].astype(dtype), array)

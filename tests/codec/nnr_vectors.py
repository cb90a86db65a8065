"""The streams in tests/data/vectors: how to load them, and their options as ours."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nnc_codec import EncodeParams

DATA = Path(__file__).parents[1] / "data" / "vectors"

Arrays = dict[str, np.ndarray]


@cache
def manifest() -> dict[str, dict[str, Any]]:
    return json.loads((DATA / "manifest.json").read_text())


@cache
def payloads() -> list[dict[str, Any]]:
    return json.loads((DATA / "payload.json").read_text())


def stream(name: str) -> bytes:
    return (DATA / f"{name}.nnr").read_bytes()


def _arrays(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive}


def source(name: str) -> Arrays:
    """What was encoded, in the order the encoder saw it."""
    return _arrays(DATA / f"{name}.source.npz")


def decoded(name: str) -> Arrays:
    """What has to come out: NNCodec's result, its float64 codebook products rounded once to float32."""
    return {
        key: value.astype(np.float32) if value.dtype == np.float64 else value
        for key, value in _arrays(DATA / f"{name}.decoded.npz").items()
    }


def is_sequence(name: str) -> bool:
    return name.startswith("seq_")


def encode_params(options: dict[str, Any]) -> EncodeParams:
    """Our options for those of NNCodec's ``nnc.compress``, its defaults included."""
    given = {
        "qp": -38,
        "qp_density": 2,
        "nonweight_qp": -75,
        "use_dq": True,
        "scan_order": 0,
        "lambda_scale": 0,
        "param_opt": True,
        "cabac_unary_length_minus1": 10,
        "row_skipping": False,
        **options,
    }
    return EncodeParams(
        qp=given["qp"],
        qp_density=given["qp_density"],
        nonweight_qp=given["nonweight_qp"],
        method="dq" if given["use_dq"] else "uniform",
        cabac_unary_length=given["cabac_unary_length_minus1"] + 1,
        scan_order=given["scan_order"],
        row_skipping=given["row_skipping"],
        param_opt=given["param_opt"],
        lambda_=float(given["lambda_scale"]),
    )


PLAIN_OPTIONS = frozenset(
    {
        "qp",
        "qp_density",
        "nonweight_qp",
        "use_dq",
        "scan_order",
        "param_opt",
        "cabac_unary_length_minus1",
        "row_skipping",
    }
)
"""Options with one tensor per unit and one quantizer, without a base model."""


def same_bytes(ours: Arrays, expected: Arrays) -> None:
    """Same names, types, shapes and bits (so -0.0 is not 0.0 and NaN payloads count)."""
    assert list(ours) == list(expected)
    for name, value in expected.items():
        assert ours[name].dtype == value.dtype, name
        assert ours[name].shape == value.shape, name
        assert ours[name].tobytes() == np.ascontiguousarray(value).tobytes(), name

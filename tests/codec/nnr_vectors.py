"""The streams in tests/data/vectors: how to load them, and their options as ours."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nnc_codec import EncodeParams, TensorParams
from nnc_codec.params import Block, Method

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


DEFECTS = {
    "bits1_d": "the step for one bit is infinite",
    "bits1_u": "the step for one bit is infinite",
    "bits8_d": "integers are clipped after the trellis and decode to others",
    "block_bits6_scan0_d": "integers are clipped after the trellis and decode to others",
    "block_bits6_scan1_d": "integers are clipped after the trellis and decode to others",
    "scanrows1_d": "rows are skipped in blocks although the trellis did not count on it, and decode to others",
}
"""Vectors in which NNCodec's encoder wrote other weights than it had quantized. Decoders agree about them."""


def is_sequence(name: str) -> bool:
    return name.startswith("seq_")


NNCODEC_DEFAULTS: dict[str, Any] = {
    "qp": -38,
    "qp_density": 2,
    "nonweight_qp": -75,
    "use_dq": True,
    "codebook_mode": 0,
    "scan_order": 0,
    "lambda_scale": 0,
    "param_opt": True,
    "cabac_unary_length_minus1": 10,
    "opt_qp": False,
    "bnf": False,
    "row_skipping": False,
    "int_quant_bw": False,
    "block_id_and_param_type": None,
    "qp_per_tensor": None,
    "device_id": 0,
}
"""What ``nncodec.nnc.compress`` assumes."""

ROLES = {
    "weight": "weight",
    "weight.ls": "local_scaling",
    "bias": "bias",
    "bn.beta": "bn_beta",
    "bn.gamma": "bn_gamma",
    "bn.mean": "bn_mean",
    "bn.var": "bn_var",
}
"""NNCodec's parameter types and the members of our Block."""


def blocks_of(block_id_and_param_type: dict[str, dict[str, str]] | None) -> tuple[Block, ...]:
    if block_id_and_param_type is None:
        return ()
    members: dict[str, dict[str, str]] = {}
    for name, block in block_id_and_param_type["block_identifier"].items():
        if block is not None:
            role = ROLES[block_id_and_param_type["parameter_type"][name]]
            members.setdefault(block, {})[role] = name
    return tuple(Block(**names) for names in members.values())


def encode_params(options: dict[str, Any]) -> EncodeParams:
    """Our options for those of NNCodec's ``nnc.compress``; state (base, differences, history) is not among them."""
    given = NNCODEC_DEFAULTS | options
    method: Method = "dq" if given["use_dq"] else "uniform"
    octave = 1 << given["qp_density"]
    qp, nonweight_qp = given["qp"], given["nonweight_qp"]
    per_tensor = given["qp_per_tensor"] or {}
    if given["codebook_mode"] == 1:
        # NNCodec halves the step where a codebook takes the place of the trellis.
        offset = octave if given["use_dq"] else 0
        method = "codebook"
        nonweight_qp = (nonweight_qp or qp - 2 * octave) - offset
        qp -= offset
        per_tensor = {name: value - offset for name, value in per_tensor.items()}
    return EncodeParams(
        qp=qp,
        qp_density=given["qp_density"],
        nonweight_qp=nonweight_qp or None,
        method=method,
        codebook_if_smaller=given["codebook_mode"] == 2,
        bit_depth=given["int_quant_bw"] or None,
        opt_qp=given["opt_qp"],
        cabac_unary_length=given["cabac_unary_length_minus1"] + 1,
        scan_order=given["scan_order"],
        row_skipping=given["row_skipping"],
        param_opt=given["param_opt"],
        lambda_=float(given["lambda_scale"]),
        blocks=blocks_of(given["block_id_and_param_type"]),
        fold_batch_norm=given["bnf"],
        device_id=given["device_id"],
        per_tensor={name: TensorParams(qp=value) for name, value in per_tensor.items()},
    )


def same_bytes(ours: Arrays, expected: Arrays) -> None:
    """Same names, types, shapes and bits (so -0.0 is not 0.0 and NaN payloads count)."""
    assert list(ours) == list(expected)
    for name, value in expected.items():
        assert ours[name].dtype == value.dtype, name
        assert ours[name].shape == value.shape, name
        assert ours[name].tobytes() == np.ascontiguousarray(value).tobytes(), name

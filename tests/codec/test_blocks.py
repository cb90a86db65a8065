"""A weight and its companions in one data unit: roles, orders, folding, composition."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import nnc_codec
from nnc_codec import EncodeParams, TensorParams
from nnc_codec.blocks import roles_by_name, roles_by_payload
from nnc_codec.folding import EPSILON, compose, fold_batch_norm
from nnc_codec.params import Block
from nnc_codec.syntax import PayloadType

Arrays = dict[str, np.ndarray]
NORM = ("bn_beta", "bn_gamma", "bn_mean", "bn_var")


def layer(*, scaling: bool = False, norm: bool = False, bias: bool = False, rows: int = 9) -> tuple[Arrays, Block]:
    generator = np.random.default_rng(rows)

    def vector() -> np.ndarray:
        return (generator.random(rows) + 0.5).astype(np.float32)

    tensors = {"w": generator.standard_normal((rows, 4, 3)).astype(np.float32)}
    names = ["local_scaling"] * scaling + list(NORM) * norm + ["bias"] * bias
    tensors |= {name: vector() for name in names}
    return tensors, Block(weight="w", **{name: name for name in names})


KINDS = [k for k in itertools.product((False, True), repeat=3) if any(k)]


def apply(tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """The layer in double precision: ((LS * W) x + bias - mean) * gamma / sqrt(var + eps) + beta."""
    wide = {name: array.astype(np.float64) for name, array in tensors.items()}
    y = np.tensordot(wide["w"], x, 2) * wide.get("local_scaling", 1) + wide.get("bias", 0)
    if "bn_var" in wide:
        y = (y - wide["bn_mean"]) * wide["bn_gamma"] / np.sqrt(wide["bn_var"] + EPSILON) + wide["bn_beta"]
    return y


@pytest.mark.parametrize("scaling, norm, bias", KINDS)
@pytest.mark.parametrize("method", ["dq", "uniform"])
@pytest.mark.parametrize("scan_order", [0, 1])
def test_tensors_of_a_block_are_those_coded_alone(
    scaling: bool, norm: bool, bias: bool, method: Any, scan_order: int
) -> None:
    tensors, block = layer(scaling=scaling, norm=norm, bias=bias, rows=20)
    options = {"qp": -16, "nonweight_qp": -30, "method": method, "scan_order": scan_order}
    together = nnc_codec.open(nnc_codec.encode(tensors, EncodeParams(**options, blocks=(block,))))
    alone = nnc_codec.decode(nnc_codec.encode(tensors, EncodeParams(**options)))
    assert {t.payload_type for t in together.values()} == {PayloadType.NNR_PT_BLOCK}
    assert {name: t.decode().tobytes() for name, t in together.items()} == {n: a.tobytes() for n, a in alone.items()}
    assert [t.qp for t in together.values()] == [-30] * (len(tensors) - 1) + [-16]


@pytest.mark.parametrize("mask", range(16))
def test_names_and_payload_have_orders_of_their_own(mask: int) -> None:
    names, payload = roles_by_name(mask), roles_by_payload(mask)
    assert sorted(names) == sorted(payload)
    assert len(names) == 1 + (mask & 1) + (mask >> 1 & 1) + 4 * (mask >> 2 & 1) + (mask >> 3 & 1)
    assert names[0].startswith("weight") and payload[-1].startswith("weight")
    if mask == 14:
        assert names == ["weight", "local_scaling", *NORM, "bias"]
        assert payload == ["local_scaling", "bias", *NORM, "weight"]


@pytest.mark.parametrize("scaling, norm, bias", [kind for kind in KINDS if kind[1]])
def test_folding_leaves_the_layer_as_it_is(scaling: bool, norm: bool, bias: bool) -> None:
    tensors, block = layer(scaling=scaling, norm=norm, bias=bias)
    folded, options = fold_batch_norm(tensors, EncodeParams(blocks=(block,), fold_batch_norm=True))
    (after,) = options.blocks
    assert after.bn_beta is None and not options.fold_batch_norm
    named = {"w": folded["w"], "local_scaling": folded[after.local_scaling], "bias": folded[after.bias]}
    x = np.random.default_rng(0).standard_normal((4, 3))
    assert np.allclose(apply(named, x), apply(tensors, x), rtol=1e-5)
    assert set(folded) == {"w", after.local_scaling, after.bias}


def test_folding_leaves_other_blocks_alone() -> None:
    tensors, block = layer(bias=True)
    folded, options = fold_batch_norm(tensors, EncodeParams(blocks=(block,), fold_batch_norm=True))
    assert options.blocks == (block,)
    assert folded.keys() == tensors.keys()


def test_a_folded_stream_composes_to_the_layer() -> None:
    tensors, block = layer(scaling=True, norm=True, bias=True)
    params = EncodeParams(qp=-60, nonweight_qp=-60, blocks=(block,), fold_batch_norm=True)
    decoded = nnc_codec.decode(nnc_codec.encode(tensors, params))
    assert sorted(decoded) == ["bias", "local_scaling", "w"]
    whole = compose(decoded, (Block(weight="w", local_scaling="local_scaling", bias="bias"),))
    assert sorted(whole) == ["bias", "w"]
    x = np.random.default_rng(0).standard_normal((4, 3))
    assert np.allclose(apply(whole, x), apply(tensors, x), atol=1e-2)


def test_scaling_is_one_float32_product() -> None:
    tensors, block = layer(scaling=True)
    whole = compose(tensors, (block,))
    expected = tensors["w"] * tensors["local_scaling"][:, None, None]
    assert whole["w"].dtype == np.float32
    assert whole["w"].tobytes() == expected.tobytes()


@pytest.mark.parametrize("scan_order", [0, 1])
@pytest.mark.parametrize("method", ["dq", "uniform", "codebook"])
def test_factors_of_a_decomposed_weight(scan_order: int, method: Any) -> None:
    generator = np.random.default_rng(4)
    tensors = {
        "u": generator.standard_normal((30, 10)).astype(np.float32),
        "v": generator.standard_normal((10, 24)).astype(np.float32),
        "bias": generator.standard_normal(30).astype(np.float32),
    }
    block = Block(weight="w", g="u", h="v", bias="bias")
    own = {"bias": TensorParams(method="uniform")} if method == "codebook" else {}
    params = EncodeParams(qp=-24, method=method, scan_order=scan_order, blocks=(block,), per_tensor=own)
    bitstream = nnc_codec.open(nnc_codec.encode(tensors, params))
    assert {name: (t.role, t.shape) for name, t in bitstream.items()} == {
        "bias": ("bias", (30,)),
        "u": ("weight_g", (30, 10)),
        "v": ("weight_h", (10, 24)),
    }
    assert {t.unit for t in bitstream.values()} == {3}
    decoded = nnc_codec.decode(nnc_codec.encode(tensors, params))
    for name, array in tensors.items():
        assert np.abs(decoded[name] - array).max() <= 2.0**-5
    whole = compose(decoded, (block,))
    assert whole["w"].tobytes() == (decoded["u"] @ decoded["v"]).tobytes()
    assert sorted(whole) == ["bias", "w"]


def test_members_with_other_quantizers_get_units_of_their_own() -> None:
    tensors, block = layer(scaling=True, bias=True)
    for own in ({"bias": TensorParams(method="uniform")}, {"bias": TensorParams(method="codebook")}):
        bitstream = nnc_codec.open(nnc_codec.encode(tensors, EncodeParams(blocks=(block,), per_tensor=own)))
        assert {t.payload_type for t in bitstream.values()} == {PayloadType.NNR_PT_FLOAT}
        masks = {unit.data_unit.compressed_parameter_types for unit in bitstream.units if unit.data_unit}
        assert masks == {2 | 8}
    tensors["bias"] = np.arange(9)
    bitstream = nnc_codec.open(nnc_codec.encode(tensors, EncodeParams(blocks=(block,))))
    assert bitstream["bias"].payload_type == PayloadType.NNR_PT_INT
    assert (bitstream["bias"].decode() == np.arange(9)).all()


def test_a_block_stands_where_its_weight_stands() -> None:
    tensors, block = layer(bias=True)
    generator = np.random.default_rng(1)
    around = {
        "first": generator.standard_normal((3, 3)),
        "bias": tensors["bias"],
        "w": tensors["w"],
        "last": np.ones(5),
    }
    assert list(nnc_codec.decode(nnc_codec.encode(around, EncodeParams(blocks=(block,))))) == [
        "first",
        "bias",
        "w",
        "last",
    ]
    around = {"w": tensors["w"], "first": around["first"], "bias": tensors["bias"]}
    assert list(nnc_codec.decode(nnc_codec.encode(around, EncodeParams(blocks=(block,))))) == [
        "bias",
        "w",
        "first",
    ]

"""Whole bitstreams of NNCodec 2.1.3, in both directions."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from nnr_vectors import (
    DEFECTS,
    decoded,
    encode_params,
    is_sequence,
    manifest,
    same_bytes,
    source,
    stream,
)

import nnc_codec
from nnc_codec import UnsupportedError

SINGLE = [name for name in manifest() if not is_sequence(name)]


def test_the_vectors_are_those_of_the_manifest() -> None:
    assert len(manifest()) == 179
    for name, entry in manifest().items():
        data = stream(name)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"]), name


@pytest.mark.parametrize("name", SINGLE)
def test_stream_decodes_bit_exactly(name: str) -> None:
    same_bytes(nnc_codec.decode(stream(name)), decoded(name))


@pytest.mark.parametrize("name", SINGLE)
def test_tensor_by_tensor_gives_the_same(name: str) -> None:
    expected = decoded(name)
    bitstream = nnc_codec.open(stream(name))
    same_bytes(
        {key: np.asarray(bitstream[key]) for key in reversed(list(bitstream))},
        dict(reversed(expected.items())),
    )


@pytest.mark.parametrize("name", [name for name in SINGLE if name not in DEFECTS])
def test_source_encodes_to_the_same_bytes(name: str) -> None:
    ours = nnc_codec.encode(source(name), encode_params(manifest()[name]["options"]))
    assert ours == stream(name)


@pytest.mark.parametrize("name", DEFECTS)
def test_where_the_reference_writes_wrong_weights_ours_are_closer(name: str) -> None:
    tensors = source(name)
    theirs, ours = (
        decoded(name),
        nnc_codec.decode(nnc_codec.encode(tensors, encode_params(manifest()[name]["options"]))),
    )
    errors = [
        sum(float(np.square(tensors[key] - result[key], dtype=np.float64).sum()) for key in tensors)
        for result in (ours, theirs)
    ]
    assert errors[0] < errors[1]


def uses_temporal_context(bitstream: nnc_codec.Bitstream) -> bool:
    headers = (unit.data_unit for unit in bitstream.units)
    return any(header is not None and header.temporal_context_modeling_flag == 1 for header in headers)


UPDATES = [name for name in manifest() if is_sequence(name) and uses_temporal_context(nnc_codec.open(stream(name)))]


@pytest.mark.parametrize("name", UPDATES)
def test_an_update_with_temporal_context_is_refused_without_its_past(name: str) -> None:
    with pytest.raises(UnsupportedError, match="temporal_context_modeling_flag"):
        nnc_codec.decode(stream(name))

"""The arithmetic-coded payload alone, against 54 payloads of the reference coder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nnr_vectors import payloads

from nnc_codec import _native

INT32 = 8  # nnc::DType::int32


def ids(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def coding(tensor: dict[str, Any]) -> _native.TensorCoding:
    rows = tensor["shape"][0]
    edition2 = tensor["profile"] == 1
    return _native.TensorCoding(
        rows=rows,
        cols=int(np.prod(tensor["shape"][1:], dtype=np.int64)),
        edition2=edition2,
        dq=bool(tensor["dq"]),
        unary_length=tensor["unary_length"],
        scan_order=tensor["scan_order"],
        parent_present=bool(tensor["parent_node_id_present"]),
        codebook_size=tensor["codebook_size"] if edition2 else 0,
        codebook_zero=tensor["codebook_zero"] if edition2 else 0,
    )


def past(tensor: dict[str, Any]) -> dict[str, np.ndarray | None]:
    reference, history = tensor.get("ref"), tensor.get("hist")
    return {
        "reference": None if reference is None else np.array(reference, np.int32),
        "history": None if history is None else np.array(history, np.uint8),
    }


def expected_integers(tensor: dict[str, Any]) -> list[int]:
    return tensor["values"] if tensor["decoded"] == "same" else tensor["decoded"]


@pytest.mark.parametrize("vector", payloads(), ids=ids)
def test_payload_decodes_to_the_integers_that_went_in(vector: dict[str, Any]) -> None:
    decoder = _native.PayloadDecoder(np.frombuffer(bytes.fromhex(vector["payload"]), np.uint8))
    for tensor in vector["tensors"]:
        if "qp" in tensor:
            assert decoder.read_qp(tensor["qp_bits"]) == tensor["qp"]
        out = np.empty(len(tensor["values"]), np.int32)
        status = decoder.read_tensor(coding(tensor), out.view(np.uint8), INT32, True, **past(tensor))
        assert status == (0, "", 0)
        assert out.tolist() == expected_integers(tensor)
    assert decoder.finish()[0] == 0


@pytest.mark.parametrize("vector", payloads(), ids=ids)
def test_integers_encode_to_the_same_payload(vector: dict[str, Any]) -> None:
    encoder = _native.PayloadEncoder()
    listed: list[list[int]] = []
    for tensor in vector["tensors"]:
        if "qp" in tensor:
            encoder.write_qp(tensor["qp"], tensor["qp_bits"])
        status = encoder.write_tensor(
            coding(tensor),
            np.array(tensor["values"], np.int32),
            row_skipping=bool(tensor["row_skip"]),
            param_opt=bool(tensor["param_opt"]),
            hist_on=bool(tensor.get("hist_flag", 0)),
            **past(tensor),
        )
        assert status == (0, "", 0)
        chosen = {str(model): number for model, number in enumerate(encoder.parameter_sets()) if number}
        assert chosen == tensor["parameter_sets"]
        listed += tensor["entry_points"]
    assert encoder.finish().hex() == vector["payload"]
    assert [list(entry) for entry in encoder.entry_points()] == listed


def test_a_payload_does_not_decode_with_a_byte_missing_or_added() -> None:
    vector = next(v for v in payloads() if v["name"] == "larger matrix, parameter search effective")
    tensor = vector["tensors"][0]
    payload = bytes.fromhex(vector["payload"])
    for changed in (payload[:-1], payload + b"\0", payload + b"\x80", payload[:-1] + b"\0"):
        decoder = _native.PayloadDecoder(np.frombuffer(changed, np.uint8))
        out = np.empty(len(tensor["values"]), np.int32)
        status = decoder.read_tensor(coding(tensor), out.view(np.uint8), INT32, True)
        assert (status[0] or decoder.finish()[0]) in (1, 2)

"""``inspect --syntax`` shows every bit of every bitstream, whatever file it sits in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_models import write_model
from cli_runner import onnx_nnc

import nnc_codec
from nnc_codec import syntax
from nnc_codec.abilities import bitstream_source
from nnc_codec.syntax_trace import trace, write_json
from nnc_onnx.format import OnnxFormat
from nnc_onnx.nnr.format import NnrFormat
from nnc_onnx.schemas import schema

LINE = re.compile(r" {4} *(\d+) +(\d+)  (\S+) *(.*)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, packed and as NNR file."""
    made = tmp_path_factory.mktemp("syntax")
    write_model(made / "m.onnx")
    assert onnx_nnc("pack", made / "m.onnx", "-q").status == 0
    assert onnx_nnc("pack", made / "m.onnx", "-q", "-o", made / "m.nnr").status == 0
    return made


def check_complete(elements: list[tuple[int, int]], nbytes: int) -> None:
    """Every bit belongs to exactly one element."""
    at = 0
    for offset, width in elements:
        assert offset == at and width > 0
        at += width
    assert at == 8 * nbytes


def test_text_shows_offset_width_name_value_meaning(folder: Path) -> None:
    result = onnx_nnc("inspect", "--syntax", folder / "m.nnr")
    assert result.status == 0 and result.err == ""
    lines = result.out.splitlines()
    assert lines[0] == f"m.nnr: {(folder / 'm.nnr').stat().st_size} bytes"
    assert [line for line in lines if line.startswith("  unit")] == [
        "  unit 0: NNR_STR",
        "  unit 1: NNR_MPS",
        "  unit 2: NNR_TPL",
        "  unit 3: NNR_NDU",
        "  unit 4: NNR_NDU",
    ]
    elements = [match for match in map(LINE.fullmatch, lines) if match]
    check_complete([(int(m[1]), int(m[2])) for m in elements], (folder / "m.nnr").stat().st_size)
    text = "\n".join(" ".join(line.split()) for line in lines)
    for part in ("topology_storage_format 2 NNR_TPL_ONNX", 'topology_elem_id "w0"', "tensor_dimensions[0] 64"):
        assert part in text


@pytest.mark.parametrize("name", ["m.nnr", "m.nnc.onnx"])
def test_json_follows_its_schema_and_covers_every_bit(name: str, folder: Path) -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    result = onnx_nnc("inspect", "--syntax", "--json", folder / name)
    assert result.status == 0 and result.err == ""
    report = json.loads(result.out)
    validator(schema("syntax-report")).validate(report)
    assert report["report"] == "syntax" and report["source"].endswith(name)
    model_format = NnrFormat() if name.endswith("nnr") else OnnxFormat()
    held = dict(model_format.bitstreams(folder / name))
    assert [item["label"] for item in report["bitstreams"]] == list(held)
    for item in report["bitstreams"]:
        assert item["nbytes"] == len(held[item["label"]])
        check_complete([(e["bit_offset"], e["width"]) for e in item["elements"]], item["nbytes"])


def test_shared_payloads_are_shown_once(folder: Path) -> None:
    assert [label for label, _ in OnnxFormat().bitstreams(folder / "m.nnc.onnx")] == ["w0", "w1"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_is_readable_comes_before_the_error(options: list[str], folder: Path, tmp_path: Path) -> None:
    whole = (folder / "m.nnr").read_bytes()
    broken = tmp_path / "broken.nnr"
    broken.write_bytes(whole[:-100])
    result = onnx_nnc("inspect", "--syntax", broken, *options)
    assert result.status == 3 and result.error_line.startswith("error NNC-E102")
    if options:
        (item,) = json.loads(result.out)["bitstreams"]
        assert item["error"]["code"] == "NNC-E102" and item["elements"][-1]["unit"] == 4
    else:
        assert "  unit 3: NNR_NDU" in result.out


def test_plain_models_hold_no_bitstreams(folder: Path) -> None:
    result = onnx_nnc("inspect", "--syntax", folder / "m.onnx")
    assert result.status == 1 and "not packed" in result.error_line


def test_formats_without_bitstreams_are_refused(tmp_path: Path) -> None:
    class Other:
        name = "other"

    with pytest.raises(nnc_codec.UnsupportedError, match="other"):
        bitstream_source(Other(), tmp_path)


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "m.nnr"
    path.write_bytes(nnc_codec.encode({"\x1b[31mred": np.ones((4, 4), np.float32)}))
    result = onnx_nnc("inspect", "--syntax", path)
    assert result.status == 0 and "\x1b" not in result.out and "\\x1b[31mred" in result.out


def test_values_that_json_cannot_hold(tmp_path: Path) -> None:
    """Hashes of 256 bits and unconfirmed syntax are shown; nothing is computed from them."""
    start = nnc_codec.open(nnc_codec.encode({"w": np.ones(4, np.float32)}, base=nnc_codec.UpdateState()))
    context = syntax.Context(strict=False)
    for before in start.units[:3]:
        context = before.context_after(context)
    digest = bytes(range(200, 232))
    header = syntax.CompressedDataUnitHeader(
        nnr_compressed_data_unit_payload_type=1,
        nnr_multiple_topology_elements_present_flag=0,
        input_parameters_present_flag=1,
        topology_elem_id="w",
        parent_node_id_present_flag=1,
        parent_node_id_type=1,
        parent_node_payload_sha256=digest,
        tensor_dimensions_flag=1,
        cabac_unary_length_flag=1,
        cabac_unary_length_minus1=10,
        count_tensor_dimensions=1,
        tensor_dimensions=(4,),
    )
    unit = syntax.UnitHeader(nnr_unit_type=5, compressed_data_unit_header=header)
    head = b"".join(start.unit_bytes(index) for index in range(3))
    data = head + syntax.write_unit(unit, b"\x80\x00", context)
    written: list[str] = []
    write_json("m", [("m", data)], written.append)
    elements = json.loads("".join(written))["bitstreams"][0]["elements"]
    (value,) = [e["value"] for e in elements if e["element"].endswith("parent_node_payload_sha256")]
    assert digest.hex() in str(value)
    assert sum(len(unit) for unit in trace(data)) == len(elements)

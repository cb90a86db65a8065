"""The bitstreams of an NNEF container can be listed and traced, and stay in containers."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import write_model

import nnc_codec
from nnc_codec import InvalidArgumentError, UnsupportedError
from nnc_codec.abilities import bitstream_source, packer
from nnc_codec.formats import PackOptions, register
from nnc_codec.syntax_trace import trace
from nnc_nnef.format import NnefFormat
from nnc_onnx.nnr.format import NnrFormat


@pytest.mark.parametrize("output", ["m.nnc.nnef.tar", "m.nnc.nnef.tgz"])
def test_every_bit_of_every_bitstream_is_traced(output: str, tmp_path: Path) -> None:
    source = write_model(tmp_path / "m.nnef.tgz")
    model_format = NnefFormat()
    model_format.pack(source, tmp_path / output, PackOptions())
    held = dict(bitstream_source(model_format, tmp_path / output).bitstreams(tmp_path / output))
    assert list(held) == ["weights.nnr"]
    for data in held.values():
        elements = [element for unit in trace(data) for element in unit]
        assert sum(element.width for element in elements) == 8 * len(data)
        assert set(nnc_codec.open(data)) >= {"fc1/weight", "fc2.weight"}


def test_plain_containers_hold_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="not packed"):
        list(NnefFormat().bitstreams(write_model(tmp_path / "m.nnef.tgz")))


def test_nnr_files_hold_no_nnef_models() -> None:
    register(NnrFormat())
    with pytest.raises(UnsupportedError, match="nnef"):
        packer(NnefFormat(), Path("m.nnr"))
    assert packer(NnefFormat(), Path("m.nnef.tar")).name == "nnef"

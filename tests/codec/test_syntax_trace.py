"""The trace of whole bitstreams."""

from __future__ import annotations

import pytest
from syntax_streams import DATA

from nnc_codec.errors import UnsupportedError
from nnc_codec.syntax import TraceEntry, trace_units


def test_the_trace_of_a_damaged_bitstream_ends_at_the_damage() -> None:
    data = bytearray((DATA / "examples/A.nnc").read_bytes())
    whole = [entry for entries in trace_units(data) for entry in entries]
    data[21] = 0b11111_0_0_1
    seen: list[TraceEntry] = []
    with pytest.raises(UnsupportedError):
        for entries in trace_units(data):
            seen += entries
    assert len(seen) < len(whole)
    assert [entry.path for entry in seen] == [entry.path for entry in whole[: len(seen)]]
    assert seen[-1].path.endswith("nnr_compressed_data_unit_payload_type")
    assert seen[-1].value == 31
    assert seen[-1].meaning == "reserved"


def test_a_trace_line_reads_well() -> None:
    data = (DATA / "examples/A.nnc").read_bytes()
    lines = [entry.text for entries in trace_units(data) for entry in entries]
    assert lines[2] == "        16      6  nnr_unit_header.nnr_unit_type = 0  (NNR_STR)"
    long = TraceEntry("payload.topology_data", 0, 8000, b"\x01" * 1000, "")
    assert long.text.endswith("01... (1000 bytes)")
    assert len(long.text) < 140
    assert long.to_dict()["value"] == "01" * 1000

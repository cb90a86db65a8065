"""The C++ reader comes out of the same description: complete, reproducible, without any dependency."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnc_codec import decode_single
from nnc_codec.errors import NNRError
from nnc_codec.syntax import generate_cpp, scan_units, units
from nnc_codec.syntax.enums import CONSTANTS
from nnc_codec.syntax.fields import Structure
from nnc_codec.syntax.parameter_sets import LayerParameterSet, ModelParameterSet
from nnc_codec.syntax.topology import TopologyUnitPayload

SCRIPT = Path(generate_cpp.__file__)
VECTORS = Path(__file__).parents[1] / "data" / "vectors"


def everything() -> list[type[Structure]]:
    roots = [units.UnitSize, units.UnitHeader, ModelParameterSet, LayerParameterSet, TopologyUnitPayload]
    found: list[type[Structure]] = []
    while roots:
        cls = roots.pop()
        found.append(cls)
        roots += [e.structure for e in cls.elements if e.structure is not None]
    return found


def test_it_runs_with_the_standard_library_alone(tmp_path: Path) -> None:
    out = tmp_path / "generated" / "nnc_syntax.h"
    command = [sys.executable, "-I", "-S", str(SCRIPT), str(out)]
    subprocess.run(command, check=True)
    first = out.read_text()
    assert first == generate_cpp.header()
    before = out.stat().st_mtime_ns
    subprocess.run(command, check=True)
    assert out.stat().st_mtime_ns == before


def test_it_asks_for_a_path() -> None:
    result = subprocess.run([sys.executable, "-I", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "usage" in result.stderr


@pytest.mark.parametrize("cls", sorted(set(everything()), key=lambda c: c.__name__), ids=lambda c: c.__name__)
def test_every_element_is_there_in_order(cls: type[Structure]) -> None:
    text = generate_cpp.header()
    struct = re.search(rf"^struct {cls.__name__} {{\n(.*?)^}};", text, re.M | re.S)
    assert struct is not None
    members = re.findall(r" (\w+)(?: = \S+)?;$", struct[1], re.M)
    assert members == [element.name for element in cls.elements if element.is_value]
    function = re.search(rf"^inline Status read\([^)]*\b{cls.__name__}& v.*?^}}", text, re.M | re.S)
    assert function is not None
    place = 0
    for element in cls.elements:
        if element.kind == "local":
            continue
        wanted = f"v.{element.name}" if element.is_value else f'"{element.name}"'
        place = function[0].find(wanted, place)
        assert place >= 0, element.name


def flipped_headers(data: bytes, begin: int, end: int) -> list[bytes]:
    flips = []
    for bit in range(8 * begin, 8 * end):
        damaged = bytearray(data)
        damaged[bit >> 3] ^= 0x80 >> (bit & 7)
        flips.append(bytes(damaged))
    return flips


@pytest.mark.parametrize("name", ["codebook1_scan2", "qd_qp-20", "qu_qp-20"])
def test_both_readers_refuse_the_same_headers(name: str) -> None:
    data = (VECTORS / f"{name}.nnr").read_bytes()
    unit = list(scan_units(data))[-1][0]
    assert unit.data_unit is not None
    shape = unit.data_unit.tensor_dimensions
    decode_single(data, np.float32, shape)
    refused = 0
    for damaged in flipped_headers(data, unit.offset + 3, unit.payload_offset):
        try:
            list(scan_units(damaged))
        except NNRError as error:
            if "entry point outside the payload" in error.message:
                continue  # reading from front to back does not need the entry points
            refused += 1
            with pytest.raises(type(error)) as caught:
                decode_single(damaged, np.float32, shape)
            element = caught.value.message.split(":")[0]
            assert f"NNR_NDU: {element}: " in error.message
            assert caught.value.bit_offset in (None, error.bit_offset)
    assert refused > 10


def test_enumerators_have_their_values() -> None:
    text = generate_cpp.header()
    found = dict(re.findall(r"^constexpr std::int64_t (\w+) = (\d+);", text, re.M))
    assert {name: int(value) for name, value in found.items()} == CONSTANTS

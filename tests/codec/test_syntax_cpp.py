"""The C++ reader comes out of the same description: complete, reproducible, without any dependency."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nnc_codec.syntax import generate_cpp, units
from nnc_codec.syntax.enums import CONSTANTS
from nnc_codec.syntax.fields import Structure
from nnc_codec.syntax.parameter_sets import LayerParameterSet, ModelParameterSet
from nnc_codec.syntax.topology import TopologyUnitPayload

SCRIPT = Path(generate_cpp.__file__)


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


def test_enumerators_have_their_values() -> None:
    text = generate_cpp.header()
    found = dict(re.findall(r"^constexpr std::int64_t (\w+) = (\d+);", text, re.M))
    assert {name: int(value) for name, value in found.items()} == CONSTANTS

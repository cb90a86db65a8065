"""What the conformance manifest says about NNCodec is what NNCodec does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))

from golden import manifest, nncodec_says

ENTRIES = {name: entry for name, entry in manifest().items() if "error" not in entry}


@pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")
@pytest.mark.parametrize("name", ENTRIES)
def test_nncodec_on_golden_streams(name: str) -> None:
    assert nncodec_says(name, ENTRIES) == ENTRIES[name]["nncodec"]

"""Golden streams decode to what they always decoded to; error streams are refused with the same error."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import table
from features import FEATURES, features_of
from golden import FOLDER, decode, digest, manifest, stream
from streams import ERRORS, STREAMS

import nnc_codec
from nnc_codec import NNRError, UpdateState

ENTRIES = manifest()
GOOD = [name for name, entry in ENTRIES.items() if "error" not in entry]
BAD = [name for name, entry in ENTRIES.items() if "error" in entry]


def test_the_manifest_lists_the_files() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(ENTRIES)
    assert sorted(ENTRIES) == sorted([g.name for g in STREAMS] + [d.name for d in ERRORS])
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1 << 18


@pytest.mark.parametrize("name", ENTRIES)
def test_the_files_are_what_they_were(name: str) -> None:
    data = stream(name)
    assert (len(data), hashlib.sha256(data).hexdigest()) == (ENTRIES[name]["bytes"], ENTRIES[name]["sha256"])


@pytest.mark.parametrize("name", GOOD)
def test_stream_decodes_to_the_known_result(name: str) -> None:
    assert digest(decode(name, ENTRIES)) == ENTRIES[name]["result"]


@pytest.mark.parametrize("name", BAD)
def test_stream_is_refused(name: str) -> None:
    with pytest.raises(NNRError) as caught:
        nnc_codec.decode(stream(name))
    assert caught.value.code == ENTRIES[name]["error"]
    assert caught.value.message
    with pytest.raises(NNRError):
        nnc_codec.decode_single(stream(name), np.float32, (4, 5))


@pytest.mark.parametrize("golden", [*STREAMS, *ERRORS], ids=lambda golden: golden.name)
def test_stream_is_still_written_that_way(golden: Any) -> None:
    assert golden.build() == stream(golden.name)


@pytest.mark.parametrize("golden", STREAMS, ids=lambda golden: golden.name)
def test_features_are_stated_correctly(golden: Any) -> None:
    shown = features_of(nnc_codec.open(stream(golden.name)))
    assert sorted(shown | set(golden.features)) == ENTRIES[golden.name]["features"]
    assert set(ENTRIES[golden.name]["features"]) <= FEATURES.keys()


def test_every_feature_has_a_stream() -> None:
    covered = {feature for entry in ENTRIES.values() for feature in entry["features"]}
    covered |= set().union(*table.vector_features().values())
    assert covered == FEATURES.keys()


def test_lower_edition_payloads_are_told_apart() -> None:
    new, old = (nnc_codec.decode(stream(name))["w"] for name in ("edition-1", "edition-1-nncodec-0"))
    assert new.tobytes() == old.tobytes()
    assert stream("edition-1") != stream("edition-1-nncodec-0")


def test_an_update_stream_alone_shows_what_it_is() -> None:
    data = stream("update-0")
    assert nnc_codec.decode(data).keys() == nnc_codec.decode(data, base=UpdateState(history=True)).keys()


def test_the_page_is_current() -> None:
    assert table.PAGE.read_text(encoding="utf-8") == table.page(), "run python tests/conformance/table.py"

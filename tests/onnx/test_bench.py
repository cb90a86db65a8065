"""The benchmark measures what it says, each configuration in a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema
import onnx
import onnx_graphs
import pytest

import nnc_onnx
from nnc_codec.errors import InvalidArgumentError
from nnc_codec.formats import PackOptions
from nnc_codec.report import to_json
from nnc_onnx.benchmark.report import CONFIGURATIONS, BenchReport
from nnc_onnx.schemas import schema

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Path, Path]:
    """Plain and packed."""
    folder = tmp_path_factory.mktemp("bench")
    onnx.save(onnx_graphs.mlp(4, 128), folder / "m.onnx")
    nnc_onnx.pack(folder / "m.onnx", folder / "m.nnc.onnx", PackOptions())
    return folder / "m.onnx", folder / "m.nnc.onnx"


@pytest.fixture(scope="module")
def report(models) -> BenchReport:
    return nnc_onnx.bench(models[1], nnc_onnx.BenchOptions(runs=3, batch=4, threads=1))


def test_every_configuration_has_its_row(report):
    assert [row.name for row in report.rows] == [configuration.name for configuration in CONFIGURATIONS]
    assert [row.failure for row in report.rows] == [None] * len(CONFIGURATIONS)
    modes = {row.name: row.mode for row in report.rows}
    assert modes["plain"] == "plain" and modes["lazy"] == "lazy" and modes["cache 100 %"] == "eager"
    jsonschema.validate(json.loads(to_json(report)), schema("bench-report"))


def test_figures_fit_the_configurations(report):
    rows = {row.name: row for row in report.rows}
    assert rows["plain"].relative == rows["plain"].relative_processor == 1
    assert rows["plain"].identical and rows["eager"].identical
    assert rows["lazy"].decode_seconds > 0 == rows["eager"].decode_seconds
    assert rows["cache 100 %, no constants"].hit_rate == 1
    assert rows["lazy"].constant_bytes <= rows["cache 50 %"].constant_bytes < rows["eager"].constant_bytes
    assert 0 < rows["int8"].output_change < 0.1 and not rows["int8"].identical
    for row in report.rows:
        assert row.create_seconds > 0 < row.first_seconds and row.runs == 2
        assert row.name == "int8" or row.output_change < 1e-5
        if sys.platform.startswith("linux"):
            assert row.peak_bytes > 0


def test_against_the_original(models):
    plain, packed = models
    options = nnc_onnx.BenchOptions(runs=2, against=plain, configurations=("eager",))
    report = nnc_onnx.bench(packed, options)
    assert [row.name for row in report.rows] == ["plain", "eager"]
    assert report.against == str(plain)
    assert 0 < report.rows[1].output_change < 0.2


def test_failure_of_a_configuration_is_told(models, tmp_path):
    inputs = tmp_path / "wrong.npz"
    inputs.write_bytes(b"PK")
    report = nnc_onnx.bench(models[1], nnc_onnx.BenchOptions(runs=2, inputs=inputs, configurations=("lazy",)))
    assert all(row.failure is not None and "NNC-E" in row.failure for row in report.rows)


def test_what_is_refused(models):
    with pytest.raises(InvalidArgumentError, match="not a packed"):
        nnc_onnx.bench(models[0])
    with pytest.raises(InvalidArgumentError, match="known: plain"):
        nnc_onnx.BenchOptions(configurations=("fastest",))
    with pytest.raises(InvalidArgumentError, match="runs"):
        nnc_onnx.BenchOptions(runs=1)

"""What ``analyze`` measures, and the page it writes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import jsonschema
import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_graphs import mlp, model, tensor, value, weights

from nnc_codec.errors import InvalidArgumentError
from nnc_codec.files import OutputExistsError
from nnc_codec.report import to_json
from nnc_onnx import pack
from nnc_onnx.cli import main
from nnc_onnx.rd import analysis_page, analyze, write_page
from nnc_onnx.rd.errors import CalibrationError
from nnc_onnx.rd.lossless import SAMPLE, compressors
from nnc_onnx.schemas import schema

pytest.importorskip("onnxruntime")

FLOAT = onnx.TensorProto.FLOAT
HOSTILE = "<script>alert('x')</script>&\"\u202e\x1b[31m"


@pytest.fixture
def path(tmp_path):
    target = tmp_path / "m.onnx"
    onnx.save(mlp(width=96), target)
    return target


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    """Of a model whose tensor is called what nobody should call one."""
    nodes = [helper.make_node("MatMul", ["x", HOSTILE], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    made = model(
        nodes,
        [value("x", FLOAT, ["n", 64])],
        [value("y", FLOAT, ["n", 64])],
        [tensor(HOSTILE, weights(64, 64, seed=1)), tensor("w", weights(64, 64, seed=2))],
    )
    target = tmp_path_factory.mktemp("hostile") / "m<b>.onnx"
    onnx.save(made, target)
    return analyze(target)


def element_tree(page: str) -> ElementTree.Element:
    return ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))


def numbers(page: str, table: str) -> list[list[float | None]]:
    """Full values of the number cells of a table."""
    found = element_tree(page).find(f".//table[@id='{table}']/tbody")
    assert found is not None
    cells = [[cell for cell in row if cell.get("class") == "n"] for row in found]
    return [[float(c.get("data-value")) if c.get("data-value") else None for c in row] for row in cells]


def test_rungs_are_what_packing_gives(path, tmp_path):
    analysis = analyze(path)
    fast = next(rung for rung in analysis.rungs if rung.options == "--fast")
    report = pack(path, tmp_path / "p.onnx")
    assert fast.packed_bytes == report.packed_bytes == (tmp_path / "p.onnx").stat().st_size
    assert fast.ratio == report.packed_bytes / path.stat().st_size
    assert sum(rung.is_default for rung in analysis.rungs) == 1
    by_options = {rung.options: rung for rung in analysis.rungs}
    sizes = [by_options[f"--preset {name}"].packed_bytes for name in ("high", "balanced", "small")]
    assert sizes == sorted(sizes, reverse=True)
    assert all(rung.deviation is not None and 0 < rung.deviation < 0.1 for rung in analysis.rungs)


def test_predicted_sizes_add_up(path):
    analysis = analyze(path)
    usual = next(rung for rung in analysis.rungs if rung.is_default)
    payloads = sum(entry.predicted_bytes for entry in analysis.tensors if entry.same_as is None)
    assert analysis.fixed_bytes + payloads >= usual.packed_bytes
    assert 0 < analysis.fixed_bytes < usual.packed_bytes


def test_the_same_whatever_the_number_of_workers(path):
    from nnc_codec.formats import PackOptions

    one, two = (analyze(path, PackOptions(jobs=jobs)) for jobs in (1, 3))
    assert msgspec.structs.replace(one, seconds=0.0) == msgspec.structs.replace(two, seconds=0.0)


def test_sensitivity_tells_what_matters(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "loud"], ["a"]),
        helper.make_node("MatMul", ["x", "quiet"], ["b"]),
        helper.make_node("Mul", ["b", "factor"], ["c"]),
        helper.make_node("Add", ["a", "c"], ["y"]),
    ]
    initializers = [
        tensor("loud", weights(96, 96, seed=1)),
        tensor("quiet", weights(96, 96, seed=2)),
        tensor("factor", np.float32(0.01)),
    ]
    made = model(nodes, [value("x", FLOAT, ["n", 96])], [value("y", FLOAT, ["n", 96])], initializers)
    onnx.save(made, tmp_path / "m.onnx")
    found = {entry.name: entry for entry in analyze(tmp_path / "m.onnx").tensors}
    assert found["loud"].sensitivity > 100 * found["quiet"].sensitivity


def test_calibration_adds_its_rungs_and_is_what_all_is_measured_on(path):
    feeds = {"x": np.random.default_rng(0).standard_normal((8, 96)).astype(np.float32)}
    analysis = analyze(path, calibration=feeds)
    assert analysis.basis == "calibration"
    assert sum("--calibration" in rung.options for rung in analysis.rungs) == 3
    with pytest.raises(CalibrationError):
        analyze(path, calibration={"other": feeds["x"]})


def test_a_model_that_cannot_be_run_still_has_sizes(tmp_path):
    node = helper.make_node("Unheard", ["x", "w"], ["y"], domain="example")
    made = model(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), node],
        [value("x", FLOAT, ["n", 96])],
        [value("y", FLOAT, ["n", 96])],
        [tensor("w", weights(96, 96))],
    )
    made.opset_import.append(helper.make_opsetid("example", 1))
    onnx.save(made, tmp_path / "m.onnx")
    analysis = analyze(tmp_path / "m.onnx")
    assert analysis.basis == "statistics" and not analysis.curve and analysis.notes
    assert [rung.options for rung in analysis.rungs] == ["--fast"] and analysis.rungs[0].is_default
    element_tree(analysis_page(analysis))


def test_packed_models_are_refused(path, tmp_path):
    pack(path, tmp_path / "p.onnx")
    with pytest.raises(InvalidArgumentError, match="packed already"):
        analyze(tmp_path / "p.onnx")


def test_compressors_of_weights_and_their_halves(path):
    analysis = analyze(path)
    assert {"xz -9", "zlib -9"} <= set(compressors())
    found = {(entry.compressor, entry.content): entry for entry in analysis.lossless}
    assert path.stat().st_size < SAMPLE and not any(entry.estimated for entry in analysis.lossless)
    for name in compressors():
        assert found[name, "float16"].packed_bytes < found[name, "stored"].packed_bytes < path.stat().st_size


def test_large_models_are_sampled(tmp_path):
    onnx.save(mlp(width=512), tmp_path / "m.onnx")
    found = {(entry.compressor, entry.content): entry for entry in analyze(tmp_path / "m.onnx").lossless}
    assert found["zlib -9", "stored"].estimated
    whole = compressors()["zlib -9"]((tmp_path / "m.onnx").read_bytes())
    assert found["zlib -9", "stored"].packed_bytes == pytest.approx(whole, rel=0.02)


def test_the_page_has_the_numbers_of_the_report(analysis):
    page = analysis_page(analysis)
    report = json.loads(to_json(analysis))
    jsonschema.validate(report, schema("analysis"))
    assert numbers(page, "rungs") == [
        [rung[key] for key in ("packed_bytes", "ratio", "bits_per_weight", "deviation")] for rung in report["rungs"]
    ]
    assert numbers(page, "curve") == [[p["packed_bytes"], p["ratio"], p["deviation"]] for p in report["curve"]]
    assert numbers(page, "lossless") == [[p["packed_bytes"], p["ratio"]] for p in report["lossless"]]
    keys = ("original_bytes", "predicted_bytes", "bits_per_weight", "qp", "error", "sensitivity")
    assert numbers(page, "tensors") == [[entry.get(key) for key in keys] for entry in report["tensors"]]


def test_the_page_stands_alone_and_escapes_names(analysis):
    page = analysis_page(analysis)
    found = {element.tag.rpartition("}")[2] for element in element_tree(page).iter()}
    assert "svg" in found and "script" not in found and not found & {"img", "link", "iframe", "object"}
    assert "\u202e" not in page and "\x1b" not in page and "<script" not in page
    assert "&lt;script&gt;" in page and "\\u202e" in page and "\\x1b" in page
    assert "url(" not in page and "@import" not in page and "src=" not in page and "href=" not in page

    open_tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            assert not any(name.startswith("on") for name, _ in attrs)
            open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

        def handle_startendtag(self, tag, attrs):
            pass

    Reader().feed(page)
    assert not open_tags


def test_pages_are_not_overwritten(analysis, tmp_path):
    target = tmp_path / "page.html"
    write_page(analysis, target)
    before = target.read_bytes()
    with pytest.raises(OutputExistsError):
        write_page(analysis, target)
    write_page(analysis, target, force=True)
    assert target.read_bytes() == before and list(tmp_path.iterdir()) == [target]


def test_command_writes_page_and_json(path, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["analyze", str(path), "--json", "--html", str(page)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert numbers(page.read_text(encoding="utf-8"), "rungs")[0][0] == report["rungs"][0]["packed_bytes"]
    before = page.read_bytes()
    assert main(["analyze", str(path), "--html", str(page)]) == 1
    assert "NNC-E202" in capsys.readouterr().err and page.read_bytes() == before
    assert main(["analyze", str(path), "--html", str(page), "--force"]) == 0
    assert f"wrote {page}" in capsys.readouterr().out

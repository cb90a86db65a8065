"""Formats are found by content, through the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnc_codec import formats
from nnc_codec.errors import InvalidArgumentError, UnsupportedError
from nnc_codec.files import FileAccessError
from nnc_codec.formats import ModelFormat, PackOptions, UnknownFormatError
from nnc_codec.report import Finding, PackReport, TensorReport, VerifyReport, to_json


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    from nnc_onnx.format import OnnxFormat

    monkeypatch.setattr(formats, "_registered", {})
    formats.register(OnnxFormat())


def test_onnx_satisfies_the_protocol() -> None:
    from nnc_onnx.format import OnnxFormat

    assert isinstance(OnnxFormat(), ModelFormat)


@pytest.mark.usefixtures("registry")
class TestRegistry:
    def test_unknown_content(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_text("not a model")
        with pytest.raises(UnknownFormatError, match="known format"):
            formats.recognise(tmp_path / "m.onnx")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileAccessError):
            formats.recognise(tmp_path / "missing")

    def test_by_name(self) -> None:
        assert formats.by_name("onnx").name == "onnx"
        with pytest.raises(InvalidArgumentError, match=r"known: .*onnx"):
            formats.by_name("tensorrt")

    def test_no_converter(self) -> None:
        with pytest.raises(UnsupportedError, match="no installed format converts"):
            formats.converter("onnx", "tensorrt")

    def test_the_first_of_a_name_stays(self) -> None:
        from nnc_onnx.format import OnnxFormat

        first = formats.by_name("onnx")
        formats.register(OnnxFormat())
        assert formats.by_name("onnx") is first


@pytest.mark.parametrize("options", [{"min_elements": -1}, {"jobs": -1}, {"qp_density": 8}])
def test_senseless_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(InvalidArgumentError):
        PackOptions(**options)


def test_report_figures() -> None:
    def tensor(**changes: object) -> TensorReport:
        values = {
            "name": "w",
            "shape": (10, 10),
            "dtype": "float32",
            "treatment": "coded",
            "original_bytes": 400,
            "stored_bytes": 50,
        }
        return TensorReport(**{**values, **changes})

    report = PackReport(
        format="onnx",
        source="a",
        output="b",
        original_bytes=1000,
        packed_bytes=250,
        tensors=(tensor(), tensor(name="v", same_as="w"), tensor(name="p", treatment="plain", stored_bytes=400)),
    )
    assert report.ratio == 0.25
    assert report.bits_per_weight == 8 * 50 / 200
    assert '"report": "pack"' in to_json(report)


def test_exit_status_is_that_of_the_gravest_finding() -> None:
    def status(*codes: int) -> int:
        findings = tuple(Finding(code="NNC-E100", message="", exit_code=code) for code in codes)
        return VerifyReport(format="onnx", source="", ok=not codes, findings=findings).exit_code

    assert (status(), status(4), status(4, 3), status(5, 4), status(5)) == (0, 4, 3, 4, 5)

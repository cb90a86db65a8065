"""Bad input: one clear line with a code, the right status, nothing written, nothing overwritten."""

from __future__ import annotations

import os
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_models import write_model
from cli_runner import onnx_nnc

import nnc_codec
import nnc_onnx

pytest.importorskip("onnxruntime")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A plain model."""
    return write_model(tmp_path / "m.onnx")


@pytest.fixture
def packed(model: Path) -> Path:
    """The same, packed."""
    assert onnx_nnc("pack", model, "-q").status == 0
    return model.with_name("m.nnc.onnx")


def snapshot(folder: Path) -> dict[str, bytes]:
    """Names and contents of all files."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def refuse(folder: Path, *arguments: str | Path, status: int, code: str = "", words: str = "") -> str:
    """Run a command that must fail with one line and leave the folder alone; returns the line."""
    before = snapshot(folder)
    result = onnx_nnc(*arguments, folder=folder)
    assert result.out == ""
    line = result.error_line
    assert result.status == status, line
    assert re.match(f"error {code}: " if code else r"error( NNC-E\d{3})?: ", line), line
    assert re.search(words, line), line
    assert "Traceback" not in line
    assert snapshot(folder) == before
    return line


class TestFiles:
    def test_missing(self, tmp_path: Path) -> None:
        for command in ("pack", "run"):
            refuse(tmp_path, command, "no.onnx", status=1, code="NNC-E201", words="no such file")

    def test_not_a_model(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_text("I am text.\n")
        (tmp_path / "empty.onnx").write_bytes(b"")
        (tmp_path / "noise.onnx").write_bytes(np.random.default_rng(0).bytes(4000))
        for name, command in (("m.onnx", "pack"), ("empty.onnx", "inspect"), ("noise.onnx", "run")):
            refuse(tmp_path, command, name, status=1, code="NNC-E203", words="known format")

    def test_truncated_model(self, model: Path) -> None:
        model.write_bytes(model.read_bytes()[:-7000])
        for command in ("pack", "inspect", "run"):
            refuse(model.parent, command, model, status=3, code="NNC-E211")

    def test_existing_output(self, model: Path) -> None:
        target = model.with_name("m.nnc.onnx")
        target.write_text("mine")
        refuse(model.parent, "pack", model, status=1, code="NNC-E202", words="not overwritten.*--force")
        assert onnx_nnc("pack", model, "--force").status == 0
        assert target.read_bytes() != b"mine"

    def test_output_is_input(self, model: Path) -> None:
        refuse(model.parent, "pack", model, "-o", model, "-f", status=1, code="NNC-E104", words="is the input")

    def test_missing_folder(self, model: Path) -> None:
        refuse(model.parent, "pack", model, "-o", "no/o.onnx", status=1, code="NNC-E201", words="does not exist")

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs file permissions that hold")
    def test_unwritable_folder(self, model: Path, tmp_path: Path) -> None:
        folder = tmp_path / "closed"
        folder.mkdir(mode=0o500)
        refuse(tmp_path, "pack", model, "-o", folder / "o.onnx", status=1, code="NNC-E201", words="permission")


class TestPackedFiles:
    def damage(self, packed: Path, change: Callable[[onnx.ModelProto], None]) -> None:
        model = onnx.load(packed)
        change(model)
        packed.write_bytes(model.SerializeToString())

    def test_wrong_crc(self, packed: Path) -> None:
        def change(model: onnx.ModelProto) -> None:
            payload = model.graph.initializer[0]
            payload.raw_data = payload.raw_data[:-1] + bytes([payload.raw_data[-1] ^ 1])

        self.damage(packed, change)
        refuse(packed.parent, "unpack", packed, status=3, code="NNC-E212", words="CRC-32.*w0")
        refuse(packed.parent, "verify", packed, status=3, code="NNC-E212", words="CRC-32.*w0")
        refuse(packed.parent, "run", packed, status=3, words="")

    def test_truncated_payload(self, packed: Path) -> None:
        def change(model: onnx.ModelProto) -> None:
            payload = model.graph.initializer[0]
            payload.raw_data = payload.raw_data[:40]
            payload.dims[0] = 40
            for attribute in model.graph.node[0].attribute:
                if attribute.name == "crc32":
                    attribute.i = zlib.crc32(payload.raw_data)
            del model.metadata_props[2]

        self.damage(packed, change)
        for command in ("unpack", "inspect", "verify", "run"):
            refuse(packed.parent, command, packed, status=3, words="w0")

    def test_wrong_hash(self, packed: Path) -> None:
        def change(model: onnx.ModelProto) -> None:
            for entry in model.metadata_props:
                if entry.key == "onnx_nnc.manifest":
                    start = entry.value.index('"sha256":"') + 10
                    entry.value = entry.value[:start] + "A" * 43 + entry.value[start + 43 :]

        self.damage(packed, change)
        refuse(packed.parent, "unpack", packed, status=3, code="NNC-E212", words="SHA-256.*w0")
        refuse(packed.parent, "verify", packed, status=3, code="NNC-E212", words="SHA-256.*w0")

    def test_wrong_shape(self, packed: Path) -> None:
        def change(model: onnx.ModelProto) -> None:
            for attribute in model.graph.node[0].attribute:
                if attribute.name == "shape":
                    attribute.ints[:] = [32, 128]

        self.damage(packed, change)
        for command in ("inspect", "verify"):
            refuse(packed.parent, command, packed, status=3, code="NNC-E212", words="shape .*w0")
        for command in ("unpack", "run"):
            refuse(packed.parent, command, packed, status=3, words="shape .*w0")

    def test_unknown_operator_version(self, packed: Path) -> None:
        def change(model: onnx.ModelProto) -> None:
            model.opset_import[1].version = 2

        self.damage(packed, change)
        for command in ("unpack", "inspect", "verify", "run"):
            refuse(packed.parent, command, packed, status=5, code="NNC-E213", words="newer release")

    def test_unknown_carriage(self, packed: Path) -> None:
        def change(model: onnx.ModelProto) -> None:
            model.metadata_props[0].value = "99"

        self.damage(packed, change)
        for command in ("unpack", "run"):
            refuse(packed.parent, command, packed, status=5, code="NNC-E213", words="'99'")

    def test_unknown_operator(self, packed: Path) -> None:
        def change(model: onnx.ModelProto) -> None:
            model.graph.node[0].op_type = "NNRDecodeComplex64"

        self.damage(packed, change)
        for command in ("unpack", "inspect", "verify"):
            refuse(packed.parent, command, packed, status=5, code="NNC-E213", words="NNRDecodeComplex64")

    def test_damaged_manifest(self, packed: Path) -> None:
        def change(model: onnx.ModelProto) -> None:
            model.metadata_props[2].value = model.metadata_props[2].value[:-5]

        self.damage(packed, change)
        for command in ("unpack", "inspect", "verify"):
            refuse(packed.parent, command, packed, status=3, code="NNC-E212", words="manifest")

    def test_already_packed(self, packed: Path) -> None:
        refuse(packed.parent, "pack", packed, "-o", "x.onnx", status=1, code="NNC-E104", words="packed already")

    def test_not_packed(self, model: Path) -> None:
        for command in ("unpack", "verify"):
            refuse(model.parent, command, model, status=1, code="NNC-E104", words="not packed")


class TestRunTime:
    def test_wrong_inputs(self, packed: Path, tmp_path: Path) -> None:
        np.savez(tmp_path / "name.npz", z=np.ones((1, 64), np.float32))
        np.savez(tmp_path / "shape.npz", x=np.ones((1, 63), np.float32))
        (tmp_path / "text.npz").write_text("no")
        refuse(tmp_path, "run", packed, "--inputs", "name.npz", status=1, code="NNC-E104", words="x missing; z unknown")
        refuse(tmp_path, "run", packed, "--inputs", "shape.npz", status=1, code="NNC-E104", words="63")
        refuse(tmp_path, "run", packed, "--inputs", "text.npz", status=1, code="NNC-E104", words="text.npz")
        refuse(tmp_path, "run", packed, "--inputs", "none.npz", status=1, code="NNC-E201", words="none.npz")

    def test_missing_and_old_onnxruntime(self, packed: Path, tmp_path: Path) -> None:
        stand_in = tmp_path / "stand_in" / "onnxruntime"
        stand_in.mkdir(parents=True)
        path = os.pathsep.join([str(stand_in.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        for content, words in (
            ("raise ImportError('not here')", "cannot be imported"),
            ("__version__ = '1.16.3'", "1.16.3 .*too old"),
        ):
            (stand_in / "__init__.py").write_text(content)
            result = onnx_nnc("run", packed, environment={"PYTHONPATH": path})
            assert result.status == 1
            assert re.search(words, result.error_line)

    def test_missing_library(self, packed: Path, tmp_path: Path) -> None:
        for package in (nnc_codec, nnc_onnx):
            source = Path(package.__file__ or "").parent
            skip = shutil.ignore_patterns("libonnx_nnc_ops*", "onnx_nnc_ops*", "native", "__pycache__")
            shutil.copytree(source, tmp_path / "tree" / source.name, ignore=skip)
        tree = tmp_path / "tree"
        result = onnx_nnc("run", packed, "--mode", "lazy", environment={"PYTHONPATH": str(tree)}, folder=tree)
        assert result.status == 1
        assert re.fullmatch(r"error NNC-E222: .*library.*", result.error_line)


class TestUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("--bogus",),
            ("bogus",),
            ("pack",),
            ("pack", "m.onnx", "--qp", "x"),
            ("pack", "m.onnx", "--method", "best"),
            ("pack", "m.onnx", "-j", "-1"),
            ("pack", "m.onnx", "--qp-density", "9"),
            ("run", "m.onnx", "--dim", "batch"),
            ("run", "m.onnx", "--runs", "0"),
            ("run", "m.onnx", "--cache-bytes", "101%"),
            ("convert", "m.onnx", "--to", "nnef", "--shape", "x=1x"),
            ("convert", "m.onnx", "--to", "nnef", "--fix", "x=one"),
        ],
    )
    def test_wrong_arguments(self, arguments: tuple[str, ...], model: Path) -> None:
        refuse(model.parent, *arguments, status=1, words="see onnx-nnc.* --help")

    def test_qp_out_of_range(self, model: Path) -> None:
        refuse(model.parent, "pack", model, "--qp", "100000", status=1, code="NNC-E104")

    def test_tracebacks_only_on_request(self, tmp_path: Path) -> None:
        result = onnx_nnc("pack", tmp_path / "no.onnx", environment={"NNC_DEBUG": "1"})
        assert "Traceback" in result.err

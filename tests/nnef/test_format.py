"""NNEF through the registry of formats and the command line, as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest
from graphs import build
from support import write_model

import nnc_codec.formats as formats
import nnc_nnef
from nnc_codec.errors import NNRError
from nnc_nnef.errors import ArchiveError
from nnc_nnef.format import NnefFormat
from nnc_onnx.cli.app import main


@pytest.fixture(autouse=True)
def registered() -> None:
    formats.register(NnefFormat())


def test_it_is_a_format_and_a_converter() -> None:
    form = NnefFormat()
    assert isinstance(form, formats.ModelFormat)
    assert isinstance(form, formats.Converter)


def test_the_entry_point_is_declared() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert 'nnef = "nnc_nnef.format:NnefFormat"' in text
    found = [entry for entry in metadata.entry_points(group=formats.GROUP) if entry.name == "nnef"]
    assert not found or found[0].load() is NnefFormat


@pytest.mark.parametrize("name", ["m.nnef.tgz", "m.nnef.tar", "m.zip", "m", "anything.bin.tar"])
def test_recognised_by_content(tmp_path: Path, name: str) -> None:
    form = NnefFormat()
    path = write_model(tmp_path / name)
    assert form.recognise(path) == "plain"
    nnc_nnef.pack(path, tmp_path / "p.tar")
    assert form.recognise(tmp_path / "p.tar") == "packed"


def test_other_files_are_not_recognised(tmp_path: Path) -> None:
    import onnx

    form = NnefFormat()
    onnx.save(build("mlp", 17), tmp_path / "m.onnx")
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.add(tmp_path / "text.txt", "text.txt")
    for name in ("m.onnx", "text.txt", "empty"):
        assert form.recognise(tmp_path / name) is None


def test_damaged_archives_are_recognised_so_that_their_error_is_shown(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.nnef.tgz")
    path.write_bytes(path.read_bytes()[:700])
    assert NnefFormat().recognise(path) == "plain"
    with pytest.raises(NNRError):
        nnc_nnef.inspect(path)


@pytest.mark.parametrize(
    ("name", "packed", "plain"),
    [
        ("m.nnef.tgz", "m.nnc.nnef.tar", "m.plain.nnef.tgz"),
        ("m.nnc.nnef.tar", "m.nnc.nnef.tar", "m.plain.nnef.tgz"),
        ("folder", "folder.nnc.nnef.tar", "folder.plain.nnef.tgz"),
        ("m.tar.gz", "m.nnc.nnef.tar", "m.plain.nnef.tgz"),
        (".nnef", ".nnef.nnc.nnef.tar", ".nnef.plain.nnef.tgz"),
    ],
)
def test_default_names(name: str, packed: str, plain: str) -> None:
    form = NnefFormat()
    assert form.default_output(Path("a", name), "pack") == Path("a", packed)
    assert form.default_output(Path("a", name), "unpack") == Path("a", plain)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    source = write_model(tmp_path / "m.nnef.tgz")
    status, out, _ = run(capsys, "pack", source, "--json")
    assert status == 0 and json.loads(out)["output"].endswith("m.nnc.nnef.tar")
    packed = tmp_path / "m.nnc.nnef.tar"
    for command in (["inspect", packed], ["verify", packed, "--against", source], ["run", packed]):
        status, out, err = run(capsys, *command, "--json")
        assert status == 0, err
        assert json.loads(out)["format"] == "nnef"
    assert run(capsys, "unpack", packed)[0] == 0
    assert (tmp_path / "m.plain.nnef.tgz").exists()
    status, out, err = run(capsys, "convert", packed, "--to", "onnx", "--json")
    assert status == 0, err
    assert {t["action"] for t in json.loads(out)["tensors"]} == {"carried", "plain"}
    status, _, err = run(capsys, "convert", tmp_path / "m.nnc.onnx", "--to", "nnef", "-o", tmp_path / "again.nnef.tar")
    assert status == 0, err


def test_errors_have_their_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_model(tmp_path / "m.nnef.tgz")
    run(capsys, "pack", source)
    packed = tmp_path / "m.nnc.nnef.tar"
    data = bytearray(packed.read_bytes())
    for offset in range(len(data) // 2, len(data) // 2 + 8):
        data[offset] ^= 0xFF
    packed.write_bytes(data)
    status, _, err = run(capsys, "unpack", packed)
    assert status == 3 and "NNC-E" in err
    assert not (tmp_path / "m.plain.nnef.tgz").exists()
    assert run(capsys, "pack", source)[0] == 1
    with tarfile.open(tmp_path / "evil.nnef.tar", "w") as tar:
        tar.add(source, "../evil")
    status, _, err = run(capsys, "inspect", tmp_path / "evil.nnef.tar")
    assert status == 3 and ArchiveError.code in err


def test_importing_the_package_is_cheap() -> None:
    code = (
        "import sys, nnc_nnef, nnc_nnef.format;"
        "heavy = {'nnef', 'nnef_tools', 'onnx', 'onnxruntime', 'onnx_graphsurgeon'} & set(sys.modules);"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr

"""A file is the old one or the new one, never half of it, and nothing is overwritten unasked."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nnc_codec.files import FileAccessError, OutputExistsError, atomic_writer, require_readable, write_atomic


def test_writes_and_leaves_no_siblings(tmp_path: Path) -> None:
    assert write_atomic(tmp_path / "a", b"hello") == 5
    assert (tmp_path / "a").read_bytes() == b"hello"
    assert os.listdir(tmp_path) == ["a"]


def test_mode_is_that_of_an_ordinary_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_atomic(tmp_path / "a", b"")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    os.chmod(tmp_path / "a", 0o640)
    write_atomic(tmp_path / "a", b"", force=True)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_existing_files_need_force(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("old")
    with pytest.raises(OutputExistsError):
        write_atomic(target, b"new")
    assert target.read_text() == "old"
    write_atomic(target, b"new", force=True)
    assert target.read_text() == "new"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with pytest.raises(OutputExistsError, match="meanwhile"), atomic_writer(target) as stream:
        stream.write(b"ours")
        target.write_text("theirs")
    assert target.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["a"]


def test_an_exception_leaves_everything_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_writer(target, force=True) as stream:
        stream.write(b"half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("path", ["missing/a", "."])
def test_impossible_targets(path: str, tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="cannot write"):
        write_atomic(tmp_path / path, b"")


@pytest.mark.parametrize("path", ["missing", "a\0b"])
def test_unreadable_sources(path: str, tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="cannot read"):
        require_readable(tmp_path / path)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("old")
    code = (
        "import sys, time\n"
        "from nnc_codec.files import atomic_writer\n"
        "with atomic_writer(sys.argv[1], force=True) as stream:\n"
        "    stream.write(b'half'); stream.flush(); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=30)
    time.sleep(0.01)
    assert target.read_text() == "old"

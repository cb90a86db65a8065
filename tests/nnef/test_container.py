"""Containers: every kind reads alike and is written deterministically; hostile ones are refused."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from nnc_codec.errors import InvalidArgumentError, LimitExceededError, NNRError
from nnc_codec.files import OutputExistsError
from nnc_nnef.archive_writer import append_to_tar, copy_of, from_bytes, kind_for, write_archive
from nnc_nnef.container import ArchiveLimits, TarArchive, open_archive
from nnc_nnef.errors import ArchiveError
from nnc_nnef.model import open_model

MEMBERS = {
    "graph.nnef": b"version 1.0;",
    "a/b/w.dat": bytes(range(256)) * 5,
    "readme.txt": b"",
    "x" * 150 + ".dat": b"1",
}


def write(path: Path, **options: object) -> Path:
    write_archive(path, [from_bytes(name, data) for name, data in MEMBERS.items()], **options)
    return path


def tar_of(path: Path, *entries: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for info, data in entries:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("name", ["m.nnef.tar", "m.nnef.tgz", "m.nnef.tar.gz", "m.zip", "m.nnef"])
def test_every_kind_reads_back(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    with open_archive(path) as archive:
        assert archive.kind == kind_for(path)
        assert {n: archive.read(n) for n in archive} == MEMBERS
        assert archive.read("a/b/w.dat", 10, 5) == bytes(range(10, 15))
        assert b"".join(archive.chunks("a/b/w.dat")) == MEMBERS["a/b/w.dat"]
        for offset, length in ((-1, 2), (0, 5000), (1281, 0), (5, -2)):
            with pytest.raises(ArchiveError):
                archive.read("a/b/w.dat", offset, length)


@pytest.mark.parametrize("name", ["m.nnef.tar", "m.nnef.tgz", "m.zip"])
def test_writing_is_deterministic_and_never_overwrites(tmp_path: Path, name: str) -> None:
    first = write(tmp_path / name).read_bytes()
    with pytest.raises(OutputExistsError):
        write(tmp_path / name)
    os.utime(tmp_path / name, (1, 1))
    write(tmp_path / name, force=True)
    assert (tmp_path / name).read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_folder_is_replaced_only_if_it_is_a_model(tmp_path: Path) -> None:
    path = write(tmp_path / "m.nnef")
    with pytest.raises(OutputExistsError):
        write(path)
    (path / "stale.dat").write_bytes(b"old")
    write(path, force=True)
    assert not (path / "stale.dat").exists()
    home = tmp_path / "home"
    home.mkdir()
    (home / "precious.txt").write_text("do not lose")
    with pytest.raises(InvalidArgumentError):
        write(home, force=True)
    assert (home / "precious.txt").exists()


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def broken():
        yield b"12"
        raise ArchiveError("the source is damaged")

    from nnc_nnef.archive_writer import Member

    for name in ("m.nnef.tar", "m.nnef.tgz", "m.zip", "m.nnef"):
        with pytest.raises(ArchiveError):
            write_archive(tmp_path / name, [from_bytes("graph.nnef", b"x"), Member("w.dat", 4, broken)])
    assert not list(tmp_path.iterdir())


def test_append_keeps_the_old_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "m.nnef.tar")
    before = path.read_bytes()
    append_to_tar(path, path, [from_bytes("weights.1.nnr", b"new")], force=True)
    after = path.read_bytes()
    with open_archive(path) as archive:
        assert archive.read("weights.1.nnr") == b"new"
        assert archive.read("a/b/w.dat") == MEMBERS["a/b/w.dat"]
    end = len(before.rstrip(b"\0"))
    assert after[:end] == before[:end]
    with pytest.raises(ArchiveError):
        append_to_tar(path, tmp_path / "n.tar", [from_bytes("graph.nnef", b"")])


def test_members_can_be_copied(tmp_path: Path) -> None:
    with open_archive(write(tmp_path / "a.nnef.tgz")) as archive:
        write_archive(tmp_path / "b.nnef.tar", [copy_of(archive, name) for name in archive])
    with open_archive(tmp_path / "b.nnef.tar") as archive:
        assert {n: archive.read(n) for n in archive} == MEMBERS


BAD_NAMES = ["../f", "a/../../f", "/etc/f", "a//b", "a/./b", "c:/f", "a\\b", "a\nb", "x" * 600, "..", "a/.."]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
def test_unsafe_names_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "in" / f"m.{kind}"
    path.parent.mkdir()
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            archive.writestr(info, b"evil")
    else:
        tar_of(path, (member(name), b"evil"), mode="w:gz" if kind == "tgz" else "w")
    with pytest.raises(NNRError):
        open_archive(path)
    with pytest.raises(ArchiveError):
        write_archive(tmp_path / "out.tar", [from_bytes(name, b"")])
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", path.name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
                                  tarfile.CONTTYPE, b"S"])  # fmt: skip
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(ArchiveError):
        open_archive(tar_of(tmp_path / "m.tar", (member("w.dat", kind, "/etc/passwd"), b"")))


def test_links_in_folders_and_zips_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "m.nnef")
    (folder / "l.dat").symlink_to("/etc/passwd")
    with pytest.raises(ArchiveError, match="symbolic link"):
        open_archive(folder)
    (folder / "l.dat").unlink()
    (folder / "sub").symlink_to("/etc")
    with pytest.raises(ArchiveError, match="symbolic link"):
        open_archive(folder)
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        info = zipfile.ZipInfo("l.dat")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError):
        open_archive(tmp_path / "m.zip")


def test_a_file_swapped_for_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = write(tmp_path / "m.nnef")
    with open_archive(folder) as archive:
        (folder / "a/b/w.dat").unlink()
        (folder / "a/b/w.dat").symlink_to("/etc/passwd")
        with pytest.raises(NNRError):
            archive.read("a/b/w.dat", 0, 5)


@pytest.mark.parametrize("names", [("w.dat", "w.dat"), ("w.dat", "W.dat"), ("./w.dat", "w.dat")])
def test_duplicates_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(ArchiveError, match="twice"):
        open_archive(tar_of(tmp_path / "m.tar", *((member(name), b"1") for name in names)))


def test_sizes_beyond_the_file_are_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "m.tar", (member("w.dat"), b"1" * 2000))
    data = bytearray(path.read_bytes())
    info = tarfile.TarInfo("w.dat")
    info.size = 1 << 40
    data[:512] = info.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(data)
    with pytest.raises(ArchiveError):
        open_archive(path)


def test_huge_extended_header_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    path = tmp_path / "m.tar"
    with path.open("wb") as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT))
        stream.truncate((1 << 30) + 4096)
    with pytest.raises(ArchiveError, match="header"):
        open_archive(path)


def test_gzip_bomb_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "m.nnef.tgz"
    with gzip.open(path, "wb", compresslevel=9) as stream:
        info = tarfile.TarInfo("w.dat")
        info.size = 256 << 20
        stream.write(info.tobuf())
        for _ in range(256):
            stream.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(LimitExceededError):
        open_archive(path)
    with pytest.raises(LimitExceededError):
        open_archive(path, ArchiveLimits(max_inflation=10_000, max_inflated_bytes=1 << 20))


def test_many_members_are_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "m.tar", *((member(f"{i}.dat"), b"") for i in range(30)))
    with pytest.raises(LimitExceededError):
        open_archive(path, ArchiveLimits(max_members=20))


def test_compressed_and_overlapping_zips_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.dat", bytes(1000))
    with pytest.raises(ArchiveError, match="compressed"):
        open_archive(tmp_path / "m.zip")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(50), b"\x1f\x8b" + bytes(50), b"junk" * 300,
                                     bytes(257) + b"ustar" + bytes(600)])  # fmt: skip
def test_damaged_files_are_typed_errors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.nnef.tar"
    path.write_bytes(content)
    with pytest.raises(NNRError):
        open_model(path)


def test_every_truncation_is_a_typed_error_or_a_shorter_archive(tmp_path: Path) -> None:
    whole = write(tmp_path / "m.nnef.tgz").read_bytes()
    for cut in range(0, len(whole), 7):
        (tmp_path / "t.tgz").write_bytes(whole[:cut])
        with pytest.raises(NNRError):
            open_archive(tmp_path / "t.tgz")


def test_opening_a_large_archive_reads_headers_only(tmp_path: Path) -> None:
    class Counting(io.FileIO):
        count = 0

        def read(self, size: int = -1) -> bytes:
            data = super().read(size)
            Counting.count += len(data)
            return data

    path = tmp_path / "m.tar"
    with path.open("wb") as stream:
        for name, size in (("graph.nnef", 100), ("weights.nnr", 1 << 30), ("w.dat", 200)):
            info = tarfile.TarInfo(name)
            info.size = size
            stream.write(info.tobuf())
            stream.seek(-(-size // 512) * 512, os.SEEK_CUR)
        stream.truncate(stream.tell() + 1024)
    archive = TarArchive(Counting(path), ArchiveLimits(), "tar")
    assert archive["weights.nnr"] == 1 << 30
    assert archive.read("weights.nnr", 12345, 1000) == bytes(1000)
    assert Counting.count < 1 << 20

"""The native decoder under AddressSanitizer and UndefinedBehaviorSanitizer, on the vectors and mutations of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from nnr_vectors import DATA, is_sequence, manifest, stream

import nnc_codec

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "nnc_codec" / "native"
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# What the decoder of single units consists of; encoders and kernels are not linked.
SOURCES = ["single.cpp", "tensor_decoder.cpp", "reconstruct.cpp", "quantizer.cpp", "cpu.cpp"]


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("fuzz")
    generator = ROOT / "nnc_codec" / "syntax" / "generate_cpp.py"
    subprocess.run([sys.executable, generator, folder / "nnc_syntax.h"], check=True)
    flags = ["-std=c++17", "-O0", "-g1", "-ffp-contract=off", f"-I{folder}", f"-I{NATIVE}", *SANITIZE]

    def compiled(source: Path) -> Path:
        target = folder / f"{source.stem}.o"
        subprocess.run([compiler, *flags, "-c", source, "-o", target], check=True)
        return target

    sources = [ROOT / "tests" / "fuzz" / "fuzz_single.cpp", *(NATIVE / name for name in SOURCES)]
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, sources))
    probe = subprocess.run(
        [compiler, *SANITIZE, *objects, "-o", folder / "fuzz_single"], capture_output=True, text=True
    )
    if probe.returncode and ("asan" in probe.stderr or "ubsan" in probe.stderr):
        pytest.skip("needs the sanitizers' libraries")
    assert probe.returncode == 0, probe.stderr
    return folder / "fuzz_single"


def replay(fuzzer: Path, *arguments: object) -> str:
    environment = {**os.environ, "ASAN_OPTIONS": "allocator_may_return_null=1", "LD_PRELOAD": ""}
    done = subprocess.run([fuzzer, *map(str, arguments)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_vectors_and_mutations_under_sanitizers(fuzzer: Path, tmp_path: Path) -> None:
    seeds: list[Path] = []
    for name in manifest():
        data = stream(name)
        # Streams of several tensors become one file each, so that the payloads are reached.
        parts = {"": data} if is_sequence(name) else nnc_codec.open(data).split()
        for number, part in enumerate(parts.values()):
            if len(part) > 1500:
                continue
            seeds.append(tmp_path / f"{name}.{number}.nnr")
            seeds[-1].write_bytes(part)
    assert len(seeds) > 150
    assert replay(fuzzer, "--mutate", 25, *seeds) == f"{26 * len(seeds)} inputs\n"


def test_large_vectors_under_sanitizers(fuzzer: Path) -> None:
    names = [DATA / f"{name}.nnr" for name in manifest() if len(stream(name)) > 1500]
    replay(fuzzer, *names)


def test_files_that_are_hardly_there(fuzzer: Path, tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"\0", b"\xff" * 8, bytes(64))):
        (tmp_path / str(number)).write_bytes(data)
    replay(fuzzer, "--mutate", 50, *sorted(tmp_path.iterdir()))

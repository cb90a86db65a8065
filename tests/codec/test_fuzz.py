"""Decoder and encoder under AddressSanitizer and UndefinedBehaviorSanitizer: vectors, mutations, random tensors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from nnr_vectors import DATA, is_sequence, manifest, stream

import nnc_codec

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "nnc_codec" / "native"
pytestmark = pytest.mark.slow

SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
TARGETS = ("fuzz_single", "fuzz_roundtrip")


@pytest.fixture(scope="module")
def fuzzers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the targets, built without optimisation: that compiles fastest."""
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

    core = [path for path in sorted(NATIVE.glob("*.cpp")) if path.name != "bindings.cpp"]
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, core))
        mains = list(pool.map(compiled, [ROOT / "tests" / "fuzz" / f"{name}.cpp" for name in TARGETS]))
    for name, main in zip(TARGETS, mains, strict=True):
        linked = subprocess.run(
            [compiler, *SANITIZE, main, *objects, "-o", folder / name], capture_output=True, text=True
        )
        if linked.returncode and ("asan" in linked.stderr or "ubsan" in linked.stderr):
            pytest.skip("needs the sanitizers' libraries")
        assert linked.returncode == 0, linked.stderr
    return folder


def replay(fuzzer: Path, *arguments: object) -> str:
    environment = {**os.environ, "ASAN_OPTIONS": "allocator_may_return_null=1", "LD_PRELOAD": ""}
    done = subprocess.run([fuzzer, *map(str, arguments)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_vectors_and_mutations_under_sanitizers(fuzzers: Path, tmp_path: Path) -> None:
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
    assert replay(fuzzers / "fuzz_single", "--mutate", 10, *seeds) == f"{11 * len(seeds)} inputs\n"


def test_large_vectors_under_sanitizers(fuzzers: Path) -> None:
    names = [DATA / f"{name}.nnr" for name in manifest() if len(stream(name)) > 1500]
    replay(fuzzers / "fuzz_single", *names)


def test_files_that_are_hardly_there(fuzzers: Path, tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"\0", b"\xff" * 8, bytes(64))):
        (tmp_path / str(number)).write_bytes(data)
    replay(fuzzers / "fuzz_single", "--mutate", 50, *sorted(tmp_path.iterdir()))


def test_tensors_there_and_back_under_sanitizers(fuzzers: Path, tmp_path: Path) -> None:
    """Quantizer, encoder, decoder; every option from random bytes; portable kernels and the others."""
    generator = np.random.default_rng(12)
    for number in range(40):
        (tmp_path / str(number)).write_bytes(generator.bytes(3000))
    assert replay(fuzzers / "fuzz_roundtrip", "--mutate", 9, *sorted(tmp_path.iterdir())) == "400 inputs\n"

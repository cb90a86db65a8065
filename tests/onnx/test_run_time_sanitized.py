"""The cache of the run-time library under AddressSanitizer and ThreadSanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import models
import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE, RUN_TIME = ROOT / "nnc_codec" / "native", ROOT / "nnc_onnx" / "native"
STRESS = Path(__file__).with_name("stress_cache.cpp")
# Of the core what decoding needs; the linker takes what it wants of it.
ENCODER = ("bindings", "cost", "parameter_search", "rate_model", "tensor_encoder", "trellis_rate", "trial_kernels")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None or not sys.platform.startswith("linux"), reason="needs g++"),
]


@pytest.fixture(scope="module")
def payloads(tmp_path_factory) -> list[Path]:
    """A table and tensors that fit a byte each, need a list or two bytes, or are no levels at all."""
    folder = tmp_path_factory.mktemp("payloads")
    outliers = models.weights(80, 64, seed=3)
    outliers[::20, 5] = 30
    arrays = {
        "table": (models.weights(400, 24), {"scan_order": 1}),
        "plain": (models.weights(90, 64, seed=1), {}),
        "blocks": (models.weights(120, 64, seed=2), {"scan_order": 2}),
        "outliers": (outliers, {}),
        "wide": (models.weights(70, 64, seed=4), {"qp": -50}),
        "wider": (models.weights(60, 64, seed=5), {"qp": -110}),
        "raw": (models.weights(20, 64, seed=6), {"method": "raw"}),
        "codebook": (models.weights(100, 64, seed=7), {"method": "codebook", "qp": -12}),
    }
    paths = []
    for name, (array, params) in arrays.items():
        paths.append(folder / f"{name}.nnr")
        paths[-1].write_bytes(models.payload(array, name, **params))
    return paths


@pytest.mark.parametrize(("sanitizer", "turns"), [("address,undefined", 300), ("thread", 120)])
def test_cache_is_clean(payloads, tmp_path, sanitizer, turns):
    program = tmp_path / "stress_cache"
    generator = ROOT / "nnc_codec" / "syntax" / "generate_cpp.py"
    subprocess.run([sys.executable, generator, tmp_path / "nnc_syntax.h"], check=True)
    flags = ["-std=c++17", "-O1", "-g1", "-ffp-contract=off", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    folders = [f"-I{tmp_path}", f"-I{CORE}", f"-I{RUN_TIME}"]
    parts = ("blocks", "cache", "decoding", "prefix_code", "recoded", "row_cache", "stats")
    sources = [RUN_TIME / f"{name}.cpp" for name in parts]
    sources += [path for path in sorted(CORE.glob("*.cpp")) if path.stem not in ENCODER]
    subprocess.run(["g++", *flags, *folders, "-c", *map(str, sources)], check=True, cwd=tmp_path)
    objects = [f"{path.stem}.o" for path in sources]
    subprocess.run(["ar", "rc", "parts.a", *objects], check=True, cwd=tmp_path)
    built = subprocess.run(
        ["g++", *flags, *folders, str(STRESS), "parts.a", "-o", program, "-pthread"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    if built.returncode and "cannot find" in built.stderr:
        pytest.skip("needs the sanitizers' libraries")
    assert built.returncode == 0, built.stderr
    environment = {**os.environ, "LD_PRELOAD": "", "TSAN_OPTIONS": "halt_on_error=1"}
    done = subprocess.run([program, str(turns), *map(str, payloads)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    counts = {name: int(value) for name, value in map(str.split, done.stdout.splitlines())}
    assert counts["cache_bytes"] == counts["recoded_bytes"] == 0
    for name in (
        "cache_hits",
        "cache_evictions",
        "cache_restores",
        "row_hits",
        "row_misses",
        "recodings",
        "recoded_reads",
    ):
        assert counts[name] > 0, name

"""One build of the run-time library works with every onnxruntime from 1.17 on.

The releases are installed side by side into pytest's cache folder, once; without a package index the tests
skip.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnc_onnx.carriage import ELEMENT_TYPES

CHILD = Path(__file__).with_name("session_child.py")
# 1.17 was built for numpy 1; the others run with the numpy of the test environment.
RELEASES = {"1.17.3": ("numpy<2",), "1.20.1": (), "1.23.2": (), "newest": ()}
TOO_OLD = "1.16.3"


@pytest.fixture(scope="module", params=list(RELEASES))
def site(request) -> Path:
    """Folder with one release of onnxruntime."""
    return install(request, request.param, RELEASES[request.param])


@pytest.fixture(scope="module")
def old_site(request) -> Path:
    """Folder with a release that is not served."""
    return install(request, TOO_OLD, ("numpy<2",))


def install(request: pytest.FixtureRequest, release: str, others: tuple[str, ...]) -> Path:
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    folder = request.config.cache.mkdir(f"onnxruntime-{release}-{python}")
    if not (folder / "complete").exists():
        wanted = "onnxruntime" if release == "newest" else f"onnxruntime=={release}"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--upgrade", "--target", str(folder), wanted, *others]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"onnxruntime {release} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
        (folder / "complete").touch()
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model with a chain of layers, a tensor of every element type and a table; its inputs; what must come out."""
    folder = tmp_path_factory.mktemp("versions")
    made, packed = models.chain(4, 96, 40)
    expected = {}
    for element in ELEMENT_TYPES:
        name = f"T{element.suffix}"
        item = models.Packed(name, models.weights(11, 13, dtype=element.dtype_name), after="x2")
        made.graph.node.insert(0, item.node)
        made.graph.initializer.append(item.initializer)
        made.graph.node.append(helper.make_node("Cast", [name], [f"{name}.double"], to=TensorProto.DOUBLE))
        made.graph.output.append(helper.make_tensor_value_info(f"{name}.double", TensorProto.DOUBLE, [11, 13]))
        expected[f"{name}.double"] = item.values.astype(np.float64)
    table = models.weights(300, 40)
    item = models.Packed("table", table, bits=models.payload(table, "table", scan_order=1))
    rows = np.array([[5, -1], [299, 5]])
    made.graph.node.insert(0, item.node)
    made.graph.initializer.extend([item.initializer, numpy_helper.from_array(rows, "indices")])
    made.graph.node.append(helper.make_node("Gather", ["table", "indices"], ["rows"]))
    made.graph.output.append(helper.make_tensor_value_info("rows", TensorProto.FLOAT, [2, 2, 40]))
    expected["rows"] = item.values[rows]
    x = models.weights(3, 40, seed=9)
    h = x
    for item in packed:
        h = np.maximum(h @ item.values, 0)
    expected["x4"] = h
    (folder / "embedded.onnx").write_bytes(made.SerializeToString())
    models.save_external(made, folder / "external.onnx")
    np.savez(folder / "inputs.npz", x0=x)
    np.savez(folder / "expected.npz", **expected)
    return folder


def run(site: Path, folder: Path, model: str, mode: str) -> dict[str, np.ndarray]:
    outputs = folder / f"{site.name}.{model}.{mode}.npz"
    command = [CHILD, site, folder / model, folder / "inputs.npz", outputs, mode, "3"]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    release = json.loads(done.stdout)["onnxruntime"]
    assert "newest" in site.name or release in site.name
    with np.load(outputs) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("model", ["embedded.onnx", "external.onnx"])
def test_release(site, folder, model):
    lazy = run(site, folder, model, "lazy")
    cached = run(site, folder, model, "cache")
    eager = run(site, folder, model, "eager")
    with np.load(folder / "expected.npz") as expected:
        assert set(lazy) == set(expected)
        for name in expected:
            assert lazy[name].tobytes() == cached[name].tobytes() == eager[name].tobytes()
            if name == "x4":
                assert np.allclose(lazy[name], expected[name], atol=1e-4)
            else:
                assert np.array_equal(lazy[name], expected[name])


def test_release_that_is_too_old_is_refused_in_one_line(old_site):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import onnxruntime\n"
        "from nnc_onnx.runtime.library import get_library_path\n"
        "try: import nnc_onnx.runtime.loader\n"
        "except Exception as error: print(error.code, error)\n"
        "try: onnxruntime.SessionOptions().register_custom_ops_library(get_library_path())\n"
        "except Exception as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(old_site)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    python, native = done.stdout.splitlines()
    assert python.startswith(f"NNC-E221 onnxruntime {TOO_OLD} is too old, 1.17 or newer is needed")
    assert f"NNC-E221: onnxruntime {TOO_OLD} is too old" in native

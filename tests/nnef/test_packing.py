"""Packed NNEF models: what is written, what comes back, what is noticed when they are damaged."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

import nnef
import numpy as np
import pytest
from support import GRAPH, run_nnef, sample_variables, write_model

import nnc_codec
import nnc_nnef
from nnc_codec.errors import InvalidArgumentError, NNRError
from nnc_codec.formats import PackOptions, UnpackOptions, VerifyOptions
from nnc_nnef import dat
from nnc_nnef.archive_writer import copy_of, from_bytes, write_archive
from nnc_nnef.container import open_archive
from nnc_nnef.errors import ArchiveError, IndexFileError, IntegrityError, TensorFileError
from nnc_nnef.index import schema_text

EXTRA = {"notes/readme.txt": b"hello", "notes/plain.dat": dat.build(np.arange(5))}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.nnef.tgz", extra=EXTRA)


@pytest.fixture
def packed(plain: Path, tmp_path: Path) -> Path:
    nnc_nnef.pack(plain, tmp_path / "m.nnc.nnef.tar")
    return tmp_path / "m.nnc.nnef.tar"


def edited(path: Path, output: Path, **changes: bytes | None) -> Path:
    """A copy with members replaced or (None) left out; names are given with dots as double underscores."""
    named = {name.replace("__", "."): data for name, data in changes.items()}
    with open_archive(path) as archive:
        members = [copy_of(archive, name) for name in archive if name not in named]
        members += [from_bytes(name, data) for name, data in named.items() if data is not None]
        write_archive(output, members)
    return output


def test_report_and_layout(plain: Path, tmp_path: Path) -> None:
    output = tmp_path / "p.nnef.tar"
    report = nnc_nnef.pack(plain, output)
    assert [t.name for t in report.coded] == ["fc1/weight", "fc2.weight"]
    assert report.packed_bytes == output.stat().st_size
    assert report.worst is not None and 0 < report.worst.error.rel_rms < 0.1
    reasons = {t.name: t.reason for t in report.tensors if t.treatment == "plain"}
    assert reasons == {"fc1/bias": "vector", "notes/plain": "item type int64 cannot be coded"}
    with open_archive(output) as archive:
        assert list(archive) == ["graph.nnef", "weights.nnr.json", "weights.nnr", "notes/readme.txt", "notes/plain.dat"]
        assert archive.read("graph.nnef") == GRAPH.encode()


def test_one_call_decodes_the_bitstream(packed: Path) -> None:
    with open_archive(packed) as archive:
        decoded = nnc_codec.decode(archive.read("weights.nnr"))
    shapes = {"fc1/weight": (96, 64), "fc1/bias": (1, 96), "fc2.weight": (64, 96)}
    assert {name: value.shape for name, value in decoded.items()} == shapes
    assert np.array_equal(decoded["fc1/bias"], sample_variables()["fc1/bias"])
    with nnc_nnef.open(packed) as model:
        for name, value in decoded.items():
            assert np.array_equal(value, model[name].read())


def test_smaller_than_a_bitstream_per_variable(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = {f"layer{i}/weight": rng.standard_normal((70, 60)).astype(np.float32) for i in range(60)}
    source = write_model(tmp_path / "m.nnef.tar", values)
    packed = tmp_path / "p.nnef.tar"
    nnc_nnef.pack(source, packed)
    each = tmp_path / "each.nnef.tar"
    with open_archive(packed) as archive, nnc_nnef.open(packed) as model:
        members = [copy_of(archive, "graph.nnef")]
        members += [from_bytes(f"{v.label}.dat.nnr", v.unit().bitstream) for v in model.values()]
        write_archive(each, members)
    assert packed.stat().st_size < each.stat().st_size
    with nnc_nnef.open(each) as loose, nnc_nnef.open(packed) as model:
        assert all(np.array_equal(loose[label].read(), model[label].read()) for label in values)


def test_packing_is_deterministic(plain: Path, tmp_path: Path) -> None:
    outputs = []
    for jobs in (1, 4):
        nnc_nnef.pack(plain, tmp_path / f"{jobs}.nnef.tar", PackOptions(jobs=jobs))
        outputs.append((tmp_path / f"{jobs}.nnef.tar").read_bytes())
    assert outputs[0] == outputs[1]


def test_options(plain: Path, tmp_path: Path) -> None:
    report = nnc_nnef.pack(
        plain, tmp_path / "a.nnef.tar", PackOptions(qp=-24, include=("*bias",), exclude=("fc2*",), min_elements=10)
    )
    assert {t.name: t.qp for t in report.tensors} == {
        "fc1/weight": -24,
        "fc1/bias": -24,
        "fc2.weight": None,
        "notes/plain": None,
    }
    with pytest.raises(InvalidArgumentError, match="packed already"):
        nnc_nnef.pack(tmp_path / "a.nnef.tar", tmp_path / "b.nnef.tar")


@pytest.mark.parametrize("output", ["u.nnef.tgz", "u.nnef", "u.nnef.tar", "u.zip"])
def test_unpack_gives_the_decoded_values_to_other_readers(packed: Path, tmp_path: Path, output: str) -> None:
    nnc_nnef.unpack(packed, tmp_path / output)
    with nnc_nnef.open(packed) as model, nnc_nnef.open(tmp_path / output) as unpacked:
        assert not unpacked.packed
        assert set(unpacked) == set(model)
        assert all(np.array_equal(unpacked[label].read(), model[label].read()) for label in model)
        values = {label: unpacked[label].read() for label in unpacked}
        assert unpacked.graph == GRAPH
    if output == "u.nnef":
        loaded = nnef.load_graph(str(tmp_path / output))
        assert np.array_equal(loaded.tensors["w1"].data, values["fc1/weight"])
    x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 64)
    (y,) = run_nnef(GRAPH, values, [x])
    hidden = np.maximum(x @ values["fc1/weight"].T + values["fc1/bias"], 0)
    assert np.allclose(y, hidden @ values["fc2.weight"].T, atol=1e-5)


def test_other_readers_fail_closed(packed: Path, tmp_path: Path) -> None:
    with open_archive(packed) as archive:
        write_archive(tmp_path / "folder", [copy_of(archive, name) for name in archive])
    with pytest.raises(FileNotFoundError):
        nnef.load_graph(str(tmp_path / "folder"))
    from nnef_tools.io.nnef import Reader

    with pytest.raises(FileNotFoundError):
        Reader()(str(tmp_path / "folder"))
    graph = nnef.load_graph(str(tmp_path / "folder"), load_variables=False)
    assert len(graph.operations) == 7


def test_tract_fails_closed_and_reads_the_unpacked_model(packed: Path, tmp_path: Path) -> None:
    tract = pytest.importorskip("tract")
    with pytest.raises(Exception, match=r"."):
        tract.nnef().load(str(packed))
    nnc_nnef.unpack(packed, tmp_path / "u.nnef.tgz")
    model = tract.nnef().load(str(tmp_path / "u.nnef.tgz")).into_runnable()
    with nnc_nnef.open(packed) as opened:
        values = {label: opened[label].read() for label in opened}
    x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 64)
    (expected,) = run_nnef(GRAPH, values, [x])
    assert np.allclose(model.run([x])[0].to_numpy(), expected, atol=1e-5)


def test_types_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = {
        "half": rng.standard_normal((80, 80)).astype(np.float16),
        "bytes": np.round(rng.standard_normal((80, 80)) * 9).astype(np.int8),
        "words": (30000 + rng.integers(0, 9, (80, 80)) * (rng.random((80, 80)) < 0.1)).astype(np.uint16),
        "truth": rng.integers(0, 2, (80, 80)).astype(bool),
        "wide": rng.integers(0, 5, (80, 80)).astype(np.int64),
        "double": rng.standard_normal((80, 80)),
    }
    source = write_model(tmp_path / "m.nnef.tar", values)
    report = nnc_nnef.pack(source, tmp_path / "p.nnef.tar")
    kinds = {t.name: t.payload_type for t in report.tensors}
    assert kinds == {"half": "FLOAT", "bytes": "INT", "words": "INT", "truth": None, "wide": None, "double": None}
    with nnc_nnef.open(tmp_path / "p.nnef.tar") as model:
        for label, value in values.items():
            read = model[label].read()
            assert read.dtype == value.dtype and read.shape == value.shape
            assert np.allclose(read.astype(float), value.astype(float), atol=0.2)
            if value.dtype.kind in "iub":
                assert np.array_equal(read, value)


def test_quantized_items_and_graph_quant_survive(tmp_path: Path) -> None:
    levels = np.round(128 + np.random.default_rng(0).standard_normal((90, 70)) * 9).astype(np.uint8)
    quant = (
        b'"w": zero_point_linear_quantize(zero_point = 128, scale = 0.1, bits = 8, signed = false, symmetric = false);'
    )
    data = dat.build(levels, item=(2, 8))
    source = write_model(tmp_path / "m.nnef.tar", {}, extra={"w.dat": data, "graph.quant": quant})
    report = nnc_nnef.pack(source, tmp_path / "p.nnef.tar")
    assert report.tensors[0].payload_type == "INT"
    nnc_nnef.unpack(tmp_path / "p.nnef.tar", tmp_path / "u.nnef.tar")
    with open_archive(tmp_path / "u.nnef.tar") as archive:
        assert archive.read("w.dat") == data
        assert archive.read("graph.quant") == quant


def test_vendor_items_and_unparsable_graphs_pack(tmp_path: Path) -> None:
    vendor = bytearray(dat.build(np.zeros((64, 80), np.float32)))
    vendor[50:52] = b"RT"
    source = write_model(
        tmp_path / "m.nnef.tar", {"w": np.zeros((80, 80), np.float32) + 0.5},
        text="version 1.0;\nextension tract_registry tract_core;\nwhatever", extra={"v.dat": bytes(vendor)},
    )  # fmt: skip
    report = nnc_nnef.pack(source, tmp_path / "p.nnef.tar")
    assert {t.name: t.treatment for t in report.tensors} == {"w": "coded", "v": "plain"}
    nnc_nnef.unpack(tmp_path / "p.nnef.tar", tmp_path / "u.nnef.tar")
    with open_archive(tmp_path / "u.nnef.tar") as archive:
        assert archive.read("v.dat") == bytes(vendor)


def test_bitstream_without_index_is_read(packed: Path, tmp_path: Path) -> None:
    path = edited(packed, tmp_path / "n.nnef.tar", weights__nnr__json=None)
    with nnc_nnef.open(path) as bare, nnc_nnef.open(packed) as model:
        assert all(np.array_equal(bare[label].read(), model[label].read()) for label in model)
    report = nnc_nnef.verify(path)
    assert report.ok and "no index" in report.notes[0]


def test_update_appends(packed: Path, tmp_path: Path) -> None:
    new = sample_variables(1)["fc2.weight"]
    before = packed.read_bytes()
    size = nnc_nnef.update(packed, tmp_path / "v2.nnef.tar", {"fc2.weight": new})
    after = (tmp_path / "v2.nnef.tar").read_bytes()
    assert len(after) == size
    end = len(before.rstrip(b"\0"))
    assert after[:end] == before[:end]
    with nnc_nnef.open(tmp_path / "v2.nnef.tar") as model, nnc_nnef.open(packed) as old:
        assert np.abs(model["fc2.weight"].read() - new).max() < 0.05
        assert np.array_equal(model["fc1/weight"].read(), old["fc1/weight"].read())
    assert nnc_nnef.verify(tmp_path / "v2.nnef.tar").ok
    nnc_nnef.update(
        tmp_path / "v2.nnef.tar", tmp_path / "v2.nnef.tar", {"fc2.weight": new * 2}, PackOptions(force=True)
    )
    with nnc_nnef.open(tmp_path / "v2.nnef.tar") as model:
        assert np.abs(model["fc2.weight"].read() - 2 * new).max() < 0.1
    bias = np.linspace(-1, 1, 96, dtype=np.float32).reshape(1, 96)
    nnc_nnef.update(packed, tmp_path / "b.nnef.tar", {"fc1/bias": bias})
    with nnc_nnef.open(tmp_path / "b.nnef.tar") as model:
        assert np.array_equal(model["fc1/bias"].read(), bias)
    for bad in ({"notes/plain": new}, {"nothing": new}, {"fc2.weight": new[:3]}):
        with pytest.raises(InvalidArgumentError):
            nnc_nnef.update(packed, tmp_path / "v3.nnef.tar", bad)


def test_verify_against_the_original(packed: Path, plain: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    report = nnc_nnef.verify(packed, VerifyOptions(against=plain, run=True))
    assert report.ok and report.checks == ("headers", "decode", "sha256", "original", "run")
    assert all(output.identical for output in report.outputs)
    assert not nnc_nnef.verify(packed, VerifyOptions(against=plain, max_rel_error=1e-6)).ok
    other = write_model(tmp_path / "o.nnef.tgz", sample_variables(5))
    report = nnc_nnef.verify(packed, VerifyOptions(against=other))
    assert not report.ok and {f.tensor for f in report.findings} >= {"fc1/weight", "fc2.weight"}


def index_of(path: Path) -> dict:
    with open_archive(path) as archive:
        return json.loads(archive.read("weights.nnr.json"))


def test_every_damaged_byte_of_the_weights_is_noticed(packed: Path, tmp_path: Path) -> None:
    with open_archive(packed) as archive:
        weights = archive.read("weights.nnr")
    for i, position in enumerate(range(0, len(weights), len(weights) // 12)):
        changed = bytearray(weights)
        changed[position] ^= 0x10
        path = edited(packed, tmp_path / f"{i}.nnef.tar", weights__nnr=bytes(changed))
        report = nnc_nnef.verify(path)
        assert not report.ok and report.findings[0].exit_code == 3
        if position >= 12:
            with nnc_nnef.open(path) as model, pytest.raises(IntegrityError):
                for variable in model.values():
                    variable.read()


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.update(format="onnx-nnc/nnef-9"),
        lambda index: index["variables"]["fc1/weight"].update(offset=1 << 40),
        lambda index: index["variables"]["fc1/weight"].update(offset=-5),
        lambda index: index["variables"]["fc1/weight"].update(bs=3),
        lambda index: index["variables"]["fc1/weight"].update(shape=[1 << 33]),
        lambda index: index["bitstreams"][0].update(prefix=0),
        lambda index: index["bitstreams"][0].update(length=1),
        lambda index: index["bitstreams"][0].update(file="../../etc/passwd"),
        lambda index: index.pop("variables"),
        lambda index: index["variables"].update({"../up": index["variables"]["fc1/weight"]}),
        lambda index: index["variables"].update({"notes/plain": index["variables"]["fc1/weight"]}),
    ],
)
def test_hostile_indices_are_refused(packed: Path, tmp_path: Path, change) -> None:
    index = index_of(packed)
    change(index)
    path = edited(packed, tmp_path / "h.nnef.tar", weights__nnr__json=json.dumps(index).encode())
    with pytest.raises(NNRError) as caught:
        nnc_nnef.open(path)
    assert caught.value.code.startswith("NNC-E3")


def test_wrong_shape_and_swapped_units_are_refused(packed: Path, tmp_path: Path) -> None:
    index = index_of(packed)
    first, second = index["variables"]["fc1/weight"], index["variables"]["fc2.weight"]
    index["variables"]["fc1/weight"], index["variables"]["fc2.weight"] = second, first
    path = edited(packed, tmp_path / "s.nnef.tar", weights__nnr__json=json.dumps(index).encode())
    with nnc_nnef.open(path) as model, pytest.raises(NNRError, match="called"):
        model["fc1/weight"].read()
    index = index_of(packed)
    index["variables"]["fc1/weight"]["shape"] = [1 << 15, 1 << 16]
    path = edited(packed, tmp_path / "b.nnef.tar", weights__nnr__json=json.dumps(index).encode())
    with nnc_nnef.open(path) as model, pytest.raises(NNRError, match="elements"):
        model["fc1/weight"].read()


def test_deeply_nested_index_is_refused(packed: Path, tmp_path: Path) -> None:
    path = edited(packed, tmp_path / "d.nnef.tar", weights__nnr__json=b'{"variables":' * 100_000)
    with pytest.raises(IndexFileError):
        nnc_nnef.open(path)


def test_bad_archives_are_refused(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.nnef.tar", [from_bytes("other.txt", b"")])
    with pytest.raises(ArchiveError, match=r"graph\.nnef"):
        nnc_nnef.pack(tmp_path / "a.nnef.tar", tmp_path / "p.nnef.tar")
    write_model(tmp_path / "b.nnef.tar", {}, extra={"w.dat": b"short"})
    with pytest.raises(TensorFileError):
        nnc_nnef.pack(tmp_path / "b.nnef.tar", tmp_path / "p.nnef.tar")
    assert not (tmp_path / "p.nnef.tar").exists()


def test_inspect_says_how_variables_are_coded(packed: Path, plain: Path) -> None:
    report = nnc_nnef.inspect(packed)
    assert report.packed and report.carriage == "1"
    coded = [t for t in report.tensors if t.treatment == "coded"]
    assert [t.name for t in coded] == ["fc1/weight", "fc2.weight"]
    assert all(t.step and t.qp is not None and t.method for t in coded)
    assert json.loads(report.manifest or "")["format"] == "onnx-nnc/nnef-1"
    assert not nnc_nnef.inspect(plain).packed


def test_unpack_refuses_what_is_not_packed(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="not packed"):
        nnc_nnef.unpack(plain, tmp_path / "u.nnef.tgz", UnpackOptions())


def test_index_satisfies_its_schema(packed: Path) -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    written = (Path(__file__).parents[2] / "schemas" / "nnef-index.schema.json").read_text(encoding="utf-8")
    assert written == schema_text()
    validator(json.loads(written)).validate(index_of(packed))


def test_values_that_are_not_finite_stay_in_files(tmp_path: Path) -> None:
    values = {**sample_variables(), "mask": np.asarray([[0, -np.inf, np.nan, -0.0]], np.float32)}
    source = write_model(tmp_path / "m.nnef.tar", values)
    report = nnc_nnef.pack(source, tmp_path / "p.nnef.tar", PackOptions(include=("*",)))
    assert {t.name: t.treatment for t in report.tensors}["mask"] == "plain"
    with nnc_nnef.open(tmp_path / "p.nnef.tar") as model:
        assert model["mask"].read().tobytes() == values["mask"].tobytes()


@pytest.mark.parametrize("suffix", [".nnef.tar", ".tgz", ".zip"])
def test_mutated_archives_give_typed_errors_only(packed: Path, tmp_path: Path, suffix: str) -> None:
    rng = random.Random(7)
    with open_archive(packed) as archive:
        write_archive(tmp_path / f"s{suffix}", [copy_of(archive, name) for name in archive])
    original = (tmp_path / f"s{suffix}").read_bytes()
    path = tmp_path / f"f{suffix}"
    for _ in range(250):
        data = bytearray(original)
        for _ in range(rng.choice([1, 1, 4])):
            at = rng.randrange(min(len(data), rng.choice([6000, 1 << 30])))
            change = rng.randrange(4)
            if change < 2:
                data[at] = rng.randrange(256)
            elif change == 2:
                del data[at : at + rng.randrange(1, 64)]
            else:
                data[at:at] = rng.randbytes(rng.randrange(1, 64))
        path.write_bytes(data)
        with contextlib.suppress(NNRError):
            nnc_nnef.verify(path)
            nnc_nnef.unpack(path, tmp_path / "u.nnef.tar", UnpackOptions(force=True))

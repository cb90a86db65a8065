"""Verification finds what is wrong, inspection tells what is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest

from nnc_codec.errors import InvalidArgumentError
from nnc_codec.formats import PackOptions, Progress, RunOptions, UnpackOptions, VerifyOptions
from nnc_onnx.errors import CarriageError, UnsupportedCarriageError
from nnc_onnx.inspection import inspect
from nnc_onnx.manifest import Manifest, Parameters, TensorEntry, parse_manifest
from nnc_onnx.packing import pack
from nnc_onnx.runtime.running import random_inputs, run
from nnc_onnx.unpacking import unpack
from nnc_onnx.verification import verify


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A plain model."""
    path = tmp_path / "m.onnx"
    path.write_bytes(graphs.mlp(3).SerializeToString())
    return path


@pytest.fixture
def packed(original: Path) -> Path:
    """The same, packed."""
    pack(original, original.with_name("m.nnc.onnx"), PackOptions(group_below=0))
    return original.with_name("m.nnc.onnx")


def change(path: Path, edit: Callable[[onnx.ModelProto], None]) -> Path:
    """Edit a model file in place."""
    model = onnx.load(path)
    edit(model)
    path.write_bytes(model.SerializeToString())
    return path


def codes(path: Path, **options: object) -> list[str]:
    """Codes of all findings."""
    return [finding.code for finding in verify(path, VerifyOptions(**options)).findings]


class TestVerify:
    def test_sound(self, packed: Path, original: Path) -> None:
        seen: list[Progress] = []
        report = verify(packed, VerifyOptions(against=original), progress=seen.append)
        assert report.ok and report.exit_code == 0 and not report.notes
        assert [item.what for item in seen] == ["w0", "w1", "w2"]
        assert all(tensor.error is not None and tensor.error.rel_rms > 0 for tensor in report.tensors)

    def test_every_bad_tensor_is_reported(self, packed: Path) -> None:
        def edit(model: onnx.ModelProto) -> None:
            for tensor in model.graph.initializer:
                if tensor.name in ("w0.nnr", "w2.nnr"):
                    tensor.raw_data = tensor.raw_data[:-1] + bytes([tensor.raw_data[-1] ^ 2])

        report = verify(change(packed, edit))
        assert [(finding.code, finding.tensor) for finding in report.findings] == [
            ("NNC-E212", "w0"),
            ("NNC-E212", "w2"),
        ]
        assert report.exit_code == 3

    def test_without_manifest(self, packed: Path) -> None:
        report = verify(change(packed, lambda model: model.metadata_props.pop() and None))
        assert report.ok
        assert "sha256" not in report.checks and "no manifest" in report.notes[0]

    def test_payload_swapped_with_its_checksum(self, packed: Path) -> None:
        """A consistent replacement passes the CRC-32 but not the manifest's hash."""
        import zlib

        def edit(model: onnx.ModelProto) -> None:
            first, other = model.graph.initializer[0], model.graph.initializer[2]
            first.raw_data, first.dims[0] = other.raw_data, other.dims[0]
            for attribute in model.graph.node[0].attribute:
                if attribute.name == "crc32":
                    attribute.i = zlib.crc32(other.raw_data)

        assert codes(change(packed, edit)) == ["NNC-E212"]

    def test_payloads_missing_in_the_manifest(self, packed: Path) -> None:
        def edit(model: onnx.ModelProto) -> None:
            entry = model.metadata_props[-1]
            manifest = parse_manifest(entry.value)
            shorter = Manifest(
                format="1", producer="x", source_sha256="", parameters=manifest.parameters, tensors=manifest.tensors[1:]
            )
            entry.value = shorter.to_json()

        report = verify(change(packed, edit))
        assert "in the graph only" in report.findings[0].message

    def test_changed_plain_tensor(self, packed: Path, original: Path) -> None:
        def edit(model: onnx.ModelProto) -> None:
            bias = next(tensor for tensor in model.graph.initializer if tensor.name == "b1")
            bias.raw_data = bytes(len(bias.raw_data))

        change(packed, edit)
        assert codes(packed) == []
        report = verify(packed, VerifyOptions(against=original))
        assert [(item.code, item.tensor) for item in report.findings] == [("NNC-E204", "b1")]
        assert report.exit_code == 4

    def test_changed_node(self, packed: Path, original: Path) -> None:
        def edit(model: onnx.ModelProto) -> None:
            next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Tanh"

        assert codes(change(packed, edit), against=original) == ["NNC-E204"]

    def test_error_bound(self, packed: Path, original: Path) -> None:
        assert codes(packed, against=original, max_rel_error=0.5) == []
        assert codes(packed, against=original, max_rel_error=1e-6) == ["NNC-E204"] * 3

    def test_subgraphs_compare_too(self, tmp_path: Path) -> None:
        source, target = tmp_path / "m.onnx", tmp_path / "o.onnx"
        for name in ("branches", "branches_local", "loop_local", "constants", "shared", "old_ir"):
            source.write_bytes(graphs.ALL[name]().SerializeToString())
            pack(source, target, PackOptions(force=True))
            report = verify(target, VerifyOptions(against=source))
            assert report.ok, (name, report.findings)

    def test_originals_that_are_packed(self, packed: Path) -> None:
        with pytest.raises(InvalidArgumentError, match="not an original"):
            verify(packed, VerifyOptions(against=packed))

    def test_outputs(self, packed: Path, tmp_path: Path) -> None:
        pytest.importorskip("onnxruntime")
        np.savez(tmp_path / "x.npz", x=np.ones((4, 64), np.float32))
        for options in ({"dims": {"n": 3}}, {"inputs": tmp_path / "x.npz"}):
            report = verify(packed, VerifyOptions(run=True, **options))
            assert report.ok and report.outputs[0].identical


class TestInspect:
    def test_packed(self, packed: Path) -> None:
        report = inspect(packed)
        assert report.packed and report.carriage == "1"
        assert report.file_bytes == packed.stat().st_size
        coded = {tensor.name: tensor for tensor in report.tensors if tensor.treatment == "coded"}
        assert list(coded) == ["w0", "w1", "w2"]
        assert coded["w1"].detail["after"] == "r0" and coded["w1"].detail["payload"] == "w1.nnr"
        assert (coded["w0"].method, coded["w0"].payload_type, coded["w0"].shape) == ("dq", "FLOAT", (64, 64))
        assert [tensor.name for tensor in report.tensors if tensor.treatment == "plain"] == ["b0", "b1", "b2"]

    def test_matches_the_packer(self, original: Path, tmp_path: Path) -> None:
        written = {item.name: item for item in pack(original, tmp_path / "o.onnx").coded}
        for found in inspect(tmp_path / "o.onnx").tensors:
            if found.treatment == "coded":
                expected = written[found.name]
                for field in ("qp", "step", "method", "stored_bytes", "original_bytes", "dtype", "shape"):
                    assert getattr(found, field) == getattr(expected, field)

    def test_plain(self, original: Path) -> None:
        report = inspect(original)
        assert not report.packed and report.producer == "tests"
        assert {tensor.treatment for tensor in report.tensors} == {"plain"}

    def test_nothing_is_decoded(self, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import nnc_codec

        def refuse(*arguments: object, **options: object) -> None:
            raise AssertionError

        monkeypatch.setattr(nnc_codec, "decode_single", refuse)
        assert inspect(packed).packed


class TestUnpack:
    def test_order_names_and_metadata_come_back(self, original: Path, packed: Path, tmp_path: Path) -> None:
        unpack(packed, tmp_path / "p.onnx")
        before, after = onnx.load(original), onnx.load(tmp_path / "p.onnx")
        for tensor in (*before.graph.initializer, *after.graph.initializer):
            if tensor.name.startswith("w"):
                tensor.ClearField("raw_data")
        assert before == after

    def test_without_manifest_tensors_still_come_back(self, packed: Path, tmp_path: Path) -> None:
        change(packed, lambda model: model.metadata_props.pop() and None)
        unpack(packed, tmp_path / "p.onnx", UnpackOptions(jobs=1))
        names = {tensor.name for tensor in onnx.load(tmp_path / "p.onnx").graph.initializer}
        assert names == {"w0", "w1", "w2", "b0", "b1", "b2"}

    def test_coding_again_changes_nothing(self, packed: Path, tmp_path: Path) -> None:
        """Decoded values lie on the grid of their step, so the same parameters give them back exactly."""
        unpack(packed, tmp_path / "p.onnx")
        pack(tmp_path / "p.onnx", tmp_path / "q.onnx", PackOptions(qp=-60, method="uniform", group_below=0))
        unpack(tmp_path / "q.onnx", tmp_path / "r.onnx")
        first, second = onnx.load(tmp_path / "p.onnx"), onnx.load(tmp_path / "r.onnx")
        assert first.graph.initializer == second.graph.initializer


class TestManifest:
    ENTRY = TensorEntry(name="w", shape=(2, 3), sha256="A" * 43, position=0)

    def test_round_trip(self) -> None:
        manifest = Manifest(
            format="1",
            producer="p",
            source_sha256="0",
            parameters=Parameters.of(PackOptions(qp=-3, include=("a*",))),
            tensors=(self.ENTRY,),
        )
        assert parse_manifest(manifest.to_json()) == manifest

    def test_defaults_take_no_room(self) -> None:
        manifest = Manifest(
            format="1", producer="p", source_sha256="0", parameters=Parameters.of(PackOptions()), tensors=(self.ENTRY,)
        )
        assert manifest.to_json().endswith(
            '"tensors":[{"name":"w","shape":[2,3],"sha256":"' + "A" * 43 + '","position":0}]}'
        )

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"format":"1"}', "nul", '{"format":1}', "[" * 100_000])
    def test_damaged(self, text: str) -> None:
        with pytest.raises(CarriageError):
            parse_manifest(text)

    def test_newer(self) -> None:
        text = '{"format":"2","producer":"","source_sha256":"","parameters":{"method":"dq"}}'
        with pytest.raises(UnsupportedCarriageError):
            parse_manifest(text)


class TestRun:
    def test_random_inputs_do_not_depend_on_each_other(self) -> None:
        class Input:
            def __init__(self, name: str, kind: str, shape: list[object]) -> None:
                self.name, self.type, self.shape = name, kind, shape

        x = Input("x", "tensor(float)", ["n", 3])
        ids = Input("ids", "tensor(int64)", [4, None])
        first = random_inputs([x, ids], 0, {"n": 2})
        assert first["x"].shape == (2, 3) and first["ids"].shape == (4, 1)
        assert np.array_equal(random_inputs([x], 0, {"n": 2})["x"], first["x"])
        assert not np.array_equal(random_inputs([x], 1, {"n": 2})["x"], first["x"])
        with pytest.raises(InvalidArgumentError, match="--inputs"):
            random_inputs([Input("s", "tensor(string)", [1])], 0, {})

    def test_reports_latency_and_difference(self, packed: Path, original: Path) -> None:
        pytest.importorskip("onnxruntime")
        report = run(packed, RunOptions(against=original, runs=3, mode="lazy"))
        assert report.runs == 3 and report.first_seconds > 0 and report.median_seconds is not None
        assert report.comparison[0].error is not None and 0 < report.comparison[0].error.rel_rms < 0.2
        assert not report.comparison[0].identical

    def test_outputs_are_written(self, packed: Path, tmp_path: Path) -> None:
        pytest.importorskip("onnxruntime")
        run(packed, RunOptions(outputs=tmp_path / "y.npz", dims={"n": 2}))
        with np.load(tmp_path / "y.npz") as archive:
            assert archive["r2"].shape == (2, 64)

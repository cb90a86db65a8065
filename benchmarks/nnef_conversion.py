"""Conversion between ONNX and NNEF: ours beside stock nnef-tools, on 42 export-like graphs and on shipped models.

Every conversion is judged by running it: the NNEF model in ``nnef.Session`` (and in tract, if that is installed), the
model converted back in onnxruntime, each against the source in onnxruntime on the same random inputs. Payloads of the
packed model are compared byte for byte after ONNX -> NNEF -> ONNX.

    python benchmarks/nnef_conversion.py [--wheels FOLDER] [--only NAME] [--no-graphs]

FOLDER holds wheels with models inside, e.g. from ``pip download --no-deps rapidocr-onnxruntime rapidocr silero-vad
basic-pitch ddddocr nudenet swift-f0 magika -d FOLDER``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "nnef")]

import nnc_codec  # noqa: E402
import nnc_nnef  # noqa: E402
import nnc_onnx  # noqa: E402
from nnc_codec.errors import NNRError  # noqa: E402
from nnc_codec.formats import PackOptions  # noqa: E402
from nnc_nnef.child import ChildLimits, run_folder  # noqa: E402
from nnc_nnef.convert import ConvertSettings, to_nnef, to_onnx  # noqa: E402
from nnc_nnef.convert.check import compare, random_inputs, run_onnx, sensitivity  # noqa: E402
from nnc_nnef.convert.onnx_to_nnef import NnefGraph, Port, convert_graph  # noqa: E402
from nnc_nnef.errors import MismatchError  # noqa: E402
from nnc_nnef.session import interpretable, used_operations, with_lowering  # noqa: E402

RATE = {"fixed_inputs": {"sr": np.asarray(16000, np.int64)}}
VOICE = {"input_shapes": {"input": (1, 576), "state": (2, 1, 128)}}
SHIPPED: dict[str, dict[str, Any]] = {
    "nmp.onnx": {},
    "common.onnx": {"dims": {"image_width": 160}},
    "common_det.onnx": {},
    "common_old.onnx": {"dims": {"image_width": 160}},
    "standard_v3_3/model.onnx": {},
    "320n.onnx": {"dims": {"height": 160, "width": 160}},
    "PP-OCRv6_det_small.onnx": {"input_shapes": {"x": (1, 3, 96, 96)}},
    "PP-OCRv6_rec_small.onnx": {"input_shapes": {"x": (1, 3, 48, 160)}},
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": {"input_shapes": {"x": (1, 3, 48, 192)}},
    "ch_PP-OCRv4_det_infer.onnx": {"input_shapes": {"x": (1, 3, 96, 96)}},
    "ch_PP-OCRv4_rec_infer.onnx": {"input_shapes": {"x": (1, 3, 48, 160)}},
    "silero_vad.onnx": {**VOICE, **RATE},
    "silero_vad_16k_op15.onnx": {**VOICE, **RATE},
    "silero_vad_16k_sequence.onnx": {"dims": {"sequence_length": 4}},
    "silero_vad_half.onnx": VOICE,
    "silero_vad_op18_ifless.onnx": {**VOICE, **RATE},
    "silero_vad_openvino_16k.onnx": {},
    "swift_f0/model.onnx": {
        "dims": {"samples": 4096},
        "fixed_inputs": {"fmin": np.asarray(50, np.float32), "fmax": np.asarray(2000, np.float32)},
    },
}
LIMITS = ChildLimits(seconds=300)


class Reference:
    """A source model with inputs and what it computes from them."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.model = onnx.load(path)
        graph = self._converted()
        self.ports = graph.inputs
        self.inputs = random_inputs((*graph.inputs, *graph.unread), self.model)
        self.names = [info.name for info in self.model.graph.output]
        self.outputs = self.run(self.inputs)
        self.moves = sensitivity(self.run, self.inputs)

    def _converted(self) -> NnefGraph:
        try:
            return convert_graph(self.model, **self.settings)
        except NNRError:
            raise SystemExit(f"{self.path}: no input shapes") from None

    def run(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs of the source."""
        fixed = self.settings.get("fixed_inputs", {})
        return run_onnx(str(self.path), {**fixed, **feed}, self.names)

    def judge(self, outputs: list[np.ndarray]) -> str:
        """``ok`` with the largest error, or ``WRONG``."""
        try:
            errors = compare(self.names, self.outputs, outputs, moves=self.moves)
        except MismatchError as error:
            return "WRONG" if "differs" in str(error) else f"WRONG ({error.message[:40]})"
        return f"ok {max((c.error.max_abs for c in errors if c.error), default=0):.0e}"


def stock(reference: Reference, folder: Path) -> tuple[str, str]:
    """nnef-tools as it is: (NNEF in nnef.Session, back in onnxruntime)."""
    from nnef_tools.conversion import nnef_to_onnx, onnx_to_nnef
    from nnef_tools.io import nnef as nnef_io
    from nnef_tools.io import onnx as onnx_io

    try:
        shapes = {port.onnx: list(port.shape) for port in reference.ports}
        graph = onnx_io.Reader()(str(reference.path), shapes)
        converter = onnx_to_nnef.Converter(keep_io_names=True)
        target = converter(graph)
        writer = nnef_io.Writer(
            fragments=converter.defined_operations(), fragment_dependencies=converter.defined_operation_dependencies()
        )
        writer(target, str(folder / "stock"))
    except Exception as error:
        return f"- {_short(error)}", "-"
    text = (folder / "stock" / "graph.nnef").read_text()
    inputs = [interpretable(reference.inputs[port.onnx]) for port in reference.ports if port.onnx in reference.inputs]
    used = used_operations(text) | ({"lstm_step"} if "lstm_loop" in text else set())
    try:
        there = reference.judge(with_lowering(used, lambda low: run_folder(folder / "stock", inputs, low, LIMITS)))
    except Exception as error:
        there = f"- {_short(error)}"
    try:
        back = nnef_to_onnx.Converter
        lowered = back.decomposed_operations()
        graph = nnef_io.Reader(decomposed=lowered, custom_shapes=back.defined_shapes())(str(folder / "stock"))
        onnx_io.Writer()(back()(graph), str(folder / "stock.onnx"))
        feed = {info.name: reference.inputs.get(info.name) for info in onnx.load(folder / "stock.onnx").graph.input}
        feed = {name: value for name, value in feed.items() if value is not None}
        return there, reference.judge(run_onnx(str(folder / "stock.onnx"), feed))
    except Exception as error:
        return there, f"- {_short(error)}"


def ours(reference: Reference, folder: Path) -> tuple[str, str, str, str]:
    """(NNEF in nnef.Session, in tract, back in onnxruntime, payloads carried)."""
    try:
        nnc_onnx.pack(reference.path, folder / "p.onnx", PackOptions(method="uniform", min_elements=256))
        plain = to_nnef(reference.path, folder / "plain.nnef.tgz", ConvertSettings(**reference.settings))
    except NNRError as error:
        return f"refused: {_short(error)}", "-", "-", "-"
    there = f"ok {max((c.error.max_abs for c in plain.comparison if c.error), default=0):.0e}"
    tract = _tract(reference, folder / "plain.nnef.tgz")
    try:
        to_onnx(folder / "plain.nnef.tgz", folder / "plain.onnx", ConvertSettings(check=False))
        graph = convert_graph(reference.model, **reference.settings)
        back = reference.judge(
            run_onnx(str(folder / "plain.onnx"), _feed(reference, graph.inputs, folder / "plain.onnx"))
        )
    except NNRError as error:
        back = f"refused: {_short(error)}"
    try:
        there_report = to_nnef(folder / "p.onnx", folder / "p.nnef.tar", ConvertSettings(**reference.settings))
        back_report = to_onnx(folder / "p.nnef.tar", folder / "b.onnx")
        carried = _identical(folder / "p.onnx", folder / "b.onnx", there_report, back_report)
    except NNRError as error:
        carried = f"- {_short(error)}"
    return there, tract, back, carried


def _feed(reference: Reference, ports: tuple[Port, ...], path: Path) -> dict[str, np.ndarray]:
    names = {port.nnef: port.onnx for port in ports}
    feed = {}
    for info in onnx.load(path, load_external_data=False).graph.input:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        feed[info.name] = reference.inputs[names[info.name]].astype(dtype)
    return feed


def _tract(reference: Reference, path: Path) -> str:
    try:
        import tract
    except ImportError:
        return ""
    try:
        model = tract.nnef().load(str(path)).into_runnable()
        inputs = [interpretable(reference.inputs[port.onnx]) for port in reference.ports]
        return reference.judge([value.to_numpy() for value in model.run(inputs)])
    except Exception:
        return "cannot read"


def _identical(first: Path, last: Path, there: Any, back: Any) -> str:
    def payloads(path: Path) -> dict[str, bytes]:
        found = {}
        for tensor in onnx.load(path).graph.initializer:
            if tensor.name.endswith(".nnr"):
                found[tensor.name.removesuffix(".nnr")] = bytes(tensor.raw_data)
        return found

    def codeword(bitstream: bytes) -> bytes:
        (unit,) = [u for u in nnc_codec.open(bitstream).units if u.data_unit is not None]
        return bitstream[unit.payload_offset : unit.end]

    moved = {t.name: t.target for t in there.tensors if t.action in ("carried", "renamed")}
    returned = {t.name: t.target for t in back.tensors if t.action in ("carried", "renamed")}
    after = payloads(last)
    with nnc_nnef.open(Path(back.source)) as middle:
        words = {name: codeword(middle[target].unit().bitstream) for name, target in moved.items()}
    before = payloads(first)
    same = sum(
        codeword(after[returned[target]]) == words[name]
        and (name not in before or codeword(before[name]) == words[name])
        for name, target in moved.items()
    )
    return f"{same}/{len(moved)}"


def _short(error: Exception) -> str:
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:70].replace("|", "/")


def sources(arguments: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """(name, file, settings) of every model."""
    if not arguments.no_graphs:
        from graphs import ALL, build

        for name, opset in ALL:
            onnx.save(build(name, opset), folder / "graph.onnx")
            yield f"{name} {opset}", folder / "graph.onnx", {}
    for wheel in sorted(Path(arguments.wheels).glob("*.whl")) if arguments.wheels else ():
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                match = next((name for name in SHIPPED if member.endswith("/" + name) or member == name), None)
                if match is not None:
                    (folder / "shipped.onnx").write_bytes(archive.read(member))
                    yield match, folder / "shipped.onnx", SHIPPED[match]


def main() -> None:
    """Prints the table as it is computed, and the totals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", help="folder with wheels that hold models")
    parser.add_argument("--only", help="names that contain this")
    parser.add_argument("--no-graphs", action="store_true", help="leave the 42 graphs out")
    arguments = parser.parse_args()
    print("| model | stock: nnef.Session | stock: back | ours: nnef.Session | tract | back | payloads carried |")
    print("|---|---|---|---|---|---|---|")
    totals = np.zeros(5, int)
    with tempfile.TemporaryDirectory() as private:
        for name, path, settings in sources(arguments, Path(private)):
            if arguments.only and arguments.only not in name:
                continue
            with tempfile.TemporaryDirectory() as folder:
                row: tuple[str, ...]
                try:
                    reference = Reference(path, settings)
                    row = (*stock(reference, Path(folder)), *ours(reference, Path(folder)))
                except SystemExit:
                    row = ("-", "-", *ours_refusal(path, settings))
            print(f"| {name} | {' | '.join(row)} |", flush=True)
            right = [row[0].startswith("ok") and row[1].startswith("ok"), "WRONG" in row[0] + row[1]]
            totals += [1, *right, row[2].startswith("ok") and row[4].startswith("ok"), "WRONG" in row[2] + row[4]]
    print(f"\n{totals[0]} models; stock right both ways {totals[1]}, silently wrong {totals[2]};", end=" ")
    print(f"ours right both ways {totals[3]}, silently wrong {totals[4]}")


def ours_refusal(path: Path, settings: dict[str, Any]) -> tuple[str, str, str, str]:
    """The row of a model that is refused before it has inputs."""
    try:
        convert_graph(onnx.load(path), **settings)
    except NNRError as error:
        return f"refused: {_short(error)}", "-", "-", "-"
    return "-", "-", "-", "-"


if __name__ == "__main__":
    main()

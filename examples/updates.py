"""Ten rounds of fine-tuning sent as updates: how large they are, with and without the context of earlier rounds.

    python examples/updates.py MODEL.onnx [--rounds 10] [--folder FOLDER]

Every round moves a few weights of every matrix by a little and biases by less, as low-rate training of some layers
does; the moves are seeded. The receiver has the first model and gets one update per round. Printed are the sizes of the
updates, how close the receiver's model comes, and what packing the last model as a whole would cost.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from nnc_codec.abilities import DiffOptions
from nnc_onnx import pack
from nnc_onnx.update.updates import apply, diff

MOVED = 0.02
"""Share of a matrix that a round moves."""

STAY = 0.7
"""Share of them that the next round moves again."""

SCALE = 0.02
"""Size of the moves, relative to the tensor's standard deviation."""


CONTEXTS = {
    "none": DiffOptions(temporal_context=False, history=False),
    "temporal": DiffOptions(temporal_context=True, history=False),
    "history": DiffOptions(temporal_context=False, history=True),
    "both": DiffOptions(),
}
"""What the coding of an update may depend on. Updates are sent with both; the others are only measured."""


class Round(NamedTuple):
    """What one round took.

    Attributes:
        sizes: of the update in bytes, by the context it may use.
        units: number of tensors coded with temporal context.
        error: largest relative rms error of a changed tensor in the receiver's model.
    """

    sizes: dict[str, int]
    units: int
    error: float


def fine_tuned(model: onnx.ModelProto, rounds: int, seed: int = 0) -> Iterator[onnx.ModelProto]:
    """The model after each round; what moves in one round mostly moves in the next."""
    generator = np.random.default_rng(seed)
    tuned = onnx.ModelProto()
    tuned.CopyFrom(model)
    places: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for tensor in tuned.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype != np.float32 or values.ndim == 0 or not np.isfinite(values).all():
                continue
            if values.ndim > 1 and values.size > 1024:
                kept = places.get(tensor.name, np.zeros(values.shape, bool)) & (generator.random(values.shape) < STAY)
                fresh = generator.random(values.shape) < MOVED - kept.mean()
                places[tensor.name] = moved = kept | fresh
            else:
                moved = np.ones(values.shape, bool)
            step = (generator.standard_normal(values.shape) * SCALE * values.std()).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(np.where(moved, values + step, values), tensor.name))
        yield tuned


def run(model: Path, folder: Path, rounds: int = 10) -> list[Round]:
    """Send `rounds` updates of `model` through files in `folder`; the receiver ends with ``received.onnx``."""
    updates: list[Path] = []
    results = []
    for number, tuned in enumerate(fine_tuned(onnx.load(model), rounds), 1):
        new = folder / f"round{number}.onnx"
        onnx.save(tuned, new)
        sizes = {}
        for name, options in CONTEXTS.items():
            update = folder / f"update{number}.{name}.nnr"
            report = diff(model, new, update, msgspec.structs.replace(options, after=tuple(updates)))
            sizes[name] = report.update_bytes
        updates.append(update)
        worst = report.worst
        error = worst.error.rel_rms if worst is not None and worst.error is not None else 0.0
        results.append(Round(sizes, sum(tensor.temporal_context for tensor in report.tensors), error))
    apply(model, updates, folder / "received.onnx")
    return results


def main() -> None:
    """Parse the arguments, run, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="an empty folder for the files; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        results = run(options.model, folder, options.rounds)
        packed = pack(folder / "received.onnx", folder / "received.nnc.onnx").packed_bytes
    print(f"{options.model}: {options.model.stat().st_size} bytes, packed as a whole {packed}")
    print("round " + "".join(f"{name:>10}" for name in CONTEXTS) + "   tensors with temporal context   worst error")
    for number, result in enumerate(results, 1):
        sizes = "".join(f"{size:>10}" for size in result.sizes.values())
        print(f"{number:>5} {sizes}   {result.units:>29}   {result.error:>11.1e}")


if __name__ == "__main__":
    main()

"""Running the Khronos C++ code on untrusted input in a child process with limits.

The child is ``python -m nnc_nnef.child``. It reads one JSON request from standard input and answers with one JSON
document on standard output; tensors travel as ``.npz`` files in a private temporary folder. A crash, a timeout or
too much memory becomes a typed error here and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from .errors import GraphTextError, SessionError


class ChildLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a child process may use.

    Attributes:
        seconds: wall time; also the processor time.
        memory_bytes: address space beyond what the interpreter itself maps.
    """

    seconds: int = 120
    memory_bytes: int = 4 << 30


class Request(msgspec.Struct):
    """What the child is asked to do: parse `graph` (``task="parse"``) or run `folder` (``task="run"``)."""

    task: str
    memory_bytes: int
    seconds: int
    lowered: list[str] = []
    graph: str = ""
    quant: str | None = None
    folder: str = ""
    inputs: str = ""
    outputs: str = ""


class Answer(msgspec.Struct):
    """What the child answers: an empty `error` is success."""

    error: str = ""


DEFAULT_LIMITS = ChildLimits()


def limits_for(values_bytes: int) -> ChildLimits:
    """Limits for running a model with this many bytes of values: ten minutes, and room for a few copies."""
    return ChildLimits(seconds=600, memory_bytes=max(DEFAULT_LIMITS.memory_bytes, 8 * values_bytes))


def trial_parse(graph: str, quant: str | None, lowered: Sequence[str], limits: ChildLimits = DEFAULT_LIMITS) -> None:
    """Parses a text in a child process and forgets the result.

    Raises:
        GraphTextError: the parser refuses it, crashes on it, or exceeds `limits`.
    """
    request = Request("parse", limits.memory_bytes, limits.seconds, list(lowered), graph, quant)
    error = _ask(request, limits)
    if error:
        raise GraphTextError(f"graph.nnef cannot be parsed: {error}")


def run_folder(
    folder: Path,
    inputs: Sequence[NDArray[np.generic]],
    lowered: Sequence[str],
    limits: ChildLimits = DEFAULT_LIMITS,
) -> list[NDArray[np.generic]]:
    """Runs an unpacked NNEF folder in the reference interpreter (``nnef.Session``).

    Args:
        folder: holds ``graph.nnef`` and the ``.dat`` files.
        inputs: float32, int32 or bool arrays in the order of the graph's inputs.
        lowered: operations the interpreter lacks, to be expanded by their fragments.
        limits: of the child.

    Raises:
        SessionError: the interpreter refuses or crashes, or exceeds `limits`.
    """
    with tempfile.TemporaryDirectory(prefix="onnx-nnc-") as private:
        source, target = Path(private, "in.npz"), Path(private, "out.npz")
        np.savez(source, allow_pickle=False, **{f"t{i}": array for i, array in enumerate(inputs)})
        request = Request(
            "run", limits.memory_bytes, limits.seconds, list(lowered),
            folder=str(folder), inputs=str(source), outputs=str(target),
        )  # fmt: skip
        error = _ask(request, limits)
        if error:
            raise SessionError(f"the NNEF reference interpreter cannot run the model: {error}")
        return _load(target)


def _load(path: Path) -> list[NDArray[np.generic]]:
    with np.load(path, allow_pickle=False) as archive:
        arrays: Mapping[str, NDArray[np.generic]] = archive
        return [arrays[f"t{i}"] for i in range(len(archive.files))]


def _ask(request: Request, limits: ChildLimits) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment["OPENBLAS_NUM_THREADS"] = environment["OMP_NUM_THREADS"] = "1"
    try:
        finished = subprocess.run(
            [sys.executable, "-m", "nnc_nnef.child"],
            input=msgspec.json.encode(request),
            capture_output=True,
            timeout=limits.seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer after {limits.seconds} s"
    if finished.returncode < 0:
        return f"the parser or interpreter died of signal {-finished.returncode}"
    try:
        return msgspec.json.decode(finished.stdout, type=Answer).error
    except msgspec.DecodeError:
        detail = finished.stderr.decode("utf-8", "replace").strip().splitlines()
        return f"exit status {finished.returncode}" + (f", {detail[-1][:200]}" if detail else "")


def _confine(request: Request) -> None:
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (request.seconds, request.seconds))
        used = 0
        with contextlib.suppress(OSError, ValueError, IndexError):
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        ceiling = used + request.memory_bytes
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))


def _serve(request: Request) -> Answer:
    import nnef

    _confine(request)
    try:
        if request.task == "parse":
            nnef.parse_string(request.graph, request.quant, lowered=request.lowered)
        else:
            arrays = _load(Path(request.inputs))
            with nnef.Session(request.folder, lowered=request.lowered) as session:
                results = session(*[np.asarray(array, order="C") for array in arrays])
            np.savez(
                request.outputs,
                allow_pickle=False,
                **{f"t{i}": array for i, array in enumerate(results)},
            )
    except MemoryError:
        return Answer("out of memory")
    except Exception as error:
        # Whatever the C++ side raises crosses the process boundary as text.
        return Answer(f"{type(error).__name__}: {error}"[:2000])
    return Answer()


def main() -> None:
    """Answers one request; the entry point of the child process."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    sys.stdout.buffer.write(msgspec.json.encode(_serve(request)))


if __name__ == "__main__":
    main()

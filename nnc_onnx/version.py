"""What this release calls itself in the files it writes."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "onnx-nnc"


def package_version() -> str:
    """Version of the installed distribution; ``"unknown"`` when run from a source tree."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def producer() -> str:
    """Name and version, e.g. ``"onnx-nnc 0.1.0"``."""
    return f"{DISTRIBUTION} {package_version()}"

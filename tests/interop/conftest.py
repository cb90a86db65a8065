"""These tests compare with NNCodec and need its environment: numpy < 2, CPU torch, nncodec 2.1.3.

They are left out of a default run; start them with ``python -m pytest tests/interop -o addopts=``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("nncodec")
sys.path.insert(0, str(Path(__file__).parents[1] / "codec"))

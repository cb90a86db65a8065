"""What a caller may say about a conversion."""

from __future__ import annotations

from typing import Any

import msgspec

from nnc_codec.limits import Limits

from .carry import Policy


class ConvertSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a model changes its format.

    Attributes:
        payloads: what to do with payloads that cannot be carried: refuse, decode and code again, store plain.
        check: compare the outputs of both models on random inputs.
        force: overwrite the output.
        input_shapes: sizes of ONNX inputs, by input name.
        dims: sizes of symbolic dimensions, by symbol.
        fixed_inputs: ONNX inputs that become constants.
        limits: bounds for coded data.
        seed: of the random inputs.
    """

    payloads: Policy = "refuse"
    check: bool = True
    force: bool = False
    input_shapes: dict[str, tuple[int, ...]] = {}
    dims: dict[str, int] = {}
    fixed_inputs: dict[str, Any] = {}
    limits: Limits = Limits()
    seed: int = 0

"""ISO/IEC 15938-17, compression of neural networks: tensors to NNR bitstreams and back."""

from __future__ import annotations

from .bitstream import Bitstream, CodedTensor, merge
from .decoder import decode, decode_single, open
from .encoder import encode
from .errors import (
    CorruptError,
    InvalidArgumentError,
    LimitExceededError,
    NNRError,
    TruncatedError,
    UnsupportedError,
)
from .folding import compose, decompose
from .limits import Limits
from .params import Block, EncodeParams, TensorParams
from .state import UpdateState

__all__ = [
    "Bitstream",
    "Block",
    "CodedTensor",
    "CorruptError",
    "EncodeParams",
    "InvalidArgumentError",
    "LimitExceededError",
    "Limits",
    "NNRError",
    "TensorParams",
    "TruncatedError",
    "UnsupportedError",
    "UpdateState",
    "compose",
    "decode",
    "decode_single",
    "decompose",
    "encode",
    "merge",
    "open",
]

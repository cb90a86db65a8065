"""Typed errors of the NNEF carriage and of conversion, codes `NNC-E3xx`."""

from __future__ import annotations

from nnc_codec.errors import CorruptError, InvalidArgumentError, NNRError, UnsupportedError


class ArchiveError(CorruptError):
    """The container breaks a rule: unsafe name, link, duplicate, wrong size, or not a container at all."""

    code = "NNC-E301"


class LabelError(CorruptError):
    """A variable label that NNEF or this project does not allow."""

    code = "NNC-E302"


class TensorFileError(CorruptError):
    """A `.dat` file whose 128-byte header contradicts the standard or the file."""

    code = "NNC-E303"


class GraphTextError(CorruptError):
    """`graph.nnef` or `graph.quant` cannot be parsed, or is outside what the parser may be trusted with."""

    code = "NNC-E304"


class IntegrityError(CorruptError):
    """A digest in the index does not match the bytes."""

    code = "NNC-E305"


class IndexFileError(CorruptError):
    """`weights.nnr.json` is malformed or contradicts the archive."""

    code = "NNC-E306"


class ConversionError(UnsupportedError):
    """An operation or type that has no faithful counterpart in the target format.

    Attributes:
        op: operation type in the source format, if one is to blame.
        node: name of the node or of its first output.
    """

    code = "NNC-E310"

    def __init__(
        self, message: str, *, op: str | None = None, node: str | None = None, hint: str | None = None
    ) -> None:
        where = [f"{label} {value!r}" for label, value in (("op", op), ("node", node)) if value]
        super().__init__(message + (f" ({', '.join(where)})" if where else ""), hint=hint)
        self.op = op
        self.node = node


class ShapeError(ConversionError, InvalidArgumentError):
    """NNEF needs a fixed shape that the ONNX model leaves open."""

    code = "NNC-E311"
    exit_code = 1


class MismatchError(NNRError):
    """The converted model computes something else than its source."""

    code = "NNC-E312"
    exit_code = 4


class CarryError(UnsupportedError):
    """A payload cannot be carried over as it is.

    Attributes:
        reason: stable word for the reason, see :class:`nnc_nnef.convert.carry.Obstacle`.
    """

    code = "NNC-E313"

    def __init__(self, message: str, *, reason: str, tensor: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, tensor=tensor, hint=hint)
        self.reason = reason


class SessionError(NNRError):
    """The reference interpreter could not run the model, or was stopped by a limit."""

    code = "NNC-E314"
    exit_code = 5

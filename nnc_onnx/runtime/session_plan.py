"""What becomes of a packed model when a session is made of it: which weights are constants, which stay coded."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from nnc_codec.errors import InvalidArgumentError

from ..model_head import model_bytes
from .budget import Budget, budget_bytes
from .graph_scan import GraphScan, scan_graph
from .settings import Mode

if TYPE_CHECKING:
    import onnx

    from ..graph.usage import Value
    from ..model_io import Model
    from .residency import Residency
    from .stage import Substitute

Resolved = Literal["lazy", "cache", "eager", "int8"]


class Wishes(NamedTuple):
    """What the user asked for, as for :class:`nnc_onnx.InferenceSession`."""

    mode: Mode
    cache_bytes: Budget | None = None
    resident: bool = True
    cache_levels: bool = True
    recode: bool = True


class SessionPlan(NamedTuple):
    """How to make one session.

    Attributes:
        mode: what the mode that was asked for comes down to: ``"eager"`` if nothing stays coded.
        budget: bytes of decoded tensors that the run-time library may keep.
        constants: tensors that become constants, ``None`` for all.
        constant_bytes: their size.
        coded_bytes: decoded size of the tensors that stay coded.
        shareable: names of tensors that the cache may lend to onnxruntime.
        model: the model to be staged; ``None`` if onnxruntime reads the source as it is.
        optional: onnxruntime could read the source as it is, only that it would hold the payloads in memory.
        rewrites: changes of the staged graph.
        substitutes: what takes the place of constants in mode ``"int8"``.
    """

    mode: Resolved
    budget: int = 0
    constants: frozenset[Value] | None = frozenset()
    constant_bytes: int = 0
    coded_bytes: int = 0
    shareable: tuple[str, ...] = ()
    model: Model | None = None
    optional: bool = False
    rewrites: Sequence[Callable[[onnx.ModelProto], None]] = ()
    substitutes: Sequence[Substitute] = ()


def plan_session(
    source: str | os.PathLike[str] | bytes,
    wishes: Wishes,
    *,
    only_cpu: bool,
    is_ort_format: bool = False,
    in_place: bool = False,
) -> SessionPlan:
    """The plan for a packed model.

    Args:
        source: path or bytes of the model.
        wishes: mode and budget.
        only_cpu: whether all nodes compute in the CPU provider's memory.
        in_place: onnxruntime can map payloads from the model's file, which takes a changed model.
        is_ort_format: `source` is in onnxruntime's own format, whose inside is not read.

    Raises:
        InvalidArgumentError: the mode does not fit the model, or `cache_bytes` is no budget.
        FileAccessError, InvalidModelError, TruncatedModelError: the model cannot be read.
        CarriageError, UnsupportedCarriageError: a node of the carriage is malformed or unknown.
    """
    mode, cache_bytes, resident, _, _ = wishes
    if is_ort_format:
        if mode in ("eager", "int8"):
            raise InvalidArgumentError(
                f"a model in ORT format cannot be changed for mode {mode}", hint="use mode='lazy'"
            )
        budget = 0 if mode == "lazy" else budget_bytes(cache_bytes, None)
        return SessionPlan("cache" if budget else "lazy", budget)
    with model_bytes(source) as data:
        scan = scan_graph(data)
    if mode == "int8":
        if not only_cpu:
            raise InvalidArgumentError("mode int8 computes on the CPU provider only", hint="use mode='eager'")
        return _integers(source)
    if mode == "eager" or (mode == "auto" and not only_cpu):
        return _eager(source, scan.decoded_bytes)
    budget = 0
    if mode != "lazy":
        budget = budget_bytes(cache_bytes, scan.decoded_bytes)
    if resident and budget >= scan.decoded_bytes:
        return _eager(source, scan.decoded_bytes)
    if not (in_place or scan.groups or scan.lookups or (resident and (budget or scan.grouped))):
        return SessionPlan(
            "cache" if budget else "lazy", budget, coded_bytes=scan.decoded_bytes, shareable=scan.shareable
        )
    return _partly(source, budget, scan, wishes)


def _eager(source: str | os.PathLike[str] | bytes, decoded_bytes: int) -> SessionPlan:
    from .skeleton import read_skeleton

    return SessionPlan("eager", constants=None, constant_bytes=decoded_bytes, model=read_skeleton(source))


def _partly(source: str | os.PathLike[str] | bytes, budget: int, scan: GraphScan, wishes: Wishes) -> SessionPlan:
    from ..graph.usage import Usage
    from ..payloads import packed_tensors
    from .gather import row_rewrite, row_tables, table_of
    from .residency import choose_constants
    from .skeleton import read_skeleton

    model = read_skeleton(source)
    usage = Usage(model.proto.graph)
    tables = row_tables(usage, model)
    packed = list(packed_tensors(usage)) if wishes.resident else []
    others = [tensor for tensor in packed if table_of(tensor) not in tables]
    beside = sum(tensor.decode.nbytes for tensor in packed if table_of(tensor) in tables)
    levels = wishes.cache_levels and budget > 0
    chosen: Residency = choose_constants(usage, others, budget, beside=beside, levels=levels)
    left = max(budget - chosen.constant_bytes, 0)
    return SessionPlan(
        "cache" if left else "lazy",
        left,
        constants=chosen.constants,
        constant_bytes=chosen.constant_bytes,
        coded_bytes=scan.decoded_bytes - chosen.constant_bytes,
        shareable=scan.shareable,
        model=model,
        optional=not (tables or chosen.constants or scan.groups),
        rewrites=(row_rewrite(tables),) if tables else (),
    )


def _integers(source: str | os.PathLike[str] | bytes) -> SessionPlan:
    from ..graph.usage import Usage
    from ..payloads import packed_tensors
    from .integer_weights import compute_in_integers, integer_weights
    from .settings import OLDEST_INTEGER_BLOCKS, onnxruntime_version
    from .skeleton import read_skeleton
    from .stage import value_of

    model = read_skeleton(source)
    usage = Usage(model.proto.graph)
    packed = list(packed_tensors(usage))
    with_blocks = onnxruntime_version() >= OLDEST_INTEGER_BLOCKS
    weights = integer_weights(usage, packed, with_blocks=with_blocks)
    compute_in_integers(model.proto, weights)
    replaced = {weight.value for weight in weights}
    kept = sum(tensor.decode.nbytes for tensor in packed if value_of(tensor) not in replaced)
    return SessionPlan(
        "int8",
        constants=None,
        constant_bytes=kept + sum(weight.nbytes for weight in weights),
        model=model,
        substitutes=weights,
    )

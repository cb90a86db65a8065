"""Tensors to a bitstream: start unit, model parameter set, topology unit, data units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from . import syntax
from .blocks import Role, roles_by_name, roles_by_payload
from .errors import InvalidArgumentError
from .folding import fold_batch_norm
from .parallel import MAX_IN_FLIGHT_BYTES, run_all
from .params import NO_OVERRIDE, Block, EncodeParams
from .state import UpdateState
from .syntax.context import Context
from .syntax.enums import CompressedParameterTypes as Cpt
from .syntax.enums import NnrUnitType, QuantizationMethodFlags, TopologyStorageFormat
from .syntax.parameter_sets import ModelParameterSet
from .syntax.topology import TopologyUnitHeader, TopologyUnitPayload
from .syntax.units import StartUnitHeader, UnitHeader
from .unit_encoder import Coded, Part, UnitPlan, check_name, encode_unit

Tensors = Mapping[str, npt.NDArray[Any]]
Progress = Callable[[str, int], None]
"""Called with a tensor's name and its size in bytes once it is coded."""


def encode(
    tensors: Tensors,
    params: EncodeParams | None = None,
    *,
    base: UpdateState | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    max_in_flight_bytes: int = MAX_IN_FLIGHT_BYTES,
) -> bytes:
    """Code tensors into one NNR bitstream.

    Float tensors (float16, bfloat16, float32, float64) are quantized into FLOAT units, or BLOCK units with
    ``params.blocks``; integer tensors within 32 bits become INT units and stay exact. The bytes depend on the tensors,
    ``params`` and ``base`` alone.

    Args:
        tensors: name -> array with at least one dimension and one element. Names are unique UTF-8 strings.
        params: options; the defaults are those of :class:`EncodeParams`.
        base: state of a sequence of updates, advanced by this call; the tensors are then differences unless
            ``base.compress_differences`` is off.
        executor: where tensors are coded; ``None`` uses threads, one per processor.
        progress: called after each unit, with the name of its first tensor.
        max_in_flight_bytes: most bytes of tensors that are coded at the same time; a larger tensor is coded alone.
            Coding takes about as much memory again as the tensors that are under way.

    Returns:
        The bitstream: STR, MPS, [TPL], data units in the order of ``tensors``.

    Raises:
        InvalidArgumentError: a tensor or an option cannot be coded; says which.
    """
    options = params or EncodeParams()
    identifiers = {name: index for index, name in enumerate(tensors)}
    if options.fold_batch_norm:
        tensors, options = fold_batch_norm(tensors, options)
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    for name in arrays:
        check_name(name)
    parents = base is not None and (base.compress_differences or base.predictive)
    context, head = bitstream_head(options, parents=parents, predictive=base is not None and base.predictive)
    plans = plan_units(arrays, options, base, identifiers)
    sizes = [sum(int(part.array.nbytes) for part in plan.parts) for plan in plans]

    def done(index: int) -> None:
        if progress is not None:
            progress(plans[index].names[0], sizes[index])

    code = partial(_code, options=options, context=context, keep_integers=base is not None)
    coded = run_all(code, plans, sizes, executor, done=done, max_in_flight_bytes=max_in_flight_bytes)
    if base is not None:
        for plan, unit in zip(plans, coded, strict=True):
            for part in plan.parts:
                if part.name in unit.integers:
                    base.record(part.name, part.parameter_id, options.device_id, unit.integers[part.name])
    stream = BytesIO()
    stream.write(head)
    for index, unit in enumerate(coded):
        stream.write(unit.data)
        coded[index] = _EMPTY  # so that the output is never in memory twice
    return stream.getvalue()


_EMPTY = Coded(b"", {})


def _code(plan: UnitPlan, options: EncodeParams, context: Context, keep_integers: bool) -> Coded:
    unit = encode_unit(plan, options, context)
    # Four bytes a weight: kept for no longer than somebody needs them.
    return unit if keep_integers else Coded(unit.data, {})


def bitstream_head(options: EncodeParams, *, parents: bool = False, predictive: bool = False) -> tuple[Context, bytes]:
    """The units before the first data unit, and the context that data units are written in after them."""
    start = UnitHeader(nnr_unit_type=NnrUnitType.NNR_STR, start_unit_header=StartUnitHeader(general_profile_idc=1))
    mps = ModelParameterSet(
        topology_carriage_flag=int(options.topology),
        mps_sparsification_flag=0,
        mps_pruning_flag=0,
        mps_unification_flag=0,
        mps_decomposition_performance_map_flag=0,
        mps_quantization_method_flags=QuantizationMethodFlags.NNR_QSU,
        mps_topology_indexed_reference_flag=0,
        mps_parent_signalling_enabled_flag=int(parents),
        nnr_pre_flag=int(predictive),
        nnr_reserved_zero_1bit=None if parents else 0,
        nnr_reserved_zero_2bits=0,
        mps_qp_density=options.qp_density,
        mps_quantization_parameter=0,
    )
    units: list[tuple[UnitHeader, Any]] = [(start, None), (UnitHeader(nnr_unit_type=NnrUnitType.NNR_MPS), mps)]
    if options.topology:
        topology = TopologyUnitHeader(
            topology_storage_format=TopologyStorageFormat.NNR_TPL_UNREC, topology_compression_format=0
        )
        header = UnitHeader(nnr_unit_type=NnrUnitType.NNR_TPL, topology_unit_header=topology)
        units.append((header, TopologyUnitPayload(topology_data=b"\0")))
    context, head = Context(), b""
    for header, payload in units:
        unit = syntax.write_unit(header, payload, context)
        context = syntax.read_unit(unit, 0, context).context_after(context)
        head += unit
    return context, head


def plan_units(
    tensors: Tensors, options: EncodeParams, base: UpdateState | None, identifiers: Mapping[str, int]
) -> list[UnitPlan]:
    """Which tensors go into which data unit; a block stands where its (first) weight stands.

    Args:
        tensors: all tensors.
        options: blocks and quantization parameters.
        base: state of a sequence of updates.
        identifiers: ``parameter_id`` by name; tensors without one are numbered behind.
    """
    blocks: dict[str, dict[Role, str]] = {}
    companions: set[str] = set()
    for block in options.blocks:
        names = block_names(block)
        _check_block(names, tensors)
        anchor = names.get("weight") or names["weight_g"]
        blocks[anchor] = names
        twice = companions & set(names.values())
        if twice:
            raise InvalidArgumentError("named in two blocks", tensor=min(twice))
        companions |= set(names.values())
    unknown = sorted(options.per_tensor.keys() - tensors.keys())
    if unknown:
        raise InvalidArgumentError(f"per_tensor names {unknown[0]!r}, which is not among the tensors")
    qps = tensor_qps(tensors, options, {n for names in blocks.values() for r, n in names.items() if r in _VECTORS})
    fresh = [name for name in tensors if name not in identifiers]
    numbers = {**identifiers, **{name: len(identifiers) + i for i, name in enumerate(fresh)}}

    def part(name: str, role: Role) -> Part:
        past = {} if base is None else {"past": base.past(name)}
        return Part(name, role, tensors[name], numbers[name], qps[name], **past)

    plans = []
    for name, array in tensors.items():
        if name in blocks:
            plans.append(_block_plan(blocks[name], tensors, part, base))
        elif name not in companions:
            plans.append(_plan((part(name, "weight"),), (name,), array.shape, base))
    return plans


_VECTORS: frozenset[Role] = frozenset({"local_scaling", "bias", "bn_beta", "bn_gamma", "bn_mean", "bn_var"})


def block_names(block: Block) -> dict[Role, str]:
    """Tensors of a block by role; a decomposed weight is its two factors."""
    named: dict[Role, str | None] = {
        "weight": block.weight if block.g is None else None,
        "weight_g": block.g,
        "weight_h": block.h,
        "local_scaling": block.local_scaling,
        "bias": block.bias,
        "bn_beta": block.bn_beta,
        "bn_gamma": block.bn_gamma,
        "bn_mean": block.bn_mean,
        "bn_var": block.bn_var,
    }
    return {role: name for role, name in named.items() if name is not None}


def _check_block(names: dict[Role, str], tensors: Tensors) -> None:
    for role, name in names.items():
        if name not in tensors:
            raise InvalidArgumentError("a block names a tensor that is not there", tensor=name)
        if role in _VECTORS and tensors[name].ndim != 1:
            raise InvalidArgumentError("companions of a weight are vectors", tensor=name)
    if len(set(names.values())) < len(names):
        raise InvalidArgumentError("a block names a tensor twice", tensor=next(iter(names.values())))
    if len(names) < 2:
        raise InvalidArgumentError("a block has two or more tensors", tensor=next(iter(names.values())))


def _block_plan(
    names: dict[Role, str],
    tensors: Tensors,
    part: Callable[[str, Role], Part],
    base: UpdateState | None,
) -> UnitPlan:
    cpt = (
        Cpt.NNR_CPT_DC * ("weight_g" in names)
        | Cpt.NNR_CPT_LS * ("local_scaling" in names)
        | Cpt.NNR_CPT_BN * ("bn_beta" in names)
        | Cpt.NNR_CPT_BI * ("bias" in names)
    )
    rank = rows = 0
    if "weight_g" in names:
        g, h = tensors[names["weight_g"]], tensors[names["weight_h"]]
        if g.ndim != 2 or h.ndim != 2 or g.shape[1] != h.shape[0]:
            raise InvalidArgumentError("g and h are not factors of a matrix", tensor=names["weight_g"])
        rows, rank = g.shape
        shape = (rows, h.shape[1])
    else:
        shape = tensors[names["weight"]].shape
    for role, name in names.items():
        if role in _VECTORS and tensors[name].shape != shape[:1]:
            raise InvalidArgumentError(f"a companion needs the shape {shape[:1]} of its weight's rows", tensor=name)
    parts = tuple(part(names[role], role) for role in roles_by_payload(cpt))
    header_names = tuple(names[role] for role in roles_by_name(cpt))
    plan = _plan(parts, header_names, shape, base)
    return UnitPlan(**{**vars(plan), "cpt": int(cpt), "rank": rank, "rows": rows})


def _plan(
    parts: tuple[Part, ...], names: tuple[str, ...], shape: tuple[int, ...], base: UpdateState | None
) -> UnitPlan:
    if base is None:
        return UnitPlan(parts, names, shape)
    differences = base.compress_differences
    return UnitPlan(
        parts,
        names,
        shape,
        put_node_depth=base.depth(names[0]),
        parent=differences,
        temporal=differences and base.temporal_context and all(p.past.integers is not None for p in parts),
        history=base.history,
    )


def tensor_qps(tensors: Tensors, options: EncodeParams, vectors: set[str]) -> dict[str, int]:
    """QP of every tensor: weights have two or more dimensions, everything else is finer."""
    finer = options.nonweight_qp if options.nonweight_qp is not None else options.qp - 2 * (1 << options.qp_density)
    qps = {}
    for name, array in tensors.items():
        own = options.per_tensor.get(name, NO_OVERRIDE).qp
        qps[name] = own if own is not None else options.qp if array.ndim >= 2 and name not in vectors else finer
    if options.opt_qp:
        weights = [name for name, array in tensors.items() if array.ndim >= 2]
        qps |= _optimised(weights, tensors, qps)
    return qps


def _optimised(weights: list[str], tensors: Tensors, qps: Mapping[str, int]) -> dict[str, int]:
    """The reference encoder's ``opt_qp``: a weight's share of the elements and of the spread moves its QP to 0."""
    if not weights:
        return {}
    sizes = np.array([tensors[name].size for name in weights])
    spreads = np.array([np.std(tensors[name]) for name in weights])
    widest = spreads.max()
    relative = spreads / widest if widest > 0 else np.ones_like(spreads)
    shares = sizes / sizes.sum() + 0.1 * (1 - relative)
    shares[shares > 0.5] = 0.15
    return {name: round(qps[name] * (1 - float(share))) for name, share in zip(weights, shares, strict=True)}

"""Coding all tensors of a model: identical ones once, the largest first, on several threads."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from nnc_codec.formats import PackOptions, Progress, ProgressCallback
from nnc_codec.parallel import run_all
from nnc_codec.report import TensorReport

from .coding import Coded, code_tensor
from .plan import PlannedTensor
from .tensors import is_external, read_bytes

if TYPE_CHECKING:
    import onnx


class PackedTensor(NamedTuple):
    """A coded tensor and the name of its payload; the first of several identical tensors owns the payload."""

    planned: PlannedTensor
    coded: Coded
    payload_name: str
    owner: PlannedTensor


def code_all(
    planned: list[PlannedTensor],
    folder: Path,
    options: PackOptions,
    progress: ProgressCallback | None,
) -> tuple[list[PackedTensor], dict[int, str]]:
    """Code what is to be coded.

    Returns:
        The coded tensors in the model's order, and by index why the others of the wanted ones stay plain.
    """
    wanted = [index for index, tensor in enumerate(planned) if tensor.is_coded]
    owners = _owners(planned, wanted, folder)
    unique = [index for index in wanted if owners[index] == index]
    elements = sum(planned[index].elements for index in unique if planned[index].reason is None)
    sizes = [planned[index].nbytes for index in unique]
    total, finished = sum(sizes), 0

    def done(position: int) -> None:
        nonlocal finished
        finished += sizes[position]
        if progress is not None:
            progress(Progress(what=planned[unique[position]].name, done=finished, total=total))

    with ThreadPoolExecutor(options.jobs or os.cpu_count() or 1) as executor:
        coded = run_all(
            lambda index: code_tensor(planned[index], folder, options, elements), unique, sizes, executor, done=done
        )
    results = dict(zip(unique, coded, strict=True))
    packed, reasons = [], {}
    for index in wanted:
        result = results[owners[index]]
        if isinstance(result, str):
            reasons[index] = result
        else:
            packed.append(PackedTensor(planned[index], result, "", planned[owners[index]]))
    return packed, reasons


def _owners(planned: list[PlannedTensor], wanted: list[int], folder: Path) -> dict[int, int]:
    """For every tensor the first one with the same type, shape and values."""
    alike: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for index in wanted:
        tensor = planned[index]
        alike[tensor.proto.data_type, tensor.shape, tensor.nbytes, tensor.care, tensor.sparse is None].append(index)
    owners = {}
    for group in alike.values():
        first: dict[bytes, int] = {}
        for index in group:
            key = b"" if len(group) == 1 else _fingerprint(planned[index].proto, folder)
            owners[index] = first.setdefault(key, index)
    return owners


def _fingerprint(tensor: onnx.TensorProto, folder: Path) -> bytes:
    if is_external(tensor) or tensor.HasField("raw_data"):
        return hashlib.sha256(read_bytes(tensor, folder).data).digest()
    bare = type(tensor)()
    bare.CopyFrom(tensor)
    bare.ClearField("name")
    bare.ClearField("doc_string")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()


def tensor_reports(
    planned: list[PlannedTensor], packed: list[PackedTensor], reasons: dict[int, str]
) -> tuple[TensorReport, ...]:
    """What happened to every tensor, in the model's order."""
    by_value = {item.planned.value: item for item in packed}
    reports = []
    for index, tensor in enumerate(planned):
        item = by_value.get(tensor.value)
        report = TensorReport(
            name=tensor.name,
            shape=tensor.shape,
            dtype=tensor.dtype_name,
            treatment="plain",
            original_bytes=tensor.nbytes,
            stored_bytes=tensor.nbytes,
            reason=reasons.get(index) or tensor.reason,
        )
        if item is not None:
            coded = item.coded
            report = msgspec.structs.replace(
                report,
                treatment="coded",
                reason=None,
                stored_bytes=len(coded.payload),
                payload_type=coded.payload_type,
                method=coded.method,
                qp=coded.qp,
                step=coded.step,
                error=coded.error,
                sparsity=coded.sparsity,
                same_as=None if item.owner is tensor else item.owner.name,
            )
        reports.append(report)
    return tuple(reports)

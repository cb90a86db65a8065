"""Models with updates added to them, one after the other."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from nnc_codec.differences import Array, add
from nnc_codec.errors import CorruptError
from nnc_codec.files import require_readable
from nnc_codec.limits import Limits
from nnc_codec.updates import Chain, Update, WrongBaseError, open_update

from ..nnr.layout import onnx_topology
from .weights import Weight, Weights, refill


@contextmanager
def workspace(jobs: int) -> Iterator[tuple[Path, Executor]]:
    """A temporary folder and threads to work with."""
    with (
        tempfile.TemporaryDirectory(prefix="onnx-nnc-") as folder,
        ThreadPoolExecutor(jobs or os.cpu_count() or 1) as executor,
    ):
        yield Path(folder), executor


class Step(NamedTuple):
    """One update of a chain.

    Attributes:
        update: the update.
        changed: number of tensors it changes.
        applied: whether it was added; the base holds the ones before already.
    """

    update: Update
    changed: int
    applied: bool


def open_updates(paths: Sequence[Path], limits: Limits) -> list[Update]:
    """The updates at `paths`.

    Raises:
        FileAccessError, NotAnUpdateError, NNRError: bad files.
    """
    return [open_update(require_readable(path), limits=limits) for path in paths]


def advance(
    base: Weights, updates: Sequence[Update], executor: Executor, what: Path
) -> tuple[Weights, Chain, list[Step]]:
    """Add updates to a model.

    Args:
        base: the model that the first update belongs to, or one that holds the first few updates already: these then
            only supply the context of the later ones.
        updates: oldest first.
        executor: where tensors are added.
        what: path of the base, for messages.

    Returns:
        The model after the last update, the chain behind it, and what was done.

    Raises:
        WrongBaseError: no update belongs to `base`.
        UpdateChainError: an update does not follow the one before.
        CorruptError: an update is damaged, or does not make the model it says it makes.
    """
    chain = Chain()
    if not updates:
        return base, chain, []
    first = _entry(base.id, updates, what)
    model = base
    steps = []
    for index, update in enumerate(updates):
        differences = chain.read(update)
        if index >= first:
            model = _updated(model, update, differences, executor)
        steps.append(Step(update, len(differences), index >= first))
    return model, chain, steps


def _entry(base_id: str, updates: Sequence[Update], what: Path) -> int:
    """Index of the first update that is not in the base yet."""
    for index, update in enumerate(updates):
        if update.base_model_id == base_id:
            return index
    if updates[-1].note.result == base_id:
        # A model that holds every update: what a later one is made for.
        return len(updates)
    raise WrongBaseError(
        f"{updates[0].what} updates the model {updates[0].base_model_id}, but {what} is {base_id}",
        hint="give the model that the update was made for, or the updates in between",
    )


def _updated(model: Weights, update: Update, differences: Mapping[str, Array], executor: Executor) -> Weights:
    result = model._replace(tensors={**model.tensors, **added(model, differences, executor)})
    hollow = onnx_topology(update.carried)
    if hollow is not None:
        result = refill(hollow, result, executor)
    if result.id != update.note.result:
        raise CorruptError(
            f"{update.what} makes the model {result.id}, not {update.note.result} as it says",
            hint="the update is damaged; get it again",
        )
    return result


def added(model: Weights, differences: Mapping[str, Array], executor: Executor) -> dict[str, Weight]:
    """The tensors of a model that differences change, changed.

    Raises:
        CorruptError: a difference belongs to no tensor of the model, or to one of another shape or kind.
    """
    for name, change in differences.items():
        weight = model.tensors.get(name)
        if weight is None:
            raise CorruptError("the base has no such tensor", tensor=name)
        if weight.values.shape != change.shape:
            raise CorruptError(f"shape {change.shape} in the update, {weight.values.shape} in the base", tensor=name)
        if weight.element.is_float != (change.dtype.kind == "f"):
            raise CorruptError("the base has another kind of values", tensor=name)

    def moved(name: str) -> Weight:
        weight = model.tensors[name]
        return weight.with_values(add(weight.values, differences[name]))

    return dict(zip(differences, executor.map(moved, differences), strict=True))

"""All steps, what they save, and the table that undoes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..carriage import metadata
from ..deflated_text import deflate_text, inflate_text
from ..errors import CarriageError
from .attributes import Attributes, add_back, remove_defaults
from .constants import Constants, to_initializers, to_nodes
from .names import Names, rename_back, shorten
from .remarks import Remarks, put_remarks, take_remarks
from .twins import Twins, merge_twins, part_twins

if TYPE_CHECKING:
    import onnx

TABLE_KEY = "onnx_nnc.compact"

LEAST_SHARE = 0.005
"""What has to be saved of a file: less is not worth another shape of the graph."""

LEAST_BYTES = 1024
"""What has to be saved in any case."""

_LARGEST_TABLE = 1 << 26


class Table(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the graph was before it was made compact.

    Attributes:
        names: of values and nodes.
        constants: Constant nodes that became initializers.
        attributes: what nodes have lost.
        remarks: on nodes.
        twins: constants that another one stands for.
    """

    names: Names = Names()
    constants: Constants = Constants()
    attributes: Attributes = Attributes()
    remarks: Remarks = Remarks()
    twins: Twins = Twins()


def least_saving(file_bytes: int) -> float:
    """Bytes that have to be saved of a model whose files have `file_bytes`."""
    return max(LEAST_BYTES, LEAST_SHARE * file_bytes)


def compact(model: onnx.ModelProto, least: float) -> int:
    """Make the graph smaller and write the table, if that makes the file smaller by enough.

    Args:
        model: a packed model, changed in place.
        least: bytes that have to be saved, the table counted.

    Returns:
        Bytes saved; 0 if the graph stays as it is.
    """
    # Training information refers to values by name.
    if model.training_info:
        return 0
    before = model.ByteSize()
    moved = to_initializers(model)
    twins = merge_twins(model)
    removed = remove_defaults(model)
    remarks = take_remarks(model)
    names = shorten(model, least)
    table = Table(
        names=names,
        constants=Constants.of(moved, names.values, tuple(twin.name for twin in twins)),
        attributes=Attributes.of(removed, names.values),
        remarks=Remarks.of(remarks, names.values),
        twins=Twins.of(twins, names.values),
    )
    written = msgspec.json.encode(table)
    if len(written) <= _LARGEST_TABLE:
        model.metadata_props.add(key=TABLE_KEY, value=deflate_text(written))
        saved: int = before - model.ByteSize()
        if saved >= least:
            return saved
        model.metadata_props.pop()
    _undo(model, table)
    return 0


def restore(model: onnx.ModelProto) -> None:
    """Undo :func:`compact`; a model without table stays as it is.

    Raises:
        CarriageError: the table is damaged.
    """
    text = metadata(model).get(TABLE_KEY)
    if text is None:
        return
    try:
        table = msgspec.json.decode(inflate_text(text, _LARGEST_TABLE, "the table of names"), type=Table)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise CarriageError(f"the table of names is damaged: {error}") from error
    _undo(model, table)
    kept = [entry for entry in model.metadata_props if entry.key != TABLE_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)


def _undo(model: onnx.ModelProto, table: Table) -> None:
    rename_back(model, table.names)
    put_remarks(model, table.remarks.by_output(table.names.values))
    add_back(model, table.attributes.lost(table.names.values))
    part_twins(model, table.twins.twins(table.names.values))
    to_nodes(model, table.constants.moved(table.names.values, table.twins.names))

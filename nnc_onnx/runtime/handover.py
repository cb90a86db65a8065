"""How a model that was changed for a session reaches onnxruntime: with as few copies of its payloads as can be.

Payloads that stay coded are best mapped from the file they are in. onnxruntime does that for external data that lie
beside the model, or in a folder that the session options name if the model is given as bytes. Options of the user
are not changed for this, because they may serve for other models; there the changed model lies in a temporary folder
next to links to its files. Where neither is possible, payloads and constants are copied into one temporary file.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import settings
from .session_plan import SessionPlan
from .skeleton import read_skeleton
from .staging import in_place, linked, staged

if TYPE_CHECKING:
    import onnxruntime

Source = str | os.PathLike[str] | bytes


class Recipient(NamedTuple):
    """The session that is being made.

    Attributes:
        options: its options.
        own_options: they serve for nothing else.
        folder: where the options say that external data are.
    """

    options: onnxruntime.SessionOptions
    own_options: bool
    folder: str | None


def hand_over(plan: SessionPlan, source: Source, recipient: Recipient, stack: contextlib.ExitStack) -> Source:
    """What onnxruntime makes the session of; files that it needs meanwhile go when `stack` is closed.

    Args:
        plan: the plan for `source`, whose model is changed.
        source: the packed model.
        recipient: the session.
        stack: open until onnxruntime has read the model.

    Raises:
        FileAccessError: there is no room for temporary files.
        CarriageError: a payload is not the one the model was written with, or is missing.
        NNRError: a payload cannot be decoded.
    """
    model = plan.model
    if model is None:
        return source
    options, own_options, folder = recipient
    if folder is None and plan.constants is not None and settings.maps_payloads(source):
        data = in_place(model, plan.constants, plan.constant_bytes, plan.rewrites)
        if data is not None and own_options and settings.onnxruntime_version() >= settings.OLDEST_FOLDER:
            options.add_session_config_entry(settings.EXTERNAL_FOLDER, os.fspath(model.folder.resolve()))
            return data
        if data is not None:
            path = stack.enter_context(linked(model, data))
            if path is not None:
                return path
            model = read_skeleton(source)
    if plan.optional:
        return source
    if folder is not None:
        model = model._replace(folder=Path(folder))
    path = stack.enter_context(staged(model, plan.constants, rewrites=plan.rewrites, substitutes=plan.substitutes))
    if folder is not None:
        options.add_session_config_entry(settings.EXTERNAL_FOLDER, os.fspath(path.parent))
        stack.callback(options.add_session_config_entry, settings.EXTERNAL_FOLDER, folder)
    return path

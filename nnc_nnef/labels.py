"""Rules for variable labels and archive member names.

NNEF 1.0.5 §5.1: a label is non-empty, drawn from ``[a-zA-Z0-9_\\-./\\\\]``, and names the file ``<label>.dat``;
two labels that are equal without regard to case share their data. The rules here are narrower where the standard
would let a label leave the archive: no ``..``, no empty or hidden component, no backslash, no drive letter.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from .errors import ArchiveError, LabelError

MAX_NAME_BYTES = 512
_LABEL = re.compile(r"[A-Za-z0-9_\-./]+\Z")
_ILLEGAL = re.compile(r"[^A-Za-z0-9_\-./]+")


def check_label(label: str) -> str:
    """Returns the label in the form used for file names (one leading ``/`` dropped).

    Raises:
        LabelError: the label is empty, too long, has an illegal character or an unsafe component.
    """
    text = label[1:] if label.startswith("/") else label
    if not text or len(text) + 4 > MAX_NAME_BYTES:
        raise LabelError(f"label of {len(label)} characters", hint=f"1 to {MAX_NAME_BYTES - 4} are allowed")
    if not _LABEL.match(text):
        raise LabelError(f"label {label[:80]!r} has a character outside [A-Za-z0-9_-./]")
    if any(part in ("", ".", "..") for part in text.split("/")):
        raise LabelError(f"label {label[:80]!r} has an empty or dot component")
    return text


def member_of(label: str) -> str:
    """Name of the member that holds the variable uncompressed."""
    return check_label(label) + ".dat"


def check_member(name: str) -> str:
    """Canonical form of an archive member name (leading ``./`` dropped).

    Raises:
        ArchiveError: the name is absolute, climbs out of the archive, or is not plain printable text.
    """
    text = name
    while text.startswith("./"):
        text = text[2:]
    shown = name[:80]
    if not text or len(text.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise ArchiveError(f"member name {shown!r} is empty or longer than {MAX_NAME_BYTES} bytes")
    if not text.isprintable() or "\\" in text:
        raise ArchiveError(f"member name {shown!r} has a control character or a backslash")
    if text.startswith("/") or re.match(r"[A-Za-z]:", text):
        raise ArchiveError(f"member name {shown!r} is absolute")
    if any(part in ("", ".", "..") for part in text.split("/")):
        raise ArchiveError(f"member name {shown!r} has an empty or dot component")
    return text


def make_label(name: str, taken: Collection[str]) -> str:
    """A legal label close to `name` that differs from all `taken` (case-folded) labels.

    Names with illegal characters are mapped one way; the caller keeps the mapping.
    """
    parts = [part.strip(".") for part in _ILLEGAL.sub("_", name).split("/")]
    base = "/".join(part for part in parts if part)[: MAX_NAME_BYTES - 16] or "variable"
    label, count = base, 1
    while label.casefold() in taken:
        count += 1
        label = f"{base}_{count}"
    return label

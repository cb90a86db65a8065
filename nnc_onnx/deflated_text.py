"""Compressed text for ``metadata_props``, whose values are strings."""

from __future__ import annotations

import base64
import lzma

from .errors import CarriageError

_MEMORY = 1 << 26
_BASE = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 22, "pb": 0}
_FILTERS = [[{**_BASE, "lc": bits}] for bits in (3, 0)]
"""Text has no alignment; whether the letter before tells the next one depends on how much of it there is."""


def deflate_text(data: bytes) -> str:
    """`data` as xz in base 85 (the alphabet of RFC 1924)."""
    compressed = min(
        (lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters) for filters in _FILTERS), key=len
    )
    return base64.b85encode(compressed).decode()


def inflate_text(text: str, limit: int, what: str) -> bytes:
    """What :func:`deflate_text` was given.

    Args:
        text: result of :func:`deflate_text`.
        limit: largest number of bytes.
        what: name of the thing in messages.

    Raises:
        CarriageError: `text` is damaged or holds more than `limit` bytes.
    """
    try:
        compressed = base64.b85decode(text)
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
        data = decompressor.decompress(compressed, limit + 1)
    except (ValueError, lzma.LZMAError, EOFError) as error:
        raise CarriageError(f"{what} is damaged: {error}") from error
    if len(data) > limit:
        raise CarriageError(f"{what} holds more than {limit} bytes")
    if not decompressor.eof or decompressor.unused_data:
        raise CarriageError(f"{what} is damaged: it does not end where its data do")
    return data

"""Smaller graphs that compute the same: names, Constant nodes and default attributes leave, a table brings them back.

``restore`` undoes ``compact`` exactly, so that only what runs a packed model sees the small form of its graph.
"""

from .pipeline import TABLE_KEY, compact, least_saving, restore

__all__ = ["TABLE_KEY", "compact", "least_saving", "restore"]

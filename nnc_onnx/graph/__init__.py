"""Graphs as such: what is inside them, who reads what, and where a node may go."""

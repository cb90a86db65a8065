"""Measuring the ways to run a packed model against the plain one."""

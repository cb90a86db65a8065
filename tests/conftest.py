"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# The same cases on every machine and in every run; `--hypothesis-profile=explore` looks for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("fixed")

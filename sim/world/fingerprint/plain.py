"""The values that the walk writes as they are."""

from __future__ import annotations

PLAIN = frozenset({type(None), bool, int, bytes, type(...)})
"""Types whose values are written as they are."""
ABSENT = "(absent)"
"""What is written for a slot that holds nothing."""

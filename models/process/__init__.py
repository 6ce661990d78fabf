"""Replaying a simulated counterexample on a real server process on loopback.

`confirm` makes an environment with the server in it, starts the server there, forces the order of the simulated run
upon it, and evaluates the same invariants on what really happened.

This module imports nothing by itself, because the server process imports `models.process.inside` from it, and that
process has only the server and a few small packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.process.confirmation import Confirmation, confirm

__all__ = ["Confirmation", "confirm"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from models.process import confirmation

        return getattr(confirmation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

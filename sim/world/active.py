"""Which world runs in which thread."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from sim.errors import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sim.world.world import World

active: dict[int, World] = {}
"""The worlds that run just now, by the identifier of their thread. The boundary's dispatchers read it."""
get_ident = threading.get_ident


def current_world() -> World | None:
    """The world that runs in this thread, if one does."""
    return active.get(get_ident())


@contextlib.contextmanager
def activated(world: World) -> Iterator[None]:
    """Make `world` the one that answers in this thread.

    Raises:
        BoundaryError: another one does already.
    """
    outside()
    ident = get_ident()
    active[ident] = world
    try:
        yield
    finally:
        del active[ident]


def outside() -> None:
    """Make sure that no world runs in this thread.

    Raises:
        BoundaryError: one does.
    """
    if current_world() is not None:
        raise BoundaryError(
            "a world already runs in this thread, and another was started inside it. Start one run after the other, "
            "or let one world have several processes."
        )

"""Invariants that every server owes every application: the beginning of a rulebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.asgi import AsgiIllegal
from sim.check.invariants import Violation, always

if TYPE_CHECKING:
    from sim.world.trace import Trace


@always(
    "asgi-event-order",
    "The server delivers only messages that the ASGI state machine allows.",
    source="ASGI www, Connection Scope and events",
)
def server_breaks_asgi(trace: Trace) -> Violation | None:
    for event in trace.of(AsgiIllegal):
        if event.side == "server":
            return Violation(event.describe(), event)
    return None

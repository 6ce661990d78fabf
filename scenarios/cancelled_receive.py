"""An application that polls with a timeout cancels many a `receive()`; a message that arrives just then is not lost.

The conversation is that of `unsolicited_pong` with its polling application, without excuses: a message that arrives
while the application cancels its `receive()` has to come out of a later one. The ASGI specification does not say so.
Every `receive()` that awaits an asyncio queue behaves so; one that takes the message off the wire for this call alone
does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.uvicorn import COMBINATIONS
from scenarios import unsolicited_pong
from scenarios.pong_rules import cancelled_receive_loses_nothing, handshake_completes, observe
from sim import Param, Scenario, Settings

if TYPE_CHECKING:
    from sim import World


def play(world: World, subject: Any, *, patience: float) -> None:
    """Set the scene."""
    unsolicited_pong.play(world, subject, receiving="polling", patience=patience)


scenario = Scenario(
    name="cancelled_receive",
    story=__doc__,
    play=play,
    invariants=(handshake_completes, cancelled_receive_loses_nothing),
    servers=("granian==1.4.4", *COMBINATIONS, "hypercorn", "reference"),
    params=(Param("patience", 0.5, "virtual seconds that the client waits for its echo before it closes"),),
    settings=lambda **_: Settings(latency=unsolicited_pong.LATENCY, horizon=120.0),
    observe=observe,
)

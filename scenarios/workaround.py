"""The workaround for Granian's issue 318: catch the flow error around `receive_bytes()` and go on. Is it safe?

The application is Starlette's, on WebSocket: in a loop it awaits `receive_bytes()`, catches
`RuntimeError("ASGI flow error")` while both of Starlette's states are connected, and receives again; anything else it
lets out. The client sends a Pong and a binary message in any order, then a second Pong and a second message, and
closes when it has its echoes or has lost its patience.

It is safe if every message is echoed in every order, and the close handshake completes. What it costs is seen by name:
each Pong still makes a warning and an exception, one for each heartbeat of each client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.application import Application
from models.asgi import AppRaised, AsgiReceiveFailed
from models.rules import server_breaks_asgi
from models.websocket import Refused, WebSocketClient, binary, pong
from scenarios.applications import FLOW_ERROR
from scenarios.pong_rules import close_handshake_completes, handshake_completes, texts_echoed
from sim import Param, Scenario, Settings, Violation, always
from sim.world.events import Logged

if TYPE_CHECKING:
    from models.serving import Server
    from sim import Host, Trace, World


def play(world: World, subject: Any, *, patience: float) -> None:
    """Set the scene."""
    app = Application("scenarios.applications:lives_through_flow_errors", requires=("starlette",))
    server: Server = subject.serve(world, app)

    async def client(host: Host) -> None:
        websocket = WebSocketClient(host)
        try:
            await websocket.connect(server.address)
        except (Refused, ConnectionError):
            return
        for message in (binary(b"one"), binary(b"two")):
            websocket.send_in_any_order(pong(), message)
            if await websocket.receive(within=patience) is None:
                break
        await websocket.close(1000)

    world.start_script("client", client)


@always("application-survives", "No exception leaves the application.")
def application_survives(trace: Trace) -> Violation | None:
    for event in trace.of(AppRaised):
        return Violation(f'the application died of {event.error}("{event.text}")', event)
    return None


def observe(trace: Trace) -> str:
    """What the workaround cost in this run."""
    caught = sum(e.text == FLOW_ERROR for e in trace.of(AsgiReceiveFailed)) - sum(True for _ in trace.of(AppRaised))
    warnings = sum(True for _ in trace.of(Logged))
    if not caught and not warnings:
        return "no cost"
    return f"{caught} flow error{'s' * (caught != 1)} caught, {warnings} log record{'s' * (warnings != 1)}"


scenario = Scenario(
    name="workaround",
    story=__doc__,
    play=play,
    invariants=(handshake_completes, application_survives, texts_echoed, close_handshake_completes, server_breaks_asgi),
    servers=("granian==1.4.1", "granian==1.4.2", "hypercorn", "reference"),
    params=(Param("patience", 0.5, "virtual seconds that the client waits for an echo before it closes"),),
    settings=lambda **_: Settings(latency=(0.0, 0.06), horizon=120.0),
    observe=observe,
)

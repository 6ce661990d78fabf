"""A client may be gone at any moment, and whoever waits for it is told: nobody waits for ever, nobody is blamed.

A client opens a WebSocket, sends a text to an application that echoes, and closes with 1000 when it has its echo. At any
point the client may reset its connection, or the network may reset it for both, or the client may send FIN without a
Close; `--faults` allows others, such as sigterm=1. What is claimed is what ASGI promises an application
whatever its client does: it comes to its end, by `websocket.disconnect` or by an `OSError` out of `send()`, and no
error is logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.application import Application
from models.asgi import AppCalled, AppCancelled, AppRaised, AppReturned, AsgiReceiveFailed, AsgiSendFailed
from models.rules import server_breaks_asgi
from models.uvicorn import COMBINATIONS
from models.websocket import Refused, WebSocketClient, text
from sim import Faults, Scenario, Settings, Violation, always, eventually
from sim.world.events import LoggedError

OS_ERRORS = ("OSError", "ConnectionResetError", "BrokenPipeError", "ClientDisconnected", "ClientGone")
"""What servers raise out of `send()`: `OSError` and classes of their own below it."""

if TYPE_CHECKING:
    from models.serving import Server
    from sim import Host, Trace, World


def play(world: World, subject: Any) -> None:
    """Set the scene."""
    server: Server = subject.serve(world, Application("scenarios.applications:receiving", {"way": "echo"}))

    async def client(host: Host) -> None:
        websocket = WebSocketClient(host)
        try:
            await websocket.connect(server.address)
        except (Refused, ConnectionError):
            return
        websocket.send(text("one"))
        await websocket.receive(within=5.0)
        await websocket.close(1000)

    world.start_script("client", client)


@eventually("application-ends", "Each call of the application comes to an end.", source="ASGI www, Disconnect")
def application_ends(trace: Trace) -> Violation | None:
    called = {e.actor: e for e in trace.of(AppCalled) if e.actor != "lifespan"}
    for event in trace.of(AppReturned, AppRaised, AppCancelled):
        called.pop(event.actor, None)
    for actor, event in called.items():
        return Violation(f"{actor} never ended", event)
    return None


@always(
    "receive-tells-of-the-end",
    "An application hears of its client's end by websocket.disconnect, not by an exception out of receive().",
    source="ASGI www, Disconnect - receive event",
)
def receive_tells_of_the_end(trace: Trace) -> Violation | None:
    for event in trace.of(AsgiReceiveFailed):
        return Violation(f'receive() raised {event.error}("{event.text}")', event)
    return None


@always(
    "send-fails-softly",
    "A send() behind the client's end does nothing, or raises an OSError.",
    source="ASGI www, Send Exception (2.4)",
)
def send_fails_softly(trace: Trace) -> Violation | None:
    for event in trace.of(AsgiSendFailed):
        if event.error not in OS_ERRORS:
            return Violation(f'send() raised {event.error}("{event.text}")', event)
    return None


@always("no-error-logged", "A client's end is no error: nothing is logged at ERROR.")
def no_error_logged(trace: Trace) -> Violation | None:
    for event in trace.of(LoggedError):
        return Violation(f"the server logged [{event.level}] {event.message} ({event.exception})", event)
    return None


scenario = Scenario(
    name="lost_client",
    story=__doc__,
    play=play,
    invariants=(application_ends, receive_tells_of_the_end, send_fails_softly, no_error_logged, server_breaks_asgi),
    servers=("granian==1.4.4", *COMBINATIONS, "hypercorn", "reference"),
    settings=lambda **_: Settings(latency=(0.0, 0.05), horizon=120.0, settle=30.0, faults=Faults(rst=1, fin=1)),
)

"""A client sends a Pong that nobody asked for, as RFC 6455 allows, and a message; nothing may come of the Pong.

A client opens a WebSocket and, once accepted, sends an empty Pong and a message ("hello"), in any order. It closes
with 1000 when it has its echo, or when it has waited for it in vain for `patience` virtual seconds.

The application's way of receiving is a choice of the scenario:

- `echo`: receives, echoes, receives, ... so that a `receive()` is nearly always pending;
- `busy`: does some work of its own before each `receive()`;
- `polling`: `wait_for(receive(), timeout)` in a loop, so that it cancels many a `receive()`;
- `deaf`: accepts, sends, never receives again, and returns after a while, before the client loses its patience;
- `starlette`: Starlette's `receive_bytes()` in a loop; the message is binary there.

The story is Granian's issue 318. .NET's client sends such Pongs by default, every 30 seconds, and Granian up to 1.4.1
took them for unsupported messages; what came of it depended on who read them, and when.

What is claimed of a text is claimed of those that the application *can* receive. It cannot if it never calls
`receive()` again; and if it cancels a `receive()` that was pending when the text arrived, ASGI does not say whose the
text is. The scenario `cancelled_receive` claims more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.application import Application
from models.rules import server_breaks_asgi
from models.uvicorn import COMBINATIONS
from models.websocket import Refused, WebSocketClient, binary, pong, text
from scenarios.applications import RECEIVING
from scenarios.pong_rules import (
    close_handshake_completes,
    handshake_completes,
    observe,
    pong_logs_nothing,
    pong_never_a_flow_error,
    pong_never_seen,
    texts_echoed,
)
from sim import Param, Scenario, Settings

if TYPE_CHECKING:
    from wsproto.events import Message

    from models.serving import Server
    from sim import Host, World

LATENCY = (0.0, 0.06)


def receiving_application(way: str) -> Application:
    """The application with one way of receiving."""
    return Application(
        "scenarios.applications:receiving", {"way": way}, requires=("starlette",) if way == "starlette" else ()
    )


def play(world: World, subject: Any, *, receiving: str, patience: float) -> None:
    """Set the scene."""
    ways = RECEIVING if receiving == "any" else (receiving,)
    way = world.choose(ways, "the application's way of receiving")
    world.probe("application", lambda: way)
    app = receiving_application(way)
    server: Server = subject.serve(world, app)
    message: Message[Any] = binary(b"hello") if way == "starlette" else text("hello")

    async def client(host: Host) -> None:
        websocket = WebSocketClient(host)
        try:
            await websocket.connect(server.address)
        except (Refused, ConnectionError):
            return
        websocket.send_in_any_order(pong(), message)
        lost_patience = host.now + patience
        while websocket.open:
            event = await websocket.receive(within=lost_patience - host.now)
            if event is None or getattr(event, "data", None) == message.data:
                break
        await websocket.close(1000)

    world.start_script("client", client)


scenario = Scenario(
    name="unsolicited_pong",
    story=__doc__,
    play=play,
    invariants=(
        handshake_completes,
        pong_never_a_flow_error,
        pong_never_seen,
        pong_logs_nothing,
        texts_echoed,
        close_handshake_completes,
        server_breaks_asgi,
    ),
    servers=("granian==1.4.1", "granian==1.4.2", *COMBINATIONS, "hypercorn", "reference"),
    params=(
        Param("receiving", "any", "the application's way of receiving; any: each of them", ("any", *RECEIVING)),
        Param("patience", 0.5, "virtual seconds that the client waits for its echo before it closes"),
    ),
    settings=lambda **_: Settings(latency=LATENCY, horizon=120.0),
    observe=observe,
    past="conversations",
)

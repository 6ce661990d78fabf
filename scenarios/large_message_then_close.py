"""An application sends one large message and closes, to a client that reads slowly and still sends; nothing is lost.

A client opens a WebSocket. The application sends one binary message of `size` bytes, 4 MB, and closes with 1000. The
message is larger than all buffers on the way, so most of it still waits in the server when the application has said
its last word. The client reads 64 KiB, pauses, reads 64 KiB, ... and somewhere between two reads, or never, it sends a
message of its own. The search chooses where, and whether that arrives before or behind what is under way to the client.
It answers the server's Close when it has come to it.

A server that closes its socket while the client still sends loses what it has not yet delivered: the kernel answers the
client's bytes with RST and forgets the rest. RFC 6455 has the server read on until the client's Close. uvicorn 0.52.0
with `websockets-sansio` did not (its issues 3047 to 3049; 0.52.1 does).

Bounds: the client sends one message, and is done in some 3 virtual seconds, before any server's patience for a Close
ends; a segment takes at most `LATENCY`, less than a pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.application import Application
from models.asgi import AsgiSend
from models.rules import server_breaks_asgi
from models.uvicorn import COMBINATIONS
from models.websocket import Refused, WebSocketClient, WsBinary, text
from scenarios.pong_rules import handshake_completes
from sim import Param, Scenario, Settings, Violation, eventually

if TYPE_CHECKING:
    from models.serving import Server
    from sim import Host, Trace, World

LATENCY = (0.0, 0.01)
PAUSE = 0.04
PATIENCE = 1.0
"""Virtual seconds behind which the client believes that nothing more comes."""


def play(world: World, subject: Any, *, size: int) -> None:
    """Set the scene."""
    server: Server = subject.serve(world, Application("scenarios.applications:parting", {"size": size}))

    async def client(host: Host) -> None:
        websocket = WebSocketClient(host)
        try:
            await websocket.connect(server.address)
        except (Refused, ConnectionError):
            return
        silent = True
        while True:
            if silent and websocket.open and host.choose((False, True), "speaks now"):
                silent = False
                websocket.send(text("I am still here"))
            await host.sleep(PAUSE)
            if not await websocket.read_once(within=PATIENCE):
                break
        websocket.connection.close()

    world.start_script("client", client)


@eventually(
    "sent-before-close-arrives",
    "What an application sends before it closes arrives whole, if the client reads on.",
    source="RFC 6455 section 7.1.1",
)
def sent_before_close_arrives(trace: Trace) -> Violation | None:
    sent = [m["bytes"] for m in (e.message for e in trace.of(AsgiSend)) if m["type"] == "websocket.send"]
    got = [e.payload for e in trace.of(WsBinary) if e.way == "gets"]
    if got == sent:
        return None
    return Violation(
        f"the application sent a message of {sum(map(len, sent)):,} bytes, and the client got "
        + (f"{sum(map(len, got)):,} in {len(got)} messages" if got else "no whole one")
    )


scenario = Scenario(
    name="large_message_then_close",
    story=__doc__,
    play=play,
    invariants=(handshake_completes, sent_before_close_arrives, server_breaks_asgi),
    servers=(*COMBINATIONS, "hypercorn", "reference"),
    params=(Param("size", 4_000_000, "bytes of the message"),),
    settings=lambda **_: Settings(latency=LATENCY, horizon=120.0),
)

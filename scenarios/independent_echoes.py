"""Clients that have nothing to do with one another: each opens a WebSocket, has its messages echoed, and closes.

Each client sends a message, waits for its echo, sends the next, and closes when it has them all. The application is the
same echo for each and shares nothing between them, so in whatever order their messages meet at the server, each
conversation goes as if it were alone. The number of orders is astronomic; that of states is a product.

With `--param pongs=true` each sends a Ping and an unsolicited Pong ahead of its messages (see `unsolicited_pong`).

The clients send the same texts and nothing tells them apart, so they are declared to be alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.application import Application
from models.asgi import AppRaised
from models.rules import server_breaks_asgi
from models.uvicorn import COMBINATIONS
from models.websocket import WebSocketClient, WsClose, WsText, ping, pong, text
from sim import Param, Scenario, Settings, Violation, always, eventually

if TYPE_CHECKING:
    from models.serving import Server
    from sim import Host, Trace, World


def play(world: World, subject: Any, *, clients: int, messages: int, pongs: bool) -> None:
    """Set the scene."""
    app = Application("scenarios.applications:receiving", {"way": "echo"})
    server: Server = subject.serve(world, app)

    async def client(host: Host) -> None:
        websocket = WebSocketClient(host)
        await websocket.connect(server.address)
        if pongs:
            websocket.send(ping(), pong())
        for number in range(1, messages + 1):
            websocket.send(text(f"message {number}"))
            await websocket.receive()
        await websocket.close(1000, within=None)

    for number in range(1, clients + 1):
        world.start_script(f"client {number}", client, alike="client")


@eventually("echoes-complete", "Each client gets the echo of each of its messages, once and in order.")
def echoes_complete(trace: Trace) -> Violation | None:
    sent: dict[str, list[str]] = {}
    got: dict[str, list[str]] = {}
    for event in trace.of(WsText):
        (sent if event.way == "sends" else got).setdefault(event.actor, []).append(event.payload)
    for actor, texts in sent.items():
        if got.get(actor) != texts:
            return Violation(f"{actor} sent {texts} and got {got.get(actor, [])}")
    return None


@eventually("all-close", "Each conversation ends with the Close handshake that its client began.")
def all_close(trace: Trace) -> Violation | None:
    closes = [(event.actor, event.way) for event in trace.of(WsClose) if event.payload == 1000]
    for actor, way in closes:
        if way == "sends" and (actor, "gets") not in closes:
            return Violation(f"{actor} closed and was not answered")
    return None


@always("nobody-raises", "The application raises nothing.")
def nobody_raises(trace: Trace) -> Violation | None:
    for event in trace.of(AppRaised):
        return Violation(event.describe(), event)
    return None


scenario = Scenario(
    name="independent_echoes",
    story=__doc__,
    play=play,
    invariants=(echoes_complete, all_close, nobody_raises, server_breaks_asgi),
    servers=(*COMBINATIONS, "hypercorn", "granian==1.4.1", "granian==1.4.2", "reference"),
    params=(
        Param("clients", 2, "how many clients there are"),
        Param("messages", 3, "how many messages each sends"),
        Param("pongs", False, "whether each sends a Ping and a Pong ahead of its messages"),
    ),
    settings=lambda **_: Settings(latency=(0.0, 0.0)),
    past="outcome",
)

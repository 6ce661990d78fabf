"""Several clients talk to an echo application that shares nothing between them: no order can make a difference.

The clients' TCP connections stand, in a fixed order, when the story begins. Each client then opens its WebSocket and
sends its messages, each when it has the echo of the one before. The story ends when every client has all its echoes.

With c clients and m messages each, there are c chains of 2 + 2m deliveries (request, answer, and each message and its
echo), and every merge of the chains is an order: 12,870 for two clients with three messages. All come to one outcome.
The clients say the same, so they are declared to be alike. With `--param pongs=true` each sends a Ping and an
unsolicited Pong ahead of its messages (see `unsolicited_pong`); with `--param order=any`, too, it sends all of these in
an order of its own choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wsproto.events import Event, TextMessage

from models.application import Application
from models.asgi import AsgiIllegal
from models.rules import server_breaks_asgi
from models.uvicorn import COMBINATIONS
from models.websocket import Refused, WebSocketClient, WsText, ping, pong, text
from sim import Param, Scenario, Settings, Violation, eventually
from sim.errors import UsageError
from sim.world.fiber import Signal

if TYPE_CHECKING:
    from models.serving import Server
    from sim import Host, Trace, World

ORDERS = ("fixed", "any")
SECONDS = 60.0
"""Virtual seconds within which a connection has to stand."""


def play(world: World, subject: Any, *, clients: int, messages: int, pongs: bool, order: str) -> None:
    """Set the scene, with all TCP connections standing."""
    if order not in ORDERS:
        raise UsageError(f"order={order!r} does not exist. There are: {', '.join(ORDERS)}.")
    if order == "any" and not pongs:
        raise UsageError(
            "order='any' is one of messages with a Ping and a Pong, and there are none. Set pongs=true, too."
        )
    server: Server = subject.serve(world, Application("scenarios.applications:receiving", {"way": "echo"}))
    start = Signal()
    standing = 0

    async def client(host: Host) -> None:
        nonlocal standing
        connection = await host.connect(server.address)
        standing += 1
        await start
        websocket = WebSocketClient(host)
        try:
            await websocket.connect(server.address, over=connection)
        except (Refused, ConnectionError):
            return
        letters: list[Event] = [*([ping(), pong()] if pongs else []), *(text(f"message {n}") for n in range(messages))]
        for letter in host.in_any_order(letters) if order == "any" else letters:
            websocket.send(letter)
            if isinstance(letter, TextMessage):
                await websocket.receive()

    for number in range(1, clients + 1):
        world.start_script(f"client-{number}", client, alike="client")
        world.run_until(lambda number=number: standing == number, within=SECONDS)  # type: ignore[misc]
    start.fire()


@eventually("echoes-in-order", "Each client gets the echo of each of its messages, in order, and nothing else.")
def echoes_in_order(trace: Trace) -> Violation | None:
    sent: dict[str, list[Any]] = {}
    got: dict[str, list[Any]] = {}
    for event in trace.of(WsText):
        (sent if event.way == "sends" else got).setdefault(event.actor, []).append(event.payload)
    for actor in sorted({*sent, *got}):
        if sent.get(actor, []) != got.get(actor, []):
            return Violation(f"{actor} sent {sent.get(actor, [])} and got {got.get(actor, [])}")
    return None


scenario = Scenario(
    name="independent_echoes",
    story=__doc__,
    play=play,
    invariants=(echoes_in_order, server_breaks_asgi),
    servers=(*COMBINATIONS, "hypercorn", "granian==1.4.1", "granian==1.4.2", "reference"),
    params=(
        Param("clients", 2, "how many clients"),
        Param("messages", 1, "how many messages each of them sends"),
        Param("pongs", False, "whether each sends a Ping and a Pong ahead of its messages"),
        Param("order", "fixed", "whether the Ping comes first, then the Pong (fixed), or each picks an order (any)"),
    ),
    settings=lambda **_: Settings(latency=(0.0, 0.05), settle=0.0),
    isolated=True,
    past=(WsText, AsgiIllegal),
)

"""Each of several clients sends one message to an application with one shared list: every order of the list is possible.

The clients connect their WebSockets one after the other. When all connections stand, each client sends one message, its
name; the application appends what it receives to a list that all its connections share, and says the list to the
client whose message completed it. There the story ends, so that nothing is left to choose but the order of the
messages: k clients have k! outcomes, one for each list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.application import Application
from models.rules import server_breaks_asgi
from models.uvicorn import COMBINATIONS
from models.websocket import WebSocketClient, WsText, text
from sim import Param, Scenario, Settings, Violation, eventually
from sim.errors import UsageError
from sim.world.fiber import Signal

if TYPE_CHECKING:
    from models.serving import Server
    from sim import Host, Trace, World

SECONDS = 60.0
"""Virtual seconds within which a connection has to stand."""


def play(world: World, subject: Any, *, clients: int) -> None:
    """Set the scene, with all connections standing."""
    if clients < 1:
        raise UsageError(f"clients={clients} would race for nothing. Let there be 1 or more.")
    server: Server = subject.serve(world, Application("scenarios.applications:shared_list", {"clients": clients}))
    start, complete = Signal(), Signal()

    def client(name: str) -> WebSocketClient:
        async def send(host: Host) -> None:
            websocket = WebSocketClient(host)
            connected.append(websocket)
            await websocket.connect(server.address)
            await start
            websocket.send(text(name))
            await websocket.receive()
            complete.fire()

        connected: list[WebSocketClient] = []
        world.start_script(name, send, daemon=True)
        if not world.run_until(lambda: connected[0].open, within=SECONDS):
            raise UsageError(f"{name} is not connected after {SECONDS:g} virtual seconds: the server never accepts it.")
        return connected[0]

    for number in range(1, clients + 1):
        client(f"client-{number}")

    async def referee(_host: Host) -> None:
        await complete

    world.start_script("referee", referee)
    start.fire()


@eventually("list-is-a-permutation", "The list has each client's message, once.")
def list_is_a_permutation(trace: Trace) -> Violation | None:
    sent = [e.payload for e in trace.of(WsText) if e.way == "sends"]
    lists = [e for e in trace.of(WsText) if e.way == "gets"]
    if len(lists) != 1:
        return Violation(f"the list was said {len(lists)} times")
    if sorted(lists[0].payload.split()) != sorted(sent):
        return Violation(f"the list is {lists[0].payload!r}, and the messages were {' '.join(sent)!r}", lists[0])
    return None


scenario = Scenario(
    name="racing_clients",
    story=__doc__,
    play=play,
    invariants=(list_is_a_permutation, server_breaks_asgi),
    servers=(*COMBINATIONS, "hypercorn", "granian==1.4.1", "granian==1.4.2", "reference"),
    params=(Param("clients", 2, "how many clients race"),),
    settings=lambda **_: Settings(latency=(0.0, 0.05), settle=0.0),
)

"""A .NET client's unsolicited Pongs for 24 virtual hours, with a message now and then: nothing but the echoes happens.

The client opens a WebSocket to an echo application and keeps it open for `hours`. Every 30 seconds it sends an empty
Pong, as .NET's ClientWebSocket does by default, and every `every` hours a message, halfway between two Pongs. Behind
the day's last Pong go one more Pong and one more message, at one moment and in any order: that is where an order can
matter, and the only place where one is tried, because each further one would multiply the days. Then it closes with
1000.

A segment takes `LATENCY` and the client's timer starts `OUT_OF_STEP` seconds behind its connection, so that no beat
falls on a timer of the server's (uvicorn pings every 20 seconds): those would be choices too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.application import Application
from models.rules import server_breaks_asgi
from models.uvicorn import COMBINATIONS
from models.websocket import DOTNET_KEEP_ALIVE_INTERVAL, Refused, WebSocketClient, dotnet_heartbeat, pong, text
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
    from wsproto.events import Event

    from models.serving import Server
    from sim import Host, World

LATENCY = 0.01
OUT_OF_STEP = 7.0


def play(world: World, subject: Any, *, hours: float, every: float) -> None:
    """Set the scene."""
    app = Application("scenarios.applications:receiving", {"way": "echo"})
    server: Server = subject.serve(world, app)
    beats = round(hours * 3600 / DOTNET_KEEP_ALIVE_INTERVAL)
    between = max(round(every * 3600 / DOTNET_KEEP_ALIVE_INTERVAL), 1)

    def now_and_then(beat: int) -> tuple[Event, ...]:
        return () if beat % between else (text(f"message before beat {beat}"),)

    async def client(host: Host) -> None:
        websocket = WebSocketClient(host)
        try:
            await websocket.connect(server.address)
        except (Refused, ConnectionError):
            return
        await websocket.receive(within=OUT_OF_STEP)
        await dotnet_heartbeat(websocket, beats=beats, halfway=now_and_then)
        websocket.send_in_any_order(pong(), text("the last message"))
        await websocket.receive(within=1.0)
        await websocket.close(1000)

    world.start_script("client", client)


scenario = Scenario(
    name="heartbeat",
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
        Param("hours", 24.0, "virtual hours that the client stays"),
        Param("every", 6.0, "virtual hours between two messages"),
    ),
    settings=lambda hours, **_: Settings(latency=(LATENCY, LATENCY), horizon=hours * 3600 + 3600),
    observe=observe,
)

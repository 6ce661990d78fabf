"""The programs of rows A to E: plain asyncio, uvicorn and `websockets`, with nothing of any simulator in them.

They run unchanged in our worlds (`test_rows.py`) and on the peers (`peers_rows.py`, in an environment of its own). Each
is a coroutine function that takes the host to listen at and to connect to, and raises if what came back is wrong.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
import websockets

PORT = 8000
ROUND_TRIPS, TASKS, SLEEPS, MESSAGES = 3_000, 100, 100, 1_000
"""How much rows A, B and E do in one world."""
PAYLOAD = b"x" * 32


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Says each text back; answers lifespan."""
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def _say_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1_024):
        writer.write(data)
    writer.close()


async def _converse(host: str, round_trips: int) -> None:
    reader, writer = await asyncio.open_connection(host, PORT)
    for _ in range(round_trips):
        writer.write(PAYLOAD)
        if await reader.readexactly(len(PAYLOAD)) != PAYLOAD:
            raise AssertionError("another echo than what was sent")
    writer.write_eof()
    if await reader.read(1_024):
        raise AssertionError("more than what was sent")
    writer.close()


async def round_trips(host: str) -> None:
    """Row A: one connection on asyncio's streams, messages of 32 bytes said back one after the other."""
    server = await asyncio.start_server(_say_back, host, PORT)
    await _converse(host, ROUND_TRIPS)
    server.close()


async def timers(_host: str) -> None:
    """Row B: tasks that sleep, each for times of its own."""

    async def sleeper(number: int) -> None:
        for _ in range(SLEEPS):
            await asyncio.sleep(0.001 + number * 0.000_01)

    await asyncio.gather(*(sleeper(number) for number in range(TASKS)))


async def small_world(host: str) -> None:
    """Row C: a server, and two clients of it with three round trips each."""
    server = await asyncio.start_server(_say_back, host, PORT)
    await asyncio.gather(*(_converse(host, 3) for _ in range(2)))
    server.close()


async def _serving(host: str) -> tuple[uvicorn.Server, asyncio.Task[None]]:
    config = uvicorn.Config(
        application, host=host, port=PORT, http="h11", ws="wsproto", log_config=None, access_log=False, lifespan="on"
    )
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    return server, serving


async def _chat(host: str, messages: int) -> None:
    async with websockets.connect(f"ws://{host}:{PORT}/", compression=None, proxy=None) as socket:
        for number in range(messages):
            await socket.send(str(number))
            if await socket.recv() != str(number):
                raise AssertionError("another echo than what was sent")


async def uvicorn_world(host: str) -> None:
    """Row D: uvicorn (h11, wsproto), two clients of the library `websockets` with three echoes each, a graceful end."""
    server, serving = await _serving(host)
    await asyncio.gather(*(_chat(host, 3) for _ in range(2)))
    server.should_exit = True
    await serving


_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_FRAMES = [b"\x81\x81\0\0\0\0%d" % number for number in range(3)] + [b"\x88\x82\0\0\0\0\x03\xe8"]


class _Canned(asyncio.Protocol):
    """A client that sends what was made in advance, whenever something comes, and looks at nothing."""

    def __init__(self) -> None:
        self.frames = iter(_FRAMES)
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(_HANDSHAKE)

    def data_received(self, _data: bytes) -> None:
        self.transport.write(next(self.frames, b""))

    def connection_lost(self, _exc: Exception | None) -> None:
        self.over.set_result(next(self.frames, None))


async def canned_world(host: str) -> None:
    """Row D with clients that cost next to nothing."""
    server, serving = await _serving(host)

    async def chat() -> None:
        _, client = await asyncio.get_running_loop().create_connection(_Canned, host, PORT)
        if await client.over is not None:
            raise AssertionError("the server closed before it was told to")

    await asyncio.gather(chat(), chat())
    server.should_exit = True
    await serving


async def echoes(host: str) -> None:
    """Row E: uvicorn and one client of the library `websockets` with many echoes."""
    server, serving = await _serving(host)
    await _chat(host, MESSAGES)
    server.should_exit = True
    await serving


ROWS = {
    "A": (round_trips, ROUND_TRIPS, "echo round trips/s"),
    "B": (timers, TASKS * SLEEPS, "timers/s"),
    "C": (small_world, 1, "fresh worlds/s, 2 clients"),
    "D": (uvicorn_world, 1, "fresh uvicorn worlds/s, 2 WebSocket clients"),
    "E": (echoes, MESSAGES, "WebSocket echoes/s"),
}
"""Each row's program, how many things it does in one world, and their unit."""

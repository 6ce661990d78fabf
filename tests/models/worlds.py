"""One world with one server, an application made on the spot, and scripted clients: what the tests of the models share."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING, Any

import attrs

from models.asgi import AsgiReceived, AsgiReceiveFailed, AsgiSend, AsgiSendFailed
from models.websocket import WebSocketClient
from sim import Settings, World
from sim.registry import find_subject
from sim.world.choices import Choices
from sim.world.events import Logged, TcpClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from models.serving import Server
    from sim import Connection, Event, Host, Trace
    from sim.check.subject import Subject

    App = Callable[..., Awaitable[None]]
    Script = Callable[[Host, Server], Awaitable[Any]]

QUICK = Settings(latency=(0.0, 0.0), horizon=600.0)
"""Everything arrives at once, so that a test has one order of events."""


@attrs.frozen
class Here:
    """An application that is here already, where `models.application.Application` names one."""

    app: App

    def load(self) -> App:
        return self.app


@attrs.frozen
class Played:
    """A run that is over."""

    trace: Trace
    server: Server
    results: list[Any]

    @property
    def result(self) -> Any:
        """What the only script returned."""
        (result,) = self.results
        return result

    def of(self, *kinds: type[Event]) -> list[Any]:
        return list(self.trace.of(*kinds))

    def actor(self, name: str) -> list[Event]:
        return [event for event in self.trace if event.actor == name]

    def received(self, actor: str = "websocket 1") -> list[Any]:
        """What each `receive()` gave: a message, or the error's text."""
        found = []
        for event in self.trace.of(AsgiReceived, AsgiReceiveFailed):
            if event.actor == actor:
                found.append(event.message if isinstance(event, AsgiReceived) else event.text)
        return found

    def failed_sends(self) -> list[tuple[str, str]]:
        """Each `send()` that raised: the message's type and the error's text."""
        found = []
        latest = ""
        for event in self.trace.of(AsgiSend, AsgiSendFailed):
            if isinstance(event, AsgiSend):
                latest = event.message["type"]
            else:
                found.append((latest, event.text))
        return found

    def logged(self) -> list[str]:
        return [f"{e.level} {e.message}" for e in self.trace.of(Logged)]

    def closed(self, actor: str = "client") -> list[str]:
        """How a scripted client saw its connections end."""
        return [e.how for e in self.trace.of(TcpClosed) if e.actor == actor]


find = cache(find_subject)


def play(
    server: Subject | str,
    app: App,
    *scripts: Script,
    settings: Settings = QUICK,
    picks: Sequence[int] = (),
    policy: Callable[[int], int] | None = None,
    **options: Any,
) -> Played:
    """Run `scripts` against `server` with `app`, once."""
    subject = find(server) if isinstance(server, str) else server
    served: list[Server] = []
    results: list[Any] = [None] * len(scripts)

    def scene(world: World) -> None:
        running: Server = subject.serve(world, Here(app), **options)
        served.append(running)
        for number, script in enumerate(scripts):
            name = "client" if number == 0 else f"client {number + 1}"

            async def follow(host: Host, script: Script = script, number: int = number) -> None:
                results[number] = await script(host, running)

            world.start_script(name, follow)

    with World(Choices(picks, policy), settings) as world:
        world.run(scene)
        return Played(world.trace, served[0], results)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    """A WebSocket frame as a client puts it on the wire, however wrong; the mask is zero."""
    assert len(payload) < 126
    head = bytes([0x80 * fin | opcode, 0x80 * masked | len(payload)])
    return head + (bytes(4) if masked else b"") + payload


def upgrade(path: str = "/", *lines: str) -> bytes:
    """An opening handshake."""
    head = (
        f"GET {path} HTTP/1.1",
        "host: here",
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version: 13",
        *lines,
    )
    return "\r\n".join((*head, "", "")).encode()


def get(path: str = "/", *lines: str, method: str = "GET", version: str = "1.1", body: bytes = b"") -> bytes:
    """A request."""
    return "\r\n".join((f"{method} {path} HTTP/{version}", "host: here", *lines, "", "")).encode() + body


async def read(connection: Connection, within: float = 1.0) -> tuple[bytes, str]:
    """Everything that comes until it has been quiet for so long; and "open", "eof" or "reset"."""
    got = b""
    while True:
        try:
            data = await connection.receive(within=within)
        except ConnectionResetError:
            return got, "reset"
        if not data:
            return got, "open" if data is None else "eof"
        got += data


def raw(*sends: bytes | float | str, within: float = 1.0) -> Script:
    """A script that sends bytes, waits for seconds, or does "fin" or "rst"; returns what `read` does."""

    async def script(host: Host, server: Server) -> tuple[bytes, str]:
        connection = await host.connect(server.address)
        for step in sends:
            if isinstance(step, float):
                await host.sleep(step)
            elif step == "fin":
                connection.shut_write()
            elif step == "rst":
                connection.abort()
                return b"", "aborted"
            else:
                connection.send(step)
        answer = await read(connection, within)
        connection.close()
        return answer

    return script


async def opened(host: Host, server: Server, **options: Any) -> WebSocketClient:
    """A WebSocket client whose handshake is done."""
    client = WebSocketClient(host)
    await client.connect(server.address, **options)
    return client


def websocket(conversation: Callable[[Callable[[], Any], Callable[[Any], Any]], Awaitable[None]]) -> App:
    """An application that accepts and holds a conversation; it answers lifespan, and HTTP with "alive"."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await conversation(receive, send)
        else:
            await alive(scope, receive, send)

    return app


async def alive(scope: Any, receive: Any, send: Any) -> None:
    """Answers lifespan, and HTTP with its path."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await answer(send, b"alive " + scope["path"].encode())


async def answer(
    send: Any, body: bytes = b"", *, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """A whole response."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Any) -> bytes:
    """A request's whole body."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("cut")
        body += message["body"]
        if not message["more_body"]:
            return body


async def echo(receive: Any, send: Any) -> None:
    """Echoes until the client leaves."""
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def attempt(awaitable: Awaitable[Any]) -> Any:
    """What it gives, or its `RuntimeError`'s text."""
    try:
        return await awaitable
    except RuntimeError as exc:
        return str(exc)


async def soon(awaitable: Awaitable[Any], within: float = 0.1) -> asyncio.Future[Any]:
    """A task that was given some time."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.wait([task], timeout=within)
    return task

"""A connection: HTTP/1.1 requests one after the other, or one upgrade."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from urllib.parse import unquote

import h11

from models.reference.waiting import Bell, timeout
from models.reference.websocket import ClientGone, WebSocket

Message: TypeAlias = "dict[str, Any]"
App: TypeAlias = Callable[..., Awaitable[None]]

logger = logging.getLogger("reference")
READ_SIZE = 65_536
UNREAD_LIMIT = 65_536
CLOSE_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 60.0


class Connection:
    """One TCP connection: requests one after the other, or one upgrade."""

    def __init__(
        self, app: App, state: Message, stop: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.app, self.state, self.stop, self.reader, self.writer = app, state, stop, reader, writer
        self.wire = h11.Connection(h11.SERVER)
        self.bell = Bell()
        self.gone = False
        self._reads = 0
        self._unread = 0

    async def run(self) -> None:
        """Serve the connection to its end."""
        pump = asyncio.ensure_future(self._pump())
        stopping = asyncio.ensure_future(self.stop.wait())
        stopping.add_done_callback(self.bell.ring)
        try:
            while (request := await self._next_request()) is not None:
                if _asks_for_websocket(request):
                    pump.cancel()
                    await asyncio.wait([pump])
                    await WebSocket(self, request, self.wire.trailing_data[0]).run()
                    break
                await HttpCall(self, request).run()
                if self.wire.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE} or self.stop.is_set():
                    break
                self.wire.start_next_cycle()
        except (OSError, h11.ProtocolError):
            pass
        stopping.cancel()
        pump.cancel()
        self.writer.close()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            async with timeout(CLOSE_SECONDS):
                await self.writer.wait_closed()
        self.writer.transport.abort()

    async def _pump(self) -> None:
        """Read while the connection lives, but not further ahead than `UNREAD_LIMIT`."""
        with contextlib.suppress(OSError):
            while data := await self.reader.read(READ_SIZE):
                self._reads += 1
                self._unread += len(data)
                self.wire.receive_data(data)
                self.bell.ring()
                await self.bell.until(lambda: self._unread <= UNREAD_LIMIT)
        self.gone = True
        self.bell.ring()

    async def next_event(self, *, idle: bool = False) -> Any:
        """h11's next event; ConnectionClosed at the end of the connection, or, when idle, of the server."""
        while (event := self.wire.next_event()) in (h11.NEED_DATA, h11.PAUSED):
            if self.gone or (idle and self.stop.is_set()):
                return h11.ConnectionClosed()
            await self.bell.until(
                lambda seen=self._reads: self._reads > seen or self.gone or (idle and self.stop.is_set())  # type: ignore[misc]
            )
        self._unread = len(self.wire.trailing_data[0])
        self.bell.ring()
        return event

    async def _next_request(self) -> h11.Request | None:
        try:
            async with timeout(KEEP_ALIVE_SECONDS):
                event = await self.next_event(idle=True)
        except asyncio.TimeoutError:
            return None
        except h11.RemoteProtocolError as exc:
            await self.plain(exc.error_status_hint, b"Bad Request")
            return None
        return event if isinstance(event, h11.Request) else None

    async def plain(self, status: int, body: bytes, headers: Any = ()) -> None:
        """A response of the server's own, the connection's last."""
        lines = [(b"content-length", str(len(body)).encode()), (b"connection", b"close"), *headers]
        await self.write(h11.Response(status_code=status, headers=lines), h11.Data(body), h11.EndOfMessage())

    async def write(self, *events: Any) -> None:
        """Send h11 events, and wait until the transport takes more."""
        if self.gone:
            raise ClientGone("the client is gone")
        self.writer.write(b"".join(self.wire.send(event) or b"" for event in events))
        await self.writer.drain()

    def reset(self) -> None:
        """Cut the connection off with RST: a FIN would look like the end of a response that ends with the connection."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def scope(self, request: h11.Request, kind: str) -> Message:
        """The connection scope (ASGI www, Connection Scope)."""
        path, _, query = request.target.partition(b"?")
        scope: Message = {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": request.http_version.decode("ascii"),
            "scheme": "ws" if kind == "websocket" else "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": bytes(path),
            "query_string": bytes(query),
            "root_path": "",
            "headers": [(bytes(k), bytes(v)) for k, v in request.headers],
            "client": self.writer.get_extra_info("peername"),
            "server": self.writer.get_extra_info("sockname"),
            "state": dict(self.state),
        }
        return scope if kind == "websocket" else {**scope, "method": request.method.decode("ascii")}


class HttpCall:
    """One request, and the application's `receive` and `send` for it."""

    def __init__(self, connection: Connection, request: h11.Request) -> None:
        self._connection = connection
        self._wire = connection.wire
        self._request = request
        self._head: h11.Response | None = None
        self._bodiless = request.method == b"HEAD"
        self._read_all = self._complete = self._unasked = False
        self._bad: int | None = None

    async def run(self) -> None:
        """Call the application, and see that the request is answered or the connection cut."""
        try:
            await self._connection.app(self._connection.scope(self._request, "http"), self.receive, self.send)
        except ClientGone:
            pass
        except Exception:
            logger.exception("the application raised")
        if self._wire.our_state is h11.SEND_RESPONSE:
            await self._connection.plain(self._bad or 500, b"Bad Request" if self._bad else b"Internal Server Error")
        elif not self._complete:
            self._connection.reset()
            raise ClientGone("the application ended in the middle of its response")
        while self._wire.their_state is h11.SEND_BODY and not self._unasked and not self._connection.gone:
            await self._connection.next_event()

    async def receive(self) -> Message:
        """The body as it comes; then, when the response is complete or the client gone, the disconnect."""
        while not self._read_all and not self._complete and self._bad is None:
            if self._wire.they_are_waiting_for_100_continue:
                await self._connection.write(h11.InformationalResponse(status_code=100, headers=[]))
            try:
                event = await self._connection.next_event()
            except h11.RemoteProtocolError as exc:
                self._bad = exc.error_status_hint
                break
            if isinstance(event, h11.Data):
                return {"type": "http.request", "body": bytes(event.data), "more_body": True}
            if isinstance(event, h11.EndOfMessage):
                self._read_all = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if isinstance(event, h11.ConnectionClosed):
                break
        await self._connection.bell.until(lambda: self._complete or self._connection.gone or self._bad is not None)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """The head is kept back until the body begins, so that an error before can still be a 500."""
        kind = message["type"]
        if self._connection.gone or self._bad is not None:
            raise ClientGone("the client is gone")
        if kind == "http.response.start" and self._wire.our_state is h11.SEND_RESPONSE and self._head is None:
            lines = [(k, v) for k, v in message.get("headers", ()) if bytes(k).lower() != b"transfer-encoding"]
            self._head = h11.Response(status_code=message["status"], headers=lines)
            self._bodiless = self._bodiless or message["status"] in (204, 304)
        elif kind == "http.response.body" and not self._complete and self._head is not None:
            self._unasked = self._unasked or self._wire.they_are_waiting_for_100_continue
            events: list[Any] = [self._head] if self._wire.our_state is h11.SEND_RESPONSE else []
            if not self._bodiless:
                events.append(h11.Data(message.get("body", b"")))
            if not message.get("more_body", False):
                events.append(h11.EndOfMessage())
            await self._connection.write(*events)
            self._complete = not message.get("more_body", False)
            self._connection.bell.ring()
        else:
            raise RuntimeError(f"{kind} is not expected now")


def _asks_for_websocket(request: h11.Request) -> bool:
    """Whether it is the client's half of the opening handshake (RFC 6455, 4.2.1), however faulty."""
    lines = {name: value.lower() for name, value in request.headers}
    wanted = [word.strip() for word in lines.get(b"connection", b"").split(b",")]
    return request.method == b"GET" and b"upgrade" in wanted and lines.get(b"upgrade") == b"websocket"

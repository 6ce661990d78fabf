"""A connection of Granian's, as the HTTP library below it (hyper) keeps it: requests one behind the other, or an upgrade.

What can be noticed of that library: it reads a request's body only when asked for it; while the application works it
watches for the client's FIN or RST, unless bytes wait that it has not read; a client that is gone gets no answer, not
even one who can still read; and an answer that is given early costs the connection, unless all of the body is here.
"""

from __future__ import annotations

import logging
from email.utils import formatdate
from http.client import responses
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import h11
from wsproto.utilities import generate_accept_token

from models.granian.frames import FrameStream
from models.granian.http import SERVER, HttpProtocol, Reply
from models.granian.stream import Stream
from models.granian.websocket import WebSocketProtocol
from sim.world.fiber import Lock

if TYPE_CHECKING:
    from models.granian.server import Worker
    from sim.world.kernel import Endpoint

logger = logging.getLogger("_granian")


class Body:
    """A request's body, read from the connection piece by piece when somebody asks.

    Attributes:
        complete: whether all of it was read. It is known with the last byte.
    """

    def __init__(self, wire: h11.Connection, stream: Stream) -> None:
        self._wire = wire
        self._stream = stream
        self._pieces: list[bytes] = []
        self._asking = Lock()
        self._broken = False
        self.complete = False
        self._take_apart()

    async def next(self) -> bytes | None:
        """The next piece, or None at the end.

        Raises:
            ConnectionError: the connection ended, or was garbage, before the body's end.
        """
        await self._asking.acquire("receive()")
        try:
            while not self._pieces and not self.complete:
                if self._broken:
                    raise ConnectionError
                if self._wire.they_are_waiting_for_100_continue:
                    go_on = self._wire.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
                    await self._stream.write(go_on or b"")
                await self._read()
        except OSError:
            raise ConnectionError from None
        finally:
            self._asking.release()
        return self._pieces.pop(0) if self._pieces else None

    async def _read(self) -> None:
        self._wire.receive_data(await self._stream.read())
        self._take_apart()

    def _take_apart(self) -> None:
        try:
            while isinstance(event := self._wire.next_event(), h11.Data):
                self._pieces.append(bytes(event.data))
            self.complete = isinstance(event, h11.EndOfMessage)
        except h11.RemoteProtocolError:
            self._broken = True

    async def drain(self) -> None:
        """Throw away the rest if it is here already."""
        if not self.complete and not self._broken and self._stream.unread:
            await self._read()


class HttpConnection:
    """One TCP connection."""

    def __init__(self, worker: Worker, endpoint: Endpoint) -> None:
        self._worker = worker
        self._endpoint = endpoint
        self._wire = h11.Connection(h11.SERVER)
        self.stream = Stream(endpoint)

    async def serve(self) -> None:
        """Serve requests until one ends the connection or takes it over."""
        try:
            request = await self._next_request()
            while request is not None:
                if await (self._upgrade(request) if _asks_for_upgrade(request) else self._http(request)):
                    return
                request = await self._next_request()
        except (OSError, h11.ProtocolError):
            pass
        self.stream.close()

    async def _next_request(self) -> h11.Request | None:
        """The next request; None if there is none, because the connection is at its end or must be closed."""
        if self._wire.our_state is not h11.IDLE:
            if (self._wire.our_state, self._wire.their_state) != (h11.DONE, h11.DONE) or self.stream.gone:
                return None
            self._wire.start_next_cycle()
        while True:
            try:
                event = self._wire.next_event()
            except h11.RemoteProtocolError:
                lines = [(b"content-length", b"0"), self._date()]
                await self._write(h11.Response(status_code=400, headers=lines, reason=b"Bad Request"))
                return None
            if event is not h11.NEED_DATA:
                return event if isinstance(event, h11.Request) else None
            self._wire.receive_data(await self.stream.read())

    async def _write(self, *events: Any) -> None:
        await self.stream.write(b"".join(self._wire.send(event) or b"" for event in events))

    def _date(self) -> tuple[bytes, bytes]:
        return (b"date", formatdate(self._worker.world.clock.wall(), usegmt=True).encode())

    def _left(self, body: Body) -> bool:
        """Whether the client is seen to have left: only if there is nothing else to read."""
        return body.complete and self.stream.gone and not self.stream.unread and not self._wire.trailing_data[0]

    async def _http(self, request: h11.Request) -> bool:
        """Serve a request. Returns whether the connection is over and done with."""
        body = Body(self._wire, self.stream)
        protocol = HttpProtocol(self._worker.runtime, body, self.stream.wake)
        self._worker.call(self.scope(request, "http"), protocol, protocol.application_ended)
        while protocol.reply is None:
            if self._left(body):
                self.stream.close()
                return True
            await self.stream.changed()
        try:
            await self._reply(protocol.reply, body, bodiless=request.method == b"HEAD")
            await body.drain()
        finally:
            protocol.reply.drop()
        return False

    async def _reply(self, reply: Reply, body: Body, *, bodiless: bool = False) -> None:
        """Write a response.

        Raises:
            OSError: the client is gone.
            LocalProtocolError: the application's headers cannot be obeyed.
        """
        headers = [*reply.headers, self._date()]
        if reply.whole is not None and reply.status != 204 and b"content-length" not in dict(headers):
            headers.append((b"content-length", str(len(reply.whole)).encode()))
        reason = responses.get(reply.status, "").encode()
        head = h11.Response(status_code=reply.status, headers=headers, reason=reason)
        if bodiless or reply.status in (204, 304):
            await self._write(head, h11.EndOfMessage())
        elif reply.whole is not None:
            await self._write(head, h11.Data(reply.whole), h11.EndOfMessage())
        else:
            await self._write(head)
            while (piece := await self._next_piece(reply, body)) is not None:
                await self._write(h11.Data(piece))
            await self._write(h11.EndOfMessage())

    async def _next_piece(self, reply: Reply, body: Body) -> bytes | None:
        while not reply.ready:
            if self._left(body):
                raise ConnectionError("the client has left")
            await self.stream.changed()
        return reply.take()

    async def _upgrade(self, request: h11.Request) -> bool:
        """Serve a WebSocket. Returns whether it was upgraded or is gone: if not, the connection stays HTTP."""
        headers = dict(request.headers)
        body = Body(self._wire, self.stream)
        missing = _missing(headers)
        if missing:
            logger.info("Websocket handshake failed: %s", missing)
            await self._reply(Reply(400, [SERVER], missing.encode(), self.stream.wake), body)
            return False
        frames: FrameStream | None = None
        refused = left = False

        def upgrade(subprotocol: str | None) -> FrameStream | None:
            nonlocal frames
            if left or self._endpoint.reset:
                return None
            lines = [
                (b"connection", b"upgrade"),
                (b"upgrade", b"websocket"),
                (b"sec-websocket-accept", generate_accept_token(headers[b"sec-websocket-key"])),
            ]
            if subprotocol is not None:
                lines.append((b"sec-websocket-protocol", subprotocol.encode()))
            head = h11.InformationalResponse(
                status_code=101, headers=[*lines, self._date()], reason=b"Switching Protocols"
            )
            data = self._wire.send(head) or b""
            frames = FrameStream(self._worker.runtime, self.stream, self._wire.trailing_data[0], data)
            self.stream.wake()
            return frames

        def ended() -> None:
            nonlocal refused
            refused = not protocol.consumed
            self.stream.wake()

        protocol = WebSocketProtocol(self._worker.runtime, self._worker.behaviour, upgrade)
        self._worker.call(self.scope(request, "websocket"), protocol, lambda: protocol.application_ended(ended))
        while frames is None and not refused:
            if self._left(body):
                left = True
                self.stream.close()
                return True
            await self.stream.changed()
        if refused:
            await self._reply(Reply(403, [SERVER], b"", self.stream.wake), body)
        return not refused

    def scope(self, request: h11.Request, kind: str) -> dict[str, Any] | None:
        """The connection scope, with Granian's own ideas of it; None if making it killed the server.

        Ports are text, HTTP/1.0 is "1", `raw_path` is not raw, and a WebSocket has a method, and its subprotocols as
        many to a list entry as there were to a header line.
        """
        target, _, query = request.target.partition(b"?")
        try:
            path = unquote_to_bytes(target).decode()
        except UnicodeDecodeError:
            self._worker.runtime.abort("panicked at called `Result::unwrap()` on an `Err` value: Utf8Error")
            return None
        headers: dict[bytes, list[bytes]] = {}
        for name, value in request.headers:
            headers.setdefault(bytes(name), []).append(bytes(value))
        lines = [(name, value) for name, values in headers.items() for value in values]
        scope: dict[str, Any] = {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "extensions": {},
            "http_version": "1.1" if request.http_version == b"1.1" else "1",
            "server": (self._endpoint.local[0], str(self._endpoint.local[1])),
            "client": (self._endpoint.remote[0], str(self._endpoint.remote[1])),
            "scheme": "ws" if kind == "websocket" else "http",
            "method": request.method.decode(),
            "root_path": "",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "headers": lines if b"host" in headers else [(b"host", b""), *lines],
        }
        if kind == "websocket":
            scope["subprotocols"] = [value.decode() for value in headers.get(b"sec-websocket-protocol", [])]
        return scope


def _asks_for_upgrade(request: h11.Request) -> bool:
    def names(header: bytes, word: bytes) -> bool:
        return any(
            word in value.lower().replace(b" ", b"").split(b",") for key, value in request.headers if key == header
        )

    return names(b"connection", b"upgrade") and names(b"upgrade", b"websocket")


def _missing(headers: dict[bytes, bytes]) -> str | None:
    """What a handshake lacks, in Granian's words."""
    if b"sec-websocket-key" not in headers:
        return 'No "Sec-WebSocket-Key" header'
    if headers.get(b"sec-websocket-version") != b"13":
        return 'No "Sec-WebSocket-Version: 13" header'
    return None

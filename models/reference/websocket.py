"""A WebSocket (RFC 6455): the opening handshake, messages, control frames, the closing handshake."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import wsproto
from wsproto import events as ws
from wsproto.connection import ConnectionState

from models.reference.waiting import Bell

if TYPE_CHECKING:
    import h11

    from models.reference.http import Connection, Message

logger = logging.getLogger("reference")
READ_SIZE = 65_536
EARLY_LIMIT = 65_536
QUEUE_LIMIT = 64
CLOSE_SECONDS = 5.0


class ClientGone(OSError):  # noqa: N818 - the peer's doing, not an error of ours
    """`send()` behind the client's disconnect (ASGI www 2.4, Disconnected Client)."""


class WebSocket:
    """One WebSocket, from the upgrade request to the end of the connection."""

    def __init__(self, http: Connection, request: h11.Request, trailing: bytes) -> None:
        self._http = http
        self._request = request
        self._wire = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._trailing = trailing
        self._queue: deque[Message] = deque([{"type": "websocket.connect"}])
        self._bell = Bell()
        self._parts: list[Any] = []
        self._over = False
        self._early = b""
        self._patience: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Call the application and see the closing handshake through."""
        try:
            self._wire.initiate_upgrade_connection(list(self._request.headers), self._request.target.decode("ascii"))
        except wsproto.utilities.RemoteProtocolError as exc:
            hint = exc.event_hint
            refusal = (hint.status_code, hint.headers) if isinstance(hint, ws.RejectConnection) else (400, ())
            await self._http.plain(refusal[0], str(exc).encode(), refusal[1])
            return
        offer = next(self._wire.events())
        scope = self._http.scope(self._request, "websocket")
        scope["subprotocols"] = list(offer.subprotocols) if isinstance(offer, ws.Request) else []
        tasks = [asyncio.ensure_future(self._pump()), asyncio.ensure_future(self._go_away())]
        code = 1000
        try:
            await self._http.app(scope, self._receive, self._send)
        except ClientGone:
            pass
        except Exception:
            logger.exception("the application raised")
            code = 1011
        try:
            if self._wire.state is ConnectionState.CONNECTING and not self._over:
                await self._write(ws.RejectConnection(status_code=403 if code == 1000 else 500))
            elif self._wire.state is ConnectionState.OPEN and not self._over:
                await self._begin_close(code)
            if self._wire.state is ConnectionState.LOCAL_CLOSING:
                await self._bell.until(lambda: self._over)
        finally:
            for task in (*tasks, self._patience):
                if task is not None:
                    task.cancel()

    async def _pump(self) -> None:
        """Read frames, answer pings and Close at once, and queue messages, at most `QUEUE_LIMIT` ahead."""
        with contextlib.suppress(OSError):
            data = self._trailing
            while not self._over:
                await self._take_frames(data)
                await self._bell.until(lambda: self._over or self._has_room())
                data = await self._http.reader.read(READ_SIZE)
                if not data:
                    break
        self._disconnected(1006, "")

    def _has_room(self) -> bool:
        if self._wire.state is ConnectionState.CONNECTING:
            return len(self._early) <= EARLY_LIMIT
        return len(self._queue) <= QUEUE_LIMIT

    async def _take_frames(self, data: bytes) -> None:
        if self._wire.state is ConnectionState.CONNECTING:
            self._early += data
        elif data:
            self._wire.receive_data(data)
            for event in self._wire.events():
                await self._take(event)

    async def _take(self, event: ws.Event) -> None:
        if isinstance(event, ws.Ping) and self._wire.state is ConnectionState.OPEN:
            await self._write(event.response())
        elif isinstance(event, ws.CloseConnection):
            if self._wire.state is ConnectionState.REMOTE_CLOSING:
                await self._write(event.response())
            elif self._wire.state is not ConnectionState.CLOSED:
                # No Close was read: it is wsproto's proposal of what to answer to a breach of the protocol.
                if self._wire.state is ConnectionState.OPEN:
                    await self._write(ws.CloseConnection(event.code))
                event = ws.CloseConnection(1006)
            self._disconnected(int(event.code), event.reason or "")
        elif isinstance(event, ws.Message):
            self._parts.append(event.data)
            if event.message_finished and self._wire.state is not ConnectionState.LOCAL_CLOSING:
                whole = self._parts[0][:0].join(self._parts)
                key = "text" if isinstance(event, ws.TextMessage) else "bytes"
                self._queue.append({"type": "websocket.receive", key: whole if key == "text" else bytes(whole)})
                self._bell.ring()
            if event.message_finished:
                self._parts = []

    def _disconnected(self, code: int, reason: str) -> None:
        if not self._over:
            self._over = True
            self._queue.append({"type": "websocket.disconnect", "code": code, "reason": reason})
            self._bell.ring()

    async def _begin_close(self, code: int, reason: str | None = None) -> None:
        """Send Close; messages are of no interest any more, and the peer has `CLOSE_SECONDS` for its own Close."""
        self._queue = deque(m for m in self._queue if m["type"] != "websocket.receive")
        self._patience = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._disconnected, 1006, "")
        await self._write(ws.CloseConnection(code, reason))
        self._bell.ring()

    async def _go_away(self) -> None:
        """When the server stops."""
        await self._http.stop.wait()
        with contextlib.suppress(OSError):
            if self._wire.state is ConnectionState.OPEN:
                await self._begin_close(1001)

    async def _receive(self) -> Message:
        await self._bell.until(lambda: bool(self._queue))
        if self._queue[0]["type"] == "websocket.disconnect":
            return self._queue[0]
        self._bell.ring()
        return self._queue.popleft()

    async def _send(self, message: Message) -> None:
        kind, state = message["type"], self._wire.state
        if self._over:
            raise ClientGone("the client is gone")
        if kind == "websocket.accept" and state is ConnectionState.CONNECTING:
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            if any(name.lower() == b"sec-websocket-protocol" for name, _ in headers):
                raise ValueError("the subprotocol is not to be among the headers")
            await self._write(ws.AcceptConnection(subprotocol=message.get("subprotocol"), extra_headers=headers))
            await self._take_frames(self._early)
            self._bell.ring()
            if self._http.stop.is_set():
                await self._go_away()
        elif kind == "websocket.close" and state is ConnectionState.CONNECTING:
            await self._write(ws.RejectConnection(status_code=403))
            self._disconnected(1006, "")
        elif kind == "websocket.close" and state is ConnectionState.OPEN:
            await self._begin_close(message.get("code", 1000), message.get("reason"))
        elif kind == "websocket.send" and state is ConnectionState.OPEN:
            text, data = message.get("text"), message.get("bytes")
            if (text is None) == (data is None):
                raise ValueError("websocket.send takes exactly one of text and bytes")
            await self._write(ws.TextMessage(text) if text is not None else ws.BytesMessage(data or b""))
        else:
            raise RuntimeError(f"{kind} is not expected now")

    async def _write(self, event: ws.Event) -> None:
        self._http.writer.write(self._wire.send(event))
        await self._http.writer.drain()

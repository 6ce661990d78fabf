"""WebSocket clients for scripts, on wsproto.

`WebSocketClient` is what a scenario's script talks through. It answers pings, as every client library does, and
records each frame that it sends or reads (`models.websocket_events`, whose names are here, too). `dotnet_heartbeat` behaves as .NET's `ClientWebSocket` does by default: an
unsolicited Pong with an empty payload every 30 seconds (`KeepAliveInterval`, RFC 6455 section 5.5.3).
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from wsproto import events as ws
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import RemoteProtocolError

from models.opening import SWITCHING_PROTOCOLS, Opening
from models.tls import open_connection
from models.websocket_events import (
    WsBinary,
    WsClose,
    WsFragment,
    WsFrame,
    WsGarbage,
    WsHandshake,
    WsPing,
    WsPong,
    WsText,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Sequence

    from models.http2 import Http2Client, Http2Stream
    from models.tls import TlsConnection
    from sim.world.host import Connection, Host
    from sim.world.kernel import Address

DOTNET_KEEP_ALIVE_INTERVAL = 30.0

__all__ = [
    "DOTNET_KEEP_ALIVE_INTERVAL",
    "Refused",
    "WebSocketClient",
    "WsBinary",
    "WsClose",
    "WsFragment",
    "WsFrame",
    "WsGarbage",
    "WsHandshake",
    "WsPing",
    "WsPong",
    "WsText",
    "binary",
    "dotnet_heartbeat",
    "fragments",
    "ping",
    "pong",
    "text",
]


def text(payload: str) -> ws.TextMessage:
    """A text message."""
    return ws.TextMessage(payload)


def binary(payload: bytes) -> ws.BytesMessage:
    """A binary message."""
    return ws.BytesMessage(payload)


def fragments(*parts: str) -> tuple[ws.Event, ...]:
    """A text message in so many frames, to be sent in this order; control frames may come in between."""
    return (*(ws.TextMessage(part, message_finished=False) for part in parts[:-1]), ws.TextMessage(parts[-1]))


def pong(payload: bytes = b"") -> ws.Pong:
    """A Pong that nobody asked for."""
    return ws.Pong(payload)


def ping(payload: bytes = b"") -> ws.Ping:
    """A Ping."""
    return ws.Ping(payload)


class Refused(Exception):  # noqa: N818 - the peer's doing, not an error of ours
    """The server answered the handshake with something else than 101; `status` is what it said, None if nothing."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"the WebSocket handshake was answered with {status}")
        self.status = status


class WebSocketClient:
    """A scripted WebSocket client.

    Args:
        host: the scripted host that it runs on.
        tls: what to connect with; None: without TLS.

    Attributes:
        connection: the connection below, for a script that means to reset it or to send what is no WebSocket.
        open: whether messages can be sent: the handshake is done, no Close was sent or read, and what came was sound.
        close_code: the code of the Close frame that was read (1005 if it had none), or None.
        began_close: whether this side sent its Close first.
        subprotocol: the subprotocol that the server accepted, or None.
        compressed: whether the server agreed to compress messages.
    """

    def __init__(self, host: Host, *, tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.connection: Connection | TlsConnection | Http2Stream
        self._tls = tls
        self.open = False
        self.close_code: int | None = None
        self.began_close = False
        self.subprotocol: str | None = None
        self.compressed = False
        self._opening: Opening | None = None
        """The handshake, while it is under way."""
        self._status: int | None = None
        """What it was answered with."""
        self._wire: Frames | None = None
        """The messages' layer, once the connection stands."""
        self._arrived: list[ws.Event] = []
        self._parts: dict[str, list[Any]] = {"sends": [], "gets": []}
        self._over = False
        host.world.probe(host.name, self._describe)

    def _describe(self) -> str:
        if self.close_code is not None:
            return f"closed {self.close_code}"
        if self._wire is None:
            return "connecting" if self._status is None else f"refused with {self._status}"
        return self._wire.state.name.lower().replace("_", " ") + f", {len(self._arrived)} unread"

    async def connect(
        self,
        address: Address,
        path: str = "/",
        headers: Iterable[tuple[bytes, bytes]] = (),
        *,
        subprotocols: Iterable[str] = (),
        deflate: bool = False,
        over: Connection | None = None,
    ) -> None:
        """Open the connection, unless it goes `over` one that stands already, and complete the handshake.

        With `deflate`, the client offers to compress messages (RFC 7692).

        Raises:
            Refused: the server answered with another status, or closed the connection.
            ConnectionRefusedError: nobody listens at `address`.
            ssl.SSLError, ConnectionError: TLS does not come about.
        """
        self.connection = over if over is not None else await open_connection(self.host, address, self._tls)
        self._opening = Opening(
            f"{address[0]}:{address[1]}", path, headers, subprotocols, [PerMessageDeflate()] if deflate else []
        )
        self._record(WsHandshake, "sends", path)
        self._write(self._opening.request, "GET upgrade")
        while self._status is None:
            if not await self._read(None) and self._status is None:
                raise Refused(None)
        if self._status != SWITCHING_PROTOCOLS:
            raise Refused(self._status)

    async def connect_over(self, http2: Http2Client, path: str = "/", headers: Iterable[tuple[str, str]] = ()) -> None:
        """Have a stream of an HTTP/2 connection as the connection (RFC 8441).

        Raises:
            Refused: the server answered with another status than 200, or does not offer this.
        """
        self._record(WsHandshake, "sends", path)
        stream = await http2.open_websocket(path, headers)
        if stream is None or isinstance(stream, int):
            if stream is not None:
                self._record(WsHandshake, "gets", stream)
            raise Refused(stream)
        self._record(WsHandshake, "gets", 200)
        self.connection = stream
        self._wire = Frames(ConnectionType.CLIENT)
        self.open = True

    def send(self, *messages: ws.Event) -> None:
        """Send messages, each as a segment of its own. What cannot be sent any more is dropped."""
        for message in messages:
            if not self.open or self._wire is None:
                return
            kind, payload, label = _seen(message)
            self._record_message("sends", kind, payload, getattr(message, "message_finished", True))
            self._write(self._wire.send(message), label)

    def send_in_any_order(self, *messages: ws.Event) -> None:
        """Send each message once, in an order that the search chooses."""
        for message in self.host.in_any_order(messages):
            self.send(message)

    async def receive(self, within: float | None = None) -> ws.Event | None:
        """The next text, binary or Close; None if nothing came `within` virtual seconds, or the connection ended."""
        left = self.host.countdown(within)
        while not self._arrived and left() != 0:
            if not await self._read(left()):
                break
        return self._arrived.pop(0) if self._arrived else None

    async def read_once(self, within: float | None = None) -> bool:
        """Read once, at most 64 KiB, as a client does that reads slowly; what came can be had from `receive` later.

        False at the end of the connection, or if nothing came `within` virtual seconds.
        """
        return await self._read(within)

    async def close(self, code: int = 1000, *, within: float | None = 5.0) -> None:
        """Begin the close handshake, and wait for the server's Close and the end of the connection."""
        if self.open and self._wire is not None:
            self.began_close = True
            self.open = False
            self._record(WsClose, "sends", code)
            self._write(self._wire.send(ws.CloseConnection(code)), f"Close {code}")
        await self.drain(within)
        self.connection.close()

    async def drain(self, within: float | None = None) -> None:
        """Read until the connection ends, at most `within` virtual seconds."""
        left = self.host.countdown(within)
        while left() != 0 and await self._read(left()):
            pass

    async def _read(self, within: float | None) -> bool:
        """Read once and take what came apart. False at the end of the connection, of the time, or of all sense."""
        if self._over:
            return False
        try:
            data = await self.connection.receive(within=within)
        except ConnectionResetError:
            data = b""
        if not data:
            if data is not None:
                self._end()
            return False
        try:
            if self._wire is None:
                self._shake_hands(data)
            elif self._wire.state is not ConnectionState.CLOSED:
                self._wire.receive_data(data)
                self._take_all(self._wire)
        except RemoteProtocolError as exc:
            self._record(WsGarbage, "gets", str(exc))
            self._end()
        return not self._over

    def _shake_hands(self, data: bytes) -> None:
        """Take what came in answer to the handshake. What comes behind a refusal tells nothing more."""
        answer = self._opening.receive(data) if self._opening is not None else None
        if answer is None:
            return
        self._opening, self._status = None, answer.status
        self._record(WsHandshake, "gets", answer.status)
        if answer.status == SWITCHING_PROTOCOLS:
            self.subprotocol = answer.subprotocol
            self.compressed = any(isinstance(extension, PerMessageDeflate) for extension in answer.extensions)
            self._wire = Frames(ConnectionType.CLIENT, list(answer.extensions), answer.rest)
            self.open = True
            self._take_all(self._wire)

    def _end(self) -> None:
        self.open = False
        self._over = True

    def _take_all(self, wire: Frames) -> None:
        for event in wire.events():
            self._take(event, wire)

    def _take(self, event: ws.Event, wire: Frames) -> None:
        if isinstance(event, ws.Ping):
            self._record(WsPing, "gets", bytes(event.payload))
            if wire.state is ConnectionState.OPEN:
                self._write(wire.send(event.response()), "Pong")
        elif isinstance(event, ws.Pong):
            self._record(WsPong, "gets", bytes(event.payload))
        elif isinstance(event, ws.CloseConnection):
            self._take_close(event, wire)
        elif isinstance(event, (ws.TextMessage, ws.BytesMessage)):
            whole = self._record_message("gets", *_seen(event)[:2], event.message_finished)
            if whole is not None:
                self._arrived.append(type(event)(whole))

    def _take_close(self, event: ws.CloseConnection, wire: Frames) -> None:
        if wire.state not in (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED):
            # No Close was read: it is wsproto's proposal of what to answer to a breach of the protocol.
            self._record(WsGarbage, "gets", event.reason)
            self._end()
            return
        self.close_code = int(event.code)
        self._record(WsClose, "gets", self.close_code)
        self._arrived.append(event)
        self.open = False
        if wire.state is ConnectionState.REMOTE_CLOSING:
            self._record(WsClose, "sends", self.close_code)
            self._write(wire.send(event.response()), f"Close {self.close_code}")

    def _write(self, data: bytes, label: str) -> None:
        try:
            self.connection.send(data, label)
        except ConnectionError:
            self.open = False

    def _record_message(self, way: str, kind: type[WsFrame], payload: Any, finished: bool) -> Any:
        """Record a message or a part of one. Returns the whole message when it is complete, else None."""
        parts = self._parts[way]
        if kind is WsText or kind is WsBinary:
            parts.append(payload)
            if not finished:
                self._record(WsFragment, way, payload)
                return None
            payload = payload[:0].join(parts)
            parts.clear()
        self._record(kind, way, payload)
        return payload

    def _record(self, kind: type[WsFrame], way: str, payload: Any) -> None:
        event = self.host.world.trace.record(kind, self.host.name, way, payload)
        self.host.world.trace.cause = event.seq


def _seen(message: ws.Event) -> tuple[type[WsFrame], Any, str]:
    """A message as an event's type and payload, and as a segment's label."""
    if isinstance(message, ws.TextMessage):
        return WsText, str(message.data), f"text {str(message.data)[:20]!r}"
    if isinstance(message, ws.BytesMessage):
        data = bytes(message.data)
        return WsBinary, data, f"binary ({len(data)} B)"
    if isinstance(message, ws.Ping):
        return WsPing, bytes(message.payload), "Ping"
    if isinstance(message, ws.Pong):
        return WsPong, bytes(message.payload), "Pong"
    raise TypeError(f"a script cannot send {message!r}")


async def dotnet_heartbeat(
    client: WebSocketClient,
    *,
    interval: float = DOTNET_KEEP_ALIVE_INTERVAL,
    beats: int | None = None,
    halfway: Callable[[int], Sequence[ws.Event]] | None = None,
) -> None:
    """Do as .NET's client does while its application waits: an unsolicited empty Pong at each beat of a timer.

    What arrives meanwhile is read (and pings are answered). It ends with the connection, or after `beats`.

    Args:
        client: a client that is connected.
        interval: virtual seconds between two beats.
        beats: how many beats; None: as long as the connection is open.
        halfway: what the application sends in the middle before a beat, by the beat's number from 1; None: nothing.
    """
    began = client.host.now
    for beat in count(1):
        messages = halfway(beat) if halfway is not None else ()
        if messages:
            await _read_until(client, began + (beat - 0.5) * interval)
            client.send(*messages)
        await _read_until(client, began + beat * interval)
        if not client.open:
            return
        client.send(pong())
        if beat == beats:
            return


async def _read_until(client: WebSocketClient, when: float) -> None:
    """Read what arrives until a moment of virtual time, or the end of the connection."""
    while client.open and (left := when - client.host.now) > 0:
        await client.receive(within=left)

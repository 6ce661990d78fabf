"""HTTP/2 clients for scripts, on h2, and the events that they see.

One client is one connection with many streams (RFC 9113). What a script asks for is on its way at once; answers are read
when it awaits one of them, and what comes for the other streams meanwhile is kept for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from models.http1 import HttpCutOff, HttpRequest, HttpResponse, Response
from models.tls import TlsConnection, open_connection
from sim.world.trace import Event

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from sim.world.host import Connection, Host
    from sim.world.kernel import Address

ALPN = "h2"


@attrs.define(slots=True)
class Http2Reset(Event):
    """A stream was reset; `way` is "sends" or "gets", `code` the error's name."""

    kind: ClassVar[str] = "http.reset"
    way: str
    stream: int
    code: str

    def describe(self) -> str:
        return f"{self.way} RST_STREAM {self.code} on stream {self.stream}"


@attrs.define(slots=True)
class Http2GoAway(Event):
    """The server sent GOAWAY: streams above `last` were not processed."""

    kind: ClassVar[str] = "http.go_away"
    last: int
    code: str

    def describe(self) -> str:
        return f"gets GOAWAY {self.code}, the last stream being {self.last}"


@attrs.define
class _Stream:
    """What has come for a stream."""

    status: int | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytearray = attrs.field(factory=bytearray)
    ended: bool = False
    failed: str = ""


class Http2Client:
    """A scripted HTTP/2 client with one connection.

    Without TLS it begins with prior knowledge (RFC 9113, 3.3); with TLS the context has to offer "h2" by ALPN.

    Args:
        host: the scripted host that it runs on.
        tls: what to connect with; None: without TLS.

    Attributes:
        connection: the connection below, for a script that means to reset it or to send what is no HTTP/2.
        wire: h2's side of it, for a script that means to send frames of its own; then call `flush`.
    """

    def __init__(self, host: Host, *, tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.connection: Connection | TlsConnection
        self.wire = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._tls = tls
        self._authority = ""
        self._streams: dict[int, _Stream] = {}
        self._settled = False
        self._over = ""
        host.world.probe(host.name, self._describe)

    def _describe(self) -> str:
        open_streams = sum(not stream.ended and not stream.failed for stream in self._streams.values())
        return self._over or f"HTTP/2, {open_streams} streams wait"

    async def connect(self, address: Address) -> None:
        """Open the connection and send the preface.

        Raises:
            ConnectionRefusedError: nobody listens at `address`.
            ConnectionError: the server does not agree to HTTP/2.
            ssl.SSLError: TLS does not come about.
        """
        self._authority = "%s:%d" % address
        self.connection = await open_connection(self.host, address, self._tls)
        if isinstance(self.connection, TlsConnection) and self.connection.protocol != ALPN:
            raise ConnectionError(
                f"the server chose {self.connection.protocol!r} by ALPN, and this client offers {ALPN!r}"
            )
        self.wire.initiate_connection()
        self.flush("HTTP/2 preface")

    def begin(
        self,
        target: str,
        *,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        end: bool = True,
    ) -> int:
        """Send a request's head. Returns the number of its stream; with `end`, the request is complete."""
        event = self.host.world.trace.record(HttpRequest, self.host.name, method, target)
        self.host.world.trace.cause = event.seq
        return self._open([(":method", method)], target, headers, end=end, label=f"{method} {target}")

    def _open(
        self,
        pseudo: list[tuple[str, str]],
        path: str,
        headers: Iterable[tuple[str, str]],
        *,
        end: bool,
        label: str,
    ) -> int:
        """Begin a stream with a head; `pseudo` are its pseudo-headers besides scheme, authority and path."""
        stream = self.wire.get_next_available_stream_id()
        scheme = "http" if self._tls is None else "https"
        head = [*pseudo, (":scheme", scheme), (":authority", self._authority), (":path", path), *headers]
        self.wire.send_headers(stream, head, end_stream=end)
        self._streams[stream] = _Stream()
        self.flush(label)
        return stream

    async def send(self, stream: int, data: bytes, *, end: bool = False) -> bool:
        """Send a piece of a body, as fast as the server's windows let it. False if they never let all of it."""
        while data or end:
            room = min(self.wire.local_flow_control_window(stream), self.wire.max_outbound_frame_size)
            if room <= 0 and data:
                if self._streams[stream].failed or not await self._read(None):
                    return False
                continue
            piece, data = data[:room], data[room:]
            try:
                self.wire.send_data(stream, piece, end_stream=end and not data)
            except ProtocolError:
                return False
            self.flush(f"{len(piece)} bytes of stream {stream}")
            if not data:
                return True
        return True

    async def request(
        self,
        target: str,
        *,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        within: float | None = None,
    ) -> Response | None:
        """Send a request and read its response; see `response`."""
        stream = self.begin(target, method=method, headers=headers, end=not body)
        if body:
            await self.send(stream, body, end=True)
        return await self.response(stream, within=within)

    async def response(self, stream: int, *, within: float | None = None) -> Response | None:
        """The response on a stream; None if it was reset, the connection ended, or `within` virtual seconds did."""
        state = self._streams[stream]
        left = self.host.countdown(within)
        while not (state.ended or state.failed):
            if left() == 0:
                state.failed = "the answer does not come"
            elif not await self._read(left()) and self._over:
                state.failed = self._over
        if state.status is None or not state.ended:
            self.host.world.trace.record(HttpCutOff, self.host.name, state.failed)
            return None
        response = Response(state.status, state.headers, bytes(state.body))
        self.host.world.trace.record(HttpResponse, self.host.name, response.status, response.body)
        return response

    async def open_websocket(self, path: str, headers: Iterable[tuple[str, str]] = ()) -> Http2Stream | int | None:
        """Ask for a WebSocket on a stream (RFC 8441, 5).

        Returns:
            The stream, once the server has answered 200; else the status that it answered with, or None.
        """
        while not self._settled and not self._over:
            await self._read(None)
        if not self.wire.remote_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL, 0):
            return None
        stream = self._open(
            [(":method", "CONNECT"), (":protocol", "websocket")],
            path,
            [("sec-websocket-version", "13"), *headers],
            end=False,
            label="CONNECT for a WebSocket",
        )
        state = self._streams[stream]
        while state.status is None and not state.failed and not self._over:
            await self._read(None)
        return Http2Stream(self, stream) if state.status == 200 else state.status

    def reset(self, stream: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """Give up a stream (RST_STREAM)."""
        self.host.world.trace.record(Http2Reset, self.host.name, "sends", stream, code.name)
        self.wire.reset_stream(stream, code)
        self._streams[stream].failed = "this side reset it"
        self.flush(f"RST_STREAM {code.name}")

    def close(self) -> None:
        """Send GOAWAY, if the connection still takes it, and close."""
        if not self._over:
            self.wire.close_connection()
            self.flush("GOAWAY")
        self.connection.close()

    def flush(self, label: str) -> None:
        """Write what h2 has to send, as one segment; a connection that is gone swallows it."""
        data = self.wire.data_to_send()
        if not data:
            return
        try:
            self.connection.send(data, label)
        except ConnectionError as exc:
            self._over = self._over or type(exc).__name__

    async def _read(self, within: float | None) -> bool:
        """Read once. False at the end of the connection, or if nothing came in time."""
        if self._over:
            return False
        try:
            data = await self.connection.receive(within=within)
        except ConnectionResetError:
            self._over = "reset"
            return False
        if not data:
            if data is not None:
                self._over = "closed"
            return False
        try:
            events = self.wire.receive_data(data)
        except ProtocolError as exc:
            self._over = f"it is no HTTP/2: {exc}"
            return False
        for event in events:
            self._take(event)
        self.flush("HTTP/2 control")
        return True

    def _take(self, event: Any) -> None:
        record = self.host.world.trace.record
        state = self._streams.get(getattr(event, "stream_id", 0) or 0)
        if isinstance(event, ConnectionTerminated):
            code = _name(event.error_code)
            record(Http2GoAway, self.host.name, event.last_stream_id or 0, code)
            for number, stream in self._streams.items():
                if number > (event.last_stream_id or 0) and not stream.ended:
                    stream.failed = f"GOAWAY {code}"
        elif isinstance(event, RemoteSettingsChanged):
            self._settled = True
        elif state is None:
            return
        elif isinstance(event, ResponseReceived):
            lines = [(bytes(k), bytes(v)) for k, v in event.headers or ()]
            state.status = int(next(v for k, v in lines if k == b":status"))
            state.headers = tuple((k, v) for k, v in lines if not k.startswith(b":"))
        elif isinstance(event, DataReceived):
            state.body += event.data or b""
            self.wire.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, StreamEnded):
            state.ended = True
        elif isinstance(event, StreamReset):
            state.failed = f"reset: {_name(event.error_code)}"
            record(Http2Reset, self.host.name, "gets", event.stream_id, _name(event.error_code))


class Http2Stream:
    """A stream as a connection of its own, for what is tunnelled through it (RFC 9113, 8.5)."""

    def __init__(self, client: Http2Client, number: int) -> None:
        self._client = client
        self._number = number
        self._state = client._streams[number]
        self._closed = False

    def send(self, data: bytes, label: str = "") -> None:
        """Send bytes; they have to fit into the server's window.

        Raises:
            BrokenPipeError: the stream is closed, or has no room.
        """
        wire = self._client.wire
        try:
            wire.send_data(self._number, data)
        except ProtocolError as exc:
            raise BrokenPipeError(f"stream {self._number}: {exc}") from None
        self._client.flush(label)

    async def receive(self, limit: int = 65_536, *, within: float | None = None) -> bytes | None:
        """The next bytes; b"" at the end of the stream; None if nothing came `within` virtual seconds.

        Raises:
            ConnectionResetError: the server reset the stream.
        """
        state, client = self._state, self._client
        left = client.host.countdown(within)
        while not state.body and not state.ended and not state.failed and not client._over and not self._closed:
            if left() == 0:
                return None
            await client._read(left())
        data = bytes(state.body[:limit])
        del state.body[:limit]
        if not data and state.failed and not self._closed:
            raise ConnectionResetError(state.failed)
        return data

    def close(self) -> None:
        """End this side of the stream."""
        if not self._closed:
            self._closed = True
            try:
                self._client.wire.end_stream(self._number)
            except ProtocolError:
                return
            self._client.flush("end of stream")

    def abort(self) -> None:
        """Reset the stream."""
        self._closed = True
        self._client.reset(self._number)

    @property
    def connected(self) -> bool:
        """Whether the stream is open."""
        return not (self._closed or self._state.ended or self._state.failed or self._client._over)


def _name(code: Any) -> str:
    return getattr(code, "name", str(code))

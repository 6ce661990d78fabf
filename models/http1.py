"""HTTP/1.1 clients for scripts, on h11, and the events that they see."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs
import h11

from models.tls import open_connection
from sim.world.trace import Event

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from models.tls import TlsConnection
    from sim.world.host import Connection, Host
    from sim.world.kernel import Address


@attrs.define(slots=True)
class HttpRequest(Event):
    """A client sent a request."""

    kind: ClassVar[str] = "http.request"
    method: str
    target: str

    def describe(self) -> str:
        return f"sends {self.method} {self.target}"


@attrs.define(slots=True)
class HttpResponse(Event):
    """A client read a response to its end."""

    kind: ClassVar[str] = "http.response"
    status: int
    body: bytes

    def describe(self) -> str:
        return f"gets {self.status} with {self.body[:40]!r}"


@attrs.define(slots=True)
class HttpCutOff(Event):
    """The connection ended, or was garbage, before a response was complete; `read` says how far it came."""

    kind: ClassVar[str] = "http.cut_off"
    read: str

    def describe(self) -> str:
        return f"gets no whole answer: {self.read}"


@attrs.frozen
class Response:
    """A complete response."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """The first header of that name, which is in lower case; None if there is none."""
        return next((value for key, value in self.headers if key == name), None)


class HttpClient:
    """A scripted HTTP/1.1 client with one connection.

    Args:
        host: the scripted host that it runs on.
        tls: what to connect with; None: without TLS.

    Attributes:
        connection: the connection below, for a script that means to reset it or to send what is no HTTP.
    """

    def __init__(self, host: Host, *, tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.connection: Connection | TlsConnection
        self._tls = tls
        self._wire = h11.Connection(h11.CLIENT)
        self._address: Address
        host.world.probe(host.name, lambda: f"{self._wire.our_state}/{self._wire.their_state}")

    async def connect(self, address: Address) -> None:
        """Open the connection.

        Raises:
            ConnectionRefusedError: nobody listens at `address`.
            ssl.SSLError, ConnectionError: TLS does not come about.
        """
        self._address = address
        self.connection = await open_connection(self.host, address, self._tls)

    async def request(
        self,
        target: str,
        *,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        within: float | None = None,
    ) -> Response | None:
        """Send a request and read its response.

        None if the connection ended before it was complete, or cannot be used again, or `within` so many virtual
        seconds.
        """
        if self._wire.our_state is h11.DONE and self._wire.their_state is h11.DONE:
            self._wire.start_next_cycle()
        if self._wire.our_state is not h11.IDLE:
            self._cut_off("it cannot be used for another request")
            return None
        lines = [("host", "%s:%d" % self._address), *headers]
        if body:
            lines.append(("content-length", str(len(body))))
        event = self.host.world.trace.record(HttpRequest, self.host.name, method, target)
        self.host.world.trace.cause = event.seq
        data = self._wire.send(h11.Request(method=method, target=target, headers=lines)) or b""
        if body:
            data += self._wire.send(h11.Data(body)) or b""
        data += self._wire.send(h11.EndOfMessage()) or b""
        try:
            self.connection.send(data, f"{method} {target}")
        except ConnectionError as exc:
            self._cut_off(type(exc).__name__)
            return None
        return await self._response(self.host.countdown(within))

    async def _response(self, left: Callable[[], float | None]) -> Response | None:
        head: h11.Response | None = None
        body: list[bytes] = []
        while True:
            try:
                event = self._wire.next_event()
            except h11.RemoteProtocolError as exc:
                self._cut_off(str(exc))
                return None
            if event is h11.NEED_DATA:
                try:
                    data = await self.connection.receive(within=left())
                except ConnectionResetError:
                    self._cut_off("reset")
                    return None
                if data is None or (not data and head is None):
                    self._cut_off("closed before the response" if data is not None else "the answer does not come")
                    return None
                self._wire.receive_data(data)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                response = Response(int(head.status_code), tuple(head.headers), b"".join(body))
                self.host.world.trace.record(HttpResponse, self.host.name, response.status, response.body)
                return response
            elif isinstance(event, h11.ConnectionClosed):
                self._cut_off("closed before the response")
                return None
            elif event is h11.PAUSED:
                self._cut_off("it is no HTTP any more")
                return None

    def _cut_off(self, how: str) -> None:
        self.host.world.trace.record(HttpCutOff, self.host.name, how)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

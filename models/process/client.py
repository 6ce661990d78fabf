"""A raw client: it sends exactly the bytes that it is given, and reports what both directions meant.

The bytes come from the simulated run, so they are decoded rather than made: one h11 connection reads what the client
sends as a server would, another one what the server answers, and wsproto takes both over when the protocol is
switched. Nothing is ever answered by itself.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h11
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Message, Ping, Pong, TextMessage
from wsproto.utilities import ProtocolError

from models.http1 import HttpCutOff, HttpRequest, HttpResponse
from models.process.servers import HOST
from models.websocket import WsBinary, WsClose, WsFragment, WsGarbage, WsHandshake, WsPing, WsPong, WsText
from sim.world.events import TcpClosed

if TYPE_CHECKING:
    from models.asgi.recorder import Record

SEND_SECONDS = 2
_SIOCOUTQNSD = 0x894B
_RESET = struct.pack("ii", 1, 0)


class RawClient:
    """One connection to the real server.

    Args:
        name: the client's name in the simulator.
        port: where the server listens.
        said: told what the client says, when it is announced.
        heard: told what comes from the server, when it is read.
    """

    def __init__(self, name: str, port: int, said: Record, heard: Record) -> None:
        self.name = name
        self._port = port
        self._heard = heard
        self._decoder = Decoder(name, said, heard)
        self._over = False
        self._socket: socket.socket | None = None
        self._own_port = 0

    def connect(self) -> None:
        """Connect."""
        try:
            self._socket = socket.create_connection((HOST, self._port), timeout=SEND_SECONDS)
        except OSError:
            self._over = True
            self._heard(TcpClosed, self.name, "refused")
            return
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._own_port = int(self._socket.getsockname()[1])

    def announce(self, data: bytes) -> None:
        """Report what `data` means, which is sent next."""
        self._decoder.sent(data)

    def send(self, data: bytes) -> None:
        """Send `data` as a segment of its own. What can no more be sent is dropped, as the simulated client does."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendall(data)

    def finish(self) -> None:
        """Send FIN."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send RST."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def read(self) -> None:
        """Take what has arrived."""
        while self._socket is not None and not self._over:
            data, how = _receive(self._socket)
            if data:
                self._decoder.got(data)
            elif how:
                self._over = True
                self._heard(TcpClosed, self.name, how)
                self._decoder.ended()
            else:
                return

    def arrived(self) -> bool:
        """Whether everything has been sent out, which on loopback means that the server's kernel has it.

        Not whether it is acknowledged: acknowledgements may be 40 ms late.
        """
        if self._socket is None:
            return True
        try:
            answer = fcntl.ioctl(self._socket.fileno(), _SIOCOUTQNSD, bytes(4))
        except OSError:
            return True
        return int.from_bytes(answer, "little") == 0

    def unread(self) -> int:
        """How many bytes the server's kernel has which the server's process has not taken; 0 if that cannot be seen."""
        try:
            lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        except OSError:
            return 0
        here, there = f":{self._port:04X}", f":{self._own_port:04X}"
        for line in lines:
            _, local, remote, _, queues, *_ = line.split()
            if local.endswith(here) and remote.endswith(there):
                return int(queues.partition(":")[2], 16)
        return 0

    def close(self) -> None:
        """Close the socket."""
        self._over = True
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _receive(sock: socket.socket) -> tuple[bytes, str]:
    """What has arrived; or how the connection ended; or neither."""
    try:
        data = sock.recv(65_536, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b"", ""
    except OSError:
        return b"", "reset"
    return data, "" if data else "eof"


class Decoder:
    """Both directions of a connection, as events."""

    def __init__(self, name: str, said: Record, heard: Record) -> None:
        self._name = name
        self._tell = {"sends": said, "gets": heard}
        self._requests = h11.Connection(h11.SERVER)
        self._responses = h11.Connection(h11.CLIENT)
        self._is_websocket = False
        self._waiting = False
        self._status: int | None = None
        self._body: list[bytes] = []
        self._frames: dict[str, Frames] = {}
        self._parts: dict[str, list[Any]] = {"sends": [], "gets": []}
        self._lost: set[str] = set()

    def sent(self, data: bytes) -> None:
        """The client sends `data`."""
        self._decode("sends", data)

    def got(self, data: bytes) -> None:
        """The client gets `data`."""
        self._decode("gets", data)

    def ended(self) -> None:
        """The server's direction is over."""
        if self._waiting and not self._is_websocket:
            if self._status is not None:
                self._decode("gets", b"")
            if self._waiting and "gets" not in self._lost:
                self._tell["gets"](HttpCutOff, self._name, "closed before the response")
        self._lost.add("gets")

    def _decode(self, way: str, data: bytes) -> None:
        if way in self._lost:
            return
        try:
            if way in self._frames:
                self._read_frames(way, data)
            else:
                self._read_http(way, data)
        except (h11.ProtocolError, ProtocolError) as exc:
            self._lose(way, str(exc))

    def _lose(self, way: str, why: str) -> None:
        """Bytes that make no sense end the decoding of their direction, not the replay."""
        self._lost.add(way)
        if way == "gets" and self._is_websocket:
            self._tell[way](WsGarbage, self._name, way, why)
        elif way == "gets":
            self._tell[way](HttpCutOff, self._name, why)

    def _read_http(self, way: str, data: bytes) -> None:
        wire = self._requests if way == "sends" else self._responses
        wire.receive_data(data)
        while way not in self._frames:
            event = wire.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return
            if way == "sends":
                self._take_request(event)
            else:
                self._take_response(event)

    def _take_request(self, event: Any) -> None:
        if isinstance(event, h11.Request):
            self._waiting = True
            self._is_websocket = any(n == b"upgrade" and v.lower() == b"websocket" for n, v in event.headers)
            target = event.target.decode("ascii")
            if self._is_websocket:
                self._tell["sends"](WsHandshake, self._name, "sends", target)
            else:
                self._tell["sends"](HttpRequest, self._name, event.method.decode("ascii"), target)
        self._responses.send(event)
        if isinstance(event, h11.EndOfMessage) and self._is_websocket:
            self._switch("sends", self._requests, ConnectionType.SERVER)

    def _take_response(self, event: Any) -> None:
        if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
            self._waiting = False
            self._tell["gets"](WsHandshake, self._name, "gets", 101)
            self._switch("gets", self._responses, ConnectionType.CLIENT)
        elif isinstance(event, h11.Response):
            self._status = int(event.status_code)
            if self._is_websocket:
                self._tell["gets"](WsHandshake, self._name, "gets", self._status)
        elif isinstance(event, h11.Data):
            self._body.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            self._waiting = False
            if not self._is_websocket:
                self._tell["gets"](HttpResponse, self._name, self._status, b"".join(self._body))
                self._next_exchange()

    def _next_exchange(self) -> None:
        rest, early = self._requests.trailing_data[0], self._responses.trailing_data[0]
        self._requests, self._responses = h11.Connection(h11.SERVER), h11.Connection(h11.CLIENT)
        self._status, self._body = None, []
        if rest:
            self._decode("sends", rest)
        if early:
            self._decode("gets", early)

    def _switch(self, way: str, wire: h11.Connection, role: ConnectionType) -> None:
        self._frames[way] = Frames(role)
        rest = wire.trailing_data[0]
        if rest:
            self._decode(way, rest)

    def _read_frames(self, way: str, data: bytes) -> None:
        frames = self._frames[way]
        frames.receive_data(data)
        for event in frames.events():
            if isinstance(event, Message):
                self._take_message(way, event)
            elif isinstance(event, Ping):
                self._tell[way](WsPing, self._name, way, bytes(event.payload))
            elif isinstance(event, Pong):
                self._tell[way](WsPong, self._name, way, bytes(event.payload))
            elif isinstance(event, CloseConnection):
                if frames.state not in (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED):
                    # No Close was read: it is wsproto's proposal of what to answer to a breach of the protocol.
                    self._lose(way, event.reason or "")
                    return
                self._tell[way](WsClose, self._name, way, int(event.code))

    def _take_message(self, way: str, event: Message[Any]) -> None:
        parts = self._parts[way]
        parts.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
        if not event.message_finished:
            self._tell[way](WsFragment, self._name, way, parts[-1])
            return
        kind = WsText if isinstance(event, TextMessage) else WsBinary
        self._tell[way](kind, self._name, way, parts[0][:0].join(parts))
        parts.clear()

"""A WebSocket client's opening handshake over HTTP/1.1, without I/O (RFC 6455, section 4.1).

Every run of a search says the same requests and reads the same answers. So what h11 makes of bytes is remembered, by the
bytes: it depends on nothing else. Checking the answer against the request is done each time.
"""

from __future__ import annotations

import base64
import os
from functools import lru_cache
from typing import TYPE_CHECKING

import attrs
import h11
from wsproto.handshake import client_extensions_handshake
from wsproto.utilities import RemoteProtocolError, generate_accept_token

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wsproto.extensions import Extension

SWITCHING_PROTOCOLS = 101
REMEMBERED = 1_024
"""Requests, and answers, of which it is remembered what h11 made of them..."""
LONGEST = 4_096
"""...if an answer, with what came behind it, is not longer than this, in bytes."""
_KEY = base64.b64encode(bytes(16))
"""A key to be replaced by that of a connection; all keys are of one length."""


@attrs.frozen
class Answer:
    """What a server said to an opening handshake.

    Attributes:
        status: of its response; 101 if the connection stands.
        subprotocol: which one it accepted, or None.
        extensions: those that it accepted.
        rest: what came behind the response's head, if the connection stands.
    """

    status: int
    subprotocol: str | None = None
    extensions: Sequence[Extension] = ()
    rest: bytes = b""


class Opening:
    """One handshake.

    Args:
        host: what the request's Host says.
        target: the path and the query.
        headers: further ones, behind the handshake's own.
        subprotocols: what is offered (section 1.9).
        extensions: what is offered (section 9).

    Attributes:
        request: the bytes to send. Making them draws a key from the surroundings' entropy.
    """

    def __init__(
        self,
        host: str,
        target: str,
        headers: Iterable[tuple[bytes, bytes]] = (),
        subprotocols: Iterable[str] = (),
        extensions: Sequence[Extension] = (),
    ) -> None:
        self._key = base64.b64encode(os.urandom(16))
        self._subprotocols = tuple(subprotocols)
        self._extensions = extensions
        self._read = b""
        offers = tuple(_offered(extension) for extension in extensions)
        self.request = _request(host, target, tuple(headers), self._subprotocols, offers).replace(_KEY, self._key, 1)

    def receive(self, data: bytes) -> Answer | None:
        """Take what has come from the server. None: its answer is not complete yet.

        Interim responses (RFC 9110, section 15.2) are passed over.

        Raises:
            RemoteProtocolError: it is no HTTP, or breaks a rule of section 4.1 for what a client must fail on.
        """
        self._read += data
        head = (_remembered if len(self._read) <= LONGEST else _head)(self._read)
        if head is None:
            return None
        status, headers, rest = head
        if status != SWITCHING_PROTOCOLS:
            return Answer(status)
        if b"upgrade" not in _tokens(headers, b"connection"):
            raise RemoteProtocolError("Missing header, 'Connection: Upgrade'")
        if _tokens(headers, b"upgrade") != [b"websocket"]:
            raise RemoteProtocolError("Missing header, 'Upgrade: websocket'")
        if _values(headers, b"sec-websocket-accept") != [generate_accept_token(self._key)]:
            raise RemoteProtocolError("Bad accept token")
        subprotocol = next((v.decode("latin-1") for v in _values(headers, b"sec-websocket-protocol")), None)
        if subprotocol is not None and subprotocol not in self._subprotocols:
            raise RemoteProtocolError(f"unrecognized subprotocol {subprotocol}")
        accepted = [
            extension.decode("latin-1").strip()
            for value in _values(headers, b"sec-websocket-extensions")
            for extension in value.split(b",")
        ]
        return Answer(status, subprotocol, client_extensions_handshake(accepted, self._extensions), rest)


def _offered(extension: Extension) -> str:
    parameters = extension.offer()
    return f"{extension.name}; {parameters}" if isinstance(parameters, str) else extension.name


@lru_cache(REMEMBERED)
def _request(
    host: str,
    target: str,
    headers: tuple[tuple[bytes, bytes], ...],
    subprotocols: tuple[str, ...],
    offers: tuple[str, ...],
) -> bytes:
    """The bytes of a request whose key is `_KEY`."""
    lines = [
        (b"Host", host.encode("idna")),
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Key", _KEY),
        (b"Sec-WebSocket-Version", b"13"),
    ]
    if subprotocols:
        lines.append((b"Sec-WebSocket-Protocol", ", ".join(subprotocols).encode("ascii")))
    if offers:
        lines.append((b"Sec-WebSocket-Extensions", ", ".join(offers).encode("ascii")))
    request = h11.Request(method=b"GET", target=target.encode("ascii"), headers=[*lines, *headers])
    return h11.Connection(h11.CLIENT).send(request) or b""


def _head(data: bytes) -> tuple[int, tuple[tuple[bytes, bytes], ...], bytes] | None:
    """Status and headers of the first response in `data` that is not interim, and what comes behind; None: it is not whole.

    Raises:
        RemoteProtocolError: `data` is no HTTP.
    """
    if not data:
        return None
    wire = h11.Connection(h11.CLIENT)
    wire.send(h11.Request(method=b"GET", target=b"/", headers=[(b"Host", b"-"), (b"Upgrade", b"websocket")]))
    wire.receive_data(data)
    try:
        event = wire.next_event()
        while isinstance(event, h11.InformationalResponse) and event.status_code != SWITCHING_PROTOCOLS:
            event = wire.next_event()
    except h11.RemoteProtocolError:
        raise RemoteProtocolError("Bad HTTP message") from None
    if isinstance(event, (h11.InformationalResponse, h11.Response)):
        return event.status_code, tuple((bytes(n), bytes(v)) for n, v in event.headers), bytes(wire.trailing_data[0])
    return None


_remembered = lru_cache(REMEMBERED)(_head)


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """What the lines of a header say; names are in lower case."""
    return [value for key, value in headers if key == name]


def _tokens(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """The same for one that is a list, in lower case."""
    return [token.strip().lower() for value in _values(headers, name) for token in value.split(b",")]

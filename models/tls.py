"""TLS for scripts: a client's side of it over a connection, on the standard library's `ssl`.

The server's side is its own: asyncio's transport, or whatever it has. Nothing of TLS is simulated; the real OpenSSL runs
on memory. Its entropy is its own, too, so what travels is random, but how many bytes travel is not: a world records
such segments by their length, and lets no server send session tickets, whose length varies by a byte or two. With an
RSA certificate all lengths are the same in each run; ECDSA signatures differ in length, so take RSA.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.world.host import Connection, Host
    from sim.world.kernel import Address

BITE = 65_536
"""Bytes that are moved between the connection and OpenSSL at a time."""


@attrs.frozen
class Certificate:
    """What a server shows: files in PEM format.

    Attributes:
        chain: the path of its certificate, followed by what it was signed with.
        key: the path of its private key.
    """

    chain: str
    key: str


def client_context(*, trust: str | None = None, protocols: Sequence[str] = ()) -> ssl.SSLContext:
    """What a client connects with.

    Args:
        trust: the path of the certificates that the server's must be signed with; None: any server will do.
        protocols: for ALPN (RFC 7301), the preferred one first.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trust is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(trust)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


class TlsConnection:
    """A scripted host's side of TLS; used as `sim.world.host.Connection` is.

    Args:
        connection: the connection below.
        context: what to connect with.
        server_hostname: whom the server's certificate must name.
    """

    def __init__(self, connection: Connection, context: ssl.SSLContext, server_hostname: str) -> None:
        self._below = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)

    async def handshake(self) -> None:
        """Agree with the server (RFC 8446).

        Raises:
            ssl.SSLError: they do not agree.
            ConnectionError: the connection ended first.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush("TLS handshake")
                if not await self._take(None):
                    raise ConnectionAbortedError("the server ended the connection during the TLS handshake") from None
            except ssl.SSLError:
                self._flush("TLS alert")
                raise
            else:
                self._flush("TLS handshake")
                return

    @property
    def protocol(self) -> str | None:
        """The protocol that ALPN came to, or None."""
        return self._tls.selected_alpn_protocol()

    @property
    def version(self) -> str | None:
        """The version of TLS, such as "TLSv1.3"."""
        return self._tls.version()

    def send(self, data: bytes, label: str = "") -> None:
        """As `Connection.send`: one call is one segment, however many records."""
        self._tls.write(data)
        self._flush(label)

    async def receive(self, limit: int = BITE, *, within: float | None = None) -> bytes | None:
        """As `Connection.receive`. The server's close_notify is an end of file; so is an end without one."""
        left = self._below.host.countdown(within)
        while True:
            try:
                return self._tls.read(limit)
            except ssl.SSLWantReadError:
                self._flush("TLS")
                came = None if left() == 0 else await self._take(left())
                if not came:
                    return None if came is None else b""
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def drained(self, *, within: float | None = None) -> bool:
        """As `Connection.drained`."""
        return await self._below.drained(within=within)

    def close(self) -> None:
        """Send close_notify, if the connection still takes it, and close."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self._flush("close_notify")
        self._below.close()

    def abort(self) -> None:
        """Reset the connection."""
        self._below.abort()

    @property
    def connected(self) -> bool:
        """As `Connection.connected`."""
        return self._below.connected

    def _flush(self, label: str) -> None:
        data = self._outgoing.read()
        if data:
            self._below.send(data, label)

    async def _take(self, within: float | None) -> bool | None:
        """Read once from the connection below. False at its end, None if nothing came in time."""
        data = await self._below.receive(BITE, within=within)
        if data is None:
            return None
        if not data:
            self._incoming.write_eof()
            return False
        self._incoming.write(data)
        return True


async def open_connection(
    host: Host, address: Address, tls: ssl.SSLContext | None = None
) -> Connection | TlsConnection:
    """Connect, with TLS if there is a context for it.

    Raises:
        ConnectionRefusedError: nobody listens at `address`.
        ssl.SSLError, ConnectionError: see `TlsConnection.handshake`.
    """
    connection = await host.connect(address)
    if tls is None:
        return connection
    secured = TlsConnection(connection, tls, address[0])
    await secured.handshake()
    return secured

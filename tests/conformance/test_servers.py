"""asyncio's servers on both kernels, and TLS on top of them."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any

import pytest

from .arms import until

if TYPE_CHECKING:
    from .arms import Arm

LOCAL = "127.0.0.1"


async def finished(*writers: asyncio.StreamWriter) -> None:
    """Close them and wait until that is done."""
    for writer in writers:
        writer.close()
    for writer in writers:
        await writer.wait_closed()


def test_a_server_that_is_closed_accepts_no_more(arm: Arm) -> None:
    async def main() -> None:
        accepted: asyncio.Queue[Any] = asyncio.Queue()
        server = await asyncio.start_server(lambda r, w: accepted.put_nowait((r, w)), LOCAL, 0)
        address = server.sockets[0].getsockname()
        assert server.is_serving()
        reader, writer = await asyncio.open_connection(*address)
        r, w = await accepted.get()
        server.close()
        assert not server.is_serving()
        assert tuple(server.sockets) == ()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)
        writer.write(b"goes on")
        assert await r.read(20) == b"goes on"
        await finished(w)
        assert await reader.read() == b""
        await finished(writer)

    arm.run(main)


def test_waiting_for_a_closed_server_waits_for_its_connections(arm: Arm) -> None:
    """Since 3.12.1; before, it did not wait at all."""
    waits = sys.version_info >= (3, 12, 1)

    async def main() -> None:
        accepted: asyncio.Queue[Any] = asyncio.Queue()
        server = await asyncio.start_server(lambda r, w: accepted.put_nowait((r, w)), LOCAL, 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        _, w = await accepted.get()
        server.close()
        waiting = asyncio.ensure_future(server.wait_closed())
        for _ in range(10):
            await asyncio.sleep(0)
        assert waiting.done() is not waits
        await finished(w)
        await waiting
        await finished(writer)

    arm.run(main)


def test_waiting_for_a_server_that_is_not_closed(arm: Arm) -> None:
    """Since 3.12.1 it waits for `close`, even without connections; before, a server without any was done."""
    waits = sys.version_info >= (3, 12, 1)

    async def main() -> None:
        server = await asyncio.start_server(lambda r, w: None, LOCAL, 0)
        waiting = asyncio.ensure_future(server.wait_closed())
        for _ in range(10):
            await asyncio.sleep(0)
        if waits:
            assert not waiting.done()
        server.close()
        await waiting

    arm.run(main)


def test_a_server_that_does_not_serve_yet(arm: Arm) -> None:
    """It is bound, and listens only when it serves."""

    async def main() -> None:
        server = await asyncio.start_server(lambda r, w: w.close(), LOCAL, 0, start_serving=False)
        address = server.sockets[0].getsockname()
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)
        await server.start_serving()
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == b""
        await finished(writer)
        server.close()

    arm.run(main)


def test_serving_for_ever_until_it_is_cancelled(arm: Arm) -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda r, w: w.close(), LOCAL, 0)
        serving = asyncio.ensure_future(server.serve_forever())
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        await finished(writer)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not server.is_serving()

    arm.run(main)


def test_a_server_on_a_socket_that_exists(arm: Arm) -> None:
    """As hypercorn makes its own."""

    async def main() -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((LOCAL, 0))
        server = await asyncio.start_server(lambda r, w: w.close(), sock=sock)
        assert server.sockets[0].fileno() == sock.fileno()
        assert sock.gettimeout() == 0.0
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        assert await reader.read() == b""
        await finished(writer)
        server.close()
        await until(lambda: sock.fileno() == -1)

    arm.run(main)


def test_a_server_on_a_descriptor_that_was_handed_over(arm: Arm) -> None:
    """As uvicorn's `--fd` and reloaders do it."""

    async def main() -> None:
        bound = socket.socket()
        bound.bind((LOCAL, 0))
        address = bound.getsockname()
        sock = socket.fromfd(bound.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        bound.close()
        server = await asyncio.start_server(lambda r, w: w.close(), sock=sock)
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == b""
        await finished(writer)
        server.close()

    arm.run(main)


def test_a_client_on_a_socket_that_is_connected(arm: Arm) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(lambda r, w: w.close(), LOCAL, 0)
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, server.sockets[0].getsockname())
        reader, writer = await asyncio.open_connection(sock=sock)
        assert await reader.read() == b""
        await finished(writer)
        server.close()

    arm.run(main)


def test_a_port_that_is_in_use(arm: Arm) -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda r, w: None, LOCAL, 0)
        address = server.sockets[0].getsockname()
        with pytest.raises(OSError, match="address already in use") as raised:
            await asyncio.start_server(lambda r, w: None, *address)
        assert raised.value.errno == errno.EADDRINUSE
        server.close()
        again = await asyncio.start_server(lambda r, w: None, *address)
        again.close()

    arm.run(main)


def test_both_wildcards_at_one_port(arm: Arm) -> None:
    """What a server without a host binds to: asyncio sets IPV6_V6ONLY."""

    async def main() -> None:
        four = await asyncio.start_server(lambda r, w: w.close(), "0.0.0.0", 0)
        port = four.sockets[0].getsockname()[1]
        try:
            six = await asyncio.start_server(lambda r, w: w.close(), "::", port)
        except OSError:
            four.close()
            pytest.skip("this machine has no IPv6")
        for host in (LOCAL, "::1"):
            reader, writer = await asyncio.open_connection(host, port)
            assert await reader.read() == b""
            await finished(writer)
        four.close()
        six.close()

    arm.run(main)


def test_clients_that_leave_before_they_are_accepted(arm: Arm) -> None:
    async def main() -> None:
        ends: list[bytes] = []

        async def serve(r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
            ends.append(await r.read())
            await finished(w)

        server = await asyncio.start_server(serve, LOCAL, 0, start_serving=False)
        listener = server.sockets[0]
        await server.start_serving()
        loop = asyncio.get_running_loop()
        for number in range(3):
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, listener.getsockname())
                sock.send(bytes([number]))
        await until(lambda: len(ends) == 3)
        assert sorted(ends) == [b"\0", b"\1", b"\2"]
        server.close()

    arm.run(main)


def test_connections_in_parallel(arm: Arm) -> None:
    async def main() -> None:
        async def serve(r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
            while line := await r.readline():
                w.write(line)
            await finished(w)

        server = await asyncio.start_server(serve, LOCAL, 0)
        address = server.sockets[0].getsockname()

        async def talk(number: int) -> None:
            reader, writer = await asyncio.open_connection(*address)
            for turn in range(3):
                writer.write(b"%d.%d\n" % (number, turn))
                assert await reader.readline() == b"%d.%d\n" % (number, turn)
            writer.write_eof()
            assert await reader.read() == b""
            await finished(writer)

        await asyncio.gather(*(talk(number) for number in range(10)))
        server.close()

    arm.run(main)


def test_a_connection_attempt_that_is_cancelled(arm: Arm) -> None:
    async def main() -> None:
        with socket.socket() as listener:
            listener.bind((LOCAL, 0))
            listener.listen(0)
            waiting = [asyncio.ensure_future(asyncio.open_connection(*listener.getsockname())) for _ in range(3)]
            await until(lambda: waiting[0].done())
            await asyncio.sleep(0.01)
            assert [task.done() for task in waiting] == [True, False, False], "the backlog is full"
            for task in waiting[1:]:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            _, writer = waiting[0].result()
            writer.transport.abort()
        await asyncio.sleep(0)

    arm.run(main)


# TLS: asyncio's own, on either kernel.


def contexts(paper: Any) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client's and a server's."""
    client = ssl.create_default_context(cafile=paper.authority)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(paper.in_one)
    return client, server


def test_a_server_with_tls(arm: Arm, paper: Any) -> None:
    client_context, server_context = contexts(paper)

    async def main() -> None:
        async def serve(r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
            w.write((await r.readline()).upper())
            await finished(w)

        server = await asyncio.start_server(serve, LOCAL, 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("localhost", port, ssl=client_context)
        assert writer.get_extra_info("cipher")
        assert not writer.can_write_eof()
        writer.write(b"hello\n")
        assert await reader.read() == b"HELLO\n"
        await finished(writer)
        server.close()

    arm.run(main)


def test_large_messages_with_tls(arm: Arm, paper: Any) -> None:
    client_context, server_context = contexts(paper)
    data = bytes(range(250)) * 8_000

    async def main() -> None:
        async def serve(r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
            w.write(await r.readexactly(len(data)))
            await w.drain()
            await finished(w)

        server = await asyncio.start_server(serve, LOCAL, 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("localhost", port, ssl=client_context)
        writer.write(data)
        assert await reader.read() == data
        await finished(writer)
        server.close()

    arm.run(main)


def test_a_certificate_that_nobody_trusts(arm: Arm, paper: Any) -> None:
    _, server_context = contexts(paper)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        server = await asyncio.start_server(lambda r, w: w.close(), LOCAL, 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("localhost", port, ssl=ssl.create_default_context())
        server.close()
        await asyncio.sleep(0.01)

    arm.run(main)


def test_a_server_that_speaks_no_tls(arm: Arm, paper: Any) -> None:
    client_context, _ = contexts(paper)

    async def main() -> None:
        async def serve(r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
            await r.read(10_000)
            w.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await finished(w)

        server = await asyncio.start_server(serve, LOCAL, 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection("localhost", port, ssl=client_context)
        server.close()
        await asyncio.sleep(0.01)

    arm.run(main)


class _Upgrading(asyncio.Protocol):
    """Plain until somebody upgrades its transport."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.received = asyncio.Event()
        self.made = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.made.set()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.received.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)


def test_upgrading_to_tls(arm: Arm, paper: Any) -> None:
    client_context, server_context = contexts(paper)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        theirs = _Upgrading()
        server = await loop.create_server(lambda: theirs, LOCAL, 0)
        transport, ours = await loop.create_connection(_Upgrading, *server.sockets[0].getsockname())
        await theirs.made.wait()
        transport.write(b"STARTTLS")
        await theirs.received.wait()
        assert theirs.data == b"STARTTLS"
        theirs.received.clear()
        above, below = await asyncio.gather(
            loop.start_tls(transport, ours, client_context, server_hostname="localhost"),
            loop.start_tls(theirs.transport, theirs, server_context, server_side=True),
        )
        assert above is not None
        assert below is not None
        assert above.get_extra_info("ssl_object").version() == "TLSv1.3"
        above.write(b" and now in secret")
        await theirs.received.wait()
        assert theirs.data == b"STARTTLS and now in secret"
        below.write(b"answer")
        await ours.received.wait()
        assert ours.data == b"answer"
        above.close()
        await theirs.lost
        below.close()
        await ours.lost
        server.close()

    arm.run(main)

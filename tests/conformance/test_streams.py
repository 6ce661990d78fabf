"""asyncio's streams and socket methods on both kernels."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from .arms import LINGER_ZERO, until

if TYPE_CHECKING:
    from pathlib import Path

    from .arms import Arm

LOCAL = "127.0.0.1"


class Peers:
    """A stream server that hands over whom it accepts, and a client of it."""

    async def __aenter__(self) -> Peers:
        self.accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []
        self.server = await asyncio.start_server(lambda r, w: self.accepted.put_nowait((r, w)), LOCAL, 0)
        self.address: tuple[str, int] = self.server.sockets[0].getsockname()
        return self

    async def streams(self, **options: Any) -> tuple[Any, Any, Any, Any]:
        """The client's reader and writer, and the server's."""
        ours = await asyncio.open_connection(*self.address, **options)
        theirs = await self.accepted.get()
        self._writers += [ours[1], theirs[1]]
        return (*ours, *theirs)

    async def __aexit__(self, *exc: object) -> None:
        self.server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)
        await until(lambda: all(w.transport.get_extra_info("socket").fileno() == -1 for w in self._writers))


def test_an_echo(arm: Arm) -> None:
    async def main() -> bytes:
        async with Peers() as peers:
            reader, writer, r, w = await peers.streams()
            writer.write(b"hello\n")
            w.write((await r.readline()).upper())
            return bytes(await reader.readline())

    assert arm.run(main) == b"HELLO\n"


def test_names(arm: Arm) -> None:
    async def main() -> None:
        async with Peers() as peers:
            _, writer, _, w = await peers.streams()
            assert writer.get_extra_info("peername") == w.get_extra_info("sockname") == peers.address
            assert writer.get_extra_info("sockname") == w.get_extra_info("peername")
            sock = w.get_extra_info("socket")
            assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_STREAM)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1, "asyncio sets it"
            assert w.get_extra_info("nothing", "default") == "default"

    arm.run(main)


def test_an_end_in_the_middle(arm: Arm) -> None:
    async def main() -> bytes:
        async with Peers() as peers:
            reader, _, _, w = await peers.streams()
            w.write(b"seven b")
            w.close()
            with pytest.raises(asyncio.IncompleteReadError) as raised:
                await reader.readexactly(8)
            assert await reader.read() == b""
            assert reader.at_eof()
            return raised.value.partial

    assert arm.run(main) == b"seven b"


def test_a_line_that_is_too_long(arm: Arm) -> None:
    async def main() -> None:
        async with Peers() as peers:
            reader, _, _, w = await peers.streams(limit=64)
            w.write(b"x" * 1_000 + b"\n")
            with pytest.raises(asyncio.LimitOverrunError):
                await reader.readuntil(b"\n")

    arm.run(main)


def test_half_close_in_both_directions(arm: Arm) -> None:
    async def main() -> None:
        async with Peers() as peers:
            reader, writer, r, w = await peers.streams()
            assert writer.can_write_eof()
            writer.write(b"question")
            writer.write_eof()
            assert await r.read() == b"question"
            w.write(b"answer")
            w.write_eof()
            assert await reader.read() == b"answer"
            with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
                writer.write(b"more")

    arm.run(main)


def test_large_transfers_in_both_directions_at_once(arm: Arm) -> None:
    async def main() -> None:
        async with Peers() as peers:
            reader, writer, r, w = await peers.streams()
            there, back = bytes(range(250)) * 8_000, bytes(range(249, -1, -1)) * 8_000

            async def send(where: Any, data: bytes) -> None:
                for start in range(0, len(data), 77_777):
                    where.write(data[start : start + 77_777])
                    await where.drain()
                where.write_eof()

            got = await asyncio.gather(r.read(), reader.read(), send(writer, there), send(w, back))
            assert (got[0], got[1]) == (there, back)

    arm.run(main)


def test_draining_waits_for_a_reader_that_stalls(arm: Arm) -> None:
    async def main() -> None:
        async with Peers() as peers:
            _, writer, r, w = await peers.streams()
            w.transport.pause_reading()
            written = 0
            while True:
                writer.write(bytes(1_000_000))
                written += 1_000_000
                drain = asyncio.ensure_future(writer.drain())
                await asyncio.wait([drain], timeout=0.3)
                if not drain.done():
                    break
            assert 2_600_000 < written < 6_500_000
            w.transport.resume_reading()
            got = 0
            while got < written:
                got += len(await r.read(1 << 20))
            await drain

    arm.run(main)


def test_reset_as_a_reader_sees_it(arm: Arm) -> None:
    async def main() -> None:
        async with Peers() as peers:
            reader, writer, _, w = await peers.streams()
            w.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            w.close()
            with pytest.raises(ConnectionResetError):
                await reader.read()
            with pytest.raises(ConnectionResetError):
                await writer.drain()
            writer.close()
            with pytest.raises(ConnectionResetError):
                await writer.wait_closed()

    arm.run(main)


def test_data_before_a_reset_is_read_first(arm: Arm) -> None:
    async def main() -> None:
        async with Peers() as peers:
            reader, _, _, w = await peers.streams()
            w.write(b"before")
            w.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            w.close()
            assert await reader.readexactly(6) == b"before"
            with pytest.raises(ConnectionResetError):
                await reader.read(1)

    arm.run(main)


def test_connecting_where_nobody_listens(arm: Arm) -> None:
    async def main() -> None:
        async with Peers() as peers:
            address = peers.address
        await until(lambda: not peers.server.is_serving())
        with pytest.raises(ConnectionRefusedError) as raised:
            await asyncio.open_connection(*address)
        assert raised.value.errno == errno.ECONNREFUSED
        assert f"Connect call failed {address!r}" in str(raised.value)

    arm.run(main)


def test_connecting_from_a_chosen_port(arm: Arm) -> None:
    async def main() -> None:
        async with Peers() as peers:
            with socket.socket() as sock:
                sock.bind((LOCAL, 0))
                port = sock.getsockname()[1]
            _, _, _, w = await peers.streams(local_addr=(LOCAL, port))
            assert w.get_extra_info("peername") == (LOCAL, port)

    arm.run(main)


def test_a_connection_of_version_6(arm: Arm) -> None:
    async def main() -> None:
        try:
            server = await asyncio.start_server(lambda r, w: w.close(), "::1", 0)
        except OSError:
            pytest.skip("this machine has no IPv6")
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address[:2])
        assert writer.get_extra_info("peername") == address == ("::1", address[1], 0, 0)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()

    arm.run(main)


# Without transports.


def test_the_loops_socket_methods(arm: Arm) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as listener, socket.socket() as client:
            for sock in (listener, client):
                sock.setblocking(False)
            listener.bind((LOCAL, 0))
            listener.listen()
            accepting = asyncio.ensure_future(loop.sock_accept(listener))
            await loop.sock_connect(client, listener.getsockname())
            server, address = await accepting
            with server:
                assert address == client.getsockname()
                assert server.gettimeout() == 0.0
                data = bytes(range(250)) * 20_000

                async def read() -> bytes:
                    got = b""
                    while len(got) < len(data):
                        got += await loop.sock_recv(server, 1 << 20)
                    return got

                got, _ = await asyncio.gather(read(), loop.sock_sendall(client, data))
                assert got == data
                buffer = bytearray(10)
                receiving = asyncio.ensure_future(loop.sock_recv_into(server, buffer))
                await loop.sock_sendall(client, b"abc")
                assert await receiving == 3
                assert buffer[:3] == b"abc"
                client.shutdown(socket.SHUT_WR)
                assert await loop.sock_recv(server, 10) == b""

    arm.run(main)


def test_a_reader_callback_is_called_again_until_the_bytes_are_read(arm: Arm) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Peers() as peers:
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, peers.address)
                _, w = await peers.accepted.get()
                calls: list[int] = []
                thrice = asyncio.Event()

                def called() -> None:
                    calls.append(1)
                    if len(calls) == 3:
                        thrice.set()

                loop.add_reader(sock, called)
                w.write(b"x")
                await thrice.wait()
                sock.recv(1)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                seen = len(calls)
                for _ in range(5):
                    await asyncio.sleep(0)
                assert len(calls) == seen
                assert loop.remove_reader(sock)
                assert not loop.remove_reader(sock)
                w.close()

    arm.run(main)


def test_a_writer_callback_is_called_while_there_is_room(arm: Arm) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Peers() as peers:
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, peers.address)
                _, w = await peers.accepted.get()
                calls: list[int] = []
                loop.add_writer(sock, lambda: calls.append(1))
                await until(lambda: len(calls) >= 3)
                assert loop.remove_writer(sock)
                w.transport.abort()

    arm.run(main)


def test_a_pair(arm: Arm) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, two = socket.socketpair()
        with one, two:
            one.setblocking(False)
            two.setblocking(False)
            receiving = asyncio.ensure_future(loop.sock_recv(two, 10))
            await loop.sock_sendall(one, b"abc")
            assert await receiving == b"abc"
            assert one.getsockname() == two.getpeername() == ""
            one.close()
            with pytest.raises(BrokenPipeError):
                two.send(b"x")
            assert await loop.sock_recv(two, 10) == b""

    arm.run(main)


def test_sockets_are_told_in_the_order_in_which_they_became_ready(arm: Arm) -> None:
    """However they were registered; more bytes for one that is ready already do not change its turn."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        pairs = [socket.socketpair() for _ in range(4)]
        told: list[int] = []
        done = asyncio.Event()

        def called(number: int) -> None:
            told.append(number)
            pairs[number][1].recv(10)
            if len(told) == 3:
                done.set()

        for number, (_, reader) in enumerate(pairs):
            reader.setblocking(False)
            loop.add_reader(reader, called, number)
        for order in ([2, 0, 1], [0, 3, 2], [3, 1, 0]):
            told.clear()
            done.clear()
            for number in (*order, order[0]):
                pairs[number][0].send(b"x")
            await done.wait()
            assert told == order
        for ends in pairs:
            loop.remove_reader(ends[1])
            for end in ends:
                end.close()

    arm.run(main)


# Files.


@pytest.mark.parametrize("size", [0, 1_000, 5_000_000])
def test_sending_a_file_by_socket(arm: Arm, tmp_path: Path, size: int) -> None:
    """By `os.sendfile`: no fallback is allowed."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(250)) * (size // 250))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Peers() as peers:
            with socket.socket() as sock, path.open("rb") as file:
                sock.setblocking(False)
                await loop.sock_connect(sock, peers.address)
                r, w = await peers.accepted.get()
                reading = asyncio.ensure_future(r.read())
                assert await loop.sock_sendfile(sock, file, fallback=False) == size
                assert file.tell() == size
                sock.shutdown(socket.SHUT_WR)
                assert await reading == path.read_bytes()
                w.close()

    arm.run(main)


def test_sending_a_part_of_a_file_by_transport(arm: Arm, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(250)) * 1_000)

    async def main() -> None:
        async with Peers() as peers:
            _, writer, r, _ = await peers.streams()
            writer.write(b"head ")
            with path.open("rb") as file:
                sent = await asyncio.get_running_loop().sendfile(writer.transport, file, 100, 777, fallback=False)
            writer.write(b" tail")
            writer.write_eof()
            assert sent == 777
            assert await r.read() == b"head " + path.read_bytes()[100:877] + b" tail"

    arm.run(main)


def test_sending_what_is_no_file_falls_back_to_reads_and_writes(arm: Arm) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Peers() as peers:
            _, writer, r, _ = await peers.streams()
            with pytest.raises(asyncio.SendfileNotAvailableError):
                await loop.sendfile(writer.transport, io.BytesIO(b"x"), fallback=False)
            reading = asyncio.ensure_future(r.read())
            data = bytes(range(250)) * 2_000
            assert await loop.sendfile(writer.transport, io.BytesIO(data)) == len(data)
            writer.write_eof()
            assert await reading == data

    arm.run(main)


# Paths.


def test_a_server_at_a_path(arm: Arm) -> None:
    async def main() -> None:
        path = arm.path("socket")
        done = asyncio.Event()

        async def serve(r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
            w.write((await r.read()).upper())
            w.close()
            done.set()

        server = await asyncio.start_unix_server(serve, path)
        assert server.sockets[0].getsockname() == path
        reader, writer = await asyncio.open_unix_connection(path)
        assert writer.get_extra_info("peername") == path
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"HELLO"
        writer.close()
        await writer.wait_closed()
        await done.wait()
        server.close()
        await server.wait_closed()
        assert os.path.exists(path) is (sys.version_info < (3, 13)), "since 3.13 asyncio cleans up"

    arm.run(main)


def test_a_server_takes_over_the_path_of_one_that_died(arm: Arm) -> None:
    async def main() -> None:
        path = arm.path("socket")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(path)
        server = await asyncio.start_unix_server(lambda r, w: w.close(), path)
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()

    arm.run(main)


def test_there_is_no_server_at_a_path(arm: Arm) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await asyncio.open_unix_connection(arm.path("nothing"))

    arm.run(main)


def test_a_large_transfer_by_path(arm: Arm) -> None:
    async def main() -> None:
        path = arm.path("socket")
        accepted: asyncio.Queue[Any] = asyncio.Queue()
        server = await asyncio.start_unix_server(lambda r, w: accepted.put_nowait((r, w)), path)
        _, writer = await asyncio.open_unix_connection(path)
        r, w = await accepted.get()
        data = bytes(range(250)) * 20_000
        reading = asyncio.ensure_future(r.read())
        for start in range(0, len(data), 99_999):
            writer.write(data[start : start + 99_999])
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert await reading == data
        w.close()
        await w.wait_closed()
        server.close()

    arm.run(main)

"""asyncio's transports and protocols on both kernels: ends, flow control, errors, upgrades."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from .arms import LINGER_ZERO, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from .arms import Arm

LOCAL = "127.0.0.1"


class Recorder(asyncio.Protocol):
    """Writes down what it is told; `eof` is what it answers at an end of file."""

    def __init__(self, eof: bool | None = None) -> None:
        self.eof = eof
        self.said: list[Any] = []
        self.data = bytearray()
        self.received = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.said.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.received.set()

    def eof_received(self) -> bool | None:
        self.said.append("eof")
        return self.eof

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.said.append("lost" if exc is None else f"lost {type(exc).__name__}")
        self.lost.set_result(exc)


class Pair:
    """A client's and a server's protocol, connected. At the end both are aborted."""

    def __init__(self, client: Callable[[], Any] = Recorder, server: Callable[[], Any] = Recorder) -> None:
        self._factories = client, server

    async def __aenter__(self) -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        made = self._factories[1]()
        self.server = await loop.create_server(lambda: made, LOCAL, 0)
        _, client = await loop.create_connection(self._factories[0], *self.server.sockets[0].getsockname())
        await until(lambda: hasattr(made, "transport"))
        self.ends = client, made
        return self.ends

    async def __aexit__(self, *exc: object) -> None:
        self.server.close()
        for end in self.ends:
            if not end.lost.done():
                end.transport.abort()
        await until(lambda: all(end.lost.done() for end in self.ends))


# Ends.


def test_close_as_the_peer_sees_it(arm: Arm) -> None:
    async def main() -> None:
        async with Pair() as (client, server):
            client.transport.write(b"last words")
            client.transport.close()
            assert client.transport.is_closing()
            assert await client.lost is None
            assert await server.lost is None
            assert client.said == ["made", "lost"]
            assert (server.said, server.data) == (["made", "eof", "lost"], b"last words")

    arm.run(main)


def test_an_end_of_file_closes_unless_the_protocol_says_otherwise(arm: Arm) -> None:
    async def main(answer: bool | None) -> None:
        async with Pair(server=lambda: Recorder(answer)) as (client, server):
            client.transport.write_eof()
            await until(lambda: "eof" in server.said)
            assert server.transport.is_closing() is not bool(answer)
            if answer:
                server.transport.write(b"still here")
                await client.received.wait()
                assert client.data == b"still here"
                server.transport.close()
            assert await server.lost is None
            assert await client.lost is None

    for answer in (True, False, None):
        arm.run(lambda answer=answer: main(answer))  # type: ignore[misc]


def test_abort_is_a_close_that_does_not_wait(arm: Arm) -> None:
    """No RST: the peer sees an end of file, and of what the transport still had nothing."""

    async def main() -> None:
        async with Pair() as (client, server):
            server.transport.pause_reading()
            client.transport.write(bytes(10_000_000))
            left = client.transport.get_write_buffer_size()
            assert left > 0
            client.transport.abort()
            assert client.transport.get_write_buffer_size() == 0
            assert await client.lost is None
            server.transport.resume_reading()
            assert await server.lost is None
            assert server.said == ["made", "eof", "lost"]
            assert 2_000_000 < len(server.data) <= 10_000_000 - left

    arm.run(main)


def test_close_waits_until_everything_is_written(arm: Arm) -> None:
    async def main() -> None:
        async with Pair() as (client, server):
            client.transport.write(bytes(10_000_000))
            client.transport.close()
            assert client.transport.get_write_buffer_size() > 0
            assert client.said == ["made", "pause"]
            assert await server.lost is None
            assert len(server.data) == 10_000_000
            assert await client.lost is None

    arm.run(main)


def test_closing_twice_is_once(arm: Arm) -> None:
    async def main() -> None:
        async with Pair() as (client, _):
            client.transport.close()
            client.transport.close()
            client.transport.abort()
            await client.lost
            client.transport.close()
            assert client.said == ["made", "lost"]

    arm.run(main)


def test_writing_to_a_closed_transport_is_silent(arm: Arm) -> None:
    async def main() -> None:
        async with Pair() as (client, server):
            client.transport.close()
            client.transport.write(b"into the void")
            await server.lost
            client.transport.write(b"again")
            assert server.data == b""

    arm.run(main)
    assert arm.warnings == []


def test_writing_behind_an_end_of_file_is_an_error(arm: Arm) -> None:
    async def main() -> None:
        async with Pair(server=lambda: Recorder(True)) as (client, server):
            client.transport.write_eof()
            client.transport.write_eof()
            with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
                client.transport.write(b"x")
            await until(lambda: "eof" in server.said)

    arm.run(main)


def test_what_cannot_be_written(arm: Arm) -> None:
    async def main() -> None:
        async with Pair() as (client, server):
            with pytest.raises(TypeError):
                client.transport.write("text")
            client.transport.write(b"")
            client.transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
            await server.received.wait()
            assert server.data == b"abc"

    arm.run(main)


def test_a_reset_while_reading(arm: Arm) -> None:
    async def main() -> None:
        async with Pair() as (client, server):
            server.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            server.transport.close()
            assert isinstance(await client.lost, ConnectionResetError)
            assert client.said == ["made", "lost ConnectionResetError"]

    arm.run(main)


def test_unread_bytes_at_close_are_a_reset_for_the_peer(arm: Arm) -> None:
    async def main() -> None:
        async with Pair() as (client, server):
            server.transport.pause_reading()
            client.transport.write(b"nobody reads this")
            await until(lambda: len(_peek(server)) == 17)
            server.transport.close()
            assert isinstance(await client.lost, ConnectionResetError)
            assert await server.lost is None

    arm.run(main)


def _peek(end: Any) -> bytes:
    sock = end.transport.get_extra_info("socket").dup()
    try:
        return bytes(sock.recv(100, socket.MSG_PEEK))
    except BlockingIOError:
        return b""
    finally:
        sock.close()


def test_writing_to_a_peer_that_is_gone(arm: Arm) -> None:
    """The first write is answered with RST. A transport that does not read finds out by writing again."""

    async def main() -> None:
        async with Pair() as (client, server):
            client.transport.pause_reading()
            server.transport.abort()
            await server.lost
            client.transport.write(b"first")
            for _ in range(1_000):
                client.transport.write(b"second")
                if client.transport.is_closing():
                    break
                await asyncio.sleep(0.001)
            assert isinstance(await client.lost, (ConnectionResetError, BrokenPipeError))

    arm.run(main)


def test_who_goes_on_writing_to_a_lost_connection_is_warned(arm: Arm) -> None:
    """From the fifth write on, each; the error itself is told to nobody."""

    async def main() -> None:
        async with Pair() as (client, server):
            client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            client.transport.abort()
            await server.lost
            for _ in range(8):
                server.transport.write(b"x")

    arm.run(main)
    assert arm.warnings == ["socket.send() raised exception."] * 4


# Flow control.


def test_high_and_low_water(arm: Arm) -> None:
    async def main() -> None:
        async with Pair() as (client, server):
            transport = client.transport
            assert transport.get_write_buffer_limits() == (16_384, 65_536)
            transport.set_write_buffer_limits(high=200_000, low=100_000)
            server.transport.pause_reading()
            while transport.get_write_buffer_size() <= 200_000:
                assert client.said == ["made"]
                transport.write(bytes(50_000))
            assert client.said == ["made", "pause"]
            transport.write(bytes(50_000))
            assert client.said == ["made", "pause"], "once"
            server.transport.resume_reading()
            await until(lambda: "resume" in client.said)
            assert transport.get_write_buffer_size() <= 100_000
            await until(lambda: transport.get_write_buffer_size() == 0)
            assert client.said == ["made", "pause", "resume"]

    arm.run(main)


def test_a_high_water_mark_of_zero(arm: Arm) -> None:
    async def main() -> None:
        async with Pair() as (client, server):
            client.transport.set_write_buffer_limits(high=0)
            client.transport.write(b"goes out at once")
            assert client.said == ["made"]
            server.transport.pause_reading()
            client.transport.write(bytes(10_000_000))
            assert client.said == ["made", "pause"]
            server.transport.resume_reading()
            await until(lambda: "resume" in client.said)
            assert client.transport.get_write_buffer_size() == 0

    arm.run(main)


def test_a_transport_that_does_not_read_stalls_its_peer(arm: Arm) -> None:
    async def main() -> None:
        async with Pair() as (client, server):
            server.transport.pause_reading()
            assert not server.transport.is_reading()
            client.transport.write(bytes(10_000_000))
            await asyncio.sleep(0.1)
            assert server.data == b""
            stalled = client.transport.get_write_buffer_size()
            assert 5_000_000 < stalled < 7_400_000
            server.transport.resume_reading()
            assert server.transport.is_reading()
            await until(lambda: len(server.data) == 10_000_000)
            assert client.transport.get_write_buffer_size() == 0

    arm.run(main)


def test_pausing_and_resuming_twice_is_once(arm: Arm) -> None:
    async def main() -> None:
        async with Pair() as (client, server):
            for _ in range(2):
                server.transport.pause_reading()
            client.transport.write(b"waits")
            await asyncio.sleep(0.01)
            assert server.data == b""
            for _ in range(2):
                server.transport.resume_reading()
            await server.received.wait()
            assert server.data == b"waits"

    arm.run(main)


def test_an_end_of_file_waits_while_reading_is_paused(arm: Arm) -> None:
    async def main() -> None:
        async with Pair() as (client, server):
            server.transport.pause_reading()
            client.transport.write(b"last")
            client.transport.close()
            await client.lost
            await asyncio.sleep(0.01)
            assert server.said == ["made"]
            server.transport.resume_reading()
            await server.lost
            assert (server.said, server.data) == (["made", "eof", "lost"], b"last")

    arm.run(main)


# Errors, upgrades, buffers.


def test_an_exception_in_data_received_ends_the_connection(arm: Arm) -> None:
    class Fragile(Recorder):
        def data_received(self, data: bytes) -> None:
            raise LookupError(data.decode())

    async def main() -> None:
        contexts: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: contexts.append(context))
        async with Pair(server=Fragile) as (client, server):
            client.transport.write(b"that one")
            lost = await server.lost
            assert isinstance(lost, LookupError)
            assert await client.lost is None
            (context,) = contexts
            assert context["message"] == "Fatal error: protocol.data_received() call failed."
            assert context["exception"] is lost

    arm.run(main)


def test_an_exception_in_eof_received_ends_the_connection(arm: Arm) -> None:
    class Fragile(Recorder):
        def eof_received(self) -> bool | None:
            raise LookupError("at the end")

    async def main() -> None:
        contexts: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: contexts.append(context))
        async with Pair(server=Fragile) as (client, server):
            client.transport.write_eof()
            assert isinstance(await server.lost, LookupError)
            assert contexts[0]["message"] == "Fatal error: protocol.eof_received() call failed."

    arm.run(main)


def test_another_protocol_takes_over(arm: Arm) -> None:
    async def main() -> None:
        async with Pair() as (client, server):
            client.transport.write(b"upgrade")
            await server.received.wait()
            successor = Recorder()
            server.transport.set_protocol(successor)
            assert server.transport.get_protocol() is successor
            client.transport.write(b"to the other one")
            await successor.received.wait()
            client.transport.close()
            assert await successor.lost is None
            assert (server.data, successor.data) == (b"upgrade", b"to the other one")
            assert successor.said == ["eof", "lost"]
            server.lost.set_result(None)

    arm.run(main)


def test_a_protocol_with_a_buffer_of_its_own(arm: Arm) -> None:
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(100)
            self.reads: list[bytes] = []
            self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.reads.append(bytes(self.buffer[:nbytes]))

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(exc)

    async def main() -> None:
        async with Pair(server=Buffered) as (client, server):
            data = bytes(range(250))
            client.transport.write(data)
            client.transport.close()
            assert await server.lost is None
            assert b"".join(server.reads) == data
            assert [len(read) for read in server.reads] == [100, 100, 50]

    arm.run(main)


def test_one_large_write_is_received_in_parts(arm: Arm) -> None:
    class Counting(Recorder):
        calls = 0

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.calls += 1
            assert len(data) <= 256 * 1024, "asyncio's own limit"

    async def main() -> None:
        async with Pair(server=Counting) as (client, server):
            client.transport.write(bytes(1_000_000))
            await until(lambda: len(server.data) == 1_000_000)
            assert server.calls > 3

    arm.run(main)


def test_bytes_and_a_close_in_one_go(arm: Arm) -> None:
    """What a peer wrote before it closed is told before the end, however late the reader looks."""

    async def main() -> None:
        async with Pair() as (client, server):
            for number in range(10):
                client.transport.write(bytes([number]))
            client.transport.close()
            await server.lost
            assert server.data == bytes(range(10))
            assert server.said == ["made", "eof", "lost"]

    arm.run(main)

"""How near the simulated kernel comes to Linux's: the same four programs on both, side by side.

Run with `make bench`, which prints the table. The rows are those that other simulations of asyncio were found to get
wrong; the last one hides real servers' bugs from any network without RST. Linux's numbers depend a little on its
version (before 6.18 the send buffer is smaller) and on how it cuts bytes into segments; what is asserted is what no
program could overlook.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ..conformance.arms import LinuxArm, SimulatedArm

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    import pytest
    from pytest_benchmark.fixture import BenchmarkFixture

LOCAL = "127.0.0.1"
WRITES, WRITE = 2_000, 10_000


class Counting(asyncio.Protocol):
    """How often it was given data, and whether the connection has ended."""

    def __init__(self) -> None:
        self.calls = 0
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.calls += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


def calls_for(*writes: bytes) -> Callable[[], Coroutine[Any, Any, int]]:
    """A program that makes these writes, one behind the other; how many calls of `data_received` they become."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        protocol = Counting()
        server = await loop.create_server(lambda: protocol, LOCAL, 0)
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        for data in writes:
            transport.write(data)
        transport.close()
        await protocol.lost
        server.close()
        return protocol.calls

    return main


async def sends_to_a_client_that_never_reads() -> int:
    """How many times `write` and `drain` come to an end."""
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, w: accepted.put_nowait(w), LOCAL, 0)
    _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
    client.transport.pause_reading()  # type: ignore[attr-defined]
    writer = await accepted.get()
    sent = 0
    for _ in range(WRITES):
        writer.write(bytes(WRITE))
        drain = asyncio.ensure_future(writer.drain())
        await asyncio.wait([drain], timeout=1.0)
        if not drain.done():
            drain.cancel()
            break
        sent += 1
    for end in (client, writer):
        end.transport.abort()
    server.close()
    await asyncio.sleep(0.01)
    return sent


async def a_byte_to_a_server_that_has_closed() -> tuple[int, str]:
    """The server writes 2 MB and closes, the client sends one byte: what the client can still read, and how it ends."""
    closed = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(2_000_000))
        writer.close()
        await writer.wait_closed()
        closed.set()

    server = await asyncio.start_server(serve, LOCAL, 0)
    got, end = 0, "end of file"
    with socket.socket() as client:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, server.sockets[0].getsockname())
        await closed.wait()
        client.send(b"x")
        await asyncio.sleep(0.5)
        try:
            while data := client.recv(1 << 20):
                got += len(data)
        except ConnectionResetError:
            end = "reset"
    server.close()
    return got, end


def test_linux_and_the_simulation_side_by_side(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    programs: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "20 writes of 100 bytes: calls of data_received": calls_for(*[b"x" * 100] * 20),
        "one write of 1 MB: calls of data_received": calls_for(bytes(1_000_000)),
        "2,000 writes of 10 kB, never read: sends that complete": sends_to_a_client_that_never_reads,
        "2 MB and close, the client sends a byte: it reads": a_byte_to_a_server_that_has_closed,
    }
    rows: dict[str, list[Any]] = {}

    def simulate() -> None:
        for arrivals in ("merged", "single"):
            arm = SimulatedArm(str(tmp_path), arrivals=arrivals)
            for name, program in programs.items():
                rows.setdefault(name, []).append(arm.run(program))
            arm.close()

    linux = LinuxArm(str(tmp_path))
    for name, program in programs.items():
        rows[name] = [linux.run(program)]
    benchmark.pedantic(simulate, rounds=1)

    table = Table("", "Linux", "simulated, arrivals merged", "simulated, arrivals single", title="Fidelity")
    for name, results in rows.items():
        table.add_row(name, *(f"{r[0]:,} and {r[1]}" if isinstance(r, tuple) else f"{r:,}" for r in results))
    with capsys.disabled():
        print()
        Console(width=140).print(table)

    small, large, sends, cut = rows.values()
    assert small == [1, 1, 20]
    assert all(3 < calls < 30 for calls in large)
    assert all(270 < completed < 450 for completed in sends)
    for got, end in cut:
        assert end == "reset"
        assert 60_000 < got <= 131_072

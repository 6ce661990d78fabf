"""Fibers, signals, locks, and what a scripted host can do."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from sim.errors import Stuck
from sim.world.boundary import Boundary
from sim.world.choices import Choices
from sim.world.events import TcpClosed
from sim.world.fiber import Fiber, Lock, Signal, sleep
from sim.world.kernel import RECEIVE_BUFFER, SEND_BUFFER
from sim.world.world import Settings, World

from .worlds import ADDRESS, a_world, every_schedule, play_world

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from sim.world.host import Connection, Host


@pytest.fixture(scope="module", autouse=True)
def boundary() -> Iterator[None]:
    with Boundary():
        yield


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def begin(world: World, name: str, coroutine: Coroutine[Any, Any, Any]) -> Fiber:
    return world.start_fiber(name, coroutine)


# Signals and fibers.


def test_a_fiber_runs_at_once_to_its_first_wait(world: World) -> None:
    signal, seen = Signal(), list[str]()

    async def work() -> str:
        seen.append("begins")
        await signal
        seen.append("goes on")
        return "result"

    fiber = begin(world, "fiber", work())
    assert seen == ["begins"]
    assert not fiber.done
    signal.fire()
    assert seen == ["begins", "goes on"]
    assert fiber.done
    assert fiber.result == "result"
    signal.fire()
    fiber.resume()
    assert seen == ["begins", "goes on"]


def test_waiters_are_resumed_in_order_and_once_for_each_fire(world: World) -> None:
    signal, seen = Signal(), list[str]()

    async def work(name: str) -> None:
        for _ in range(2):
            await signal
            seen.append(name)

    for name in "abc":
        begin(world, name, work(name))
    signal.fire()
    assert seen == ["a", "b", "c"]
    signal.fire()
    assert seen == ["a", "b", "c"] * 2


def test_a_signal_that_nobody_waits_for_is_lost(world: World) -> None:
    signal = Signal()
    signal.fire()

    async def work() -> None:
        await signal

    assert not begin(world, "fiber", work()).done


def test_cancel_runs_finally_and_forgets_the_wait(world: World) -> None:
    signal, seen = Signal(), list[str]()

    async def work() -> None:
        try:
            await signal
        finally:
            seen.append("cleaned up")

    fiber = begin(world, "fiber", work())
    fiber.cancel()
    fiber.cancel()
    assert seen == ["cleaned up"]
    assert fiber.done
    signal.fire()


def test_join_waits_for_the_end_however_it_comes(world: World) -> None:
    seen: list[str] = []

    async def work(signal: Signal) -> None:
        await signal

    async def wait_for(fiber: Fiber) -> None:
        await fiber.join()
        seen.append(f"{fiber.name} ended")

    signals = [Signal() for _ in range(3)]
    fibers = [begin(world, f"fiber {n}", work(signal)) for n, signal in enumerate(signals)]
    fibers[2].cancel()
    for fiber in fibers:
        begin(world, "waiter", wait_for(fiber))
        begin(world, "waiter", wait_for(fiber))
    assert seen == ["fiber 2 ended"] * 2, "who has ended already is not waited for"
    signals[0].fire()
    fibers[1].cancel()
    assert seen[2:] == ["fiber 0 ended"] * 2 + ["fiber 1 ended"] * 2


def test_on_done_is_called_when_it_has_returned(world: World) -> None:
    ended: list[Fiber] = []

    async def work(signal: Signal) -> None:
        await signal

    signal = Signal()
    returns, is_cancelled = Fiber(world, "a", work(signal)), Fiber(world, "b", work(signal))
    for fiber in (returns, is_cancelled):
        fiber.on_done = ended.append
        fiber.resume()
    is_cancelled.cancel()
    signal.fire()
    assert ended == [returns]


def test_what_a_fiber_raises_goes_to_whoever_resumed_it_and_the_world_knows(world: World) -> None:
    signal, seen = Signal(), list[str]()
    error = ValueError("broken")

    async def work() -> None:
        await signal
        raise error

    async def wait_for(fiber: Fiber) -> None:
        await fiber.join()
        seen.append("ended")

    fiber = begin(world, "fiber", work())
    with pytest.raises(ValueError, match="broken"):
        signal.fire()
    assert world.failed is error
    assert fiber.done
    begin(world, "waiter", wait_for(fiber))
    assert seen == ["ended"]


# Awaiting what is not the world's.


@pytest.mark.parametrize("awaitable", [lambda: asyncio.sleep(0), lambda: asyncio.sleep(1)])
def test_a_script_that_awaits_something_of_asyncio_is_told_so(awaitable: Callable[[], Any]) -> None:
    coroutines: list[Any] = []

    async def script(host: Host) -> None:
        coroutines.append(awaitable())
        await coroutines[0]

    with pytest.raises(
        TypeError, match=r"^client .* A script runs outside any event loop: it can await what its host offers"
    ):
        play_world(lambda world: world.start_script("client", script))
    coroutines[0].close()


def test_a_script_that_is_resumed_inside_a_loop_sees_no_loop_either() -> None:
    """With granularity `iteration` a delivery, and with it a script, runs between two iterations of a server's loop."""
    seen: list[object] = []

    async def script(host: Host) -> None:
        connection = await host.connect(ADDRESS)
        while await connection.receive():
            seen.append(asyncio._get_running_loop())
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop()
                pytest.fail("there is a running loop")

    def play(world: World) -> None:
        talkative(world, busy=20)
        world.start_script("client", script)

    eager = Choices(policy=lambda _width: 1)
    with World(eager, Settings(granularity="iteration")) as world:
        world.run(play)
    assert len(seen) == 3
    assert set(seen) == {None}
    assert "the loop runs on" in str(eager.made[0].label)


def talkative(world: World, *, busy: int = 0) -> None:
    """Start a server that writes three bytes, one at a time, in iterations of its own, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            writer.write(b"x")
            await asyncio.sleep(0)
        writer.close()
        for _ in range(busy):
            await asyncio.sleep(0)

    async def main() -> None:
        async with await asyncio.start_server(serve, *ADDRESS) as server:
            await server.serve_forever()

    world.start_process("server", main)
    world.run_until(lambda: ADDRESS in world.kernel.listeners, within=1)


def test_an_error_of_a_script_that_runs_inside_the_servers_call_ends_the_run() -> None:
    """The server's `recv` opens the window, which wakes the script: its error must not become the server's."""

    async def script(host: Host) -> None:
        connection = await host.connect(ADDRESS)
        connection.send(bytes(RECEIVE_BUFFER + 100_000))
        await connection.drained()
        raise ValueError("of the script")

    def play(world: World) -> None:
        async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(Exception):
                while await reader.read(65_536):
                    pass
            writer.close()

        async def main() -> None:
            async with await asyncio.start_server(swallow, *ADDRESS) as server:
                await server.serve_forever()

        world.start_process("server", main)
        world.run_until(lambda: ADDRESS in world.kernel.listeners, within=1)
        world.start_script("client", script)

    with pytest.raises(ValueError, match="of the script"):
        play_world(play)


def test_a_countdown_runs_in_virtual_time_and_not_below_0(world: World) -> None:
    told: list[float | None] = []

    async def script(host: Host) -> None:
        left, forever = host.countdown(2.0), host.countdown(None)
        for seconds in (0.0, 0.5, 1.5, 1.0):
            await host.sleep(seconds)
            told.append(left())
            assert forever() is None

    with world:
        world.run(lambda w: w.start_script("client", script))
    assert told == [2.0, 1.5, 0.0, 0.0]


# Locks.


def test_a_lock_is_taken_in_turn(world: World) -> None:
    lock, seen = Lock(), list[str]()
    gates = {name: Signal() for name in "abc"}

    async def work(name: str) -> None:
        await lock.acquire(name)
        seen.append(f"{name} holds")
        await gates[name]
        lock.release()

    for name in "abc":
        begin(world, name, work(name))
    assert seen == ["a holds"]
    assert lock.holder == "a"
    gates["a"].fire()
    assert seen == ["a holds", "b holds"]
    gates["b"].fire()
    gates["c"].fire()
    assert seen == ["a holds", "b holds", "c holds"]
    assert lock.holder is None


def test_who_is_cancelled_in_the_queue_is_passed_over(world: World) -> None:
    lock, seen = Lock(), list[str]()
    gate = Signal()

    async def work(name: str) -> None:
        await lock.acquire(name)
        try:
            seen.append(name)
            await gate
        finally:
            lock.release()

    fibers = {name: begin(world, name, work(name)) for name in "abc"}
    fibers["b"].cancel()
    gate.fire()
    assert seen == ["a", "c"]
    fibers["c"].cancel()
    assert lock.holder is None


def test_who_holds_it_and_is_cancelled_lets_go(world: World) -> None:
    lock, seen = Lock(), list[str]()

    async def work(name: str) -> None:
        await lock.acquire(name)
        seen.append(name)
        try:
            await Signal()
        finally:
            lock.release()

    first = begin(world, "a", work("a"))
    begin(world, "b", work("b"))
    first.cancel()
    assert seen == ["a", "b"]
    assert lock.holder == "b"


# Hosts and their connections, without a server: two scripts and a listener of the kernel.


def listener(world: World, serve: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
    """Accept connections natively; `serve` gets each as a script does."""
    from sim.world.host import Connection as Side
    from sim.world.host import Host as Machine

    kernel = world.kernel
    listening = kernel.listen(kernel.bind(ADDRESS), 10)
    listening.label = "server"

    def accept() -> None:
        while listening.readable:
            world.start_fiber("serve", serve(Side(Machine(world, "server"), listening.accept())))

    listening.watcher = accept


async def nothing(_connection: Connection) -> None:
    """Serve by doing nothing."""


def test_sleep_lets_virtual_time_pass() -> None:
    seen: list[float] = []

    async def script(host: Host) -> None:
        seen.append(host.now)
        await host.sleep(1.5)
        seen.append(host.now)
        await host.sleep(0)
        await host.sleep(-1)
        seen.append(host.now)

    play_world(lambda world: world.start_script("client", script))
    assert seen == [0.0, 1.5, 1.5]


def test_alarms_ring_in_order_and_not_after_they_were_cancelled() -> None:
    seen: list[tuple[str, float]] = []

    def play(world: World) -> None:
        def note(name: str) -> Callable[[], None]:
            return lambda: seen.append((name, world.clock.now))

        world.call_later(2, note("b"))
        world.call_later(1, note("a"))
        world.call_later(2, note("c"))
        cancelled = world.call_later(1.5, note("never"))
        cancelled.cancel()
        cancelled.cancel()

        async def script(host: Host) -> None:
            await sleep(world, 3)

        world.start_script("script", script)

    play_world(play)
    assert seen == [("a", 1.0), ("b", 2.0), ("c", 2.0)]


def test_nobody_listens() -> None:
    async def script(host: Host) -> str:
        with pytest.raises(ConnectionRefusedError, match=r"nobody listens at 127\.0\.0\.1:8000"):
            await host.connect(ADDRESS)
        return "told"

    world = play_world(lambda world: world.start_script("client", script))
    assert world.fibers[0].result == "told"
    assert [(e.actor, e.how) for e in world.trace.of(TcpClosed)] == [("client", "refused")]


def test_a_conversation_of_scripts() -> None:
    async def serve(connection: Connection) -> None:
        while data := await connection.receive():
            connection.send(data.upper())
        connection.close()

    async def script(host: Host) -> list[bytes | None]:
        connection = await host.connect(ADDRESS)
        got = []
        for word in (b"one", b"two"):
            connection.send(word, word.decode())
            got.append(await connection.receive())
        connection.shut_write()
        got.append(await connection.receive())
        return got

    def play(world: World) -> None:
        listener(world, serve)
        world.start_script("client", script)

    world = play_world(play)
    (fiber,) = [f for f in world.fibers if f.name == "client"]
    assert fiber.result == [b"ONE", b"TWO", b""]
    assert [(e.actor, e.how) for e in world.trace.of(TcpClosed)] == [("server", "eof"), ("client", "eof")]


def test_receiving_within_a_time() -> None:
    async def serve(connection: Connection) -> None:
        await sleep(connection.host.world, 2)
        connection.send(b"late")

    async def script(host: Host) -> list[Any]:
        connection = await host.connect(ADDRESS)
        first = await connection.receive(within=1.5)
        after = host.now
        return [first, after, await connection.receive(within=1.5), await connection.receive(within=0)]

    def play(world: World) -> None:
        listener(world, serve)
        world.start_script("client", script)

    world = play_world(play, latency=(0.0, 0.1))
    assert [f.result for f in world.fibers if f.name == "client"] == [[None, 1.5, b"late", None]]


def test_a_change_that_brings_no_bytes_does_not_end_the_wait() -> None:
    """The peer reads: the window opens, the sender is woken, but there is nothing to read."""

    async def serve(connection: Connection) -> None:
        for _ in range(4):
            await connection.receive(100_000)
        connection.send(b"read")
        await Signal()

    async def script(host: Host) -> Any:
        connection = await host.connect(ADDRESS)
        connection.send(bytes(RECEIVE_BUFFER * 2))
        return await connection.receive(), await connection.receive(within=5.0), host.now

    def play(world: World) -> None:
        listener(world, serve)
        world.start_script("client", script)

    world = play_world(play, latency=(0.0, 0.0))
    assert [f.result for f in world.fibers if f.name == "client"] == [(b"read", None, 5.0)]


def test_a_write_that_does_not_fit_writes_nothing() -> None:
    async def script(host: Host) -> int:
        connection = await host.connect(ADDRESS)
        connection.send(bytes(SEND_BUFFER))
        with pytest.raises(BlockingIOError, match=r"client writes 1,000,000 bytes, and the send buffer has room for 0"):
            connection.send(bytes(1_000_000))
        assert not await connection.drained(within=1)
        return connection._endpoint.queued

    def play(world: World) -> None:
        listener(world, nothing)
        world.start_script("client", script)

    world = play_world(play, latency=(0.0, 0.0))
    assert [f.result for f in world.fibers if f.name == "client"] == [SEND_BUFFER - RECEIVE_BUFFER]


def test_writing_much_with_drained() -> None:
    total = 0

    async def serve(connection: Connection) -> None:
        nonlocal total
        while data := await connection.receive():
            total += len(data)

    async def script(host: Host) -> None:
        connection = await host.connect(ADDRESS)
        for _ in range(10):
            connection.send(bytes(1_000_000))
            assert await connection.drained()
        connection.close()

    def play(world: World) -> None:
        listener(world, serve)
        world.start_script("client", script)

    play_world(play)
    assert total == 10_000_000


def test_a_reset_is_seen_once() -> None:
    async def serve(connection: Connection) -> None:
        connection.abort()

    async def script(host: Host) -> list[Any]:
        connection = await host.connect(ADDRESS)
        assert connection.connected
        with pytest.raises(ConnectionResetError):
            await connection.receive()
        rest = [await connection.receive(), connection.connected]
        with pytest.raises(BrokenPipeError):
            connection.send(b"x")
        return rest

    def play(world: World) -> None:
        listener(world, serve)
        world.start_script("client", script)

    world = play_world(play)
    assert [f.result for f in world.fibers if f.name == "client"] == [[b"", False]]
    assert [e.how for e in world.trace.of(TcpClosed)] == ["reset"]


@pytest.mark.parametrize("how", ["close", "abort"])
def test_after_closing_there_is_nothing_to_read_and_no_writing(how: str) -> None:
    async def reader(connection: Connection) -> bytes | None:
        return await connection.receive()

    async def script(host: Host) -> list[Any]:
        connection = await host.connect(ADDRESS)
        waiting = host.world.start_fiber("reader", reader(connection))
        getattr(connection, how)()
        assert waiting.done
        with pytest.raises(BrokenPipeError):
            connection.send(b"x")
        return [waiting.result, await connection.receive()]

    def play(world: World) -> None:
        listener(world, nothing)
        world.start_script("client", script)

    world = play_world(play)
    assert [f.result for f in world.fibers if f.name == "client"] == [[b"", b""]]


def test_a_script_chooses() -> None:
    def play(world: World) -> list[str]:
        seen: list[str] = []

        async def script(host: Host) -> None:
            seen.append(host.choose(["a", "b"], "letter"))
            seen.extend(host.in_any_order("xyz"))

        world.start_script("client", script)
        return seen

    results = ["".join(seen) for seen in every_schedule(play).values()]
    assert results[0] == "axyz"
    assert len(results) == len(set(results)) == 2 * 6
    world = play_world(play)
    assert [str(c.label) for c in world.choices.made] == [
        "client: letter",
        "client: which of 3 next",
        "client: which of 2 next",
    ]


def test_daemons_do_not_keep_a_world_alive() -> None:
    ended: list[str] = []

    async def forever(host: Host) -> None:
        try:
            await host.sleep(1_000)
        finally:
            ended.append(f"at {host.now}")

    world = play_world(lambda world: world.start_script("daemon", forever, daemon=True), settle=2.0)
    assert world.clock.now <= 2.0
    assert ended == [f"at {world.clock.now}"]


def test_a_script_that_waits_for_ever_is_a_deadlock_and_is_named() -> None:
    async def script(host: Host) -> None:
        await Signal()

    async def fine(host: Host) -> None:
        await host.sleep(1)

    def play(world: World) -> None:
        for name, body in (("one", script), ("two", fine), ("three", script)):
            world.start_script(name, body)
        world.probe("weather", lambda: "bad")

    with pytest.raises(Stuck, match=r"^deadlock: one, three still waits at 1\.000 s .* weather: bad\.$"):
        play_world(play)


def test_closing_a_world_ends_its_scripts_even_if_they_fail_at_it() -> None:
    seen: list[str] = []

    async def stubborn(host: Host) -> None:
        try:
            await Signal()
        finally:
            seen.append("stubborn")
            raise ValueError

    async def other(host: Host) -> None:
        try:
            await Signal()
        finally:
            seen.append("other")

    with a_world() as world:
        world.start_script("stubborn", stubborn)
        world.start_script("other", other)
    assert seen == ["stubborn", "other"]
    assert all(fiber.done for fiber in world.fibers)


# Unix sockets.


def test_what_scripts_send_to_a_path_arrives_in_any_order(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    def play(world: World) -> list[str]:
        seen: list[str] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append((await reader.read(100)).decode())
            writer.write(b"thanks")
            writer.close()

        async def main() -> None:
            await asyncio.start_unix_server(serve, path)
            await asyncio.Event().wait()

        async def script(host: Host) -> None:
            connection = await host.connect(path)
            connection.send(host.name.encode())
            assert await connection.receive() == b"thanks"
            assert await connection.receive() == b""

        world.start_process("server", main)
        world.run_until(lambda: world.kernel.paths.find(path) is not None, within=1.0)
        for name in ("one", "two"):
            world.start_script(name, script)
        return seen

    assert {tuple(seen) for seen in every_schedule(play).values()} == {("one", "two"), ("two", "one")}


def test_a_script_that_finds_nothing_at_a_path() -> None:
    async def script(host: Host) -> None:
        with pytest.raises(FileNotFoundError):
            await host.connect("/nothing/there")

    play_world(lambda world: world.start_script("client", script))

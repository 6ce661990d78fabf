"""A loop that goes on while things happen, and a loop that is stopped for each: nobody can tell which it was."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from sim.errors import Stuck
from sim.world.boundary import Boundary
from sim.world.choices import Choices
from sim.world.fiber import Signal
from sim.world.world import Settings, World

from .worlds import ADDRESS, every_schedule, run_main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sim.world.host import Host


@pytest.fixture(scope="module", autouse=True)
def boundary() -> Iterator[None]:
    with Boundary():
        yield


def play(scene: Callable[[World], object], *, stopped: bool, picks: Sequence[int] = (), **settings: Any) -> World:
    """Play a scene; `stopped`: with the loop stopped for each thing that happens."""
    with World(Choices(picks), Settings(**settings)) as world:
        if stopped:
            world.running.in_select = False
        world.run(scene)
    return world


# Scenes.


async def serve() -> None:
    """Says each line back, twice at an interval, and ends a connection that was idle for a second."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await asyncio.wait_for(reader.readline(), 1.0)
            except asyncio.TimeoutError:
                line = b""
            if not line:
                break
            for _ in range(2):
                writer.write(line)
                await asyncio.sleep(0.125)
        writer.close()

    server = await asyncio.start_server(handle, *ADDRESS)
    async with server:
        await server.serve_forever()


def conversations(world: World) -> None:
    """Two scripts with alarms of their own talk to `serve`."""
    world.start_process("server", serve)
    world.run_until(lambda: ADDRESS in world.kernel.listeners, within=1.0)

    async def hasty(host: Host) -> None:
        connection = await host.connect(ADDRESS)
        connection.send(b"a\n", "a")
        got = b""
        while len(got) < 4:
            got += await connection.receive() or b""
        connection.close()

    async def slow(host: Host) -> None:
        connection = await host.connect(ADDRESS)
        await host.sleep(0.25)
        connection.send(b"b\n", "b")
        await connection.receive(within=0.25)
        connection.abort()

    world.start_script("hasty", hasty)
    world.start_script("slow", slow)


def polling(world: World) -> None:
    """A process that only sleeps, and a script that outlasts it."""

    async def main() -> None:
        for _ in range(50):
            await asyncio.sleep(0.1)

    world.start_process("poller", main)
    world.start_script("clock", lambda host: host.sleep(7.0))


def a_process_that_ends_early(world: World) -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda _r, w: w.close(), *ADDRESS)
        await asyncio.sleep(0.5)
        server.close()

    world.start_process("server", main)

    async def visitor(host: Host) -> None:
        for _ in range(2):
            try:
                connection = await host.connect(ADDRESS)
                await connection.receive()
                connection.close()
            except ConnectionError:
                pass
            await host.sleep(0.5)

    world.start_script("visitor", visitor)


def a_process_that_is_told_to_end(world: World) -> None:
    """A script sends SIGTERM while the loop has callbacks of that moment to run."""
    stop: list[asyncio.Event] = []

    async def main() -> None:
        stop.append(asyncio.Event())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop[0].set)
        await stop[0].wait()
        await asyncio.sleep(0.25)

    process = world.start_process("server", main)

    async def operator(host: Host) -> None:
        await host.sleep(1.0)
        process.kill(signal.SIGTERM)
        await host.sleep(1.0)

    world.start_script("operator", operator)


def a_second_process_later(world: World) -> None:
    world.start_process("server", serve)
    done = Signal()

    async def visit() -> None:
        reader, writer = await asyncio.open_connection(*ADDRESS)
        writer.write(b"hello\n")
        await reader.readline()
        writer.close()
        done.fire()

    async def starter(host: Host) -> None:
        await host.sleep(0.5)
        host.world.start_process("visitor", visit)
        await done

    world.start_script("starter", starter)


SCENES = (
    conversations,
    polling,
    a_process_that_ends_early,
    a_process_that_is_told_to_end,
    a_second_process_later,
)


@pytest.mark.parametrize("latency", [(0.0, float("inf")), (0.01, 0.2)], ids=["any latency", "some latency"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_both_ways_are_one(scene: Callable[[World], object], latency: tuple[float, float]) -> None:
    runs = 0
    stack: list[tuple[int, ...]] = [()]
    while stack and runs < 60:
        picks = stack.pop()
        runs += 1
        one, other = (play(scene, stopped=stopped, picks=picks, latency=latency) for stopped in (False, True))
        assert one.trace.to_jsonl() == other.trace.to_jsonl()
        choices = [(choice.width, choice.pick, str(choice.label)) for choice in one.choices.made]
        assert choices == [(choice.width, choice.pick, str(choice.label)) for choice in other.choices.made]
        assert one.clock.now == other.clock.now
        made = one.choices.picks
        stack += [(*made[:at], pick) for at in range(len(picks), len(made)) for pick in range(1, choices[at][0])]
    assert runs > 1 or scene not in (conversations, a_second_process_later)


def test_no_callback_runs_behind_the_end_of_a_stretch() -> None:
    """What is due at the moment at which a script ends the run does not happen in it; only the world's close unwinds it."""
    closed: list[bool] = []

    def scene(world: World) -> None:
        async def main() -> None:
            asyncio.get_running_loop().call_later(1.0, lambda: closed.append(world.closed))
            await asyncio.sleep(10.0)

        world.start_process("server", main)

        async def script(host: Host) -> None:
            await host.sleep(1.0)
            raise LookupError("enough")

        world.start_script("script", script)

    for stopped in (False, True):
        with pytest.raises(LookupError, match="enough"):
            play(scene, stopped=stopped)
    assert closed == [True, True]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_script_that_exits_is_not_its_server(stopped: bool) -> None:
    processes = []

    def scene(world: World) -> None:
        processes.append(world.start_process("server", lambda: asyncio.sleep(10.0)))

        async def script(host: Host) -> None:
            await host.sleep(1.0)
            raise SystemExit(3)

        world.start_script("script", script)

    with pytest.raises(SystemExit):
        play(scene, stopped=stopped)
    assert processes[0].exit_reason is None


@pytest.mark.parametrize("stopped", [False, True])
def test_a_killed_process_runs_no_more(stopped: bool) -> None:
    """What was due then is unwound with it, where nobody listens any more."""
    heard: list[bool] = []

    def scene(world: World) -> None:
        async def main() -> None:
            asyncio.get_running_loop().call_later(1.0, lambda: heard.append(world.trace.open))
            await asyncio.sleep(10.0)

        process = world.start_process("server", main)

        async def script(host: Host) -> None:
            await host.sleep(1.0)
            process.kill(signal.SIGKILL)
            await host.sleep(2.0)

        world.start_script("script", script)

    world = play(scene, stopped=stopped)
    assert heard == [False]
    assert world.processes[0].killed_by == signal.SIGKILL


@pytest.mark.parametrize("stopped", [False, True])
def test_a_script_sees_nothing_of_the_loop(stopped: bool) -> None:
    seen: list[object] = []

    async def numbers() -> Any:
        yield 1

    def scene(world: World) -> None:
        process = world.start_process("server", lambda: asyncio.sleep(10.0))

        async def script(host: Host) -> None:
            await host.sleep(1.0)
            seen.append(asyncio._get_running_loop())
            seen.append(tuple(sys.get_asyncgen_hooks()))
            async for number in numbers():
                seen.append(number)
            seen.append(len(process.loop._asyncgens))  # type: ignore[attr-defined]

        world.start_script("script", script)

    play(scene, stopped=stopped)
    assert seen == [None, (None, None), 1, 0]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_condition_is_asked_when_the_loops_are_idle_and_when_something_happened(stopped: bool) -> None:
    asked: list[float] = []

    def scene(world: World) -> None:
        world.start_process("server", lambda: asyncio.sleep(10.0))

        async def script(host: Host) -> None:
            for _ in range(3):
                await host.sleep(1.0)

        world.start_script("script", script, daemon=True)
        world.running.until(lambda: asked.append(world.clock.now) or world.clock.now >= 2.0, 5.0)  # type: ignore[func-returns-value]

    play(scene, stopped=stopped, settle=0.0)
    assert asked == [0.0, 0.0, 1.0, 1.0, 2.0]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_deadlock_is_found_by_a_loop_that_goes_on(stopped: bool) -> None:
    def scene(world: World) -> None:
        world.start_process("server", serve)

        async def script(_host: Host) -> None:
            await Signal()

        world.start_script("script", script)

    with pytest.raises(Stuck, match="deadlock: script still waits"):
        play(scene, stopped=stopped)


def test_a_socket_that_was_quiet_is_looked_at_again() -> None:
    """What makes a socket ready without anybody waking it: a shutdown of one's own."""

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        told: list[str] = []
        one, other = socket.socketpair()
        for end in (one, other):
            end.setblocking(False)
        loop.add_reader(one, told.append, "ready")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert told == []
        one.shutdown(socket.SHUT_RD)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop.remove_reader(one)
        one.close()
        other.close()
        return told[:1]

    assert run_main(main) == ["ready"]


def test_a_socket_is_told_of_as_long_as_it_is_ready() -> None:
    """As with epoll: at each iteration, until what made it so is gone, also while nothing else changes."""

    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        calls: list[None] = []
        one, other = socket.socketpair()
        one.setblocking(False)
        other.setblocking(False)
        loop.add_reader(one, calls.append, None)
        other.send(b"x")
        for _ in range(5):
            await asyncio.sleep(0)
        before = len(calls)
        one.recv(1)
        for _ in range(3):
            await asyncio.sleep(0)
        after = len(calls)
        for _ in range(5):
            await asyncio.sleep(0)
        loop.remove_reader(one)
        one.close()
        other.close()
        return before, len(calls) - after

    before, later = run_main(main)
    assert before >= 3
    assert later == 0


def test_every_order_is_there_with_a_loop_that_goes_on() -> None:
    """Three scripts, one message each, on one process: six orders, each as often as any other."""
    orders: list[str] = []

    def scene(world: World) -> None:
        got: list[bytes] = []
        complete, start = Signal(), Signal()

        async def main() -> None:
            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                got.append(await reader.readexactly(1))
                if len(got) == 3:
                    orders.append(b"".join(got).decode())
                    complete.fire()
                writer.close()

            async with await asyncio.start_server(handle, *ADDRESS) as server:
                await server.serve_forever()

        world.start_process("server", main)
        connected: list[str] = []

        def client(name: str) -> Callable[[Host], Any]:
            async def script(host: Host) -> None:
                connection = await host.connect(ADDRESS)
                connected.append(name)
                await start
                connection.send(name.encode(), name)
                await complete

            return script

        for number, name in enumerate("abc", 1):
            world.start_script(name, client(name), daemon=True)
            world.run_until(lambda number=number: len(connected) == number, within=1.0)  # type: ignore[misc]

        async def referee(_host: Host) -> None:
            await complete

        world.start_script("referee", referee)
        start.fire()

    every_schedule(scene, settle=0.0)
    counted = Counter(orders)
    assert sorted(counted) == ["abc", "acb", "bac", "bca", "cab", "cba"]
    assert len(set(counted.values())) == 1

"""asyncio on the simulated selector: streams, transports, timers, tasks and signals, all unmodified."""

from __future__ import annotations

import asyncio
import contextvars
import os
import selectors
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from sim.errors import BoundaryError, Stuck
from sim.world.boundary import Boundary
from sim.world.clock import MONOTONIC
from sim.world.sockets import SimSocket

from .worlds import ADDRESS, a_world, every_schedule, play_world, run_in, run_main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sim.world.host import Host
    from sim.world.world import World


@pytest.fixture(scope="module", autouse=True)
def boundary() -> Iterator[None]:
    with Boundary():
        yield


def now() -> float:
    """Virtual seconds since the world began, as its loop tells."""
    return asyncio.get_running_loop().time() - MONOTONIC


# Streams and transports.


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


def test_streams_within_one_loop() -> None:
    async def main() -> list[bytes]:
        server = await asyncio.start_server(echo, *ADDRESS)
        reader, writer = await asyncio.open_connection(*ADDRESS)
        lines = []
        for line in (b"one\n", b"two\n"):
            writer.write(line)
            lines.append(await reader.readline())
        writer.write_eof()
        lines.append(await reader.read())
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return lines

    assert run_main(main) == [b"one\n", b"two\n", b""]


def test_a_server_on_a_socket_of_its_own() -> None:
    async def main() -> tuple[bytes, str, Any]:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(echo, sock=sock)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(b"x")
        got = await reader.readexactly(1)
        name = type(sock).__name__
        server.close()
        writer.close()
        return got, name, writer.get_extra_info("peername") == sock.getsockname() if sock.fileno() != -1 else None

    got, name, _ = run_main(main)
    assert (got, name) == (b"x", "SimSocket")


def test_create_connection_with_a_protocol() -> None:
    class Client(asyncio.Protocol):
        def __init__(self, done: asyncio.Future[list[str]]) -> None:
            self.done, self.seen = done, list[str]()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.seen.append("made")
            transport.write(b"hello")  # type: ignore[attr-defined]

        def data_received(self, data: bytes) -> None:
            self.seen.append(data.decode())

        def eof_received(self) -> None:
            self.seen.append("eof")

        def connection_lost(self, exc: Exception | None) -> None:
            self.seen.append(f"lost {exc}")
            self.done.set_result(self.seen)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(5)).upper())
        writer.close()

    async def main() -> list[str]:
        server = await asyncio.start_server(serve, *ADDRESS)
        done: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        await asyncio.get_running_loop().create_connection(lambda: Client(done), *ADDRESS)
        try:
            return await done
        finally:
            server.close()

    assert run_main(main) == ["made", "HELLO", "eof", "lost None"]


def test_nobody_listens() -> None:
    async def main() -> None:
        await asyncio.open_connection("127.0.0.1", 1)

    with pytest.raises(ConnectionRefusedError):
        run_main(main)


def test_the_address_is_in_use() -> None:
    async def main() -> None:
        await asyncio.start_server(echo, *ADDRESS)
        await asyncio.start_server(echo, *ADDRESS)

    with pytest.raises(OSError, match="address already in use"):
        run_main(main)


def test_a_slow_reader_pauses_the_writer() -> None:
    seen: list[str] = []

    class Writer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: Any = transport
            self.transport.set_write_buffer_limits(high=1_000_000)
            self.rest = 2_000
            self.go_on = True
            self.write()

        def write(self) -> None:
            while self.go_on and self.rest:
                self.rest -= 1
                self.transport.write(bytes(10_000))
            if not self.rest:
                self.transport.close()

        def pause_writing(self) -> None:
            self.go_on = False
            seen.append("pause")

        def resume_writing(self) -> None:
            self.go_on = True
            if seen[-1] != "resume":
                seen.append("resume")
            self.write()

    async def main() -> tuple[int, int, int]:
        made: list[Writer] = []
        loop = asyncio.get_running_loop()

        def factory() -> Writer:
            made.append(Writer())
            return made[-1]

        server = await loop.create_server(factory, *ADDRESS)
        reader, writer = await asyncio.open_connection(*ADDRESS)
        await asyncio.sleep(1)
        before = 2_000 - made[0].rest
        first = len(seen)
        got = 0
        while data := await reader.read(65_536):
            got += len(data)
        writer.close()
        server.close()
        return before, first, got

    before, first, got = run_main(main)
    assert first == 1, "it was paused before anybody read"
    assert 100 < before < 500
    assert got == 20_000_000
    assert seen[:2] == ["pause", "resume"]


def test_drain_waits_for_the_reader() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(1_000):
            writer.write(bytes(10_000))
            await writer.drain()
            flood.count += 1  # type: ignore[attr-defined]
        writer.close()

    async def main() -> tuple[int, int]:
        flood.count = 0  # type: ignore[attr-defined]
        server = await asyncio.start_server(flood, *ADDRESS)
        reader, writer = await asyncio.open_connection(*ADDRESS)
        await asyncio.sleep(10)
        stalled: int = flood.count  # type: ignore[attr-defined]
        total = len(await reader.read())
        writer.close()
        server.close()
        return stalled, total

    stalled, total = run_main(main)
    assert 0 < stalled < 500
    assert total == 10_000_000


def test_writing_to_a_peer_that_has_closed() -> None:
    async def goodbye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def main() -> list[str]:
        server = await asyncio.start_server(goodbye, *ADDRESS)
        reader, writer = await asyncio.open_connection(*ADDRESS)
        seen = [repr(await reader.read())]
        for _ in range(2):
            writer.write(b"x")
            await asyncio.sleep(1)
        try:
            await writer.drain()
        except OSError as exc:
            seen.append(type(exc).__name__)
        server.close()
        return seen

    assert run_main(main) == ["b''", "BrokenPipeError"]


def test_a_peer_that_aborts() -> None:
    async def abort(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async def main() -> None:
        server = await asyncio.start_server(abort, *ADDRESS)
        reader, writer = await asyncio.open_connection(*ADDRESS)
        writer.write(b"x")
        try:
            await reader.read()
        finally:
            writer.close()
            server.close()

    with pytest.raises(ConnectionResetError):
        run_main(main)


def test_sock_methods_of_the_loop() -> None:
    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        listener, client = socket.socket(), socket.socket()
        for sock in (listener, client):
            sock.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        accepting = asyncio.ensure_future(loop.sock_accept(listener))
        await loop.sock_connect(client, listener.getsockname())
        server, address = await accepting
        assert address == client.getsockname()
        await loop.sock_sendall(client, bytes(300_000))
        client.close()
        got = bytearray()
        while data := await loop.sock_recv(server, 100_000):
            got += data
        buffer = bytearray(1)
        assert await loop.sock_recv_into(server, buffer) == 0
        server.close()
        listener.close()
        return bytes(got)

    assert run_main(main) == bytes(300_000)


def test_sending_a_file(tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"real bytes of a real file" * 10_000)

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with open(path, "rb") as file:
            await asyncio.get_running_loop().sendfile(writer.transport, file)
        writer.close()

    async def main() -> bytes:
        server = await asyncio.start_server(send, *ADDRESS)
        reader, writer = await asyncio.open_connection(*ADDRESS)
        got = await reader.read()
        writer.close()
        server.close()
        return got

    assert run_main(main) == path.read_bytes()


def test_a_file_can_be_read_by_a_thread_that_is_none(tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_text("content")

    async def main() -> str:
        return await asyncio.to_thread(path.read_text)

    assert run_main(main) == "content"


# Time.


def test_time_stands_still_while_code_runs_and_jumps_when_it_waits() -> None:
    async def main() -> list[float]:
        seen = [now()]
        sum(range(100_000))
        seen.append(now())
        await asyncio.sleep(1.5)
        seen.append(now())
        await asyncio.sleep(86_400)
        seen.append(now())
        await asyncio.sleep(0)
        seen.append(now())
        return seen

    assert run_main(main, horizon=1e6) == [0.0, 0.0, 1.5, 86_401.5, 86_401.5]


def test_more_than_asyncio_would_ever_sleep_at_once() -> None:
    async def main() -> float:
        await asyncio.sleep(10 * 86_400)
        return now()

    assert run_main(main, horizon=1e7) == 10 * 86_400


def test_timers_fire_in_their_order_at_their_times() -> None:
    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        seen: list[tuple[str, float]] = []

        def note(name: str) -> None:
            seen.append((name, now()))

        loop.call_later(0.3, note, "c")
        loop.call_later(0.1, note, "a")
        loop.call_at(loop.time() + 0.2, note, "b")
        loop.call_later(0.15, note, "never").cancel()
        await asyncio.sleep(0.3)
        await asyncio.sleep(0)
        return seen

    seen = run_main(main)
    assert [name for name, _ in seen] == ["a", "b", "c"]
    assert [when for _, when in seen] == pytest.approx([0.1, 0.2, 0.3])


def test_wait_for_on_the_virtual_clock() -> None:
    async def main() -> tuple[float, int]:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 30)
        timed_out = now()
        return timed_out, await asyncio.wait_for(asyncio.sleep(10, 7), 30)

    assert run_main(main) == (30.0, 7)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is new in 3.11")
def test_timeout_on_the_virtual_clock() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        return now()

    assert run_main(main) == 30.0


def test_a_chain_of_short_sleeps_adds_up() -> None:
    async def main() -> float:
        for _ in range(1_000):
            await asyncio.sleep(0.1)
        return now()

    assert run_main(main) == pytest.approx(100.0)


def test_a_late_timer_is_no_choice_any_more() -> None:
    """What has fired must not be offered again, whatever floating point makes of its time."""

    def play(world: World) -> None:
        async def main() -> None:
            for _ in range(50):
                await asyncio.sleep(0.1)

        world.start_process("main", main)

    world = play_world(play, settle=10.0)
    assert world.choices.made == []


# What is not asyncio's own.


def test_an_executor_runs_inline_and_sees_no_loop() -> None:
    async def main() -> tuple[list[Any], list[Any]]:
        loop = asyncio.get_running_loop()
        variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
        variable.set(5)

        def work(x: int) -> tuple[int, object, float]:
            return x + 1, asyncio._get_running_loop(), time.monotonic()

        one = await loop.run_in_executor(None, work, 1)
        assert asyncio.get_running_loop() is loop
        two = await asyncio.to_thread(variable.get)
        future = loop.run_in_executor(None, work, 2)
        assert future.done()
        return list(one), [two, (await future)[0]]

    assert run_main(main) == ([2, None, MONOTONIC], [5, 3])


def test_what_an_executor_raises() -> None:
    async def main() -> None:
        def stop() -> None:
            raise StopIteration

        with pytest.raises(RuntimeError, match="raised StopIteration"):
            await asyncio.to_thread(stop)
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        await asyncio.get_running_loop().shutdown_default_executor()

    run_main(main)


def test_call_soon_threadsafe() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        seen: list[int] = []
        done = asyncio.Event()
        loop.call_soon_threadsafe(seen.append, 1)
        loop.call_soon_threadsafe(done.set)
        await done.wait()
        return seen

    assert run_main(main) == [1]


def test_another_process_can_wake_a_loop() -> None:
    """`call_soon_threadsafe` is how one wakes a loop from outside it; here from a script."""
    seen: list[float] = []

    def play(world: World) -> None:
        async def main() -> None:
            await asyncio.Event().wait()

        process = world.start_process("main", main)

        async def script(host: Host) -> None:
            await host.sleep(2)
            process.loop.call_soon_threadsafe(lambda: seen.append(now()))

        world.start_script("script", script)

    play_world(play)
    assert seen == [2.0]


def test_the_order_of_a_set_of_tasks_is_that_of_their_making() -> None:
    async def main() -> tuple[list[int], list[int]]:
        tasks = [asyncio.ensure_future(asyncio.sleep(1, n)) for n in range(50)]
        done, _ = await asyncio.wait(tasks)
        everything = asyncio.all_tasks()
        assert asyncio.current_task() in everything
        return [task.result() for task in done], [hash(task) for task in tasks]

    results, hashes = run_main(main)
    assert results == list(range(50))
    assert hashes == list(range(hashes[0], hashes[0] + 50))


def test_a_task_factory_of_the_program_has_its_way() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        made: list[str] = []

        def factory(loop: Any, coro: Any, **kwargs: Any) -> Any:
            made.append(coro.__name__)
            return asyncio.Task(coro, loop=loop, **kwargs)

        async def work() -> None:
            pass

        loop.set_task_factory(factory)
        await loop.create_task(work())
        return list(made)

    assert run_main(main) == ["work"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_tasks() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        seen: list[str] = []

        async def work(name: str) -> None:
            seen.append(f"{name} begins")
            await asyncio.sleep(1)
            seen.append(f"{name} ends")

        one, two = loop.create_task(work("one")), loop.create_task(work("two"))
        seen.append("both made")
        await asyncio.gather(one, two)
        return seen

    assert run_main(main) == ["one begins", "two begins", "both made", "one ends", "two ends"]


def test_a_closed_loop_takes_no_tasks() -> None:
    loops = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())

    run_main(main)
    coroutine = main()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loops[0].create_task(coroutine)
    coroutine.close()


def test_names_and_contexts_of_tasks() -> None:
    async def main() -> str:
        async def work() -> str:
            return asyncio.current_task().get_name()  # type: ignore[union-attr]

        return await asyncio.get_running_loop().create_task(work(), name="worker")

    assert run_main(main) == "worker"


# Signals.


def test_a_signal_handler_of_the_loop() -> None:
    seen: list[str] = []

    def play(world: World) -> None:
        async def main() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, lambda: (seen.append("TERM"), stop.set()))
            loop.add_signal_handler(signal.SIGUSR1, seen.append, "USR1")
            assert loop.remove_signal_handler(signal.SIGUSR1)
            assert not loop.remove_signal_handler(signal.SIGUSR1)
            await stop.wait()
            seen.append(f"stopped at {now()}")

        process = world.start_process("main", main)

        async def script(host: Host) -> None:
            await host.sleep(3)
            process.kill(signal.SIGTERM)

        world.start_script("script", script)

    world = play_world(play)
    assert seen == ["TERM", "stopped at 3.0"]
    assert world.processes[0].exited
    assert world.processes[0].killed_by is None


def test_coroutines_are_no_signal_handlers() -> None:
    async def main() -> None:
        async def handler() -> None: ...

        with pytest.raises(TypeError, match="coroutines cannot be used"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, handler)

    run_main(main)


# Several loops.


def test_two_processes_talk_to_one_another() -> None:
    answers: list[bytes] = []

    def play(world: World) -> None:
        async def server() -> None:
            listener = await asyncio.start_server(echo, *ADDRESS)
            async with listener:
                await listener.serve_forever()

        async def client() -> None:
            await asyncio.sleep(0.1)
            reader, writer = await asyncio.open_connection(*ADDRESS)
            for word in (b"one", b"two"):
                writer.write(word)
                answers.append(await reader.readexactly(3))
                await asyncio.sleep(1)
            writer.close()

        world.start_process("server", server)
        process = world.start_process("client", client)
        world.run_until(lambda: process.exited, within=10)

    world = play_world(play)
    assert answers == [b"one", b"two"]
    assert [p.exited for p in world.processes] == [False, True]
    assert [p.loop is q.loop for p in world.processes for q in world.processes] == [True, False, False, True]


def test_timers_of_two_processes_are_in_one_order() -> None:
    seen: list[tuple[str, float]] = []

    def play(world: World) -> None:
        def ticker(name: str, every: float) -> Callable[[], Any]:
            async def main() -> None:
                for _ in range(3):
                    await asyncio.sleep(every)
                    seen.append((name, now()))

            return main

        world.start_process("a", ticker("a", 2.0))
        world.start_process("b", ticker("b", 3.0))
        world.run_until(lambda: all(p.exited for p in world.processes), within=20)

    play_world(play)
    assert seen == [("a", 2.0), ("b", 3.0), ("a", 4.0), ("a", 6.0), ("b", 6.0), ("b", 9.0)]


# The selector.


def registered(world: World) -> Any:
    """The selector of a world's first process."""
    return world.processes[0].loop.selector


def test_the_selector_is_one() -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        selector = loop.selector
        assert isinstance(selector, selectors.BaseSelector)
        one, two = socket.socketpair()
        one.setblocking(False)
        key = selector.register(one, selectors.EVENT_READ, "data")
        assert (key.fileobj, key.fd, key.events, key.data) == (one, one.fileno(), selectors.EVENT_READ, "data")
        assert selector.get_key(one) is key
        assert selector.get_map()[one.fileno()] is key
        assert selector.get_map().get(two) is None
        assert one.fileno() in list(selector.get_map())
        assert len(selector.get_map()) == 2, "the loop's own is there too"
        with pytest.raises(KeyError, match="already registered"):
            selector.register(one, selectors.EVENT_READ)
        with pytest.raises(ValueError, match="Invalid events"):
            selector.register(two, 0)
        with pytest.raises(KeyError, match="not registered"):
            selector.unregister(two)
        with pytest.raises(KeyError, match="not registered"):
            selector.modify(two, selectors.EVENT_READ)
        with pytest.raises(KeyError, match="not registered"):
            selector.get_key(two)
        assert selector.modify(one, selectors.EVENT_WRITE).events == selectors.EVENT_WRITE
        one.close()
        assert selector.unregister(one).fd == key.fd
        with pytest.raises(ValueError, match="Invalid file descriptor"):
            selector.unregister(one)

    run_main(main)


def test_readers_and_writers() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        one, two = socket.socketpair()
        for sock in (one, two):
            sock.setblocking(False)
        seen: list[str] = []

        def readable() -> None:
            seen.append(f"read {two.recv(10)!r}")
            loop.remove_reader(two)

        def writable() -> None:
            seen.append("write")
            one.send(b"x")
            loop.remove_writer(one)

        loop.add_reader(two, readable)
        loop.add_writer(one, writable)
        await asyncio.sleep(1)
        return seen

    assert run_main(main) == ["write", "read b'x'"]


def test_a_socket_that_is_closed_while_registered_is_reported_no_more() -> None:
    async def main() -> int:
        loop: Any = asyncio.get_running_loop()
        one, two = socket.socketpair()
        one.setblocking(False)
        calls = 0

        def readable() -> None:
            nonlocal calls
            calls += 1
            one.close()

        loop.add_reader(one, readable)
        two.send(b"x")
        await asyncio.sleep(1)
        return calls

    assert run_main(main) == 1


def test_a_real_descriptor_is_refused() -> None:
    async def main() -> None:
        asyncio.get_running_loop().add_reader(0, print)

    with pytest.raises(BoundaryError, match=r"descriptor 0 is not a simulated socket.*test_loop.py:\d+: .*add_reader"):
        run_main(main)


# What never ends.


@pytest.mark.parametrize("kind", ["task", "callback", "reader"])
def test_a_loop_that_spins_for_ever_is_a_livelock(kind: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        if kind == "task":
            while True:
                await asyncio.sleep(0)
        elif kind == "callback":

            def again() -> None:
                loop.call_soon(again)

            again()
        else:
            one, two = socket.socketpair()
            loop.add_reader(one, lambda: None)
            two.send(b"x")
        await asyncio.sleep(1_000)

    with pytest.raises(
        Stuck, match=r"livelock: main ran 100,000 iterations .* at one moment of virtual time \(0.000 s\)"
    ):
        run_main(main)


def test_a_busy_loop_that_ends_is_none() -> None:
    async def main() -> int:
        for _ in range(3):
            for _ in range(40_000):
                await asyncio.sleep(0)
            await asyncio.sleep(0.001)
        return 1

    assert run_main(main) == 1


def test_what_has_no_end_is_the_same_in_every_run() -> None:
    """Not an accident of one run: each schedule of a small scene with two clients, twice."""

    def play(world: World) -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(((await reader.read(10)).decode(), now()))
            writer.close()

        async def main() -> None:
            async with await asyncio.start_server(serve, *ADDRESS) as server:
                await server.serve_forever()

        process = world.start_process("server", main)
        world.run_until(lambda: ADDRESS in world.kernel.listeners or process.exited, within=1)

        async def client(host: Host) -> None:
            connection = await host.connect(ADDRESS)
            connection.send(host.name.encode())
            await connection.receive()
            connection.close()

        for name in ("a", "b"):
            world.start_script(name, client)
        return seen

    first, second = every_schedule(play, settle=0.0), every_schedule(play, settle=0.0)
    assert len(first) > 10
    assert first == second
    assert {tuple(name for name, _ in seen) for seen in first.values()} == {("a", "b"), ("b", "a")}


def test_a_world_without_choices_asks_none() -> None:
    with a_world(latency=(0.0, 0.0)) as world:

        async def main() -> None:
            server = await asyncio.start_server(echo, *ADDRESS)
            for _ in range(3):
                reader, writer = await asyncio.open_connection(*ADDRESS)
                writer.write(b"x")
                await reader.read(1)
                writer.close()
                await writer.wait_closed()
                await asyncio.sleep(1)
            server.close()

        run_in(world, main)
        assert world.choices.made == []


def test_sockets_made_inside_are_simulated_and_outside_are_real() -> None:
    async def main() -> type:
        with socket.socket() as sock:
            return type(sock)

    assert run_main(main) is SimSocket
    with socket.socket() as sock:
        assert type(sock) is not SimSocket
        assert os.fstat(sock.fileno())

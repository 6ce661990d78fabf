"""What the simulation costs, as ratios against the same code without it, measured in the same process.

Run them with `make bench`. They print ratios and assert nothing about time.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from models.uvicorn import ticks
from scenarios.applications import hello as application
from sim import Settings, World
from sim.registry import find_scenario, find_subject
from sim.search.runner import Runner
from sim.world.boundary import Boundary

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

TICK_SECONDS = 2_000.0


class _NoSelector(selectors.SelectSelector):
    """Waits by moving the clock; nothing is ever ready."""

    loop: Any

    def select(self, timeout: float | None = None) -> list[Any]:
        self.loop.now += timeout or 0.0
        return []


class _BareLoop(asyncio.SelectorEventLoop):
    now = 0.0

    def __init__(self) -> None:
        selector = _NoSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


async def _poll(server: uvicorn.Server) -> None:
    """uvicorn's own loop around its flags, for `TICK_SECONDS`."""
    asyncio.get_running_loop().call_later(TICK_SECONDS, setattr, server, "should_exit", True)
    await server.main_loop()


def _cpu(work: Any) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _report(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], what: str, bare: float, unit: str) -> None:
    ours = benchmark.stats.stats.min
    benchmark.extra_info["ratio"] = ours / bare
    with capsys.disabled():
        print(f"\n{what}: {ours * 1e3:.1f} ms simulated, {bare * 1e3:.1f} ms bare ({unit}), ratio {ours / bare:.2f}")


def test_ticks_of_uvicorn(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """uvicorn's 0.1 s poll in a world, against the same coroutine on a stock loop whose selector only moves time."""

    def bare() -> None:
        loop = _BareLoop()
        loop.run_until_complete(_poll(uvicorn.Server(uvicorn.Config(application, log_config=None))))
        loop.close()

    def simulated() -> None:
        world = World(settings=Settings(horizon=TICK_SECONDS + 10))

        async def main() -> None:
            await _poll(uvicorn.Server(uvicorn.Config(application, log_config=None)))

        def play(world: World) -> None:
            process = world.start_process("server", main, ticks())
            world.start_script("clock", lambda host: host.sleep(TICK_SECONDS + 1))
            assert process is not None

        world.run(play)
        world.close()

    alone = min(_cpu(bare) for _ in range(3))
    with Boundary():
        benchmark.pedantic(simulated, rounds=3, warmup_rounds=1)
    _report(benchmark, capsys, f"{TICK_SECONDS * 10:,.0f} ticks of uvicorn", alone, "stock loop, null selector")


@pytest.mark.parametrize("server", ["uvicorn[h11,websockets-sansio]", "uvicorn[httptools,websockets-sansio]"])
def test_run_of_hello(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], server: str) -> None:
    """A whole run of `hello`, start-up to shutdown, against the same on real loopback sockets (CPU time of both)."""
    http = "h11" if "h11" in server else "httptools"

    async def real() -> None:
        config = uvicorn.Config(application, host="127.0.0.1", port=0, http=http, ws="none", log_config=None)  # type: ignore[arg-type]
        running = uvicorn.Server(config)
        serving = asyncio.ensure_future(running._serve())
        while not running.started:
            await asyncio.sleep(0)
        port = running.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for path in (b"/1", b"/2"):
            writer.write(b"GET " + path + b" HTTP/1.1\r\nhost: a\r\n\r\n")
            await reader.readuntil(b"hello " + path)
        writer.close()
        running.should_exit = True
        await serving

    alone = min(_cpu(lambda: asyncio.run(real())) for _ in range(5))
    runner = Runner(find_scenario("hello"), find_subject(server))
    with runner.session():
        benchmark.pedantic(runner.run, rounds=50, warmup_rounds=3)
    _report(benchmark, capsys, f"hello on {server}", alone, "real loopback, CPU time")


def test_sockets_are_real_outside(benchmark: BenchmarkFixture) -> None:
    """What an open boundary costs code that is in no world: making a real socket."""
    with Boundary():
        benchmark(lambda: socket.socket().close())

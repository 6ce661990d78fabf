"""Where a search may be called from, and that nothing stays behind: threads, loops, interrupts, collection, memory."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from sim import BoundaryError, SimError, always, explore
from sim.search.collector import INTERPRETERS_OWN
from sim.search.runner import Runner

from .toys import Noted, Toy, chattering, got, noted, picking, search, toy_scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sim import Host, Progress, Report, Trace, World

PATCHED = {
    "time.time": lambda: time.time,
    "time.sleep": lambda: time.sleep,
    "random.random": lambda: random.random,
    "os.urandom": lambda: os.urandom,
    "socket.socket": lambda: socket.socket,
    "socket.getaddrinfo": lambda: socket.getaddrinfo,
    "signal.signal": lambda: signal.signal,
    "SIGINT": lambda: signal.getsignal(signal.SIGINT),
    "threading.main_thread": lambda: threading.main_thread,
    "threads": lambda: [vars(threading).get(n) for n in ("_start_new_thread", "_start_joinable_thread")],
}


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    before = {name: get() for name, get in PATCHED.items()}
    collecting = gc.isenabled()
    threads = threading.active_count()
    yield
    assert {name: get() for name, get in PATCHED.items()} == before
    assert gc.isenabled() is collecting
    assert gc.get_freeze_count() < INTERPRETERS_OWN
    assert threading.active_count() == threads


def chatter() -> Report:
    return search(chattering(2, 2))


def same(one: Report, two: Report) -> bool:
    apart: dict[str, Any] = {"scenario": None, "seconds": 0.0}
    return attrs.evolve(one, **apart) == attrs.evolve(two, **apart)


def test_from_plain_code_and_again() -> None:
    assert same(chatter(), chatter())


def test_from_inside_a_running_event_loop() -> None:
    async def cell() -> Report:
        loop = asyncio.get_running_loop()
        beats: list[float] = []
        timer = loop.call_later(0.0, lambda: beats.append(loop.time()))
        report = chatter()
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0.01)
        assert beats
        timer.cancel()
        return report

    assert same(asyncio.run(cell()), chatter())


def test_from_a_thread() -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(chatter()))
    thread.start()
    thread.join()
    assert same(found[0], chatter())


def test_a_real_server_in_a_thread() -> None:
    """Servers set their signal handlers in the main thread alone, and in its world a thread is that."""
    found = []
    thread = threading.Thread(target=lambda: found.append(explore("hello", server="uvicorn[h11,wsproto]")))
    thread.start()
    thread.join()
    assert found[0].verdict == "holds"


def test_from_a_thread_while_this_one_uses_what_is_simulated_there() -> None:
    """Each sleep and each random number of this thread is real, while the other's are the world's."""
    thread = threading.Thread(target=chatter)
    thread.start()
    drawn = set()
    while thread.is_alive():
        time.sleep(0.001)
        drawn.add(os.urandom(8))
        with socket.socket() as sock:
            assert sock.fileno() > 0
        assert time.time() > 1_750_000_000
        assert threading.main_thread() is threading.current_thread()
    thread.join()
    assert drawn


def test_two_searches_at_once_do_not_disturb_one_another() -> None:
    plays = {"two": chattering(2, 2), "three": chattering(3, 1), "laps": chattering(1, 3, laps=3)}
    settings: dict[str, dict[str, Any]] = {"laps": {"granularity": "iteration"}}
    alone = {name: search(play, **settings.get(name, {})) for name, play in plays.items()}
    together: dict[str, Report] = {}
    errors = []
    barrier = threading.Barrier(len(plays))

    def work(name: str) -> None:
        try:
            barrier.wait()
            for _ in range(3):
                together[name] = search(plays[name], **settings.get(name, {}))
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(name,)) for name in plays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert all(same(together[name], alone[name]) for name in plays)


def test_not_from_inside_a_run() -> None:
    def play(world: World, _subject: Any) -> None:
        search(picking(2))

    with pytest.raises(BoundaryError, match="a world already runs in this thread"):
        search(play)


def test_from_a_progress_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.search.explore.PROGRESS_EVERY", 0.0)
    inner = []
    search(picking(2), on_progress=lambda _progress: inner.append(search(picking(3)).runs))
    assert inner == [3, 3]


def interrupted_script(runs: int) -> Callable[..., None]:
    count = 0

    def play(world: World, _subject: Any) -> None:
        nonlocal count
        count += 1
        chattering(2, 2)(world, _subject)

        async def script(host: Host) -> None:
            await host.sleep(0.0)
            if count == runs:
                raise KeyboardInterrupt

        world.start_script("interrupted", script)

    return play


def interrupted_server(runs: int) -> Callable[..., None]:
    count = 0

    def play(world: World, _subject: Any) -> None:
        nonlocal count
        count += 1

        async def main() -> None:
            world.choose(range(10), "anything")
            await asyncio.sleep(0.1)
            if count == runs:
                raise KeyboardInterrupt

        world.start_process("server", main)

        async def script(host: Host) -> None:
            await host.sleep(1.0)

        world.start_script("client", script)

    return play


@pytest.mark.parametrize("make", [interrupted_script, interrupted_server])
@pytest.mark.parametrize("runs", [1, 4])
def test_an_interrupt_inside_a_run(make: Callable[[int], Any], runs: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(make(runs))
    assert chatter().verdict == "holds"


def test_an_interrupt_between_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.search.explore.PROGRESS_EVERY", 0.0)

    def interrupt(progress: Progress) -> None:
        if progress.runs == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(picking(9), on_progress=interrupt)
    assert chatter().verdict == "holds"


@pytest.mark.parametrize("delay", [0.05, 0.1, 0.15, 0.2])
def test_a_real_interrupt(delay: float) -> None:
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        search(chattering(3, 3), granularity="iteration", max_seconds=60)
    timer.join()
    assert chatter().verdict == "holds"


def ctrl_c() -> None:
    """As if a terminal sent it just now; `signal.raise_signal` is the world's."""
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


def swallowing(*, times: int = 1) -> Callable[..., None]:
    """A play whose server meets Ctrl-C so many times while it catches whatever there is."""

    def play(world: World, _subject: Any) -> None:
        async def main() -> None:
            for _ in range(times):
                try:
                    ctrl_c()
                    await asyncio.sleep(0)
                except BaseException as exc:
                    world.trace.record(Noted, "server", type(exc).__name__)

        world.start_process("server", main)

        async def script(host: Host) -> None:
            await host.sleep(1.0)

        world.start_script("client", script)

    return play


def test_an_interrupt_that_the_code_under_test_would_swallow() -> None:
    seen = []

    @always("seen", "Every run is seen.")
    def see(trace: Trace) -> None:
        seen.append(noted(trace))

    with pytest.raises(KeyboardInterrupt):
        search(swallowing(), see)
    assert seen == []


def test_the_second_interrupt_does_not_wait() -> None:
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append("heard"))
    try:
        with pytest.raises(KeyboardInterrupt):
            search(swallowing(times=3))
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == ["heard", "heard"]


def test_an_interrupt_that_is_ignored_is_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert search(swallowing()).verdict == "holds"
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_from_inside_a_running_event_loop() -> None:
    async def cell() -> None:
        search(swallowing())

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(cell())


def test_an_error_closes_the_session() -> None:
    def play(world: World, _subject: Any) -> None:
        raise LookupError("the play itself")

    with pytest.raises(SimError, match="LookupError: the play itself"):
        search(play)


@pytest.mark.parametrize("enabled", [True, False])
def test_collection_is_restored(enabled: bool) -> None:
    was = gc.isenabled()
    inside = []

    def play(world: World, _subject: Any) -> None:
        inside.append(gc.isenabled())

    try:
        (gc.enable if enabled else gc.disable)()
        search(play)
        assert gc.isenabled() is enabled
        assert inside == [False, False]
    finally:
        (gc.enable if was else gc.disable)()


def test_what_a_program_has_frozen_stays_frozen() -> None:
    canary = [object()]
    gc.freeze()
    try:
        search(picking(2))
        assert gc.get_freeze_count() > 0
        assert not any(thing is canary for thing in gc.get_objects())
    finally:
        gc.unfreeze()
    assert any(thing is canary for thing in gc.get_objects())


def test_no_collection_inside_a_run() -> None:
    """Also with two threads, of which one is inside a run while the other's collection is due."""
    running: set[int] = set()
    wrong = []

    def note(phase: str, _info: dict[str, int]) -> None:
        if phase == "start" and running:
            wrong.append(set(running))

    def play(world: World, _subject: Any) -> None:
        running.add(threading.get_ident())
        world.choose(range(150), "anything")
        for _ in range(200):
            world.trace.record(Noted, "toy", [])
        running.discard(threading.get_ident())

    gc.callbacks.append(note)
    try:
        threads = [threading.Thread(target=search, args=(play,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.callbacks.remove(note)
    assert wrong == []


def test_memory_is_flat_over_5000_runs() -> None:
    """Resident memory, of a search with an event loop, tasks and connections in each run."""
    pages: dict[int, int] = {}
    runs = 0

    @always("measured", "Every run is counted.")
    def measure(trace: Trace) -> None:
        nonlocal runs
        runs += 1
        assert got(trace)
        if runs in (1_000, 5_000):
            with open("/proc/self/statm", encoding="ascii") as statm:
                pages[runs] = int(statm.read().split()[1])

    def play(world: World, subject: Any) -> None:
        world.choose(range(5_000), "which run this is")
        chattering(1, 2, laps=2)(world, subject)

    report = search(play, measure)
    assert report.runs == 5_000
    grown = (pages[5_000] - pages[1_000]) * os.sysconf("SC_PAGE_SIZE")
    assert grown < 4 << 20, f"resident memory has grown by {grown:,} bytes"


def test_a_world_that_ends_is_freed() -> None:
    """Nothing of a run outlives it but the trace and the choices."""
    import weakref

    runner = Runner(toy_scenario(chattering(2, 2)), Toy())
    worlds = []
    with runner.session():
        for _ in range(10):
            runner.run(on_end=lambda world, _run: worlds.append(weakref.ref(world)))
        gc.collect()
        assert [ref() for ref in worlds] == [None] * 10

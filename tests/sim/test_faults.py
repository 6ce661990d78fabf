"""Faults: what each does to both sides, that its budget is kept, that nothing is there without it, and the ways to ask."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import attrs
import pytest

import sim
import sim.world.active
from sim import Faults, Scenario, Schedule, Settings, UsageError, World, always
from sim.search.exhaustive import Exhaustive
from sim.search.runner import Runner
from sim.show.table import details
from sim.world.events import Fault, HandedOver
from sim.world.faults import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sim import Host
    from sim.search.runner import Run

ADDRESS = ("127.0.0.1", 8000)
STARTED = 1_000.0
"""What the monotonic clock of a world begins at."""


@attrs.frozen
class Nobody:
    requirement: str = "nobody"
    kind: str = "model"
    versions: dict[str, str] = attrs.field(factory=dict)


@attrs.define
class Seen:
    """What both sides noticed, in order."""

    server: list[Any] = attrs.field(factory=list)
    client: list[Any] = attrs.field(factory=list)


def noting(seen: Seen) -> type[asyncio.Protocol]:
    class Noting(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            seen.server.append("made")

        def data_received(self, data: bytes) -> None:
            seen.server.append(data)
            self.transport.write(data.upper())

        def eof_received(self) -> bool:
            seen.server.append("eof")
            return False

        def connection_lost(self, exc: Exception | None) -> None:
            if sim.world.active.current_world().closed:  # type: ignore[union-attr]
                return  # that is the world being torn down
            seen.server.append(f"lost {type(exc).__name__}" if exc else "lost")

    return Noting


def runs(
    faults: Faults,
    script: Callable[[Host, Seen], Coroutine[Any, Any, None]],
    main: Callable[[Seen], Coroutine[Any, Any, None]] | None = None,
    **settings: Any,
) -> list[tuple[Run, Seen]]:
    """Every run of one client's script against a server that notes and echoes in capitals, with what was seen."""
    all_seen: list[Seen] = []

    def play(world: World, _subject: object) -> None:
        seen = Seen()
        all_seen.append(seen)

        async def serve() -> None:
            server = await asyncio.get_running_loop().create_server(noting(seen), *ADDRESS)
            await server.serve_forever()

        world.start_process("server", (lambda: main(seen)) if main is not None else serve)
        world.run_until(lambda: ADDRESS in world.kernel.listeners, within=1.0)
        world.start_script("client", lambda host: script(host, seen))

    # A settling time of more than a moment, because a server that is told late is told all the same.
    options = {"latency": (0.0, 0.0), "settle": 5.0, "horizon": 100.0, **settings}
    scenario = Scenario("faults", "Faults.", play, (), settings=lambda: Settings(faults=faults, **options))
    runner = Runner(scenario, Nobody())
    with runner.session():
        played = list(Exhaustive().runs(runner.run))
    return list(zip(played, all_seen, strict=True))


def struck(run: Run) -> list[str]:
    return [event.fault for event in run.trace.of(Fault)]


async def says_hello(host: Host, seen: Seen) -> None:
    try:
        connection = await host.connect(ADDRESS)
        connection.send(b"hello", "hello")
        while data := await connection.receive(within=3.0):
            seen.client.append(data)
        seen.client.append("nothing" if data is None else "eof")
        connection.close()
    except ConnectionError as exc:
        seen.client.append(type(exc).__name__)


def one(faults: Faults, script: Any = says_hello, **settings: Any) -> tuple[Run, list[tuple[Run, Seen]]]:
    """The run without a fault, and those in which one struck."""
    (first, seen), *others = runs(faults, script, **settings)
    assert first.deviations == 0
    assert struck(first) == []
    assert seen.server[:2] == ["made", b"hello"]
    assert seen.client[:1] == [b"HELLO"]
    return first, [(run, seen) for run, seen in others if struck(run)]


def test_without_faults_there_is_nothing() -> None:
    ((run, _),) = runs(Faults(), says_hello)
    assert run.choices == []


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("cancel", "late")])
def test_each_strikes_as_often_as_it_may_and_no_oftener(name: str) -> None:
    for allowed in (1, 2):
        cuts = (lambda data: [2]) if name == "cut" else None
        script = says_two_words if name == "merge" else says_hello
        hit = [r for r in runs(Faults(**{name: allowed}, cuts=cuts), script) if struck(r[0])]
        counts = {sum(n == name for n in struck(run)) for run, _ in hit}
        # A client that was stalled reads on: a second event of the same name.
        most = allowed if name != "stall" else 2 * allowed
        assert max(counts) <= most
        assert all(set(struck(run)) == {name} for run, _ in hit)
        assert hit


def test_a_cut_is_tried_at_every_byte_and_nothing_is_lost() -> None:
    _, hit = one(Faults(cut=1))
    arrived = {tuple(s.server[1:3]) for _, s in hit if s.server[1] != b"hello"}
    assert arrived == {(b"hello"[:n], b"hello"[n:]) for n in range(1, 5)}
    assert all(b"".join(d for d in s.client if isinstance(d, bytes)) == b"HELLO" for _, s in hit)


def test_cuts_can_be_limited_to_those_that_matter() -> None:
    _, hit = one(Faults(cut=1, cuts=lambda data: [2]))
    assert {tuple(s.server[1:3]) for _, s in hit if s.server[1] != b"hello"} == {(b"he", b"llo")}


async def says_two_words(host: Host, seen: Seen) -> None:
    connection = await host.connect(ADDRESS)
    connection.send(b"one ", "one")
    connection.send(b"two", "two")
    while data := await connection.receive(within=1.0):
        seen.client.append(data)
    connection.close()


def test_two_segments_become_one() -> None:
    found = {tuple(s.server[1:-1]) for _, s in runs(Faults(merge=1), says_two_words)}
    assert found == {(b"one ", b"two", "eof"), (b"one two", "eof")}


def timing(seen: Seen) -> Callable[[], Coroutine[Any, Any, None]]:
    """A server that notes what it gets and when, and answers nothing."""

    class Timing(asyncio.Protocol):
        def note(self, what: object) -> None:
            seen.server.append((what, round(asyncio.get_running_loop().time() - STARTED, 6)))

        def connection_made(self, _transport: Any) -> None:
            self.note("made")

        def data_received(self, data: bytes) -> None:
            self.note(data)

        def eof_received(self) -> bool:
            self.note("eof")
            return False

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Timing, *ADDRESS)
        await server.serve_forever()

    return serve


def delayed(script: Any) -> set[tuple[object, ...]]:
    """What the server saw of a script, and when, in the runs with one delay."""
    (_, plain), *others = runs(Faults(delay=1), script, lambda seen: timing(seen)())
    assert [when for _, when in plain.server] == sorted(when for _, when in plain.server)
    return {tuple(seen.server) for run, seen in others if struck(run)}


async def two_words_and_a_close(host: Host, _seen: Seen) -> None:
    connection = await host.connect(ADDRESS)
    connection.send(b"hello", "hello")
    connection.send(b"world", "world")
    await host.sleep(2.0)
    connection.close()


def test_what_is_delayed_comes_late_and_in_order() -> None:
    found = delayed(two_words_and_a_close)
    assert {
        (("made", 1.0), (b"hello", 1.0), (b"world", 1.0), ("eof", 3.0)),  # what opens the connection
        (("made", 0.0), (b"hello", 0.2), (b"world", 0.2), ("eof", 2.0)),  # the first; the second waits for it
        (("made", 0.0), (b"hello", 0.0), (b"world", 0.2), ("eof", 2.0)),
    } == found


async def speaks_again_soon(host: Host, _seen: Seen) -> None:
    connection = await host.connect(ADDRESS)
    connection.send(b"hello", "hello")
    await host.sleep(0.1)
    connection.send(b"again", "again")
    await host.sleep(2.0)
    connection.close()


def test_what_is_sent_behind_a_delayed_segment_waits_for_it_too() -> None:
    """It is sent while the delayed one is under way, and its own interval is over before that arrives."""
    assert (("made", 0.0), (b"hello", 0.2), (b"again", 0.2), ("eof", 2.1)) in delayed(speaks_again_soon)


def test_whoever_is_delayed_is_answered_all_the_same() -> None:
    _, hit = one(Faults(delay=1))
    assert all(seen.client == [b"HELLO", "nothing"] for _, seen in hit)


def test_a_delay_within_an_interval_moves_the_interval() -> None:
    """A timer of 0.15 s fires before a delayed segment, which comes behind 0.2 to 0.3 s, and not before any other."""

    async def waits(host: Host, seen: Seen) -> None:
        connection = await host.connect(ADDRESS)
        connection.send(b"hello", "hello")
        data = await connection.receive(within=0.15)
        seen.client.append("in time" if data else "late")
        connection.close()

    found = runs(Faults(delay=1), waits, latency=(0.0, 0.1))
    assert {seen.client[0] for run, seen in found if not struck(run)} == {"in time"}
    said = [event.what for run, _ in found for event in run.trace.of(Fault)]
    assert "hello is delayed by 0.2 s" in said
    assert all(
        seen.client == ["late"]
        for run, seen in found
        if any(event.what == "hello is delayed by 0.2 s" for event in run.trace.of(Fault))
    )


def test_arrivals_are_an_option_of_a_search_and_part_of_its_schedules() -> None:
    report = sim.explore("hello", server="reference", faults={"rst": 1}, arrivals="any")
    assert report.settings["arrivals"] == "any"
    schedule = Schedule.from_blob(report.discoveries[0].blob)
    assert (schedule.faults, schedule.arrivals) == ({"rst": 1}, "any")
    runner, _ = sim.replay(schedule)
    assert runner.settings.arrivals == "any"
    with pytest.raises(UsageError, match="arrivals 'late' does not exist. There are: single, merged, any"):
        sim.explore("hello", server="reference", arrivals="late")
    with pytest.raises(UsageError, match="arrivals 'late' does not exist"):
        sim.replay(attrs.evolve(schedule, arrivals="late"))


def test_arrivals_change_what_a_server_reads_at_once() -> None:
    def play(world: World, _subject: object) -> None:
        seen = Seen()
        world.notes["seen"] = seen.server
        world.start_process("server", lambda: timing(seen)())
        world.run_until(lambda: ADDRESS in world.kernel.listeners, within=1.0)
        world.start_script("client", lambda host: two_words_and_a_close(host, seen))

    def reads(arrivals: str | None) -> set[tuple[bytes, ...]]:
        runner = Runner(Scenario("arrivals", "", play, ()), Nobody(), arrivals=arrivals)
        with runner.session():
            found = [run.notes["seen"] for run in Exhaustive().runs(runner.run)]
        return {tuple(what for what, _ in seen if isinstance(what, bytes)) for seen in found}

    assert reads(None) == reads("single") == {(b"hello", b"world")}
    assert reads("merged") == {(b"helloworld",)}
    assert reads("any") == {(b"hello", b"world"), (b"helloworld",)}


def test_a_client_that_does_not_read_goes_on_in_the_end() -> None:
    _, hit = one(Faults(stall=1))
    assert {s.client[0] for _, s in hit} == {b"HELLO", "nothing"}
    assert all(s.server[:2] == ["made", b"hello"] for _, s in hit)


async def waits_for_ever(host: Host, seen: Seen) -> None:
    connection = await host.connect(ADDRESS)
    connection.send(b"hello", "hello")
    seen.client.append(await connection.receive())
    connection.close()


def test_a_stall_is_never_a_deadlock() -> None:
    _, hit = one(Faults(stall=1), waits_for_ever)
    assert {tuple(s.client) for _, s in hit} == {(b"HELLO",)}
    assert not any(run.violations for run, _ in hit)


def test_a_fin_in_the_middle() -> None:
    _, hit = one(Faults(fin=1))
    assert {(*s.client, *s.server) for _, s in hit} == {(b"HELLO", "eof", "made", b"hello", "eof", "lost")}


def test_a_reset_by_the_client_and_by_the_network() -> None:
    _, hit = one(Faults(rst=1))
    ends = {(s.client[-1], s.server[-1]) for _, s in hit}
    assert ("ConnectionResetError", "lost ConnectionResetError") in ends
    assert ("eof", "lost ConnectionResetError") in ends
    assert all("lost" in str(s.server[-1]) for _, s in hit if s.server)


def test_a_lost_connection_tells_nobody() -> None:
    _, hit = one(Faults(lose=1))
    assert {s.client[-1] for _, s in hit} == {"nothing"}
    assert not any("lost" in str(s.server[-1]) for _, s in hit)
    assert any(s.server == ["made"] for _, s in hit)


def test_a_refused_connection() -> None:
    _, hit = one(Faults(refuse=1))
    assert [(s.client, s.server) for _, s in hit] == [(["ConnectionRefusedError"], [])]


@pytest.mark.parametrize(("name", "number"), [("sigterm", 15), ("sigint", 2)])
def test_a_signal_at_any_point(name: str, number: int) -> None:
    _, hit = one(Faults(**{name: 1}))
    assert all(
        event.what == f"gets {'SIGTERM' if number == 15 else 'SIGINT'}"
        for run, _ in hit
        for event in run.trace.of(Fault)
    )
    # No handler is set, so the process dies of it: before the client comes, before its answer, or behind it.
    assert {tuple(s.client) for _, s in hit} == {("ConnectionRefusedError",), ("eof",), (b"HELLO", "eof")}


def test_the_wall_clock_jumps_and_the_monotonic_one_does_not() -> None:
    async def looks(host: Host, seen: Seen) -> None:
        connection = await host.connect(ADDRESS)
        connection.send(b"hello", "hello")
        seen.client.append(await connection.receive())
        wall, monotonic = time.time(), time.monotonic()
        connection.send(b"again", "again")
        await connection.receive()
        seen.client.append((round(time.time() - wall), round(time.monotonic() - monotonic)))
        connection.close()

    _, hit = one(Faults(clock=1), looks)
    assert {s.client[-1] for _, s in hit} == {(0, 0), (3600, 0), (-3600, 0)}


# Cancellation and executors: inside a server.


def cancellable() -> Any:
    """A server that works in 20 iterations on what it gets, as a task that faults may cancel."""

    async def main(seen: Seen) -> None:
        async def work() -> None:
            done = 0
            try:
                while True:
                    await arrived.wait()
                    arrived.clear()
                    for done in range(1, 20):  # noqa: B007
                        await asyncio.sleep(0)
            finally:
                seen.server.append(done)

        arrived = asyncio.Event()

        class Bell(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                arrived.set()

        loop = asyncio.get_running_loop()
        server = await loop.create_server(Bell, *ADDRESS)
        task = asyncio.create_task(work())
        sim.world.active.current_world().may_cancel("worker", task)  # type: ignore[union-attr]
        await asyncio.wait([task])
        server.close()

    return main


async def rings(host: Host, seen: Seen) -> None:
    connection = await host.connect(ADDRESS)
    connection.send(b"!", "ring")
    await host.sleep(1.0)
    connection.close()


def test_a_cancellation_comes_behind_each_number_of_iterations() -> None:
    found = runs(Faults(cancel=1), rings, cancellable())
    worked = {s.server[0] for run, s in found if struck(run) and s.server}
    assert {0, 1, 2, 3, 4, 5, 6, 7, 8} <= worked
    assert 19 in worked, "it comes when the work is long done, too"


def test_executors_finish_at_once_or_later_in_any_order() -> None:
    async def main(seen: Seen) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_server(asyncio.Protocol, *ADDRESS)

        async def work(name: str) -> None:
            seen.server.append(await loop.run_in_executor(None, lambda: name))

        while not sim.world.active.current_world().striker.on:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
        await asyncio.gather(*(work(name) for name in "abc"))
        await asyncio.Event().wait()

    async def waits(host: Host, seen: Seen) -> None:
        await host.sleep(1.0)

    found = runs(Faults(late=2), waits, main)
    orders = {"".join(s.server) for _, s in found}
    assert orders >= {"abc", "bca", "acb", "cab", "cba"}
    assert any(isinstance(e, HandedOver) for run, _ in found for e in run.trace)


# How they are asked for, and told.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rst", "the fault 'rst' is not of the form NAME=TIMES"),
        ("rst=much", "the fault 'rst=much' is not of the form NAME=TIMES"),
        ("flood=1", "the fault 'flood' does not exist. There are: cut, merge, "),
    ],
)
def test_bad_ways_to_ask(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Faults.parse(text)
    assert message in str(caught.value)


def test_good_ways_to_ask() -> None:
    assert Faults.parse("rst=1, cut=2") == {"rst": 1, "cut": 2}
    assert str(Faults(rst=1, cut=2)) == "cut=2, rst=1"
    assert str(Faults()) == "none"
    assert not Faults()


def test_numbers_have_to_be_numbers() -> None:
    with pytest.raises(UsageError, match="the fault rst=-1 is no number of times"):
        Faults(rst=-1)


def test_a_report_says_which_and_a_schedule_carries_them() -> None:
    @always("no-reset", "Nothing is reset.")
    def no_reset(trace: sim.Trace) -> sim.Violation | None:
        return next((sim.Violation(e.describe(), e) for e in trace.of(Fault)), None)

    report = sim.explore("hello", server="reference", faults={"rst": 1})
    assert report.faults == {"rst": 1}
    assert report.to_json()["faults"] == {"rst": 1}
    assert report.to_json()["struck"] == {"rst": report.runs - 1}, "all orders but the first"
    (discovery, *_) = report.discoveries
    schedule = Schedule.from_blob(discovery.blob)
    assert schedule.faults == {"rst": 1}
    assert schedule.deviations == 1
    _, run = sim.replay(schedule)
    assert struck(run) == ["rst"]
    assert no_reset.check(run.trace) is not None


def test_the_table_says_which_faults_were_explored() -> None:
    reports = [
        sim.explore("hello", server=server, faults={"late": 1, "refuse": 1})
        for server in ("reference", "granian==1.4.1")
    ]
    one, two = (report.struck for report in reports)
    assert (one["late"], one["refuse"]) == (0, 1), "hello has one connection, and no work for an executor"
    page = [str(line) for line in details(reports[:1])]
    assert "Faults that could strike in one order: refuse=1, late=1" in page
    assert "  refuse struck in 1 order, late in none" in page
    assert two == one
    assert "  refuse struck in 1 order, late in none: reference, granian==1.4.1" in map(str, details(reports))


def test_a_schedule_without_faults_prints_as_it_always_did() -> None:
    assert Schedule("s", "t", (1,)).to_blob() == Schedule("s", "t", (1,), faults=None).to_blob()
    assert Schedule.from_blob(Schedule("s", "t", (1,), faults={}).to_blob()).faults == {}


def test_unknown_faults_are_refused_by_the_library_too() -> None:
    with pytest.raises(UsageError, match="the fault 'flood' does not exist"):
        sim.explore("hello", server="reference", faults={"flood": 1})

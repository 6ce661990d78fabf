"""The reduction by states: it leaves out orders and nothing else."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from sim import Settings, UsageError, Violation, always, eventually, sometimes
from sim.search.explore import explore
from sim.search.states import Visited
from sim.world.fiber import Signal
from tests.sim.seeds import said_under_each
from tests.sim.toys import ADDRESS, Got, Noted, chattering, got, listening, picking, search, talker

if TYPE_CHECKING:
    from sim import Host, Trace, World

BYTES_A_KEY = 64


# The table.


def test_a_table_holds_what_a_set_holds() -> None:
    keys = [random.Random(n).randbytes(16) for n in range(3_000)]
    table, plain = Visited(), set()
    for key in keys + keys[::3]:
        assert table.add(key) == (key not in plain)
        plain.add(key)
    assert len(table) == len(plain)
    assert all(key in table for key in plain)
    assert not any(random.Random(10**6 + n).randbytes(16) in table for n in range(1_000))


def test_a_key_costs_less_than_64_bytes_even_while_the_table_grows() -> None:
    table = Visited()
    draw = random.Random(1)
    worst, before = 0.0, table.size
    for count in range(1, 20_001):
        table.add(draw.randbytes(16))
        peak = before + table.size if table.size != before else table.size
        if count > 500:
            worst = max(worst, peak / count)
        before = table.size
    assert worst < BYTES_A_KEY


def test_keys_that_look_like_free_places() -> None:
    table = Visited()
    assert table.add(bytes(16))
    assert not table.add(bytes(16))
    assert bytes(16) in table


def test_keys_that_fall_on_one_place() -> None:
    table = Visited()
    keys = [n.to_bytes(8, "little") + bytes(8) for n in range(2, 40)]
    assert all(table.add(key) for key in keys)
    assert not any(table.add(key) for key in keys)


# What is preserved.


def both(play: Any, *invariants: Any, **options: Any) -> tuple[Any, Any]:
    plain = search(play, *invariants, **options)
    reduced = search(play, *invariants, reduce=("states",), **options)
    return plain, reduced


@pytest.mark.parametrize("granularity", ["turn", "iteration"])
@pytest.mark.parametrize("laps", [0, 1])
@pytest.mark.parametrize("past", ["trace", "conversations", "outcome"])
def test_the_same_outcomes(granularity: str, laps: int, past: str) -> None:
    if granularity == "iteration" and laps and past != "outcome":
        pytest.skip("long, and the same for each past")
    play = chattering(2, 1 if granularity == "iteration" else 2, laps=laps)
    plain, reduced = both(play, granularity=granularity, scenario={"past": past})
    assert plain.complete
    assert reduced.complete
    assert reduced.outcomes == plain.outcomes
    assert reduced.runs <= plain.runs


def test_fewer_runs_where_orders_meet_again() -> None:
    """Each server's side forgets what it got; only the order of arrivals differs, and nobody looks at it."""

    def play(world: World, _subject: Any) -> None:
        class Sink(asyncio.Protocol):
            pass

        async def main() -> None:
            await (await asyncio.get_running_loop().create_server(Sink, *ADDRESS)).serve_forever()

        world.start_process("server", main)
        world.run_until(lambda: ADDRESS in world.kernel.listeners, within=1.0)
        for number in range(2):
            world.start_script(f"client {number}", talker(["a", "b", "c"]), alike="client")

    plain, reduced = both(play, scenario={"past": "outcome"})
    assert (plain.runs, plain.outcomes) == (70, 1)
    assert reduced.outcomes == 1
    assert reduced.runs < 25
    symmetric = search(play, reduce=("states",), symmetry=True, scenario={"past": "outcome"})
    assert symmetric.complete
    assert symmetric.states < reduced.states
    assert symmetric.runs <= reduced.runs


def test_the_same_violations() -> None:
    @always("never-b-first", "b0 is not first.")
    def never(trace: Trace) -> Violation | None:
        return Violation("it was") if got(trace)[:1] == ("b0",) else None

    @eventually("all-there", "Four messages arrive.")
    def all_there(trace: Trace) -> Violation | None:
        return None if len(got(trace)) == 4 else Violation(f"{len(got(trace))} arrived")

    @sometimes("b-a", "Some run has b first and a last.")
    def some(trace: Trace) -> Violation | None:
        found = got(trace)
        return None if found[:1] == ("b0",) and found[-1:] == ("a1",) else Violation("not here")

    plain, reduced = both(chattering(2, 2), never, all_there, some, scenario={"past": "outcome"})
    assert plain.verdict == reduced.verdict == "violated"
    assert [d.invariant for d in plain.discoveries] == [d.invariant for d in reduced.discoveries]
    assert reduced.runs <= plain.runs


def test_what_was_found_before_a_bound_is_shrunk_by_whole_runs() -> None:
    """A run that ended at a known state would not break again what it broke."""
    report = explore("lost_client", server="granian==1.4.1", reduce=("states",), max_runs=20)
    assert report.verdict == "violated"
    assert report.shrink_runs


def test_a_violation_before_a_known_state_counts() -> None:
    """Whoever picks 1 violates, and then goes on as everybody does."""

    def play(world: World, _subject: Any) -> None:
        async def script(host: Host) -> None:
            pick = host.choose((0, 1), "which")
            if pick:
                host.world.trace.record(Noted, "nobody looks", pick)
            del pick
            await host.sleep(1.0)
            host.choose((0, 1), "another")

        world.start_script("script", script)

    @always("never-1", "Nobody picks 1.")
    def never(trace: Trace) -> Violation | None:
        return Violation("1") if any(trace.of(Noted)) else None

    assert search(play, never, reduce=("states",)).verdict == "violated"


# Pasts.


@pytest.mark.parametrize("past", ["outcome", "conversations"])
def test_a_scenario_that_says_too_little_is_found_out(past: str) -> None:
    """The claim looks at the order of two scripts' events, which neither past has."""

    def play(world: World, _subject: Any) -> None:
        async def script(host: Host) -> None:
            await host.connect(ADDRESS)
            world.trace.record(Noted, host.name, "connected")

        listening(world)
        for name in ("a", "b"):
            world.start_script(name, script)

    @always("a-first", "a is connected first.")
    def first(trace: Trace) -> Violation | None:
        order = [event.actor for event in trace.of(Noted)]
        return None if order[:1] in ([], ["a"]) else Violation("b was")

    with pytest.raises(UsageError, match="looks at more than that"):
        search(play, first, reduce=("states",), scenario={"past": past})
    assert search(play, first, reduce=("states",)).verdict == "violated"


def noting(world: World, _subject: Any) -> None:
    """A script says what it picks, and then, whatever that was, that it waited."""

    async def script(host: Host) -> None:
        world.trace.record(Got, "script", host.choose(("a", "b"), "which"))
        await host.sleep(1.0)
        world.trace.record(Noted, "script", "waited")
        host.choose((0, 1), "another")

    world.start_script("script", script)


def test_a_past_of_the_events_that_claims_look_at() -> None:
    @always("never", "It never waits.")
    def never(trace: Trace) -> Violation | None:
        return Violation("it did") if any(trace.of(Noted)) else None

    reports = [search(noting, never, reduce=("states",), scenario={"past": past}) for past in ("outcome", (Noted,))]
    assert [report.verdict for report in reports] == ["violated", "violated"]
    assert reports[1].states < reports[0].states


def test_a_past_of_too_few_events_is_found_out() -> None:
    @always("b", "It picks b.")
    def first(trace: Trace) -> Violation | None:
        return None if all(event.data == "b" for event in trace.of(Got)) else Violation("a")

    with pytest.raises(UsageError, match=r"past=\(Noted\).*looks at more than that"):
        search(noting, first, reduce=("states",), scenario={"past": (Noted,)})
    report = search(noting, first, reduce=("states",), scenario={"past": (Got, Noted)})
    assert report.verdict == "violated"


@pytest.mark.parametrize("past", [(int,), ("outcome",), ()])
def test_a_past_of_what_are_no_events(past: tuple[Any, ...]) -> None:
    with pytest.raises(UsageError, match="or a tuple of types of events"):
        search(picking(2), scenario={"past": past})


def test_by_default_the_whole_past_counts() -> None:
    plain, reduced = both(chattering(2, 2))
    assert reduced.runs == plain.runs


def test_an_unknown_past() -> None:
    with pytest.raises(UsageError, match="There are: trace, conversations, outcome"):
        search(picking(2), scenario={"past": "yesterday"})


# What goes on for ever, and what happens at one moment.


def test_a_run_that_goes_in_a_circle_does_not_hold() -> None:
    """A script waits for ever while a process polls: no state is new, and yet nothing was decided."""

    def play(world: World, _subject: Any) -> None:
        async def poll() -> None:
            while True:
                await asyncio.sleep(1.0)

        async def script(host: Host) -> None:
            await host.wait(Signal(), None)

        world.start_process("poller", poll)
        world.start_script("script", script)

    report = search(play, reduce=("states",), scenario={"settings": Settings(horizon=20.0)})
    assert report.verdict == "inconclusive"
    assert report.bound.name == "horizon"


def test_timers_of_one_moment() -> None:
    """Who set its timer first is seen only when both fire: by then the order has to be part of the state."""

    def play(world: World, _subject: Any) -> None:
        class Setter(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                asyncio.get_running_loop().call_later(5.0, note, data.decode())

        fired: list[str] = []

        def note(who: str) -> None:
            fired.append(who)
            if len(fired) == 2:
                world.trace.record(Got, "server", fired[0])

        async def main() -> None:
            await (await asyncio.get_running_loop().create_server(Setter, *ADDRESS)).serve_forever()

        async def last(host: Host) -> None:
            await host.sleep(6.0)

        world.start_process("server", main)
        world.run_until(lambda: ADDRESS in world.kernel.listeners, within=1.0)
        for name in ("a", "b"):
            world.start_script(name, talker([name]))
        world.start_script("last", last)

    settings = Settings(latency=(0.0, 0.0), settle=0.0)
    plain, reduced = both(play, scenario={"past": "outcome", "settings": settings})
    assert plain.outcomes == 2
    assert reduced.complete
    assert reduced.outcomes == 2


# The interface.


def test_states_are_counted_and_said() -> None:
    report = search(picking(2), reduce=("states",))
    assert report.states == report.to_json()["states"]
    assert "states" not in search(picking(2)).to_json()


def test_unknown_reductions_and_symmetry_alone() -> None:
    with pytest.raises(UsageError, match="There are: none, classes, states"):
        search(picking(2), reduce=("magic",))
    with pytest.raises(UsageError, match="needs --reduce states"):
        search(picking(2), symmetry=True)


PROGRAM = """
from tests.sim.toys import *
report = search(chattering(3, 1), reduce=("states",), scenario={"past": "outcome"})
print(report.states, report.runs, report.outcomes)
"""


def test_the_same_search_under_each_hash_seed() -> None:
    said = said_under_each(PROGRAM)
    assert len(said) == 1

"""A search in many hands: whatever is cut where, done by whom and in which order, the answer is one search's."""

from __future__ import annotations

import functools
import pickle
import random
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import Divergence, SimError, UsageError, Violation, always, explore, sometimes
from sim.search.deepening import Deepening, Family, Nursery
from sim.search.exhaustive import EVERYTHING, Exhaustive, Prefix
from sim.search.frontier import Frontier
from sim.search.part import Part, digest
from sim.search.question import Question
from sim.search.spread import Search
from sim.search.unit import Bench, Done, Unit
from sim.world.choices import Choice

from .test_search import walk
from .toys import Toy, chattering, got, noted, picking, toy_scenario

if TYPE_CHECKING:
    from sim import Report, Scenario, Trace, World

# Pieces


def test_a_world_that_offers_something_else_elsewhere_is_a_divergence() -> None:
    """Also at the choices that were made in another process."""
    nursery = Nursery()
    nursery.put([Choice(3, 1, "elsewhere"), Choice(2, 0, "elsewhere")], 1)
    for policy in Exhaustive([Prefix((1, 0), (3, 2))]), Deepening(nursery.take()):
        with pytest.raises(Divergence, match=r"Choice 1 had 3 possibilities; now there are 2"):
            list(policy.runs(lambda forced: walk([[None, None], [None, None]], forced)))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), unique=True), st.data())
def test_a_frontier_keeps_its_order(picks: list[tuple[int, ...]], data: Any) -> None:
    prefixes = [Prefix(p, (4, 4, 4)) for p in picks]
    frontier = Frontier()
    for prefix in prefixes:
        frontier.add([prefix])
    assert frontier.share == pytest.approx(len(picks) / 64)
    gone = data.draw(st.sets(st.sampled_from(prefixes))) if prefixes else set()
    for prefix in gone:
        frontier.remove(prefix)
        with pytest.raises(ValueError, match="Prefix"):
            frontier.remove(prefix)
    border = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    left = sorted(set(prefixes) - gone, key=lambda p: p.picks)
    assert len(frontier) == frontier.schedules == len(left)
    assert frontier.first == (left[0] if left else None)
    assert list(frontier.take(100, at_most=100, before=border)) == [p for p in left if p.picks < border]
    assert frontier.drop((3,))[::-1] == [p for p in left if p.picks >= max(border, (3,))]
    assert list(frontier.take(100, at_most=100)) == [p for p in left if border <= p.picks < (3,)]
    assert (len(frontier), frontier.schedules, frontier.share) == (0, 0, 0.0)


def test_a_frontier_gives_what_is_asked_for_and_of_one_level() -> None:
    families = [Family((1,), 10, 0.1, b""), Family((2,), 10, 0.1, b""), Family((1, 1), 10, 0.1, b"")]
    frontier = Frontier(families[::-1])
    assert frontier.take(1, at_most=5) == tuple(families[:1])
    assert frontier.take(100, at_most=5) == tuple(families[1:2])
    assert frontier.schedules == 10
    frontier = Frontier(families)
    assert frontier.take(11, at_most=5) == tuple(families[:2])
    frontier = Frontier(families)
    assert frontier.take(100, at_most=1) == tuple(families[:1])


def test_prefixes_and_parts_go_through_json() -> None:
    prefix = Prefix((1, 0), (3, 2))
    assert Prefix.from_json(prefix.to_json()) == prefix
    search = new(colourful())
    unit = search.take(1, 10.0)
    assert unit is not None
    done = Bench(search.runner).do(unit)
    assert Part.from_json(done.part.to_json()) == done.part
    assert pickle.loads(pickle.dumps((unit, done))) == (unit, done)


# Digests


def test_digests_tell_apart_and_depend_on_no_address() -> None:
    different = [1, "1", b"1", (1,), ((1,),), (1, 1), ("1,1",), {1: 2}, {2: 1}, None, frozenset([1]), 1.5, "", ()]
    assert len({digest(value) for value in different}) == len(different)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({*"abcdef"}) == digest({*"fedcba"})
    assert digest(object()) == digest(object())
    assert digest("\ud800") != digest("\ud801")


# Searches


TOTAL = 2**2 + 3**3 + 4**4
"""Orders of the scenario below."""


def colourful(**more: Any) -> Scenario:
    """Ties, names, witnesses early, late and never, and an unwitnessed one."""

    def play(world: World, _subject: Any) -> None:
        first = world.choose(range(3), "first")
        picks = [first, *(world.choose(range(2 + first), "more") for _ in range(2 + first))]
        from .toys import Noted

        for pick in picks:
            world.trace.record(Noted, "toy", pick)

    def total(trace: Trace) -> int:
        return sum(what for what in noted(trace) if isinstance(what, int))

    @always("below-7", "The sum is below 7.")
    def below(trace: Trace) -> Violation | None:
        return Violation(f"it is {total(trace)}", trace.events[-1]) if total(trace) >= 7 else None

    @always("odd", "A sum above 5 is odd.")
    def odd(trace: Trace) -> Violation | None:
        return Violation(f"it is {total(trace)}") if total(trace) > 5 and total(trace) % 2 == 0 else None

    @sometimes("nine", "Some sum is 9.")
    def nine(trace: Trace) -> Violation | None:
        return None if total(trace) == 9 else Violation(f"it is {total(trace)}")

    @sometimes("never", "Some sum is 1000.")
    def never(trace: Trace) -> Violation | None:
        return Violation(f"it is {total(trace)}")

    return toy_scenario(play, below, odd, nine, never, observe=lambda trace: f"{total(trace) % 5} modulo 5", **more)


def new(scenario: Scenario, **options: Any) -> Search:
    return Search(scenario, Toy(), Question(**options), scenario.name)


def whole(report: Report) -> str:
    """All that a report says, but for how long it took."""
    record = report.to_json() | {"seconds": None}
    return repr((record, report.reruns, report.discoveries, report.observed, report.unwitnessed, report.settings))


@functools.cache
def colours(search: str) -> tuple[Scenario, str]:
    scenario = colourful()
    return scenario, whole(explore(scenario, server=Toy(), search=search))


def piecemeal(search: Search, seed: int, *, workers: int = 3, most: int = 4) -> None:
    """Do a search in tiny units, several out at a time, which come back in a random order."""
    chance = random.Random(seed)
    bench = Bench(search.runner)
    out: list[Unit] = []
    try:
        while not search.over:
            while len(out) < workers and (unit := search.take(workers, 1e9)) is not None:
                out.append(unit)
            if search.over:
                break
            unit = out.pop(chance.randrange(len(out)))
            short = unit if unit.seconds is None else attrs.evolve(unit, runs=min(unit.runs, chance.randint(1, most)))
            try:
                result: Done | SimError = pickle.loads(pickle.dumps(bench.do(short)))
            except SimError as exc:
                result = exc
            search.came(unit, result)
    finally:
        bench.close()


IN_PIECES = pytest.mark.parametrize("way", ["exhaustive", "depth-first"])


@IN_PIECES
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), workers=st.sampled_from([1, 2, 5]), most=st.sampled_from([1, 4, 30]))
def test_any_cut_gives_the_report_of_one_search(way: str, seed: int, workers: int, most: int) -> None:
    scenario, expected = colours(way)
    search = new(scenario, search=way)
    piecemeal(search, seed, workers=workers, most=most)
    assert whole(search.report()) == expected


@IN_PIECES
@pytest.mark.parametrize("max_runs", [1, 2, 17, 100, TOTAL - 1, TOTAL, TOTAL + 1])
def test_a_bound_on_runs_ends_at_the_very_run(way: str, max_runs: int) -> None:
    """Also at the last one of the search, where it is no bound."""
    scenario = colourful()
    expected = explore(scenario, server=Toy(), max_runs=max_runs, search=way)
    assert expected.runs == min(max_runs, TOTAL)
    assert expected.complete == (max_runs >= TOTAL)
    for seed in range(4):
        search = new(scenario, max_runs=max_runs, search=way)
        piecemeal(search, seed, most=11)
        assert whole(search.report()) == whole(expected)


@IN_PIECES
@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_search_that_stops_early_stops_at_the_very_run(way: str, start: int) -> None:
    """At its first discovery; also if that is in the last run, or if a bound comes first."""

    for bad in 1, 4, 7, 8:
        for max_runs in 1000, 20 + start:
            scenario = summing(bad)
            asked: dict[str, Any] = {"stop_early": True, "max_runs": max_runs, "search": way}
            expected = explore(scenario, server=Toy(), **asked)
            for seed in range(3):
                search = new(scenario, **asked)
                piecemeal(search, 10 * start + seed)
                assert whole(search.report()) == whole(expected)


def summing(bad: int) -> Scenario:
    """Four digits; runs whose sum is `bad` break something."""

    def play(world: World, _subject: Any) -> None:
        from .toys import Noted

        world.trace.record(Noted, "toy", sum(world.choose(range(3), "digit") for _ in range(4)))

    @always("not-bad", "The sum is not the bad one.")
    def not_bad(trace: Trace) -> Violation | None:
        return Violation("it is") if noted(trace) == [bad] else None

    return toy_scenario(play, not_bad)


@IN_PIECES
def test_interleavings_of_real_loops(way: str) -> None:
    scenario = toy_scenario(chattering(2, 2), observe=lambda trace: " ".join(got(trace)))
    search = new(scenario, search=way)
    piecemeal(search, 1)
    assert whole(search.report()) == whole(explore(scenario, server=Toy(), search=way))


@IN_PIECES
def test_the_first_error_is_the_error(way: str) -> None:
    """By the order of the search, whichever came first; what stands behind it is not explored."""
    played = []

    def play(world: World, _subject: Any) -> None:
        picks = [world.choose(range(3), "a"), world.choose(range(3), "b"), world.choose(range(3), "c")]
        played.append(tuple(picks))
        if picks in ([1, 1, 0], [1, 2, 1], [2, 0, 0]):
            raise KeyError(str(picks))

    scenario = toy_scenario(play)
    first = {"exhaustive": "[2, 0, 0]", "depth-first": "[1, 1, 0]"}[way]
    with pytest.raises(SimError, match=re.escape(first)):
        explore(scenario, server=Toy(), search=way)
    for seed in range(20):
        search = new(scenario, search=way)
        piecemeal(search, seed, most=2)
        assert first in str(search.error)


@IN_PIECES
def test_a_bound_that_ends_the_search_before_an_error_hides_it(way: str) -> None:
    def play(world: World, _subject: Any) -> None:
        if world.choose(range(10), "a") == 6:
            raise KeyError("six")

    for seed in range(5):
        search = new(toy_scenario(play), max_runs=6, search=way)
        piecemeal(search, seed, most=1 + seed * 2)
        assert search.error is None
        assert str(search.report().bound) == "max-runs=6"


def test_a_bound_on_time_counts_all_that_came_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what stands behind what did not; and gives nothing out any more."""
    clock = [0.0]
    monkeypatch.setattr("sim.search.spread.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    search = new(toy_scenario(picking(4, 2)), max_seconds=10.0, search="depth-first")
    bench = Bench(search.runner)
    root = search.take(3, 5.0)
    assert root is not None
    search.came(root, bench.do(attrs.evolve(root, runs=1)))
    first, second = search.take(3, 5.0), search.take(3, 5.0)
    assert first is not None
    assert second is not None
    assert first.below[0].key < second.below[0].key
    search.came(second, bench.do(second))
    assert not search.over
    clock[0] = 10.0
    assert search.take(3, 5.0) is None
    search.came(first, bench.do(first))
    bench.close()
    assert search.over
    report = search.report()
    assert (report.runs, report.verdict, str(report.bound)) == (4, "inconclusive", "max-seconds=10")
    assert report.seconds == 10.0


def test_units_end_with_the_time_of_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("sim.search.spread.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    search = new(toy_scenario(picking(4, 2)), max_seconds=10.0, search="depth-first")
    bench = Bench(search.runner)
    root = search.take(2, 50.0)
    assert root is not None
    assert root.seconds == 0.1
    clock[0] = 3.0
    search.came(root, bench.do(attrs.evolve(root, runs=1)))
    clock[0] = 100.0
    assert search.seconds == 3.0, "while none is out, no time of this search passes"
    first = search.take(2, 50.0)
    assert first is not None
    assert first.seconds == pytest.approx(7.0)
    clock[0] = 106.97
    assert search.seconds == pytest.approx(9.97)
    second = search.take(2, 50.0)
    assert second is not None
    assert second.seconds == pytest.approx(0.03)
    bench.close()


def test_progress_counts_what_runs_ahead() -> None:
    search = new(toy_scenario(picking(4, 2)), search="depth-first")
    bench = Bench(search.runner)
    root = search.take(2, 5.0)
    assert root is not None
    assert (search.progress().frontier, search.progress().share) == (1, 1.0)
    search.came(root, bench.do(attrs.evolve(root, runs=1)))
    first, second = search.take(2, 5.0), search.take(2, 5.0)
    assert second is not None
    search.came(second, bench.do(second))
    progress = search.progress()
    assert (progress.runs, progress.frontier, progress.share) == (3, 3, pytest.approx(1 - 1 / 8 - 2 / 8))
    assert progress.outcomes == 1
    assert first is not None
    search.came(first, bench.do(first))
    assert (search.progress().runs, search.progress().outcomes) == (4, 4)
    bench.close()


def test_the_frontier_stays_small() -> None:
    """Thousands of runs in tiny units: what waits is a few siblings for each unit that is out."""
    search = new(toy_scenario(picking(3, 3, 3, 3, 3, 3)), search="depth-first")
    bench = Bench(search.runner)
    out: list[Unit] = []
    most = 0
    while not search.over:
        while len(out) < 3 and (unit := search.take(3, 1e9)) is not None:
            out.append(unit)
        if out:
            unit = out.pop(0)
            search.came(unit, bench.do(attrs.evolve(unit, runs=5)))
        most = max(most, search.waiting + len(search._back))
    bench.close()
    assert search.report().runs == 3**6
    assert most < 60


def test_a_worker_with_other_versions_refuses() -> None:
    unit = Unit(
        "hello", "reference", {"search": "depth-first"}, {"python": "2.7", "reference": "0"}, (EVERYTHING,), 1, None
    )
    with pytest.raises(UsageError, match=r"a worker has .*python 3\.\d+, not 2\.7"):
        unit()


def test_a_unit_leaves_nothing_behind_in_a_process_of_others() -> None:
    import gc
    import time

    clock = time.time
    question = Question(search="depth-first")
    from sim.registry import find_scenario, find_subject

    runner = question.runner(find_scenario("hello"), find_subject("reference"))
    unit = Unit("hello", "reference", question.settings, runner.versions(), (EVERYTHING,), 5, None)
    done = unit()
    assert (done.part.runs, done.left) == (1, ())
    assert time.time is clock
    assert gc.isenabled()


def test_benches_keep_their_session_for_the_units_of_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    clock = time.time
    search = new(toy_scenario(picking(2)))
    unit = search.take(1, 1.0)
    assert unit is not None
    bench = Bench(search.runner)
    bench.do(unit)
    kept = time.time
    bench.do(unit)
    assert time.time is kept is not clock
    bench.close()
    assert time.time is clock

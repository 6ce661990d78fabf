"""A search in many hands: whatever is cut where, done by whom and in which order, the answer is one search's."""

from __future__ import annotations

import functools
import itertools
import math
import pickle
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sim import Divergence, SimError, UsageError, Violation, always, explore, sometimes
from sim.search.exhaustive import Exhaustive
from sim.search.part import Part, digest
from sim.search.prefixes import ROOT, Frontier, Prefix
from sim.search.question import Question
from sim.search.spread import Search
from sim.search.unit import Bench, Done, Unit

from .test_search import TREES, leaves, walk
from .toys import Toy, chattering, got, noted, picking, toy_scenario

if TYPE_CHECKING:
    from sim import Report, Scenario, Trace, World

# Prefixes


@given(TREES, st.data())
@example([[None, None], [None, [None, None]]], None)
def test_what_is_left_and_what_was_run_are_everything(tree: Any, data: Any) -> None:
    """Cut anywhere, again and again: every leaf is visited once, and in order within each piece."""
    waiting, visited = [ROOT], []
    while waiting:
        policy = Exhaustive(waiting[:2])
        stop = data.draw(st.integers(1, 5)) if data is not None else 1
        for run in itertools.islice(policy.runs(lambda forced: walk(tree, forced)), stop):
            visited.append(tuple(choice.pick for choice in run.choices))
        left = policy.left()
        assert policy.complete == (not left)
        assert left == sorted(left, key=lambda p: p.picks)
        waiting = [*left, *waiting[2:]]
    assert visited == list(leaves(tree))


def test_shares_of_what_is_left_and_was_run_are_one() -> None:
    tree = [[None, None, None], [None, [None, None]]]
    policy = Exhaustive()
    ran = 0.0
    for run in policy.runs(lambda forced: walk(tree, forced)):
        ran += math.prod(1 / choice.width for choice in run.choices)
        assert sum(prefix.share for prefix in policy.left()) == pytest.approx(1 - ran)
    assert ROOT.share == 1.0


def test_a_world_that_offers_something_else_elsewhere_is_a_divergence() -> None:
    """Also at the choices that were made in another process."""
    elsewhere = Prefix((1, 0), (3, 2))
    policy = Exhaustive([elsewhere])
    with pytest.raises(Divergence, match=r"Choice 1 had 3 possibilities \(elsewhere\); now there are 2"):
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
    assert len(frontier) == len(left)
    assert frontier.first == (left[0].picks if left else None)
    assert list(frontier.take(100, border)) == [p for p in left if p.picks < border]
    frontier.drop((3,))
    assert list(frontier.take(100)) == [p for p in left if border <= p.picks < (3,)]
    assert (len(frontier), frontier.share) == (0, 0.0)


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
def colours() -> tuple[Scenario, str]:
    scenario = colourful()
    return scenario, whole(explore(scenario, server=Toy()))


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


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, 2, 5]), st.sampled_from([1, 4, 30]))
def test_any_cut_gives_the_report_of_one_search(seed: int, workers: int, most: int) -> None:
    scenario, expected = colours()
    search = new(scenario)
    piecemeal(search, seed, workers=workers, most=most)
    assert whole(search.report()) == expected


@pytest.mark.parametrize("max_runs", [1, 2, 17, 100, TOTAL - 1, TOTAL, TOTAL + 1])
def test_a_bound_on_runs_ends_at_the_very_run(max_runs: int) -> None:
    """Also at the last one of the search, where it is no bound."""
    scenario = colourful()
    expected = explore(scenario, server=Toy(), max_runs=max_runs)
    assert expected.runs == min(max_runs, TOTAL)
    assert expected.complete == (max_runs >= TOTAL)
    for seed in range(4):
        search = new(scenario, max_runs=max_runs)
        piecemeal(search, seed, most=11)
        assert whole(search.report()) == whole(expected)


def test_interleavings_of_real_loops() -> None:
    scenario = toy_scenario(chattering(2, 2), observe=lambda trace: " ".join(got(trace)))
    search = new(scenario)
    piecemeal(search, 1)
    assert whole(search.report()) == whole(explore(scenario, server=Toy()))


def test_the_first_error_is_the_error() -> None:
    """By the order of schedules, whichever came first; what stands behind it is not explored."""
    played = []

    def play(world: World, _subject: Any) -> None:
        picks = [world.choose(range(3), "a"), world.choose(range(3), "b"), world.choose(range(3), "c")]
        played.append(tuple(picks))
        if picks in ([1, 1, 0], [1, 2, 1], [2, 0, 0]):
            raise KeyError(str(picks))

    scenario = toy_scenario(play)
    with pytest.raises(SimError, match=r"\[1, 1, 0\]"):
        explore(scenario, server=Toy())
    for seed in range(20):
        search = new(scenario)
        piecemeal(search, seed, most=2)
        assert "[1, 1, 0]" in str(search.error)


def test_a_bound_that_ends_the_search_before_an_error_hides_it() -> None:
    def play(world: World, _subject: Any) -> None:
        if world.choose(range(10), "a") == 6:
            raise KeyError("six")

    for seed in range(5):
        search = new(toy_scenario(play), max_runs=6)
        piecemeal(search, seed, most=1)
        assert search.error is None
        assert str(search.report().bound) == "max-runs=6"


def test_a_bound_on_time_counts_all_that_came_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what stands behind what did not; and gives nothing out any more."""
    clock = [0.0]
    monkeypatch.setattr("sim.search.spread.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    search = new(toy_scenario(picking(4, 2)), max_seconds=10.0)
    bench = Bench(search.runner)
    root = search.take(3, 5.0)
    assert root is not None
    search.came(root, bench.do(attrs.evolve(root, runs=1)))
    first, second = search.take(3, 5.0), search.take(3, 5.0)
    assert first is not None
    assert second is not None
    assert first.below[0].picks < second.below[0].picks
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
    search = new(toy_scenario(picking(4, 2)), max_seconds=10.0)
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
    search = new(toy_scenario(picking(4, 2)))
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
    search = new(toy_scenario(picking(3, 3, 3, 3, 3, 3)))
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
    unit = Unit("hello", "reference", {}, {"python": "2.7", "reference": "0"}, (ROOT,), 1, None)
    with pytest.raises(UsageError, match=r"a worker has .*python 3\.\d+, not 2\.7"):
        unit()


def test_a_unit_leaves_nothing_behind_in_a_process_of_others() -> None:
    import gc
    import time

    clock = time.time
    question = Question(params={})
    from sim.registry import find_scenario, find_subject

    runner = question.runner(find_scenario("hello"), find_subject("reference"))
    unit = Unit("hello", "reference", question.settings, runner.versions(), (ROOT,), 5, None)
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

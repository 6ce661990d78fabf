"""What every policy promises: no schedule twice, complete only when all were run, the same search for the same seed."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sim import Divergence, UsageError, Violation, always
from sim.search import seen as seen_module
from sim.search.coverage import Coverage, shown
from sim.search.deepening import FULL, Deepening, Nursery, children
from sim.search.exhaustive import Exhaustive
from sim.search.frontier import Frontier
from sim.search.pct import Pct
from sim.search.policy import POLICIES
from sim.search.pos import Pos
from sim.search.runner import Runner
from sim.search.sampling import Sampling
from sim.search.seen import Seen
from sim.search.uniform import Uniform
from sim.world.choices import Choice, Choices

from .test_search import TREES, leaves
from .toys import Noted, Toy, chattering, got, noted, picking, search, toy_scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sim import Trace
    from sim.world.choices import Decide

EXHAUSTIVE = [name for name, entry in POLICIES.items() if entry.samples is None]
DRAWING = [name for name, entry in POLICIES.items() if entry.samples is not None]
SAMPLERS: list[Callable[[], Any]] = [Uniform, Pct, Pos, Coverage]


def walk(tree: Any, forced: Sequence[int] = (), decide: Decide | None = None) -> Any:
    """A run of a tree of choices: it shows nothing but the picks."""
    choices = Choices(forced, decide=decide)
    while tree is not None:
        tree = tree[choices.choose(len(tree), "node")]
    return SimpleNamespace(choices=choices.made, picks=choices.picks, trace=[], deviations=0)


def picks(run: Any) -> tuple[int, ...]:
    return tuple(choice.pick for choice in run.choices)


def playing(tree: Any) -> Any:
    return lambda forced, decide=None: walk(tree, forced, decide)


# Iterative deepening.


@given(TREES)
@example(None)
@example([[None, None], None])
def test_deepening_visits_each_leaf_once_and_fewest_deviations_first(tree: Any) -> None:
    visited = [picks(run) for run in Deepening().runs(playing(tree))]
    assert sorted(visited) == list(leaves(tree))
    deviations = [sum(map(bool, schedule)) for schedule in visited]
    assert deviations == sorted(deviations)


@given(TREES)
def test_deepening_says_that_it_is_complete_before_its_last_run_and_no_sooner(tree: Any) -> None:
    policy = Deepening()
    said = [policy.complete for _ in policy.runs(playing(tree))]
    assert said == [False] * (len(said) - 1) + [True]


@pytest.mark.parametrize("granularity", ["turn", "iteration"])
def test_deepening_runs_what_depth_first_runs(granularity: str) -> None:
    runner = Runner(toy_scenario(chattering(1, 3, laps=2)), Toy(), granularity=granularity)
    with runner.session():
        plain = [run.picks for run in Exhaustive().runs(runner.run)]
        ours = [run.picks for run in Deepening().runs(runner.run)]
    assert sorted(ours) == plain
    assert len(set(ours)) == len(ours)


@pytest.mark.parametrize("policy", EXHAUSTIVE)
@given(tree=TREES, stops=st.lists(st.integers(1, 5), max_size=40), full=st.sampled_from([1, 3, 256]))
def test_a_search_in_pieces_runs_the_same_in_the_same_order(
    policy: str, tree: Any, stops: list[int], full: int
) -> None:
    """Pieces that are explored a while each, in their order, whoever does it: as by one, to the last run."""
    entry = POLICIES[policy]
    assert entry.cut is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sim.search.deepening.FULL", full)
        patch.setattr("sim.search.deepening.MOST", 2 * full)
        whole = [picks(run) for run in entry.make(0).runs(playing(tree))]
        line = Frontier([entry.cut.everything])
        ran: list[tuple[int, ...]] = []
        while line:
            length = stops.pop() if stops else 1000
            below = line.take(length, at_most=length)
            assert len({piece.level for piece in below}) == 1
            divisible = entry.cut.below(below)
            some = divisible.runs(playing(tree))
            ran += [picks(run) for run in itertools.islice(some, length)]
            left = divisible.left()
            assert [entry.cut.read(json.loads(json.dumps(piece.to_json()))) for piece in left] == list(left)
            line.add(left)
            assert 0 <= line.share <= 1
            assert line.schedules >= len(line)
    assert ran == whole


@pytest.mark.parametrize("policy", EXHAUSTIVE)
@given(tree=TREES)
def test_what_a_search_has_before_it_is_all_that_it_runs(policy: str, tree: Any) -> None:
    """Every run was known to be ahead; the shares of what was run and of what is left are the whole."""
    walk = POLICIES[policy].make(0)
    done = 0.0
    for run in walk.runs(playing(tree)):
        done += math.prod(1 / choice.width for choice in run.choices)
        ahead = walk.outlook()
        assert ahead is not None
        assert ahead.share is not None
        assert ahead.schedules is not None
        assert (ahead.schedules == 0) == walk.complete
        assert done + ahead.share == pytest.approx(1)


def test_what_is_kept_of_a_run_is_small() -> None:
    """A hundred choices each: some ten bytes."""
    nursery = Nursery()
    made = [Choice(2 + (n % 7 == 0), 0, "") for n in range(100)]
    for number in range(90):
        made[number].pick = 1
        nursery.put(made, number + 1)
        made[number].pick = 0
    families = nursery.take()
    kept = sum(len(family.parents) for family in families)
    assert kept / sum(family.schedules for family in families) < 10
    assert max(family.schedules for family in families) <= FULL


def test_a_parent_with_many_children_has_several_families() -> None:
    nursery = Nursery()
    assert nursery.put([Choice(2, 1, ""), Choice(10_000, 0, ""), Choice(10_000, 0, "")], 1) == 19_998
    families = nursery.take()
    assert 32 <= len(families) <= 80
    assert sum(family.schedules for family in families) == 19_998
    assert sum(family.share for family in families) == pytest.approx(0.5 - 0.5 / 10_000**2)
    assert [family.first for family in families[:2]] == [(1, 1), (1, 1 + families[0].schedules)]


def test_children_deviate_once_more_behind_the_last_deviation() -> None:
    assert list(children((1,), [3, 2, 3])) == [(1, 1), (1, 0, 1), (1, 0, 2)]
    assert list(children((0, 1), [3, 2])) == []


@pytest.mark.parametrize("policy", EXHAUSTIVE)
def test_the_order_of_an_exhaustive_search_changes_nothing_of_its_report(policy: str) -> None:
    @always("order", "a1 is not in front of b0.")
    def order(trace: Trace) -> Violation | None:
        seen = got(trace)
        return Violation(f"the order is {' '.join(seen)}") if seen.index("a1") < seen.index("b0") else None

    default = search(chattering(2, 2), order)
    other = search(chattering(2, 2), order, search=policy)
    apart: dict[str, Any] = {"scenario": None, "seconds": 0.0, "settings": {}}
    assert attrs.evolve(other, **apart) == attrs.evolve(default, **apart)
    assert default.verdict == "violated"


def test_the_first_counterexample_is_the_shortest() -> None:
    @always("no-two", "No pick is 2.")
    def no_two(trace: Trace) -> Violation | None:
        return next((Violation("a pick is 2", e) for e in trace.of(Noted) if 2 in e.what), None)  # type: ignore[operator]

    report = search(picking(2, 2, 2, 3), no_two, stop_early=True)
    assert report.discovery is not None
    assert report.discovery.schedule.picks == (0, 0, 0, 2)
    assert (report.complete, report.bound, report.shrink_runs) == (False, None, 0)
    assert report.runs < search(picking(2, 2, 2, 3), no_two, stop_early=True, search="depth-first").runs + 4


# What has been run is not run again.


@given(TREES, st.integers(0, 3), st.sampled_from(SAMPLERS))
def test_samplers_run_each_schedule_once_and_know_when_they_are_done(tree: Any, seed: int, sampler: Any) -> None:
    policy = Sampling(sampler(), seed)
    visited, said = [], []
    for run in policy.runs(playing(tree)):
        visited.append(picks(run))
        said.append(policy.complete)
    assert sorted(visited) == list(leaves(tree))
    assert said == [False] * (len(said) - 1) + [True]
    assert not any(visited[0])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.nested_given])
@given(TREES)
def test_hypothesis_too(tree: Any) -> None:
    visited = [picks(run) for run in POLICIES["hypothesis"].make(1).runs(playing(tree))]
    assert sorted(visited) == list(leaves(tree))


@given(st.data(), TREES)
def test_a_draw_is_bent_only_if_it_leads_to_what_was_run(data: st.DataObject, tree: Any) -> None:
    """So each schedule that was not run yet is drawn with at least the probability that its sampler gives it."""
    every = list(leaves(tree))
    known = Seen()
    done = set(data.draw(st.lists(st.sampled_from(every), max_size=len(every) - 1)))
    for schedule in done:
        assert known.add(walk(tree, schedule).choices)
        assert not known.add(walk(tree, schedule).choices)
    wanted = data.draw(st.sampled_from(every))
    answers = iter(wanted)
    met = picks(walk(tree, (), known.bend(lambda width, _: min(next(answers, 0), width - 1))))
    assert (met == wanted) is (wanted not in done)
    assert met not in done
    assert known.all is (len(done) == len(every))


def test_what_is_known_stays_known_when_there_is_no_room_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_module, "MOST", 3)
    tree = [[None] * 3] * 3
    policy = Sampling(Uniform(), 0)
    visited = [picks(run) for run in itertools.islice(policy.runs(playing(tree)), 50)]
    assert not policy.complete
    assert max(Counter(visited[:4]).values()) == 1
    assert all(Counter(visited)[schedule] == 1 for schedule in visited[:3])


def test_wide_choices_are_kept_as_they_are() -> None:
    known = Seen()
    made = [Choice(1000, 999, ""), Choice(2, 1, "")]
    assert known.add(made)
    assert not known.add(made)
    assert known.add([Choice(1000, 999, ""), Choice(2, 0, "")])
    assert not known.all


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([(2, 0), (2, 0)], [(2, 0), (3, 1)]),
        ([(2, 0), (2, 0)], [(3, 0), (2, 1)]),
        ([(2, 0), (2, 0)], [(2, 0)]),
    ],
)
def test_another_question_behind_the_same_picks_is_a_divergence(before: Any, after: Any) -> None:
    known = Seen()
    known.add([Choice(width, pick, "it") for width, pick in before])
    with pytest.raises(Divergence, match="the same schedule gave two different runs"):
        known.add([Choice(width, pick, "it") for width, pick in after])


def test_another_question_while_a_run_is_drawn_is_a_divergence() -> None:
    known = Seen()
    known.add([Choice(2, 0, "it"), Choice(2, 0, "it")])
    with pytest.raises(Divergence, match=r"A choice had 2 possibilities; now there are 3 \(that\)"):
        known.bend(lambda *_: 0)(3, "that")


# Verdicts.


@pytest.mark.parametrize("policy", DRAWING)
def test_a_search_that_draws_and_found_nothing_is_inconclusive(policy: str) -> None:
    report = search(picking(3, 3, 3), search=policy, max_runs=20)
    assert (report.verdict, report.complete, report.runs) == ("inconclusive", False, 20)
    assert str(report.bound) == "max-runs=20"


@pytest.mark.parametrize("policy", DRAWING)
def test_a_search_that_has_drawn_every_schedule_holds(policy: str) -> None:
    report = search(chattering(2, 1), search=policy)
    assert (report.verdict, report.complete, report.bound, report.runs) == ("holds", True, None, 6)


@pytest.mark.parametrize("policy", DRAWING)
def test_a_search_that_draws_stops_at_its_first_discovery_unless_it_is_told_to_go_on(policy: str) -> None:
    @always("ordered", "b0 is behind a0.")
    def ordered(trace: Trace) -> Violation | None:
        return Violation("b0 is first") if got(trace)[0] == "b0" else None

    report = search(chattering(2, 2), ordered, search=policy, seed=5)
    assert report.verdict == "violated"
    assert report.discovery is not None
    assert (report.discovery.runs, report.complete) == (1, False)
    on = search(chattering(2, 2), ordered, search=policy, seed=5, stop_early=False)
    full = search(chattering(2, 2), ordered)
    assert (on.complete, on.runs, on.discoveries) == (True, full.runs, full.discoveries)


@pytest.mark.parametrize("policy", list(POLICIES))
def test_the_same_seed_is_the_same_search_and_another_is_another(policy: str) -> None:
    def orders(seed: int) -> list[object]:
        seen: list[object] = []

        @always("seen", "Every run is seen.")
        def see(trace: Trace) -> None:
            seen.append(got(trace))

        search(chattering(2, 2), see, search=policy, seed=seed, max_runs=8)
        return seen

    assert orders(1) == orders(1)
    others = [orders(seed) for seed in range(2, 5)]
    assert any(other != orders(1) for other in others) is (policy in DRAWING)


def test_the_first_run_of_a_sampler_is_first_in_first_out() -> None:
    for sampler in SAMPLERS:
        (first,) = itertools.islice(Sampling(sampler(), 9).runs(playing([[None] * 4] * 4)), 1)
        assert picks(first) == (0, 0)


def test_without_hypothesis_the_policy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "hypothesis", None)
    with pytest.raises(UsageError, match=r"pip install 'asgi-sim\[hypothesis\]'"):
        search(picking(2), search="hypothesis")


def test_an_error_in_a_drawn_run_ends_the_search_with_it() -> None:
    def play(world: Any, _subject: Any) -> None:
        if world.choose("abc", "which") == "c":
            raise ZeroDivisionError("c")

    for policy in DRAWING:
        with pytest.raises(Exception, match="raised ZeroDivisionError: c"):
            search(play, search=policy)


# What is particular to each.


def orders_of(sampler: Any, runs: int, *, seed: int = 0, play: Any = None) -> list[tuple[str, ...]]:
    """The orders that a sampler draws when it may draw one twice."""
    runner = Runner(toy_scenario(play or chattering(2, 3)), Toy())
    drawn = []
    with runner.session():
        sampler.learn(runner.run())
        for number in range(runs):
            rng = __import__("random").Random(f"{seed} {number}")
            run = runner.run((), decide=sampler.begin(rng))
            sampler.learn(run)
            drawn.append(got(run.trace))
    return drawn


def test_pct_prefers_one_lane_to_another_for_a_whole_run() -> None:
    """Depth 1 has no change of priority: one client in front of the other, which a random walk hardly ever shows."""

    def apart(order: tuple[str, ...]) -> bool:
        return len(list(itertools.groupby(message[0] for message in order))) == 3

    ours = sum(map(apart, orders_of(Pct(), 60, play=chattering(3, 3))))
    walks = sum(map(apart, orders_of(Uniform(), 60, play=chattering(3, 3))))
    assert ours > 3 * walks


def test_pct_changes_priorities_in_the_middle_of_runs() -> None:
    assert len(set(orders_of(Pct(), 100))) > 5


def test_pos_decides_each_pair_of_races_by_itself() -> None:
    """Of two clients with one message each, either is first with the same probability; likewise of three."""
    two = Counter(order[0] for order in orders_of(Pos(), 200, play=chattering(2, 1)))
    assert min(two.values()) > 60
    three = Counter(orders_of(Pos(), 300, play=chattering(3, 1)))
    assert len(three) == math.factorial(3)
    assert min(three.values()) > 15


def test_menus_name_what_there_is_to_pick_from() -> None:
    """The same names in each run, for each pick one, and a segment keeps its number until it arrives."""
    from sim.world.lanes import Menu

    runner = Runner(toy_scenario(chattering(2, 2)), Toy(), granularity="iteration")
    seen: list[list[Any]] = []
    with runner.session():
        for _ in range(2):
            run = runner.run()
            menus = [(c.width, c.label) for c in run.choices if isinstance(c.label, Menu)]
            assert menus
            for width, menu in menus:
                assert len(menu.options()) == width
                assert len({(o.lane, o.item, o.late) for o in menu.options()}) == width
            seen.append([menu.options() for _, menu in menus])
    assert seen[0] == seen[1]
    assert {o.lane for options in seen[0] for o in options} >= {"client 0 → server: connection 1"}


def test_two_connections_of_one_client_are_two_lanes() -> None:
    from sim.world.lanes import Menu

    from .toys import ADDRESS, listening

    def play(world: Any, _subject: Any) -> None:
        async def script(host: Any) -> None:
            one, two = await host.connect(ADDRESS), await host.connect(ADDRESS)
            one.send(b"1")
            two.send(b"2")

        listening(world)
        world.start_script("client", script)

    runner = Runner(toy_scenario(play), Toy())
    with runner.session():
        (choice,) = [c for c in runner.run().choices if isinstance(c.label, Menu)]
    assert len({option.lane for option in choice.label.options()}) == 2  # type: ignore[attr-defined]


def test_coverage_keeps_what_shows_something_new() -> None:
    sampler = Coverage()
    runner = Runner(toy_scenario(chattering(2, 2)), Toy())
    with runner.session():
        run = runner.run()
        assert set(shown(run))
        sampler.learn(run)
        sampler.learn(run)
    assert sampler._kept == [run.picks]


@pytest.mark.parametrize("kept", [[], [()], [(0,)], [(3, 0, 1), (0, 0, 2, 1)]])
def test_coverage_draws_whatever_it_has_kept(kept: list[tuple[int, ...]]) -> None:
    sampler = Coverage()
    sampler._kept = kept
    tree: Any = [[[None, None], None], None]
    met = {picks(walk(tree, (), sampler.begin(__import__("random").Random(str(n))))) for n in range(100)}
    assert met == set(leaves(tree))


def test_coverage_climbs_where_a_random_walk_stands_still() -> None:
    """Eight picks of four must be right, each shows; a walk needs 65,536 runs on average."""

    def play(world: Any, _subject: Any) -> None:
        for step in range(8):
            if world.choose(range(4), "step") != 3 - step % 3:
                return
            world.trace.record(Noted, f"step {step}", step)

    @always("never", "Nobody gets to the end.")
    def never(trace: Trace) -> Violation | None:
        return Violation("the end") if len(noted(trace)) == 8 else None

    assert search(play, never, search="coverage", max_runs=1_000).verdict == "violated"


def iterate(runs: Iterator[Any], number: int) -> list[tuple[int, ...]]:
    return [picks(run) for run in itertools.islice(runs, number)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_runs_of_a_sampler_do_not_depend_on_how_many_there_are(sampler: Any) -> None:
    tree = [[[None] * 3] * 3] * 3
    assert (
        iterate(Sampling(sampler(), 4).runs(playing(tree)), 9)
        == iterate(Sampling(sampler(), 4).runs(playing(tree)), 20)[:9]
    )

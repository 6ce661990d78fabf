"""Whatever a search found, what it shows is the simplest run that breaks the same, and it was run again."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.websocket import Refused, WebSocketClient, WsText, pong, text
from scenarios.unsolicited_pong import LATENCY, receiving_application
from sim import Divergence, Scenario, Settings, Violation, always, eventually, replay
from sim.registry import find_subject
from sim.search import shrink as shrink_module
from sim.search.runner import Runner
from sim.search.sampling import below
from sim.search.shrink import Shrinker
from sim.show.story import tell

from .toys import Noted, Toy, chattering, got, noted, picking, search, toy_scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sim import Host, Trace, World
    from sim.search.runner import Run


def broken(run: Run) -> set[str]:
    return {invariant.name for invariant, _ in run.violations}


def failing(runner: Runner, invariant: str, seeds: Iterator[int]) -> Iterator[Run]:
    """Random runs that break it."""
    for seed in seeds:
        rng = random.Random(str(seed))
        run = runner.run((), decide=lambda width, _label, rng=rng: below(rng, width))  # type: ignore[misc]
        if invariant in broken(run):
            yield run


def shrinker_of(runner: Runner) -> Shrinker:
    return Shrinker(lambda forced, decide=None: runner.run(forced, decide=decide))


# Clients on Granian's model: each sends a text and a Pong, and wants its echo back.


def three_clients(world: World, subject: Any) -> None:
    server = subject.serve(world, receiving_application("polling"))

    async def client(host: Host) -> None:
        websocket = WebSocketClient(host)
        try:
            await websocket.connect(server.address)
        except Refused:
            return
        websocket.send(text("hello"))
        websocket.send(pong())
        lost_patience = host.now + 0.5
        while websocket.open:
            event = await websocket.receive(within=lost_patience - host.now)
            if event is None or getattr(event, "data", None) == "hello":
                break
        await websocket.close(1000)

    for number in range(3):
        world.start_script(f"client {number}", client)


@eventually("echoes", "Each client gets its echo.")
def echoes(trace: Trace) -> Violation | None:
    have = sum(event.way == "gets" for event in trace.of(WsText))
    return None if have == 3 else Violation(f"{have} of 3 clients got their echo")


THREE = Scenario(
    name="tests.sim.test_shrink:THREE",
    story="Three clients.",
    play=three_clients,
    invariants=(echoes,),
    settings=lambda **_: Settings(latency=LATENCY, horizon=120.0),
)


def assert_one_story(runs: int) -> None:
    runner = Runner(THREE, find_subject("granian==1.4.1"))
    shrunk, told, cost = set(), set(), []
    with runner.session():
        for run in itertools.islice(failing(runner, "echoes", itertools.count()), runs):
            assert run.deviations > 10
            shrinker = shrinker_of(runner)
            least = shrinker.shrink(run, "echoes")
            cost.append(shrinker.runs)
            assert broken(least) == {"echoes"}
            shrunk.add(least.picks)
            told.add(str(tell(least, "echoes")))
    assert len(shrunk) == len(told) == 1
    assert max(cost) <= 120
    (story,) = told
    assert "broken: Each client gets its echo." in story
    assert sum(map(bool, *shrunk)) == 1


def test_random_failures_of_three_clients_on_granian_shrink_to_one_story() -> None:
    assert_one_story(3)


@pytest.mark.slow
def test_fifty_random_failures_of_three_clients_on_granian_shrink_to_one_story() -> None:
    assert_one_story(50)


# What the simplest is.


@settings(max_examples=40, deadline=None)
@given(st.data(), st.lists(st.integers(2, 4), min_size=1, max_size=4))
def test_the_result_is_the_simplest_of_all_schedules(data: st.DataObject, widths: list[int]) -> None:
    """For any set of schedules that fail: as an exhaustive search finds it."""
    every = list(itertools.product(*map(range, widths)))
    bad = data.draw(st.sets(st.sampled_from(every), min_size=1))

    @always("good", "The picks are good ones.")
    def good(trace: Trace) -> Violation | None:
        return Violation("bad picks") if noted(trace)[0] in bad else None

    runner = Runner(toy_scenario(picking(*widths), good), Toy())
    start = data.draw(st.sampled_from(sorted(bad)))
    with runner.session():
        least = shrinker_of(runner).shrink(runner.run(start), "good")
    assert least.picks == min(bad, key=lambda picks: (sum(map(bool, picks)), picks))


@pytest.mark.parametrize("policy", ["depth-first", "random", "pct", "pos", "coverage", "hypothesis"])
def test_any_policy_ends_at_what_the_exhaustive_search_shows(policy: str) -> None:
    @always("order", "a1 and b1 do not surround b0.")
    def order(trace: Trace) -> Violation | None:
        seen = "".join(got(trace))
        return Violation(seen) if "a1b0b1" in seen else None

    full = search(chattering(2, 2), order)
    drawn = search(chattering(2, 2), order, search=policy, stop_early=True)
    assert full.discovery is not None
    assert drawn.discovery is not None
    assert attrs.evolve(drawn.discovery, runs=0) == attrs.evolve(full.discovery, runs=0)
    assert (full.shrink_runs, drawn.complete) == (0, False)
    assert drawn.shrink_runs > 0
    scenario = toy_scenario(chattering(2, 2), order)
    _, run = replay(drawn.discovery.schedule, scenario=scenario, server=Toy())
    assert broken(run) == {"order"}
    assert [violation.message for _, violation in run.violations] == [drawn.discovery.message]


def test_inputs_shrink_with_the_schedule() -> None:
    """The scenario chooses how many clients there are and what each sends; the least of it is at 0."""

    def play(world: World, subject: Any) -> None:
        clients = world.choose((2, 3), "clients")
        messages = world.choose((1, 2, 3), "messages of each")
        chattering(clients, messages)(world, subject)

    @always("order", "a0 is in front of b0.")
    def order(trace: Trace) -> Violation | None:
        seen = got(trace)
        return Violation(" ".join(seen)) if seen.index("b0") < seen.index("a0") else None

    runner = Runner(toy_scenario(play, order), Toy())
    with runner.session():
        for run in itertools.islice(failing(runner, "order", itertools.count()), 5):
            least = shrinker_of(runner).shrink(run, "order")
            assert got(least.trace) == ("b0", "a0")
            assert least.deviations == 1


def deep(*needed: int) -> Callable[..., None]:
    """A play that asks 40 questions of three, and breaks if these are answered with 2."""

    def play(world: World, _subject: Any) -> None:
        picks = [world.choose(range(3), "of three") for _ in range(40)]
        if all(picks[number] == 2 for number in needed):
            world.trace.record(Noted, "toy", "broken")

    return play


@always("whole", "Nothing is broken.")
def whole(trace: Trace) -> Violation | None:
    return Violation("it is broken") if noted(trace) else None


@pytest.mark.parametrize("needed", [(), (0,), (39,), (3, 17), (0, 20, 39), (1, 2, 3, 30, 31)])
def test_deviations_that_are_needed_remain_and_no_others(needed: tuple[int, ...]) -> None:
    runner = Runner(toy_scenario(deep(*needed), whole), Toy())
    rng = random.Random(4)
    start = [2 if number in needed else below(rng, 3) for number in range(40)]
    with runner.session():
        shrinker = shrinker_of(runner)
        least = shrinker.shrink(runner.run(start), "whole")
    assert [number for number, pick in enumerate(least.picks) if pick] == list(needed)
    assert shrinker.runs <= shrink_module.DOWN + 2 * shrink_module.BELOW + 1


def test_questions_that_vanish_are_left_out() -> None:
    """Each round has a question of its own; what follows moves up when a round is not played."""

    def play(world: World, _subject: Any) -> None:
        rounds = 0
        while world.choose((False, True), "another round") and rounds < 12:
            rounds += 1
            world.choose(range(4), "the weather")
        if rounds >= 3:
            world.trace.record(Noted, "toy", rounds)

    runner = Runner(toy_scenario(play, whole), Toy())
    with runner.session():
        least = shrinker_of(runner).shrink(runner.run((1, 3) * 9), "whole")
    assert least.picks == (1, 0, 1, 0, 1, 0, 0)


def test_several_discoveries_share_what_was_learnt() -> None:
    @always("no-one", "No pick is 1.")
    def no_one(trace: Trace) -> Violation | None:
        return Violation("a pick is 1") if 1 in noted(trace)[0] else None  # type: ignore[operator]

    @always("no-two", "No pick is 2.")
    def no_two(trace: Trace) -> Violation | None:
        return Violation("a pick is 2") if 2 in noted(trace)[0] else None  # type: ignore[operator]

    both = search(picking(*[3] * 10), no_one, no_two, search="random", max_runs=4, stop_early=False)
    one = search(picking(*[3] * 10), no_one, search="random", max_runs=4, stop_early=False)
    assert [d.schedule.picks for d in both.discoveries] == [(0,) * 9 + (1,), (0,) * 9 + (2,)]
    assert [d.message for d in both.discoveries] == ["a pick is 1", "a pick is 2"]
    assert both.shrink_runs < 1.5 * one.shrink_runs


def test_a_run_that_cannot_be_judged_does_not_lose_what_was_found() -> None:
    def play(world: World, _subject: Any) -> None:
        picks = tuple(world.choose(range(3), "of three") for _ in range(3))
        if sum(map(bool, picks)) == 1:
            raise ZeroDivisionError("in the script")
        world.trace.record(Noted, "toy", picks)

    @always("fine", "Not all picks are 2.")
    def fine(trace: Trace) -> Violation | None:
        return Violation("2, 2") if noted(trace)[0][:2] == (2, 2) else None  # type: ignore[index]

    runner = Runner(toy_scenario(play, fine), Toy())
    with runner.session():
        assert shrinker_of(runner).shrink(runner.run((2, 2, 1)), "fine").picks == (2, 2, 0)


def test_what_does_not_fail_again_is_a_divergence() -> None:
    answers = itertools.chain([True], itertools.repeat(False))

    @always("moody", "Nothing is wrong, most of the time.")
    def moody(_trace: Trace) -> Violation | None:
        return Violation("it was") if next(answers) else None

    runner = Runner(toy_scenario(picking(2, 2), moody), Toy())
    with runner.session(), pytest.raises(Divergence, match="broke moody while it was shrunk, and did not when"):
        shrinker_of(runner).shrink(runner.run((1, 1)), "moody")


def test_the_same_discovery_shrinks_in_the_same_way() -> None:
    def least() -> Sequence[Any]:
        report = search(deep(3, 17), whole, search="depth-first", max_runs=3)
        random_one = search(deep(3, 17), whole, search="pct", max_runs=400, seed=2)
        return [report.shrink_runs, random_one.shrink_runs, random_one.runs, *random_one.discoveries]

    first, again = least(), least()
    assert first == again
    assert len(first) == 4

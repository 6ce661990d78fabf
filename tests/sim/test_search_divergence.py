"""What is not under the world's control is noticed: in forced prefixes, and in a sample of runs that are run again."""

from __future__ import annotations

import _random
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from sim import Divergence, Schedule, Settings, SimError, Violation, always, replay
from sim.search.tally import RERUN_AT_LEAST, RERUN_EVERY, in_sample
from sim.world.choices import Choice

from .toys import Noted, Toy, noted, picking, search, toy_scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim import Host, Trace, World


def noting(value: Callable[[World], object], *widths: int) -> Any:
    """A play that makes choices and then notes what `value` says."""

    def play(world: World, _subject: Any) -> None:
        for width in widths:
            world.choose(range(width), "something")
        world.trace.record(Noted, "toy", value(world))

    return play


def test_state_that_a_module_keeps() -> None:
    cache: list[int] = []

    def remember(_world: World) -> int:
        cache.append(0)
        return len(cache)

    with pytest.raises(Divergence) as error:
        search(noting(remember, 2))
    assert str(error.value).startswith(
        "the same schedule gave two different runs. Event 0 (app.noted by toy, at 0 s) had what = 1; now it is 2. "
        "Something differs from run to run that is not under the world's control. The usual suspects: the order of a "
    )
    assert error.value.exit_code == 3


def test_state_that_shows_only_in_some_runs() -> None:
    """The second run of the second schedule is the first to show it."""
    counts = itertools.count()

    def sometimes(world: World) -> object:
        return next(counts) if world.choices.picks == (1,) else "quiet"

    with pytest.raises(Divergence, match=r"had what = 0; now it is 1\."):
        search(noting(sometimes, 2))


def test_addresses_of_objects() -> None:
    kept = []

    def address(_world: World) -> str:
        kept.append(object())
        return repr(kept[-1])

    with pytest.raises(Divergence, match=r"had what = '<object object at 0x[0-9a-f]+>'; now it is '<object"):
        search(noting(address))


def test_order_of_a_set_of_objects() -> None:
    class Task:
        def __init__(self, number: int) -> None:
            self.number = number

    kept: list[Any] = []

    def order(_world: World) -> list[int]:
        tasks = [Task(number) for number in range(64)]
        kept.append([tasks, [Task(0) for _ in range(len(kept) * 7 + 3)]])
        return [task.number for task in {*tasks}]

    with pytest.raises(Divergence, match="the order of a set"):
        search(noting(order, 2, 2, 2, 2))


def test_real_entropy_of_an_extension() -> None:
    """`_random.Random()` asks the operating system behind the boundary's back."""
    with pytest.raises(Divergence, match=r"what = .*real entropy"):
        search(noting(lambda _world: _random.Random().getrandbits(64)))


def test_entropy_of_the_world_is_no_divergence() -> None:
    import random
    import uuid

    assert search(noting(lambda _world: (random.random(), str(uuid.uuid4())), 2)).verdict == "holds"


def test_more_possibilities_from_run_to_run() -> None:
    """So slowly that no run differs from its rerun: the first schedule does, when it is run again at the end."""
    runs = itertools.count()

    def play(world: World, _subject: Any) -> None:
        number = next(runs)
        world.choose("ab", "an innocent one")
        world.choose(range(2 + number // 8), "one that grows")

    with pytest.raises(Divergence) as error:
        search(play, search="depth-first")
    assert "Choice 2 had 2 possibilities (one that grows); now there are 3 (one that grows)." in str(error.value)


def test_a_choice_that_is_no_longer_asked() -> None:
    runs = itertools.count()

    def play(world: World, _subject: Any) -> None:
        world.choose("ab", "first")
        if next(runs) != 1:
            world.choose("ab", "second")

    with pytest.raises(Divergence) as error:
        search(play)
    assert "Choice 2 had 2 possibilities (second); now the run ends before it." in str(error.value)


@pytest.mark.parametrize("policy", ["exhaustive", "depth-first"])
def test_forced_prefixes_are_compared_in_every_run(policy: str) -> None:
    """Between two second runs, a change of the prefix is noticed at the next schedule."""
    runs = itertools.count(1)
    last = 2 * RERUN_EVERY + 20

    def play(world: World, _subject: Any) -> None:
        world.choose(range(3 if next(runs) == last else 2), "first")
        world.choose(range(5 * RERUN_EVERY), "second")

    with pytest.raises(Divergence, match=r"Choice 1 had 2 possibilities.*; now there are 3 \(first\)"):
        search(play, search=policy)
    assert next(runs) == last + 1 + 2  # two more name the line


def test_a_pick_that_is_no_longer_there() -> None:
    runs = itertools.count()

    def play(world: World, _subject: Any) -> None:
        world.choose(range(3 if next(runs) < 4 else 2), "one that shrinks")

    with pytest.raises(Divergence, match="picks number 2, but the world offers 2 possibilities there"):
        search(play)


def test_another_kind_of_event_and_another_number_of_events() -> None:
    from .toys import Got

    kinds = itertools.cycle((Noted, Got))

    def play(world: World, _subject: Any) -> None:
        world.trace.record(next(kinds), "toy", "x")

    with pytest.raises(
        Divergence, match=r"Event 0 was app\.noted by toy: notes x; now it is app\.got by toy: gets x\."
    ):
        search(play)
    numbers = itertools.count()

    def longer(world: World, _subject: Any) -> None:
        for _ in range(next(numbers)):
            world.trace.record(Noted, "toy", "x")

    with pytest.raises(Divergence, match=r"The first has 0 events; now there are 1\."):
        search(longer)


def test_a_long_value_is_shown_where_it_differs() -> None:
    counts = itertools.count()
    with pytest.raises(Divergence) as error:
        search(noting(lambda _world: "x" * 100_000 + str(next(counts)) + "y" * 100_000))
    assert "xx0yy" in str(error.value)
    assert "xx1yy" in str(error.value)
    assert len(str(error.value)) < 1_000


def test_times_are_compared_too() -> None:
    counts = itertools.count()

    def play(world: World, _subject: Any) -> None:
        async def script(host: Host) -> None:
            await host.sleep(float(next(counts)))
            world.trace.record(Noted, "toy", "x")

        world.start_script("sleeper", script)

    with pytest.raises(Divergence, match=r"had t = 0\.0; now it is 1\.0\.|had t = 1\.0; now it is 2\.0\."):
        search(play)


def test_invariants_with_a_memory() -> None:
    counts = itertools.count()

    @always("moody", "It depends.")
    def moody(_trace: Trace) -> Violation | None:
        return Violation(f"mood {next(counts)}")

    with pytest.raises(Divergence, match=r"the same run was judged in two ways.*must depend on nothing but the trace"):
        search(picking(2), moody)
    with pytest.raises(Divergence, match="the same run was judged in two ways"):
        search(picking(2), scenario={"observe": lambda _trace: f"mood {next(counts)}"})


def test_the_sample_grows_with_the_search() -> None:
    """All of a small one, then some, then one in `RERUN_EVERY`."""
    assert search(picking(1)).reruns == 1 + 0
    assert search(picking(7)).reruns == 7 + 1
    assert RERUN_AT_LEAST / 2 < search(picking(60)).reruns < RERUN_AT_LEAST * 3
    assert RERUN_EVERY * 20 / RERUN_EVERY / 2 < search(picking(20, RERUN_EVERY)).reruns < 40


def test_the_sample_depends_on_nothing_but_the_schedule() -> None:
    """Not on the labels, nor on the run's place in the search: another cut of the same search has the same sample."""
    one = [Choice(3, 1, "a"), Choice(200, 7, object())]
    two = [Choice(3, 1, "b"), Choice(200, 7, None)]
    assert in_sample(one) == in_sample(two)
    chosen = [in_sample([Choice(3, 1, ""), Choice(200, pick, "")]) for pick in range(200)]
    assert 0 < sum(chosen) < 20


def test_replay_of_picks_that_the_world_does_not_offer() -> None:
    scenario = toy_scenario(picking(2, 2))
    versions = search(picking(2, 2)).observed
    assert versions == ()

    def again(*picks: int) -> None:
        replay(Schedule("toy", "toy==1", picks), scenario=scenario, server=Toy(), any_version=True)

    again(1, 1)
    again(0, 1)
    with pytest.raises(
        Divergence, match="choice 2 of the schedule picks number 2, but the world offers 2 possibilities"
    ):
        again(0, 2)
    with pytest.raises(Divergence, match="makes 3 choices, and the world asked for 2"):
        again(0, 0, 1)


def test_a_script_that_raises_ends_the_search_with_its_schedule() -> None:
    def play(world: World, _subject: Any) -> None:
        async def script(host: Host) -> None:
            if host.choose("ab", "a or b") == "b":
                raise KeyError("there is no b")

        world.start_script("careless", script)

    scenario = toy_scenario(play)
    with pytest.raises(SimError) as error:
        search(play)
    text = str(error.value)
    assert "a run of toy on toy==1 raised KeyError: 'there is no b' (at " in text
    assert "test_search_divergence.py:" in text
    assert 'raise KeyError("there is no b")' in text
    assert isinstance(error.value.__cause__, KeyError)
    blob = text.split('"')[-2]
    assert Schedule.from_blob(blob).picks == (1,)
    with pytest.raises(SimError, match="there is no b"):
        replay(blob, scenario=scenario, server=Toy())


def test_an_invariant_that_raises_is_told_apart_from_one_that_is_broken() -> None:
    @always("careless", "It divides by what it finds.")
    def careless(trace: Trace) -> Violation | None:
        return Violation("never") if 1 / (len(noted(trace)) - 1) else None

    with pytest.raises(SimError, match=r"raised ZeroDivisionError.*or an invariant"):
        search(picking(2), careless, scenario={"settings": Settings()})

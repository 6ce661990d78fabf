"""A bound that was hit makes the verdict inconclusive, says which it was and how to raise it; what was found stays."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from sim import CheckFailed, Settings, UsageError, Violation, always, eventually
from sim.search import explore as explore_module

from .toys import Noted, chattering, noted, picking, search

if TYPE_CHECKING:
    from sim import Host, Report, Trace, World


@always("no-two", "No pick is 2.")
def no_two(trace: Trace) -> Violation | None:
    return next((Violation("a pick is 2", e) for e in trace.of(Noted) if 2 in e.what), None)  # type: ignore[operator]


@eventually("noted", "Something is noted in the end.")
def is_noted(trace: Trace) -> Violation | None:
    return None if noted(trace) else Violation("nothing is noted")


def sleeper(seconds: float, *, choices: int = 0) -> Any:
    """A play whose script makes choices, sleeps and notes."""

    def play(world: World, _subject: Any) -> None:
        async def script(host: Host) -> None:
            slow = [host.choose((False, True), "whether to be slow") for _ in range(choices)]
            await host.sleep(seconds if not choices or any(slow) else 0.0)
            world.trace.record(Noted, "toy", ("awake",))

        world.start_script("sleeper", script)

    return play


def assert_inconclusive(report: Report, bound: str, value: float) -> None:
    assert report.verdict == "inconclusive"
    assert not report.complete
    assert report.bound is not None
    assert (report.bound.name, report.bound.value) == (bound, value)
    assert str(report.bound) == f"{bound}={value:g}"
    assert f"raise --{bound}" in report.bound.advice
    assert report.to_json()["verdict"] == "inconclusive"
    with pytest.raises(CheckFailed) as failed:
        report.check()
    assert f"{bound}={value:g} was reached. Raise {bound.replace('-', '_')} (--{bound};" in str(failed.value)
    assert "inconclusive" in str(failed.value)
    report.check(allow_inconclusive=True)


def test_max_runs() -> None:
    report = search(picking(2, 2), max_runs=3)
    assert_inconclusive(report, "max-runs", 3)
    assert report.runs == 3


def test_max_runs_that_is_just_enough_is_no_bound() -> None:
    report = search(picking(2, 2), max_runs=4)
    assert (report.verdict, report.complete, report.bound, report.runs) == ("holds", True, None, 4)
    report.check()


def test_max_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(explore_module.time, "perf_counter", lambda: float(next(clock)))
    report = search(picking(2, 2, 2), max_seconds=2.5)
    assert_inconclusive(report, "max-seconds", 2.5)
    assert report.runs == 3


def test_max_seconds_that_pass_during_the_last_run_are_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(explore_module.time, "perf_counter", lambda: float(next(clock)))
    report = search(picking(3), max_seconds=3)
    assert (report.verdict, report.bound, report.runs) == ("holds", None, 3)


def test_max_choices() -> None:
    report = search(picking(2, 2, 2, 2), max_choices=2)
    assert_inconclusive(report, "max-choices", 2)
    assert report.runs == 4


def test_max_choices_that_are_just_enough_are_no_bound() -> None:
    report = search(picking(2, 2), max_choices=2)
    assert (report.verdict, report.bound) == ("holds", None)


def test_behind_max_choices_every_pick_is_0() -> None:
    seen = []

    @always("seen", "Every run is seen.")
    def see(trace: Trace) -> None:
        seen.extend(noted(trace))

    search(picking(2, 2, 2), see, max_choices=1)
    assert set(seen) == {(0, 0, 0), (1, 0, 0)}


def test_horizon() -> None:
    report = search(sleeper(10.0), is_noted, horizon=5.0)
    assert_inconclusive(report, "horizon", 5.0)


def test_horizon_of_the_scenario_itself() -> None:
    settings = Settings(settle=0.0, horizon=7.0)
    assert_inconclusive(search(sleeper(10.0), is_noted, scenario={"settings": settings}), "horizon", 7.0)
    assert search(sleeper(10.0), is_noted, horizon=20.0, scenario={"settings": settings}).verdict == "holds"


def test_horizon_that_only_some_runs_reach() -> None:
    report = search(sleeper(10.0, choices=2), is_noted, horizon=5.0)
    assert_inconclusive(report, "horizon", 5.0)
    assert report.runs == 4


def test_eventually_is_not_judged_where_the_horizon_cut_the_run() -> None:
    @eventually("never", "No run is whole.")
    def never(_trace: Trace) -> Violation:
        return Violation("this run is whole")

    assert search(sleeper(10.0), never, horizon=5.0).discoveries == ()
    assert search(sleeper(1.0), never, horizon=5.0).discovery is not None


def test_eventually_is_judged_where_only_choices_were_cut() -> None:
    """Such a run is whole: what it was not asked, it answered with 0."""

    @eventually("never", "No run is whole.")
    def never(_trace: Trace) -> Violation:
        return Violation("this run is whole")

    report = search(picking(2, 2), never, max_choices=1)
    assert (report.verdict, report.complete, report.bound and report.bound.name) == ("violated", False, "max-choices")


def test_always_is_judged_on_cut_runs() -> None:
    @always("no-sleep", "Nobody begins to sleep.")
    def no_sleep(trace: Trace) -> Violation | None:
        return Violation("somebody sleeps") if not noted(trace) else None

    report = search(sleeper(10.0), no_sleep, horizon=5.0)
    assert report.verdict == "violated"


@pytest.mark.parametrize(
    ("bound", "name"), [({"max_runs": 3}, "max-runs"), ({"max_choices": 1}, "max-choices")], ids=str
)
def test_what_was_found_before_the_bound_stays_found(bound: dict[str, Any], name: str) -> None:
    report = search(picking(3, 2), no_two, **({"max_runs": 5} if name == "max-runs" else bound))
    assert report.verdict == "violated"
    assert not report.complete
    assert report.bound is not None
    assert report.bound.name == name
    assert [d.invariant for d in report.discoveries] == ["no-two"]


def test_what_lies_behind_the_bound_is_not_found() -> None:
    assert search(picking(3, 2), no_two, max_runs=2).verdict == "inconclusive"
    assert search(picking(3, 2), no_two, max_runs=4, search="depth-first").verdict == "inconclusive"


def test_the_first_bound_that_stops_the_search_is_named() -> None:
    report = search(picking(2, 2, 2), max_choices=2, max_runs=2)
    assert report.bound is not None
    assert report.bound.name == "max-runs"


@pytest.mark.parametrize("name", ["max_runs", "max_choices", "max_seconds", "horizon"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_bound_must_be_above_0(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name}=.* is not above 0"):
        search(picking(2), **{name: value})


def test_unknown_search_and_granularity() -> None:
    with pytest.raises(
        UsageError, match=r"search 'dijkstra' does not exist\. There are: exhaustive, depth-first, random, "
    ):
        search(picking(2), search="dijkstra")
    with pytest.raises(UsageError, match=r"granularity 'step' does not exist\. There are: turn, iteration\."):
        search(picking(2), granularity="step")


def test_settings_say_how_to_search_again() -> None:
    report = search(chattering(1, 1), granularity="iteration", max_runs=2, horizon=3.0)
    assert report.settings == {
        "params": {},
        "search": "exhaustive",
        "seed": 0,
        "granularity": "iteration",
        "stop_early": False,
        "max_runs": 2,
        "max_choices": 10_000,
        "max_seconds": None,
        "horizon": 3.0,
        "faults": None,
        "arrivals": None,
        "reduce": (),
        "symmetry": False,
        "check_isolation": False,
    }

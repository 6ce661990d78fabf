"""Explore a scenario against a subject; replay one schedule."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs

from sim.errors import Divergence, UsageError
from sim.registry import find_scenario, find_subject
from sim.search.policy import POLICIES
from sim.search.prefixes import ROOT
from sim.search.question import DEFAULT_MAX_CHOICES, DEFAULT_MAX_RUNS, GRANULARITIES, Question, one_of
from sim.search.report import Bound
from sim.search.runner import Runner
from sim.search.schedule import Schedule
from sim.search.tally import Tally, report
from sim.search.unit import work
from sim.world.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.part import Part
    from sim.search.report import Report
    from sim.search.runner import Run

PROGRESS_EVERY = 0.1
"""Real seconds between two calls of a progress callback."""


@attrs.frozen
class Progress:
    """How far a search is.

    Attributes:
        runs: so far.
        seconds: real seconds so far.
        outcomes: distinct ones so far.
        discoveries: so far.
        frontier: how many prefixes wait to be explored, or are just being explored.
        share: which part of all orders lies below those, at a guess: as if each pick of a choice led to as many.
    """

    runs: int
    seconds: float
    outcomes: int
    discoveries: int
    frontier: int = 0
    share: float = 1.0


def explore(
    scenario: Scenario | str,
    *,
    server: Subject | str,
    params: Mapping[str, Any] | None = None,
    search: str = "exhaustive",
    granularity: str | None = None,
    max_runs: int = DEFAULT_MAX_RUNS,
    max_choices: int = DEFAULT_MAX_CHOICES,
    max_seconds: float | None = None,
    horizon: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Run every order that a scenario allows against one server, and judge each.

    It works from plain code and from inside a running event loop (Jupyter) alike.

    Args:
        scenario: a `Scenario`, its name, or `module:attribute`.
        server: a `Subject`, or a requirement such as `uvicorn[h11,wsproto]`, `hypercorn`, `granian==1.4.1`.
        params: the scenario's parameters.
        search: the policy; "exhaustive" is depth first over all schedules.
        granularity: "turn": things arrive while the event loop is idle; "iteration": also between two iterations of
            the loop. None: as the scenario says.
        max_runs: bound on the number of runs.
        max_choices: bound on the choices of one run; behind it every pick is 0.
        max_seconds: bound on the real time of the search, looked at between runs.
        horizon: bound on the virtual seconds of one run. None: as the scenario says.
        on_progress: called about ten times a second, between runs.

    Returns:
        The report. A bound that was hit makes its verdict `inconclusive`, unless something was found.

    Raises:
        UsageError: an unknown name, a bad value, an application that fails to import, a server that does not start.
        Divergence: the same schedule gave two different runs.
        BoundaryError: the code under test reached for something real.
    """
    question = Question(
        params=params,
        search=search,
        granularity=granularity,
        max_runs=max_runs,
        max_choices=max_choices,
        max_seconds=max_seconds,
        horizon=horizon,
    )
    found = find_scenario(scenario) if isinstance(scenario, str) else scenario
    subject = find_subject(server) if isinstance(server, str) else server
    runner = question.runner(found, subject)
    policy = POLICIES[search]((ROOT,))
    started = shown = time.perf_counter()

    def tell(part: Part) -> None:
        nonlocal shown
        now = time.perf_counter()
        if on_progress is not None and now - shown >= PROGRESS_EVERY:
            shown = now
            left = policy.left()
            share = sum(prefix.share for prefix in left)
            on_progress(Progress(part.runs, now - started, len(part.outcomes), len(part.found), len(left), share))

    on_run = tell if on_progress is not None else None
    with runner.session(), Watchdog():
        done = work(runner, policy, runs=max_runs, seconds=max_seconds, max_choices=max_choices, on_run=on_run)
    seconds = time.perf_counter() - started
    return question.report(runner, done.part, finished=not done.left, seconds=seconds)


def replay(
    schedule: Schedule | str,
    *,
    scenario: Scenario | None = None,
    server: Subject | None = None,
    any_version: bool = False,
) -> tuple[Runner, Run]:
    """Run one schedule again.

    Args:
        schedule: a `Schedule` or its blob.
        scenario: the scenario itself, if it is not one that can be found by the name in the schedule.
        server: the subject itself, likewise.
        any_version: try although Python or a library is of another version than the schedule was recorded with.

    Returns:
        The runner, and the run.

    Raises:
        UsageError: a damaged blob, an unknown scenario or server, another one than the schedule's, other versions.
        Divergence: the world offers other choices than the schedule makes.
    """
    if isinstance(schedule, str):
        schedule = Schedule.from_blob(schedule)
    found = find_scenario(schedule.scenario) if scenario is None else scenario
    subject = find_subject(schedule.server) if server is None else server
    for what, name, asked in (
        ("scenario", schedule.scenario, found.name),
        ("server", schedule.server, subject.requirement),
    ):
        if name != asked:
            raise UsageError(f"the schedule is of the {what} {name!r}, and this is {asked!r}. Replay it with its own.")
    one_of("granularity", schedule.granularity, GRANULARITIES)
    runner = Runner(found, subject, params=schedule.params, granularity=schedule.granularity, horizon=schedule.horizon)
    have = runner.versions()
    if not any_version and have != schedule.versions:
        names = sorted(n for n in {*have, *schedule.versions} if have.get(n) != schedule.versions.get(n))
        differ = ", ".join(f"{n} {schedule.versions.get(n, 'none')} (here: {have.get(n, 'none')})" for n in names)
        raise UsageError(
            f"the schedule was recorded with {differ}. Install those versions, search again with these, or try all "
            "the same: asgi-sim replay --any-version."
        )
    with runner.session(), Watchdog():
        run = runner.run(schedule.picks)
    if len(run.choices) < len(schedule.picks):
        raise Divergence(
            f"the schedule makes {len(schedule.picks)} choices, and the world asked for {len(run.choices)}. The "
            "scenario, the server or a library differs from the one that it was recorded with."
        )
    return runner, run


def replayed(schedule: Schedule, *, scenario: Scenario | None = None, server: Subject | None = None) -> Report:
    """A report on one schedule alone, as `replay` runs it.

    It is never complete. If the run breaks nothing its verdict is inconclusive, with "replay" as the bound.
    """
    started = time.perf_counter()
    runner, run = replay(schedule, scenario=scenario, server=server)
    tally = Tally(runner)
    tally.add(run, sampled=False)
    return report(
        runner,
        tally.part,
        complete=False,
        bound=Bound("replay", 1, "search instead"),
        seconds=time.perf_counter() - started,
        settings={"params": schedule.params, "granularity": schedule.granularity, "horizon": schedule.horizon},
    )

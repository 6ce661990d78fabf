"""Explore a scenario against a subject; replay one schedule."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs

from sim.errors import Divergence, UsageError
from sim.registry import find_scenario, find_subject
from sim.search.policy import POLICIES
from sim.search.report import Bound
from sim.search.runner import Runner
from sim.search.schedule import Schedule
from sim.search.states import States, knowledge_of
from sim.search.tally import Tally
from sim.world.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.report import Report
    from sim.search.runner import Run

SEARCHES = tuple(POLICIES)
GRANULARITIES = ("turn", "iteration")
REDUCTIONS = ("states",)
DEFAULT_MAX_RUNS = 1_000_000
DEFAULT_MAX_CHOICES = 10_000
PROGRESS_EVERY = 0.1
"""Real seconds between two calls of a progress callback."""


@attrs.frozen
class Progress:
    """How far a search is: runs so far, real seconds so far, distinct outcomes so far, discoveries so far."""

    runs: int
    seconds: float
    outcomes: int
    discoveries: int


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
    reduce: Sequence[str] = (),
    symmetry: bool = False,
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
        reduce: reductions, by name. "states": end a run where it comes to a state that was seen (`sim.search.states`).
        symmetry: with "states": take scripts that the scenario started as `alike` for one another.
        on_progress: called about ten times a second, between runs.

    Returns:
        The report. A bound that was hit makes its verdict `inconclusive`, unless something was found.

    Raises:
        UsageError: an unknown name, a bad value, an application that fails to import, a server that does not start.
        Divergence: the same schedule gave two different runs.
        BoundaryError: the code under test reached for something real.
    """
    found = find_scenario(scenario) if isinstance(scenario, str) else scenario
    subject = find_subject(server) if isinstance(server, str) else server
    _one_of("search", search, SEARCHES)
    if granularity is not None:
        _one_of("granularity", granularity, GRANULARITIES)
    for name, value in (
        ("max_runs", max_runs),
        ("max_choices", max_choices),
        ("max_seconds", max_seconds),
        ("horizon", horizon),
    ):
        if value is not None and not value > 0:
            raise UsageError(f"{name}={value!r} is not above 0. Leave it out to have no bound of your own.")
    runner = Runner(found, subject, params=params, granularity=granularity, horizon=horizon)
    for name in reduce:
        _one_of("reduction", name, REDUCTIONS)
    states = States(past=found.past, knowledge=knowledge_of(subject), symmetry=symmetry) if "states" in reduce else None
    if symmetry and states is None:
        raise UsageError("symmetry=True is a way to tell states apart: it needs reduce=('states',).")
    tally = Tally(runner, merging=states is not None)
    policy = states.wrap(POLICIES[search]) if states is not None else POLICIES[search]()

    def play(forced: Sequence[int]) -> Run:
        return runner.run(forced, limit=max_choices, lookout=states.lookout(forced) if states is not None else None)

    bound: Bound | None = None
    started = shown = time.perf_counter()
    with runner.session(), Watchdog():
        for run in policy.runs(play):
            tally.add(run)
            now = time.perf_counter()
            if on_progress is not None and now - shown >= PROGRESS_EVERY:
                shown = now
                on_progress(Progress(tally.runs, now - started, len(tally.outcomes), len(tally.found)))
            if tally.runs >= max_runs:
                bound = Bound("max-runs", max_runs, "raise --max-runs")
            elif max_seconds is not None and now - started >= max_seconds:
                bound = Bound("max-seconds", max_seconds, "raise --max-seconds")
            else:
                continue
            if not policy.complete:
                break
            bound = None
        tally.finish()
    complete = policy.complete and not tally.cut
    if policy.complete and tally.cut:
        bound = (
            Bound("max-choices", max_choices, "raise --max-choices")
            if tally.cut == "max-choices"
            else Bound("horizon", runner.settings.horizon, "raise --horizon (virtual seconds)")
        )
    return tally.report(
        complete=complete,
        bound=bound,
        seconds=time.perf_counter() - started,
        settings={
            "params": dict(params or {}),
            "search": search,
            "granularity": granularity,
            "max_runs": max_runs,
            "max_choices": max_choices,
            "max_seconds": max_seconds,
            "horizon": horizon,
            **({"reduce": tuple(reduce), "symmetry": symmetry} if reduce else {}),
        },
        states=len(states) if states is not None else None,
        blind=states.blind if states is not None else {},
    )


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{what} {value!r} does not exist. There are: {', '.join(allowed)}.")


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
    _one_of("granularity", schedule.granularity, GRANULARITIES)
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
    return tally.report(
        complete=False,
        bound=Bound("replay", 1, "search instead"),
        seconds=time.perf_counter() - started,
        settings={"params": schedule.params, "granularity": schedule.granularity, "horizon": schedule.horizon},
    )

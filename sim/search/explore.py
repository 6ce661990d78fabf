"""Explore a scenario against a subject; replay one schedule."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs

from sim.errors import Divergence, UsageError
from sim.registry import find_scenario, name_of
from sim.search.both import reduced
from sim.search.divergence import digest
from sim.search.elsewhere import Elsewhere, find_anywhere, find_here, recorded_with
from sim.search.frontier import Outlook
from sim.search.isolation import IsolationCheck
from sim.search.part import Part
from sim.search.question import ARRIVALS, DEFAULT_MAX_CHOICES, GRANULARITIES, SEARCHES, Question, one_of, reported
from sim.search.reduction import APART, ISOLATED
from sim.search.report import Bound
from sim.search.runner import Runner
from sim.search.schedule import Schedule
from sim.search.seeds import another_run
from sim.search.shrink import shrink_all
from sim.search.tally import Tally
from sim.search.witness import Court
from sim.world.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.kept import Kept
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
        frontier: how many schedules are known that were not run yet. None: nobody knows.
        share: which part of all orders those and all behind them come to, at a guess: as if each pick of a choice led
            to as many. None: there is nothing to guess by.
        states: distinct ones so far. None: they are not told apart.
    """

    runs: int
    seconds: float
    outcomes: int
    discoveries: int
    frontier: int | None = None
    share: float | None = None
    states: int | None = None


def explore(
    scenario: Scenario | str,
    *,
    server: Subject | str,
    params: Mapping[str, Any] | None = None,
    search: str = SEARCHES[0],
    seed: int = 0,
    granularity: str | None = None,
    stop_early: bool | None = None,
    max_runs: int | None = None,
    max_choices: int = DEFAULT_MAX_CHOICES,
    max_seconds: float | None = None,
    horizon: float | None = None,
    faults: Mapping[str, int] | None = None,
    arrivals: str | None = None,
    reduce: Sequence[str] | str = (),
    check_isolation: bool = False,
    symmetry: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Run every order that a scenario allows against one server, and judge each.

    It works from plain code and from inside a running event loop (Jupyter) alike.

    Args:
        scenario: a `Scenario`, its name, or `module:attribute`.
        server: a `Subject`, or a requirement such as `uvicorn[h11,wsproto]`, `hypercorn`, `granian==1.4.1`. A version
            that is not installed here runs in an environment that is made and cached for it.
        params: the scenario's parameters.
        search: the policy, by its name in `sim.search.policy`. "exhaustive" runs all schedules, those with fewest
            deviations first; "depth-first" runs them in another order; the others draw some of them.
        seed: of what a policy draws. The exhaustive ones draw nothing.
        granularity: "turn": things arrive while the event loop is idle; "iteration": also between two iterations of
            the loop. None: as the scenario says.
        stop_early: whether to stop at the first run that breaks something. None: a policy that draws does, an
            exhaustive one goes on.
        max_runs: bound on the number of runs. None: 1,000,000, and 10,000 for a policy that draws.
        max_choices: bound on the choices of one run; behind it every pick is 0.
        max_seconds: bound on the real time of the search, looked at between runs.
        horizon: bound on the virtual seconds of one run. None: as the scenario says.
        faults: how often each fault may strike in one run, by name (see `sim.world.faults`), and no others; None: as the
            scenario says.
        arrivals: whether segments of one connection arrive together. "single": each alone; "merged": with all that may
            have arrived by then; "any": with how many is a choice. None: as the scenario says.
        reduce: names of reductions, such as "classes" or "states" (see `sim.search.reduction`); none: every order is run.
        check_isolation: look, in a sample of runs, whether connections are as isolated as the scenario declares.
        symmetry: with "states": take scripts that the scenario started as `alike` for one another.
        on_progress: called about ten times a second, between runs.

    Returns:
        The report. A bound that was hit makes its verdict `inconclusive`, unless something was found. What a policy
        found that does not begin with the shortest schedules is shrunk (see `sim.search.shrink`).

    Raises:
        UsageError: an unknown name, a bad value, an application that fails to import, a server that does not start.
        Divergence: the same schedule gave two different runs.
        NotIsolated: the scenario declares that connections are isolated, and they are not.
        BoundaryError: the code under test reached for something real.
    """
    question = Question(
        params=params,
        search=search,
        seed=seed,
        granularity=granularity,
        stop_early=stop_early,
        max_runs=max_runs,
        max_choices=max_choices,
        max_seconds=max_seconds,
        horizon=horizon,
        faults=faults,
        arrivals=arrivals,
        reduce=reduce,
        symmetry=symmetry,
        check_isolation=check_isolation,
    )
    found = find_scenario(scenario) if isinstance(scenario, str) else scenario
    subject = find_anywhere(server) if isinstance(server, str) else server
    return in_one_go(found, subject, question, on_progress=on_progress)


def in_one_go(
    scenario: Scenario,
    subject: Subject,
    question: Question,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    kept: Kept | None = None,
) -> Report:
    """The same, with what is asked for in one.

    Args:
        scenario: what is explored.
        subject: with whom.
        question: how.
        on_progress: as for `explore`.
        kept: where the search is kept on disk, and goes on from. None: nowhere.

    Raises:
        SimError: see `explore`.
    """
    if isinstance(subject, Elsewhere):
        scenario.arguments(question.params)
        return attrs.evolve(subject.explore(scenario, question.settings, on_progress, kept), scenario=scenario)
    runner = question.runner(scenario, subject)
    policy, states = reduced(
        lambda: question.entry.make(question.seed), question.reduce, scenario, subject, symmetry=question.symmetry
    )
    play = question.play(runner, states)
    isolation: IsolationCheck | None = None
    if question.check_isolation:
        if not (scenario.isolated and "classes" in question.reduce):
            raise UsageError(_NOTHING_DECLARED.format(scenario.name))
        isolation = IsolationCheck(scenario.name, subject.requirement, play)
    if kept is not None and kept.runs > question.max_runs:
        kept = None  # it has more than is asked for now, and stays as it is
    part, earlier = kept.resume(policy, isolation) if kept is not None else (Part(), 0.0)
    tally = Tally(runner, merging=states is not None, part=part)
    looks_ahead = "classes" in question.reduce
    bound: Bound | None = None
    shrink_runs = 0
    started = shown = time.perf_counter()
    seconds = earlier
    if kept is not None:
        kept.begin(Court(runner, question), states, part)
    with runner.session(), Watchdog():
        runs = policy.runs(play)
        while not policy.complete and not (question.stop_early and part.found):
            bound = question.stopped_by(part, seconds) if part.runs else None
            if bound is not None:
                if kept is not None:
                    kept.save(part, policy, isolation, seconds, now=True)
                if not looks_ahead:
                    break
            run = next(runs, None)
            if run is None or bound is not None:
                break
            tally.add(run)
            if isolation is not None and not run.known:
                isolation.examine(run)
            now = time.perf_counter()
            seconds = earlier + now - started
            if kept is not None:
                kept.note(run, part.runs)
                kept.save(part, policy, isolation, seconds)
            if on_progress is not None and now - shown >= PROGRESS_EVERY:
                shown = now
                ahead = policy.outlook() or Outlook(None, None)
                known = len(states) if states is not None else None
                on_progress(Progress(part.runs, seconds, len(part.outcomes), len(part.found), *ahead, known))
        if kept is not None and (bound is None or policy.complete):
            kept.save(part, policy, isolation, seconds, now=True)
        tally.finish()
        if question.shrinks(finished=policy.complete):
            shrink_runs = shrink_all(runner, part, question.play(runner))
    report = question.report(
        runner,
        part,
        finished=policy.complete,
        bound=bound,
        seconds=earlier + time.perf_counter() - started,
        shrink_runs=shrink_runs,
    )
    if states is not None:
        report = attrs.evolve(report, states=len(states), blind=states.blind)
    if "classes" in question.reduce:
        report = attrs.evolve(
            report,
            abandoned=getattr(policy, "abandoned", 0),
            assumes=(APART if states is not None and states.one_by_one else ISOLATED,) if scenario.isolated else (),
            swaps=isolation.swaps if isolation is not None else None,
        )
    return attrs.evolve(report, reduce=question.reduce)


_NOTHING_DECLARED = (
    "there is nothing to check: --check-isolation is for --reduce classes and a scenario that declares isolated=True, "
    "which {} does not or was not asked with. Leave it out, or name both."
)


def replay(
    schedule: Schedule | str,
    *,
    scenario: Scenario | None = None,
    server: Subject | None = None,
    any_version: bool = False,
    say: Callable[[str], None] | None = None,
) -> tuple[Runner, Run]:
    """Run one schedule again; if other versions than those here have found it, in an environment that has them.

    Args:
        schedule: a `Schedule` or its blob.
        scenario: the scenario itself, if it is not one that can be found by the name in the schedule.
        server: the subject itself, likewise.
        any_version: try here, although Python or a library is of another version than the schedule was recorded with.
        say: told what is going on, if an environment is made for it.

    Returns:
        The runner, and the run.

    Raises:
        UsageError: a damaged blob, an unknown scenario or server, another one than the schedule's, other versions.
        Divergence: the world offers other choices than the schedule makes; or the run is another one than was recorded,
            and differs from process to process.
    """
    if isinstance(schedule, str):
        schedule = Schedule.from_blob(schedule)
    found = find_scenario(schedule.scenario) if scenario is None else scenario
    subject = find_here(schedule.server) if server is None and any_version else server
    if subject is None:
        subject = find_anywhere(schedule.server)
    for what, name, asked in (
        ("scenario", schedule.scenario, found.name),
        ("server", schedule.server, subject.requirement if server is not None else schedule.server),
    ):
        if name != asked:
            raise UsageError(f"the schedule is of the {what} {name!r}, and this is {asked!r}. Replay it with its own.")
    one_of("granularity", schedule.granularity, GRANULARITIES)
    if schedule.arrivals is not None:
        one_of("arrivals", schedule.arrivals, ARRIVALS)
    runner = Runner.of(found, subject, schedule)
    if server is not None and isinstance(subject, Elsewhere):
        runner.subject = attrs.evolve(subject, versions=schedule.versions)
        return runner, subject.replay(found, schedule)
    have = runner.versions()
    if not any_version and have != schedule.versions:
        names = sorted(n for n in {*have, *schedule.versions} if have.get(n) != schedule.versions.get(n))
        differ = ", ".join(f"{n} {schedule.versions.get(n, 'none')} (here: {have.get(n, 'none')})" for n in names)
        recorded = f"the schedule was recorded with {differ}. "
        if server is None and name_of(found) is not None:
            there = recorded_with(schedule.server, schedule.versions)
            try:
                there.prepare(say)
            except UsageError as exc:
                raise UsageError(f"{recorded}{exc} Or try with what is here: asgi-sim replay --any-version.") from exc
            runner.subject = there
            return runner, there.replay(found, schedule)
        raise UsageError(
            f"{recorded}Install those versions, search again with these, or try all the same: asgi-sim replay "
            "--any-version."
        )
    with runner.session(), Watchdog():
        run = runner.run(schedule.picks)
    if len(run.choices) < len(schedule.picks):
        raise Divergence(
            f"the schedule makes {len(schedule.picks)} choices, and the world asked for {len(run.choices)}. The "
            "scenario, the server or a library differs from the one that it was recorded with."
        )
    if not any_version and server is None and schedule.digest not in (None, digest(run.trace)):
        another_run(found, schedule, say)
    return runner, run


def replayed(schedule: Schedule, *, scenario: Scenario | None = None, server: Subject | None = None) -> Report:
    """A report on one schedule alone, as `replay` runs it.

    It is never complete. If the run breaks nothing its verdict is inconclusive, with "replay" as the bound.
    """
    started = time.perf_counter()
    runner, run = replay(schedule, scenario=scenario, server=server)
    tally = Tally(runner)
    tally.add(run, sampled=False)
    return reported(
        runner,
        tally.part,
        complete=False,
        bound=Bound("replay", 1, "search instead"),
        seconds=time.perf_counter() - started,
        settings={
            "params": schedule.params,
            "granularity": schedule.granularity,
            "horizon": schedule.horizon,
            "faults": schedule.faults,
            "arrivals": schedule.arrivals,
        },
    )

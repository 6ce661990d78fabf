"""One run of a scenario against a subject, and what is kept of it."""

from __future__ import annotations

import contextlib
import os
import traceback
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from sim.check.invariants import PROGRESS, Violation
from sim.errors import Divergence, SimError, Stuck, UsageError
from sim.search.collector import Collector
from sim.search.culprit import named
from sim.search.divergence import digest
from sim.search.failure import replay_line
from sim.search.interrupts import Interrupts
from sim.search.schedule import Schedule, python_version
from sim.world.active import outside
from sim.world.boundary import Boundary
from sim.world.choices import Choices
from sim.world.faults import NAMES, Faults
from sim.world.fingerprint.past import Past
from sim.world.world import Settings, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sim.check.invariants import Invariant
    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.world.choices import Choice, Decide
    from sim.world.fingerprint.past import Kind
    from sim.world.footprint import Watch
    from sim.world.trace import Trace

_ENGINE = os.path.dirname(os.path.dirname(__file__)) + os.sep


Rank: TypeAlias = "tuple[int, int, int, tuple[int, ...]]"


@attrs.frozen(eq=False)
class Run:
    """A finished run.

    Attributes:
        choices: its decisions.
        trace: what happened.
        violations: each broken invariant with how.
        observed: what the scenario calls what it saw, or None.
        cut: "horizon" or "max-choices" if the run was not whole, else None.
        notes: what the scenario and the subject noted.
        known: whether it was ended where its continuation is known. Then nothing is claimed of its end.
    """

    choices: list[Choice]
    trace: Trace
    violations: list[tuple[Invariant, Violation]]
    observed: str | None
    cut: str | None
    notes: dict[str, Any]
    known: bool = False

    @property
    def picks(self) -> tuple[int, ...]:
        """The schedule."""
        return tuple(c.pick for c in self.choices)

    @property
    def deviations(self) -> int:
        """How many picks are not 0."""
        return sum(c.pick != 0 for c in self.choices)

    @property
    def digest(self) -> int | None:
        """Tells whether another run of its schedule is the same run; None: it was cut or ended, so nothing does."""
        return None if self.known or self.cut else digest(self.trace)

    @property
    def rank(self) -> Rank:
        """How simple it is, simplest first: deviations, events, choices, picks. No two schedules have the same."""
        return (self.deviations, len(self.trace), len(self.choices), self.picks)


class Runner:
    """Runs one scenario against one subject, again and again.

    Args:
        scenario: what to play.
        subject: whom to play it with.
        params: the scenario's parameters, as given.
        granularity: "turn" or "iteration"; None: the scenario's own.
        horizon: virtual seconds; None: the scenario's own.
        faults: how often each may strike, by name; None: as the scenario says.
        arrivals: "single", "merged" or "any"; None: the scenario's own.
    """

    def __init__(
        self,
        scenario: Scenario,
        subject: Subject,
        *,
        params: Mapping[str, Any] | None = None,
        granularity: str | None = None,
        horizon: float | None = None,
        faults: Mapping[str, int] | None = None,
        arrivals: str | None = None,
    ) -> None:
        self.scenario = scenario
        self.subject = subject
        self.arguments = scenario.arguments(params)
        settings = scenario.settings(**self.arguments)
        if granularity is not None:
            settings = attrs.evolve(settings, granularity=granularity)
        if horizon is not None:
            settings = attrs.evolve(settings, horizon=horizon)
        if arrivals is not None:
            settings = attrs.evolve(settings, arrivals=arrivals)
        if faults is not None:
            settings = attrs.evolve(settings, faults=_overridden(settings.faults, faults))
        self.settings: Settings = settings
        self._horizon = horizon
        self._faults = dict(faults) if faults is not None else None
        self._arrivals = arrivals
        self._defaults = scenario.arguments()
        self._interrupts = Interrupts()
        self._last: tuple[int, ...] = ()
        """The schedule of the last run."""

    @classmethod
    def of(cls, scenario: Scenario, subject: Subject, schedule: Schedule) -> Runner:
        """One that runs a schedule as it was recorded."""
        return cls(
            scenario,
            subject,
            params=schedule.params,
            granularity=schedule.granularity,
            horizon=schedule.horizon,
            faults=schedule.faults,
            arrivals=schedule.arrivals,
        )

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """What many runs share: the boundary, and interrupts and garbage collection at times of our own choosing.

        Raises:
            Divergence: one was raised inside; here the line of the program that the last run differs at is added to it.
        """
        outside()
        with Interrupts() as self._interrupts, Boundary(), Collector():
            try:
                yield
            except Divergence as exc:
                picks = self._last
                raise named(exc, lambda: self.run(picks)) from exc.__cause__

    def run(
        self,
        forced: Sequence[int] = (),
        *,
        decide: Decide | None = None,
        limit: int | None = None,
        watch: Watch | None = None,
        observer: Callable[[World, str], None] | None = None,
        on_end: Callable[[World, Run], None] | None = None,
        lookout: Callable[[World], bool] | None = None,
    ) -> Run:
        """One run, its first picks `forced`, the rest as `decide` or `watch` says (neither: 0).

        Call it inside `session()`.

        Raises:
            SimError: the run was no run; what the scenario's own code raised is the cause of such an error.
        """
        self._interrupts.check()
        choices = Choices(forced, watch.pick if watch is not None else None, decide=decide, limit=limit)
        with Collector.run():
            world = World(choices, self.settings)
            world.observer = observer
            world.watch = watch
            world.lookout = lookout
            stuck: Stuck | None = None
            try:
                try:
                    world.run(self._play)
                except Stuck as exc:
                    stuck = exc
                if watch is not None:
                    watch.ended(world)
                run = self._judge(world, stuck)
                if on_end is not None:
                    on_end(world, run)
            except SimError:
                raise
            except Exception as exc:
                raise self._broken(exc, choices.picks) from exc
            finally:
                self._last = choices.picks
                world.close()
        return run

    def _broken(self, exc: Exception, picks: tuple[int, ...]) -> SimError:
        """The error for a run that ended in an exception of the scenario's: a script, an invariant, `observe`."""
        frames = traceback.extract_tb(exc.__traceback__)
        frame = next((f for f in reversed(frames) if not f.filename.startswith(_ENGINE)), frames[-1])
        again = replay_line(self.scenario, self.subject, self.schedule_of(picks))
        return SimError(
            f"a run of {self.scenario.name} on {self.subject.requirement} raised {type(exc).__name__}: {exc} (at "
            f"{frame.filename}:{frame.lineno}: {frame.line}). The likeliest cause is a script that does not expect "
            f"what it met, or an invariant. The run again: {again}"
        )

    def _play(self, world: World) -> object:
        return self.scenario.play(world, self.subject, **self.arguments)

    def _judge(self, world: World, stuck: Stuck | None) -> Run:
        cut = "max-choices" if world.choices.truncated else "horizon" if world.horizon_reached else None
        violations: list[tuple[Invariant, Violation]] = []
        if stuck is not None:
            violations.append((PROGRESS, Violation(str(stuck), world.trace.events[-1] if len(world.trace) else None)))
        for invariant in self.scenario.invariants:
            if invariant.quantifier == "eventually" and (world.horizon_reached or world.known or stuck is not None):
                continue
            if invariant.quantifier != "sometimes":
                violation = invariant.check(world.trace)
                if violation is not None:
                    violations.append((invariant, violation))
        observe = self.scenario.observe
        observed = observe(world.trace) if observe is not None and not world.known else None
        return Run(world.choices.made, world.trace, violations, observed, cut, world.notes, world.known)

    def same_past(self, world: World, run: Run) -> None:
        """Judge a run with its events in another order that has the same past, as the scenario calls it.

        Raises:
            UsageError: the judgement differs, so the scenario's claims look at more than it says.
        """
        other = Past(world, self.scenario.past).rearranged()
        broken = {invariant.name for invariant, _ in run.violations}
        unjudged = {"sometimes", "eventually"} if PROGRESS.name in broken else {"sometimes"}
        for invariant in self.scenario.invariants:
            if run.cut is None and invariant.quantifier not in unjudged:
                now = invariant.check(other) is not None
                if now != (invariant.name in broken):
                    raise UsageError(self._more_than_said(f"the claim {invariant.name}"))
        observe = self.scenario.observe
        if run.observed is not None and observe is not None and observe(other) != run.observed:
            raise UsageError(self._more_than_said("its observe"))

    def _more_than_said(self, what: str) -> str:
        return (
            f"the scenario {self.scenario.name!r} says past={_named(self.scenario.past)}, but {what} judges a run differently "
            "if its events come in another order with the same past. It looks at more than that: at the order of "
            "events of different actors, or at moments. Say past='conversations', or leave it out."
        )

    def schedule(self, run: Run) -> Schedule:
        """The run's schedule, with everything that a replay needs."""
        return self.schedule_of(run.picks, run.digest)

    def schedule_of(self, picks: tuple[int, ...], digest: int | None = None) -> Schedule:
        """The same, of a run that has these picks and this digest."""
        params = {k: v for k, v in self.arguments.items() if v != self._defaults[k]}
        return Schedule(
            self.scenario.name,
            self.subject.requirement,
            picks,
            params,
            self.settings.granularity,
            self.versions(),
            self._horizon,
            self._faults,
            self._arrivals,
            digest,
        )

    def versions(self) -> dict[str, str]:
        """What a schedule's meaning depends on."""
        return {"python": python_version(), **self.subject.versions}


def _named(past: Kind) -> str:
    return repr(past) if isinstance(past, str) else f"({', '.join(kind.__name__ for kind in past)})"


def _overridden(faults: Faults, given: Mapping[str, int]) -> Faults:
    """Exactly those that are given, cut where the scenario cuts.

    Raises:
        UsageError: there is no such fault, or no such number.
    """
    unknown = sorted(name for name in given if name not in NAMES)
    if unknown:
        raise UsageError(f"the fault {unknown[0]!r} does not exist. There are: {', '.join(NAMES)}.")
    return Faults(**given, cuts=faults.cuts)

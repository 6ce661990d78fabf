"""What is asked of a search, besides the scenario and the subject: how to run, how to search, and the bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from sim.check.invariants import PROGRESS
from sim.errors import UsageError
from sim.search.policy import POLICIES
from sim.search.reduction import chosen
from sim.search.report import Bound, Discovery, Observation, Report
from sim.search.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.part import Part
    from sim.search.policy import Cut, Entry, Play
    from sim.search.runner import Run
    from sim.search.states import States
    from sim.world.choices import Decide
    from sim.world.footprint import Watch

SEARCHES = tuple(POLICIES)
GRANULARITIES = ("turn", "iteration")
ARRIVALS = ("single", "merged", "any")
DEFAULT_MAX_RUNS = 1_000_000
DEFAULT_MAX_CHOICES = 10_000
BOUNDS = ("max_runs", "max_choices", "max_seconds", "horizon")
ONLY_WHEN_TO_STOP = ("max_runs", "max_seconds")
"""Settings that say when a search stops, and nothing of what its runs are."""


def _given(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(params or {})


def _copied(faults: Mapping[str, int] | None) -> dict[str, int] | None:
    return dict(faults) if faults is not None else None


def _once_known(value: Any) -> Any:
    """None stands for what the search does unless it is told; it is put in its place below."""
    return value


@attrs.frozen(kw_only=True)
class Question:
    """The settings of a search, as for `sim.search.explore.explore`.

    Raises:
        UsageError: a bad value, or two that do not go together.
    """

    params: dict[str, Any] = attrs.field(default=None, converter=_given)
    search: str = SEARCHES[0]
    seed: int = 0
    granularity: str | None = None
    stop_early: bool = attrs.field(default=None, converter=_once_known)
    max_runs: int = attrs.field(default=None, converter=_once_known)
    max_choices: int = DEFAULT_MAX_CHOICES
    max_seconds: float | None = None
    horizon: float | None = None
    faults: dict[str, int] | None = attrs.field(default=None, converter=_copied)
    arrivals: str | None = None
    reduce: tuple[str, ...] = attrs.field(default=(), converter=chosen)
    symmetry: bool = False
    check_isolation: bool = False

    def __attrs_post_init__(self) -> None:
        one_of("search", self.search, SEARCHES)
        drawn = self.entry.samples is not None
        for name, value in ("stop_early", drawn), ("max_runs", self.entry.samples or DEFAULT_MAX_RUNS):
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.granularity is not None:
            one_of("granularity", self.granularity, GRANULARITIES)
        if self.arrivals is not None:
            one_of("arrivals", self.arrivals, ARRIVALS)
        for name in BOUNDS:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name}={value!r} is not above 0. Leave it out to have no bound of your own.")
        named = f"--reduce {','.join(self.reduce)}"
        if self.reduce and drawn:
            raise UsageError(f"{named} is for a search that is exhaustive, and {self.search!r} is not.")
        if self.symmetry and "states" not in self.reduce:
            raise UsageError("symmetry is a way to tell states apart: it needs --reduce states.")

    @property
    def entry(self) -> Entry:
        """The policy."""
        return POLICIES[self.search]

    @property
    def cut(self) -> Cut | None:
        """How the search is taken to pieces; None: it has to be done in one."""
        return self.entry.cut if not self.reduce else None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return attrs.asdict(self, recurse=False)

    def runner(self, scenario: Scenario, subject: Subject) -> Runner:
        """Who runs what is asked for.

        Raises:
            UsageError: the scenario does not have such parameters.
        """
        return Runner(
            scenario,
            subject,
            params=self.params,
            granularity=self.granularity,
            horizon=self.horizon,
            faults=self.faults,
            arrivals=self.arrivals,
        )

    def play(self, runner: Runner, states: States | None = None) -> Play:
        """What a policy plays schedules with; the states of a reduction end runs."""

        def play(forced: Sequence[int], decide: Decide | None = None, *, watch: Watch | None = None) -> Run:
            lookout = states.lookout(forced) if states is not None else None
            return runner.run(forced, decide=decide, limit=self.max_choices, watch=watch, lookout=lookout)

        return play

    def stopped_by(self, part: Part, seconds: float) -> Bound | None:
        """The bound that is reached when so much was found in so many real seconds."""
        if part.runs >= self.max_runs:
            return Bound("max-runs", self.max_runs, "raise --max-runs")
        if self.max_seconds is not None and seconds >= self.max_seconds:
            return Bound("max-seconds", self.max_seconds, "raise --max-seconds")
        return None

    def shrinks(self, *, finished: bool) -> bool:
        """Whether what was found has to be shrunk: it need not be what is simplest, and nothing simpler will come."""
        return not finished and bool(self.reduce or not self.entry.shortest_first)

    def report(
        self, runner: Runner, part: Part, *, finished: bool, bound: Bound | None, seconds: float, shrink_runs: int = 0
    ) -> Report:
        """The answer.

        Args:
            runner: who ran.
            part: what was found.
            finished: whether nothing is left to explore.
            bound: what ended the search, if it is not.
            seconds: real seconds.
            shrink_runs: runs that went into shrinking.
        """
        if finished:
            bound = None
            if "max-choices" in part.cut:
                bound = Bound("max-choices", self.max_choices, "raise --max-choices")
            elif part.cut:
                bound = Bound("horizon", runner.settings.horizon, "raise --horizon (virtual seconds)")
        report = reported(
            runner,
            part,
            complete=finished and not part.cut,
            bound=bound,
            seconds=seconds,
            settings=self.settings,
        )
        return attrs.evolve(report, shrink_runs=shrink_runs)


def reported(
    runner: Runner, part: Part, *, complete: bool, bound: Bound | None, seconds: float, settings: dict[str, Any]
) -> Report:
    """A report of what is known of some runs.

    Args:
        runner: who ran them.
        part: what is known.
        complete: whether they are all that there are.
        bound: what ended them, or cut them short.
        seconds: real seconds.
        settings: how to search again.
    """
    invariants = {i.name: i for i in (PROGRESS, *runner.scenario.invariants)}
    places = list(invariants)
    unwitnessed = [name for name in places if name in part.plainest]
    found = sorted(part.found.items(), key=lambda item: (item[1].rank, places.index(item[0])))
    if complete:
        for name in unwitnessed:
            plainest = part.plainest[name]
            message = f"no run shows it, out of all {part.runs}. The plainest run: {plainest.message}"
            found.append((name, attrs.evolve(plainest, message=message, runs=part.runs)))
    return Report(
        runner.scenario,
        runner.subject.requirement,
        runner.subject.kind,
        complete,
        part.runs,
        part.reruns + (part.runs > 1),
        len(part.outcomes),
        bound,
        seconds,
        tuple(
            Discovery(
                name,
                invariants[name].claim,
                best.message,
                runner.schedule_of(best.picks, best.digest),
                best.events,
                best.runs,
                best.seq,
            )
            for name, best in found
        ),
        tuple(
            Observation(name, best.runs, runner.schedule_of(best.picks, best.digest))
            for name, best in sorted(part.observed.items(), key=lambda item: (-item[1].runs, item[1].rank))
        ),
        settings,
        runner.subject,
        () if complete else tuple(unwitnessed),
        faults=(allowed := runner.settings.faults.budget()),
        struck={name: part.struck.get(name, 0) for name in allowed},
    )


def one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    """See to it that a word is a known one.

    Raises:
        UsageError: it is not.
    """
    if value not in allowed:
        raise UsageError(f"{what} {value!r} does not exist. There are: {', '.join(allowed)}.")

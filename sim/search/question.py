"""What is asked of a search, besides the scenario and the subject: how to run, how to search, and the bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from sim.errors import UsageError
from sim.search.policy import POLICIES
from sim.search.report import Bound
from sim.search.runner import Runner
from sim.search.tally import report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.part import Part
    from sim.search.report import Report

SEARCHES = tuple(POLICIES)
GRANULARITIES = ("turn", "iteration")
DEFAULT_MAX_RUNS = 1_000_000
DEFAULT_MAX_CHOICES = 10_000
BOUNDS = ("max_runs", "max_choices", "max_seconds", "horizon")
ONLY_WHEN_TO_STOP = ("max_runs", "max_seconds")
"""Settings that say when a search stops, and nothing of what its runs are."""


def _given(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(params or {})


@attrs.frozen(kw_only=True)
class Question:
    """The settings of a search, as for `sim.search.explore.explore`.

    Raises:
        UsageError: a bad value.
    """

    params: dict[str, Any] = attrs.field(default=None, converter=_given)
    search: str = "exhaustive"
    granularity: str | None = None
    max_runs: int = DEFAULT_MAX_RUNS
    max_choices: int = DEFAULT_MAX_CHOICES
    max_seconds: float | None = None
    horizon: float | None = None

    def __attrs_post_init__(self) -> None:
        one_of("search", self.search, SEARCHES)
        if self.granularity is not None:
            one_of("granularity", self.granularity, GRANULARITIES)
        for name in BOUNDS:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name}={value!r} is not above 0. Leave it out to have no bound of your own.")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return attrs.asdict(self)

    def runner(self, scenario: Scenario, subject: Subject) -> Runner:
        """Who runs what is asked for."""
        return Runner(scenario, subject, params=self.params, granularity=self.granularity, horizon=self.horizon)

    def report(self, runner: Runner, part: Part, *, finished: bool, seconds: float) -> Report:
        """The answer.

        Args:
            runner: who ran.
            part: what was found.
            finished: whether no prefix is left to explore.
            seconds: real seconds.
        """
        bound: Bound | None = None
        if not finished and part.runs >= self.max_runs:
            bound = Bound("max-runs", self.max_runs, "raise --max-runs")
        elif not finished and self.max_seconds is not None:
            bound = Bound("max-seconds", self.max_seconds, "raise --max-seconds")
        elif part.cut == "max-choices":
            bound = Bound("max-choices", self.max_choices, "raise --max-choices")
        elif part.cut is not None:
            bound = Bound("horizon", runner.settings.horizon, "raise --horizon (virtual seconds)")
        return report(
            runner,
            part,
            complete=finished and part.cut is None,
            bound=bound,
            seconds=seconds,
            settings=self.settings,
        )


def one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    """See to it that a word is a known one.

    Raises:
        UsageError: it is not.
    """
    if value not in allowed:
        raise UsageError(f"{what} {value!r} does not exist. There are: {', '.join(allowed)}.")

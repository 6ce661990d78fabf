"""A unit of work: explore some prefixes of one search for a while. What was found comes back, and what is left.

Rules for this file:

1. A unit is small and plain data, and so is what comes back. Where and when it is done changes nothing of what is
   found; only how much of it this unit did.
2. Whoever does a unit has the versions that the search began with, or refuses.
3. Between two units a `Bench` keeps what is costly to set up, if it has a process to itself. In a process that does
   other things, too (a Dask worker), nothing stays behind a unit.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import attrs

from sim.errors import UsageError
from sim.registry import find_scenario, find_subject
from sim.search.policy import POLICIES
from sim.search.question import Question
from sim.search.tally import Tally
from sim.world.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.search.part import Part
    from sim.search.policy import Policy
    from sim.search.prefixes import Prefix
    from sim.search.runner import Runner


@attrs.frozen
class Done:
    """What comes back.

    Attributes:
        part: what the runs showed.
        left: what is still to be explored, in order.
    """

    part: Part
    left: tuple[Prefix, ...]


@attrs.frozen
class Unit:
    """One unit of work. It pickles, and so does what it returns.

    Attributes:
        scenario: a name, or `module:attribute`.
        server: a requirement.
        settings: of the search.
        versions: of Python and of what the server's behaviour depends on, where the search began.
        below: what to explore.
        runs: stop behind so many.
        seconds: stop behind so many real seconds. None: do not.
    """

    scenario: str
    server: str
    settings: dict[str, Any]
    versions: dict[str, str]
    below: tuple[Prefix, ...]
    runs: int
    seconds: float | None

    def __call__(self) -> Done:
        """Do it, in whatever process this is."""
        if _bench is not None:
            return _bench.do(self)
        with contextlib.closing(Bench()) as bench:
            return bench.do(self)

    def runner(self) -> Runner:
        """Who can do it, found by name.

        Raises:
            UsageError: there is none here, or of other versions.
        """
        question = Question(**self.settings)
        runner = question.runner(find_scenario(self.scenario), find_subject(self.server))
        have = runner.versions()
        if have != self.versions:
            names = sorted(n for n in {*have, *self.versions} if have.get(n) != self.versions.get(n))
            differ = ", ".join(f"{n} {have.get(n, 'none')}, not {self.versions.get(n, 'none')}" for n in names)
            raise UsageError(f"a worker has {differ}. Give all workers the versions of the process that asks them.")
        return runner

    @property
    def search(self) -> tuple[object, ...]:
        """What units of one search have in common."""
        return (self.scenario, self.server, repr(sorted(self.settings.items())), repr(sorted(self.versions.items())))


_bench: Bench | None = None
"""In a process that does nothing but units: where it does them."""


def settle_down() -> None:
    """Say that this process does nothing but units until it ends."""
    global _bench  # noqa: PLW0603 - one process, one bench
    _bench = Bench()


class Bench:
    """Does units. It keeps the runner and the session of the last search; close it.

    Args:
        only: the runner for every unit. None: each unit finds its own.
    """

    def __init__(self, only: Runner | None = None) -> None:
        self._only = only
        self._search: object = None
        self._runner: Runner | None = None
        self._session = contextlib.ExitStack()

    def do(self, unit: Unit) -> Done:
        """Do a unit.

        Raises:
            SimError: a run was no run, or the unit cannot be done here.
        """
        if self._runner is None or self._search != unit.search:
            self.close()
            runner = self._only or unit.runner()
            self._session.enter_context(runner.session())
            self._session.enter_context(Watchdog())
            self._runner, self._search = runner, unit.search
        policy = POLICIES[unit.settings["search"]](unit.below)
        limit = unit.settings["max_choices"]
        return work(self._runner, policy, runs=unit.runs, seconds=unit.seconds, max_choices=limit)

    def close(self) -> None:
        """End the session."""
        self._runner = None
        self._session.close()


def work(
    runner: Runner,
    policy: Policy,
    *,
    runs: int,
    seconds: float | None,
    max_choices: int,
    on_run: Callable[[Part], None] | None = None,
) -> Done:
    """Run what a policy asks for, until it has all or a bound is met. Call it inside the runner's session.

    Args:
        runner: who runs.
        policy: which schedules.
        runs: stop behind so many.
        seconds: stop behind so many real seconds; looked at between runs. None: do not.
        max_choices: bound on the choices of one run.
        on_run: called after each run with what was found so far.
    """
    tally = Tally(runner)
    started = time.perf_counter()
    for run in policy.runs(lambda forced: runner.run(forced, limit=max_choices)):
        tally.add(run)
        if on_run is not None:
            on_run(tally.part)
        if tally.part.runs >= runs or (seconds is not None and time.perf_counter() - started >= seconds):
            break
    tally.finish()
    return Done(tally.part, tuple(policy.left()))

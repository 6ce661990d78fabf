"""Explore a scenario against many subjects at once, over any `concurrent.futures.Executor`.

Theory of operation
===================

Every subject is a `Search`, and all share one executor: whoever is free gets the next unit of the first search that
has one. So subjects end about in their order, and the last ones leave nobody idle. What travels is the scenario's name,
the subject's requirement, the settings and some prefixes; back come counts and schedules. A scenario holds functions,
which do not travel: the worker finds it by name. What cannot be found by name (a scenario made in a notebook cell, a
subject made by hand) is explored in this process.

Rules for this file:

1. A report is the same whoever made it: here, in a worker, on another machine, or in several processes of which the
   first were killed.
2. An error of one subject does not stop the others. It is told to `on_error` as it comes, or raised at the end.
3. A unit whose worker died is done again, and again, unless it is always that unit's worker that dies.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from sim.errors import SimError, UsageError
from sim.registry import find_scenario, find_subject
from sim.search import checkpoint as checkpoints
from sim.search.explore import explore
from sim.search.pool import Pool, default_workers, died, worker_pool, workers_of
from sim.search.question import Question
from sim.search.spread import Search
from sim.search.unit import Bench, Done

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.explore import Progress
    from sim.search.report import Report
    from sim.search.unit import Unit

UNIT_SECONDS = 0.5
"""About so many real seconds takes a unit: long beside what it costs to give one out, and short beside a search."""
FAR_UNIT_SECONDS = 2.0
"""The same on an executor that is not ours: giving out may cost more there, and every unit sets itself up anew."""
ALONE = 1.0
"""Real seconds for which a single search is done in this process, before it is worth it to start others."""
LIVES = 5
"""How many workers a unit may see die, if other units come back."""
LIVES_AT_FIRST = 2
"""The same as long as none has come back."""


def explore_many(
    scenario: Scenario | str,
    servers: Sequence[Subject | str],
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    checkpoint: str | PathLike[str] | None = None,
    on_progress: Callable[[str, Progress], None] | None = None,
    on_report: Callable[[Report], None] | None = None,
    on_error: Callable[[str, SimError], None] | None = None,
    **settings: Any,
) -> list[Report]:
    """Explore a scenario against each of `servers`.

    Args:
        scenario: as for `explore`.
        servers: subjects or requirements.
        workers: how many units of work are done at a time. Without an executor, so many processes; 1: this process does
            the work. None: as many as the executor says that it has, or as there are processors.
        executor: an executor of your own to spread the work over, such as Dask's `Client.get_executor()`.
        checkpoint: a file in which to keep what was done, so that the same call goes on where this one was killed. It
            is made if it does not exist.
        on_progress: called with a requirement and its progress.
        on_report: called with each report as it is finished.
        on_error: called with a requirement and the error that ended its search. None: the first is raised at the end.
        **settings: of the search, as for `explore`.

    Returns:
        The reports in the order of `servers`, without those that ended in an error. They do not depend on how many
        workers there were, nor on which executor.

    Raises:
        SimError: the first error, in the order of `servers`, if there is no `on_error`.
        UsageError: a bad value, an unknown name, a checkpoint of another search.
    """
    default_workers(workers)
    found = find_scenario(scenario) if isinstance(scenario, str) else scenario
    subjects = [find_subject(s) if isinstance(s, str) else s for s in servers]
    name = scenario if isinstance(scenario, str) else _name_of(found)
    named = [name is not None and isinstance(server, str) for server in servers]
    told = _Told(found, on_progress, on_report, on_error)
    at_once = (
        workers if workers is not None else workers_of(executor) if executor is not None else default_workers(None)
    )
    if executor is None and at_once == 1:
        named = [False] * len(subjects)
    if checkpoint is None and not any(named):
        for number, subject in enumerate(subjects):
            told.explore(number, subject, settings)
        return told.reports()
    searches: dict[int, Search] = {}
    for number, subject in enumerate(subjects):
        with told.errors_of(number, subject.requirement):
            searches[number] = Search(found, subject, Question(**settings), str(name))
    with contextlib.ExitStack() as stack:
        journal: checkpoints.Checkpoint | None = None
        if checkpoint is not None and searches:
            if name is None or len({s.server for s in searches.values()}) < len(searches):
                raise UsageError(
                    "a checkpoint is for scenarios that can be found by name, and names each server once. Give the "
                    "scenario as module:attribute."
                )
            journal = stack.enter_context(checkpoints.opened(Path(checkpoint)))
            known = list(searches.values())
            journal.resume(checkpoints.identity(found, name, Question(**settings), known), known)
        spread = _Spread(told, journal, at_once)
        away = {number: search for number, search in searches.items() if named[number]}
        if (executor is None or isinstance(executor, Pool)) and len(away) == 1:
            spread.here(away, seconds=ALONE)
        if away and not all(search.over for search in away.values()):
            pool = executor if executor is not None else stack.enter_context(worker_pool(at_once))
            spread.there(away, pool)
        spread.here({number: search for number, search in searches.items() if not named[number]})
    return told.reports()


def _name_of(scenario: Scenario) -> str | None:
    """By which name a worker finds this very scenario, or None."""
    try:
        found = find_scenario(scenario.name)
    except UsageError:
        return None
    same = attrs.evolve(found, name=scenario.name)
    ours, theirs = (attrs.asdict(s, recurse=False) for s in (scenario, same))
    return scenario.name if ours == theirs else None


class _Told:
    """Who asked, and what they were told."""

    def __init__(
        self,
        scenario: Scenario,
        on_progress: Callable[[str, Progress], None] | None,
        on_report: Callable[[Report], None] | None,
        on_error: Callable[[str, SimError], None] | None,
    ) -> None:
        self._scenario = scenario
        self._on_progress = on_progress
        self._on_report = on_report
        self._on_error = on_error
        self._reports: dict[int, Report] = {}
        self._errors: dict[int, SimError] = {}

    def progress(self, server: str, progress: Progress) -> None:
        if self._on_progress is not None:
            self._on_progress(server, progress)

    def report(self, number: int, report: Report) -> None:
        self._reports[number] = report
        if self._on_report is not None:
            self._on_report(report)

    @contextlib.contextmanager
    def errors_of(self, number: int, server: str) -> Any:
        try:
            yield
        except SimError as exc:
            self._errors[number] = exc
            if self._on_error is not None:
                self._on_error(server, exc)

    def explore(self, number: int, subject: Subject, settings: dict[str, Any]) -> None:
        """Do a whole search in this process, in one piece."""
        server = subject.requirement
        report: Report | None = None
        with self.errors_of(number, server):
            report = explore(self._scenario, server=subject, on_progress=lambda p: self.progress(server, p), **settings)
        if report is not None:
            self.report(number, report)

    def reports(self) -> list[Report]:
        if self._errors and self._on_error is None:
            raise self._errors[min(self._errors)]
        return [self._reports[number] for number in sorted(self._reports)]


class _Spread:
    """Gives out units, and takes back what comes of them."""

    def __init__(self, told: _Told, journal: checkpoints.Checkpoint | None, at_once: int) -> None:
        self._told = told
        self._journal = journal
        self._at_once = at_once
        self._ended: set[int] = set()
        self._any_came = False

    def here(self, searches: dict[int, Search], *, seconds: float | None = None) -> None:
        """Do the units in this process: all, or for about so many seconds those of the first search."""
        for number, search in searches.items():
            before = search.seconds
            with contextlib.closing(Bench(search.runner)) as bench:
                while seconds is None or search.seconds - before < seconds:
                    unit = search.take(1, UNIT_SECONDS)
                    self._look(number, search)
                    if unit is None:
                        break
                    try:
                        result: Done | SimError = bench.do(unit)
                    except SimError as exc:
                        result = exc
                    self._came(number, search, unit, result)

    def there(self, searches: dict[int, Search], executor: Executor) -> None:
        """Give the units to an executor. One more than it can do is on its way, so that nobody waits for us."""
        seconds = UNIT_SECONDS if isinstance(executor, Pool) else FAR_UNIT_SECONDS
        running: dict[Future[Done], tuple[int, Unit, int]] = {}
        try:
            while True:
                for number, search in searches.items():
                    while len(running) <= self._at_once and (unit := search.take(self._at_once, seconds)) is not None:
                        running[executor.submit(unit)] = number, unit, 0
                    self._look(number, search)
                if not running or all(search.over for search in searches.values()):
                    break
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    number, unit, deaths = running.pop(future)
                    result = self._result(future)
                    lives = LIVES if self._any_came else LIVES_AT_FIRST
                    if isinstance(result, BrokenExecutor):
                        deaths += 1
                        if deaths < lives:
                            running[executor.submit(unit)] = number, unit, deaths
                            continue
                        result = died(result)
                    self._any_came = True
                    self._came(number, searches[number], unit, result)
        except BrokenExecutor as exc:
            raise died(exc) from exc
        finally:
            for future in running:
                future.cancel()

    def _result(self, future: Future[Done]) -> Done | SimError | BrokenExecutor:
        """What came of a unit."""
        try:
            return future.result()
        except (SimError, BrokenExecutor) as exc:
            return exc
        except Exception as exc:
            error = SimError(
                f"a unit of work came back with {type(exc).__name__}: {exc} The likeliest causes are workers that do "
                "not have the same asgi-sim, and workers that died. With workers=1 everything is done in one process."
            )
            error.__cause__ = exc
            return error

    def _came(self, number: int, search: Search, unit: Unit, result: Done | SimError) -> None:
        if search.came(unit, result) and self._journal is not None and isinstance(result, Done):
            self._journal.add(search.server, unit.below, result, search.seconds)
        if not search.over:
            self._told.progress(search.server, search.progress())
        self._look(number, search)

    def _look(self, number: int, search: Search) -> None:
        """Tell of a search that is over, once."""
        if not search.over or number in self._ended:
            return
        self._ended.add(number)
        if search.error is None:
            self._told.report(number, search.report())
        else:
            with self._told.errors_of(number, search.server):
                raise search.error

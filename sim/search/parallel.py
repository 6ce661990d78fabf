"""Explore a scenario against many subjects at once, over any `concurrent.futures.Executor`.

Theory of operation
===================

Every subject is a search, and all share one executor: whoever is free gets the next work of the first search that has
some. So subjects end about in their order, and the last ones leave nobody idle. Most searches are taken to pieces
(`sim.search.spread`): what travels is the scenario's name, the subject's requirement, the settings and some pieces;
back come counts and schedules. A search that cannot be taken to pieces (one that draws, one with a reduction) travels
as a whole. Of a server in another environment each worker has a process there. A scenario holds functions, which do not travel: the worker finds it by name.
What cannot be found by name (a scenario made in a notebook cell, a subject made by hand) is explored in this process.

Rules for this file:

1. A report is the same whoever made it: here, in a worker, on another machine, or in several processes of which the
   first were killed.
2. An error of one subject does not stop the others. It is told to `on_error` as it comes, or raised at the end.
3. Work whose worker died is done again, and again, unless it is always that work's worker that dies.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from sim.errors import SimError, UsageError
from sim.registry import find_scenario, name_of
from sim.search import checkpoint as checkpoints
from sim.search.elsewhere import Elsewhere, find_anywhere
from sim.search.explore import in_one_go
from sim.search.kept import Kept
from sim.search.pool import Pool, default_workers, died, worker_pool, workers_of
from sim.search.question import Question
from sim.search.spread import Search, runner_of
from sim.search.unit import Done, Unit, Whole, portable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from os import PathLike

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.explore import Progress
    from sim.search.report import Report

UNIT_SECONDS = 0.5
"""About so many real seconds takes a unit: long beside what it costs to give one out, and short beside a search."""
FAR_UNIT_SECONDS = 2.0
"""The same on an executor that is not ours: giving out may cost more there, and every unit sets itself up anew."""
ALONE = 1.0
"""Real seconds for which a single search is done in this process, before it is worth it to start others."""
LIVES = 5
"""How many workers a unit may see die, if other units come back."""
LIVES_AT_FIRST = 3
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
    subjects = [find_anywhere(s) if isinstance(s, str) else s for s in servers]
    name = scenario if isinstance(scenario, str) else name_of(found)
    told = _Told(found, subjects, on_progress, on_report, on_error)
    at_once = (
        workers if workers is not None else workers_of(executor) if executor is not None else default_workers(None)
    )
    work = _Work()
    for number, server in enumerate(servers):
        with told.errors_of(number):
            travels = (
                name is not None and isinstance(server, (str, Elsewhere)) and (executor is not None or at_once > 1)
            )
            work.add(number, found, subjects[number], settings, name, travels=travels, kept=checkpoint is not None)
    searches = work.searches
    with contextlib.ExitStack() as stack:
        journal: checkpoints.Checkpoint | None = None
        if checkpoint is not None and (searches or work.kept):
            known = list(searches.values())
            versions = {s.server: s.runner.versions() for s in known}
            versions |= {
                subjects[number].requirement: runner_of(found, subjects[number], question).versions()
                for number, question in work.kept.items()
            }
            if name is None or len(versions) < len(known) + len(work.kept):
                raise UsageError(
                    "a checkpoint is for scenarios that can be found by name, and names each server once. Give the "
                    "scenario as module:attribute."
                )
            journal = stack.enter_context(checkpoints.opened(Path(checkpoint)))
            asked = checkpoints.identity(found, name, Question(**settings), versions)
            if known:
                journal.resume(asked, known)
            else:
                journal.recall(asked)
        spread = _Spread(told, journal, at_once)
        if journal is not None:
            spread.hear(searches, journal.file)
        away = {number: search for number, search in searches.items() if number not in work.here}
        if executor is None or isinstance(executor, Pool):
            single = len(away) == 1 and not work.wholes and not any(search.elsewhere for search in away.values())
            if single:
                spread.here(away, seconds=ALONE)
        if work.wholes or not all(search.over for search in away.values()):
            pool = executor
            if pool is None:
                pool = stack.enter_context(worker_pool(at_once, on_progress=told.progress))
            spread.there(away, work.wholes, pool)
        for number in work.here:
            if number in searches:
                spread.here({number: searches[number]})
            else:
                told.explore(number, settings, journal)
    return told.reports()


class _Work:
    """What is to be done, by the number of the subject.

    Attributes:
        searches: those that are taken to pieces.
        wholes: those that travel in one piece.
        here: those of which nothing travels.
        kept: those of them that are done in one go, and kept on disk.
    """

    def __init__(self) -> None:
        self.searches: dict[int, Search] = {}
        self.wholes: dict[int, Whole] = {}
        self.here: list[int] = []
        self.kept: dict[int, Question] = {}

    def add(
        self,
        number: int,
        scenario: Scenario,
        subject: Subject,
        settings: dict[str, Any],
        name: str | None,
        *,
        travels: bool,
        kept: bool,
    ) -> None:
        """Add a subject.

        Args:
            number: its.
            scenario: what is explored.
            subject: with whom.
            settings: how.
            name: by which a worker finds the scenario.
            travels: whether workers do it.
            kept: whether what is done is kept on disk.
        """
        question = Question(**settings)
        pieces = question.cut is not None and (question.entry.shortest_first or not isinstance(subject, Elsewhere))
        if kept and not pieces:
            self.kept[number] = question
            self.here.append(number)
            return
        if kept or (travels and pieces):
            self.searches[number] = Search(scenario, subject, question, str(name))
        elif travels:
            self.wholes[number] = Whole(str(name), portable(subject), settings)
        if not travels:
            self.here.append(number)


class _Told:
    """Who asked, and what they were told."""

    def __init__(
        self,
        scenario: Scenario,
        subjects: Sequence[Subject],
        on_progress: Callable[[str, Progress], None] | None,
        on_report: Callable[[Report], None] | None,
        on_error: Callable[[str, SimError], None] | None,
    ) -> None:
        self._scenario = scenario
        self._subjects = subjects
        self._on_progress = on_progress
        self._on_report = on_report
        self._on_error = on_error
        self._reports: dict[int, Report] = {}
        self._errors: dict[int, SimError] = {}

    def progress(self, server: str, progress: Progress) -> None:
        if self._on_progress is not None:
            self._on_progress(server, progress)

    def report(self, number: int, report: Report) -> None:
        report = attrs.evolve(report, scenario=self._scenario, subject=self._subjects[number])
        self._reports[number] = report
        if self._on_report is not None:
            self._on_report(report)

    def error(self, number: int, error: SimError) -> None:
        self._errors[number] = error
        if self._on_error is not None:
            self._on_error(self._subjects[number].requirement, error)

    @contextlib.contextmanager
    def errors_of(self, number: int) -> Iterator[None]:
        try:
            yield
        except SimError as exc:
            self.error(number, exc)

    def explore(self, number: int, settings: dict[str, Any], journal: checkpoints.Checkpoint | None) -> None:
        """Do a whole search in this process, in one go, and keep it in the journal if there is one."""
        subject = self._subjects[number]
        server = subject.requirement
        report: Report | None = None

        def on_progress(progress: Progress) -> None:
            self.progress(server, progress)

        with self.errors_of(number):
            kept = None
            if journal is not None:
                kept = Kept(journal.snapshot(server), partial(journal.keep, server), journal.file)
            report = in_one_go(self._scenario, subject, Question(**settings), on_progress=on_progress, kept=kept)
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

    def hear(self, searches: dict[int, Search], file: str) -> None:
        """See whether what a checkpoint knows of searches is true here, too."""
        for search in searches.values():
            unit = search.hearing(file)
            if unit is not None:
                with search.bench() as bench:
                    try:
                        bench.do(unit)
                    except SimError as exc:
                        search.fail(exc)

    def here(self, searches: dict[int, Search], *, seconds: float | None = None) -> None:
        """Do the units in this process: all, or those of about so many seconds."""
        for number, search in searches.items():
            before = search.seconds
            with search.bench() as bench:
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

    def there(self, searches: dict[int, Search], wholes: dict[int, Whole], executor: Executor) -> None:
        """Give the work to an executor. One more than it can do is on its way, so that nobody waits for us."""
        seconds = UNIT_SECONDS if isinstance(executor, Pool) else FAR_UNIT_SECONDS
        waiting = dict(sorted(wholes.items()))
        running: dict[Future[Any], _Out] = {}
        try:
            while True:
                for number in sorted({*searches, *waiting}):
                    while len(running) <= self._at_once:
                        work: Unit | Whole | None
                        if number in waiting:
                            work = waiting.pop(number)
                        elif number in searches:
                            work = searches[number].take(self._at_once, seconds)
                        else:
                            work = None
                        if work is None:
                            break
                        running[executor.submit(work)] = _Out(number, work)
                    if number in searches:
                        self._look(number, searches[number])
                units = [out for out in running.values() if isinstance(out.work, Unit)]
                if not running or (len(units) == len(running) and all(s.over for s in searches.values())):
                    break
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    self._back(running.pop(future), future, searches, running, executor)
        except BrokenExecutor as exc:
            raise died(exc) from exc
        finally:
            for future in running:
                future.cancel()

    def _back(
        self,
        out: _Out,
        future: Future[Any],
        searches: dict[int, Search],
        running: dict[Future[Any], _Out],
        executor: Executor,
    ) -> None:
        """Take what came of some work; if that was its worker's death, give it out again."""
        result = _result(future)
        if isinstance(result, BrokenExecutor):
            out.deaths += 1
            if out.deaths < (LIVES if self._any_came else LIVES_AT_FIRST):
                running[executor.submit(out.work)] = out
                return
            result = died(result)
        self._any_came = True
        if isinstance(out.work, Unit):
            self._came(out.number, searches[out.number], out.work, result)
        elif isinstance(result, SimError):
            self._told.error(out.number, result)
        else:
            self._told.report(out.number, result)

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
        if search.error is not None:
            self._told.error(number, search.error)
        else:
            with self._told.errors_of(number):
                self._told.report(number, search.report())


@attrs.define
class _Out:
    """Work that somebody is doing, for the search of that number, and how many workers have died of it."""

    number: int
    work: Unit | Whole
    deaths: int = 0


def _result(future: Future[Any]) -> Any:
    """What came of some work; an error is returned."""
    try:
        return future.result()
    except (SimError, BrokenExecutor) as exc:
        return exc
    except Exception as exc:
        error = SimError(
            f"some work came back with {type(exc).__name__}: {exc} The likeliest causes are workers that do not have "
            "the same asgi-sim, and workers that died. With workers=1 everything is done in one process."
        )
        error.__cause__ = exc
        return error

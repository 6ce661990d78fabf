"""Work that travels: a unit, which explores some pieces of a search for a while; and a whole search, in one go.

Rules for this file:

1. Work is plain data, and so is what comes back. Where and when it is done changes nothing of what is found; of a unit,
   only how much of it this one did.
2. Whoever does a unit has the versions that the search began with, or refuses.
3. Between two units a `Bench` keeps what is costly to set up, if it has a process to itself. In a process that does
   other things, too (a Dask worker), nothing stays behind a unit.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import attrs

from sim.errors import UsageError
from sim.registry import find_scenario, find_subject
from sim.search import there
from sim.search.elsewhere import Elsewhere
from sim.search.explore import explore
from sim.search.question import Question
from sim.search.tally import RERUN_EVERY, Tally
from sim.search.witness import Court, Witness
from sim.world.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.check.subject import Subject
    from sim.search.elsewhere import Session
    from sim.search.explore import Progress
    from sim.search.frontier import Piece
    from sim.search.part import Part
    from sim.search.report import Report
    from sim.search.runner import Run, Runner


@attrs.frozen
class Whole:
    """A search in one go. It pickles, and so does what it returns.

    Attributes:
        scenario: a name, or `module:attribute`.
        server: a requirement, or a subject in an environment of its own, for whose process the worker then waits.
        settings: keyword arguments of `explore`.
    """

    scenario: str
    server: str | Elsewhere
    settings: dict[str, Any]

    def __call__(self) -> Report:
        """Search, in whatever process this is. The report comes without its scenario and subject."""
        tell = _tell
        name = self.server if isinstance(self.server, str) else self.server.requirement
        on_progress = (lambda progress: tell(name, progress)) if tell is not None else None
        return strip(explore(self.scenario, server=self.server, on_progress=on_progress, **self.settings))


def strip(report: Report) -> Report:
    """A report that can travel: without its scenario and subject, which are found again by name."""
    return attrs.evolve(report, scenario=cast("Any", None), subject=None)


def portable(subject: Subject) -> str | Elsewhere:
    """A subject as it travels: by its name, unless that leads to another one."""
    return subject if isinstance(subject, Elsewhere) else subject.requirement


@attrs.frozen
class Done:
    """What comes back of a unit.

    Attributes:
        part: what the runs showed.
        left: what is still to be explored, in order.
        witness: one of the runs; see `sim.search.witness`. None: there was none.
    """

    part: Part
    left: tuple[Piece, ...]
    witness: Witness | None = None


@attrs.frozen
class Unit:
    """One unit of work. It pickles, and so does what it returns.

    Attributes:
        scenario: a name, or `module:attribute`.
        server: a requirement, or a subject in an environment of its own.
        settings: of the search.
        versions: of Python and of what the server's behaviour depends on, where the search began.
        below: what to explore.
        runs: stop behind so many.
        seconds: stop behind so many real seconds. None: do not.
        witnesses: runs of the search that have to come here as they came there, before anything is done.
        file: the checkpoint that they were read from. None: other units made them.
    """

    scenario: str
    server: str | Elsewhere
    settings: dict[str, Any]
    versions: dict[str, str]
    below: tuple[Piece, ...]
    runs: int
    seconds: float | None
    witnesses: tuple[Witness, ...] = ()
    file: str | None = None

    def __call__(self) -> Done:
        """Do it, in whatever process this is."""
        if _bench is not None:
            return _bench.do(self)
        with contextlib.closing(Bench()) as bench:
            return bench.do(self)

    def runner(self, subject: Subject | None = None) -> Runner:
        """Who can do it.

        Args:
            subject: the subject. None: it is found by name, as the scenario is.

        Raises:
            UsageError: there is none here, or of other versions.
        """
        if subject is None:
            subject = find_subject(str(self.server))
        runner = Question(**self.settings).runner(find_scenario(self.scenario), subject)
        have = runner.versions()
        if have != self.versions:
            names = sorted(n for n in {*have, *self.versions} if have.get(n) != self.versions.get(n))
            differ = ", ".join(f"{n} {have.get(n, 'none')}, not {self.versions.get(n, 'none')}" for n in names)
            raise UsageError(f"a worker has {differ}. Give all workers the versions of the process that asks them.")
        return runner

    @property
    def search(self) -> tuple[object, ...]:
        """What units of one search have in common."""
        return (self.scenario, repr(self.server), *(repr(sorted(d.items())) for d in (self.settings, self.versions)))


FIRST_AGAIN_EVERY = 10 * RERUN_EVERY
"""Behind so many runs a worker makes its first one again."""

_bench: Bench | None = None
"""In a process that does nothing but work: where it does units."""
_tell: Callable[[str, Progress], None] | None = None
"""In such a process: who is told of a whole search's progress."""


def settle_down(tell: Callable[[str, Progress], None]) -> None:
    """Say that this process does nothing but work until it ends.

    Args:
        tell: told of a whole search's progress, by the server's requirement.
    """
    global _bench, _tell  # noqa: PLW0603 - one process, one bench
    _bench, _tell = Bench(), tell


class Bench:
    """Does units. It keeps the runner and the session of the last search, or the process that has them; close it.

    Args:
        only: the runner for every unit. None: each unit finds its own.
    """

    def __init__(self, only: Runner | None = None) -> None:
        self._only = only
        self._search: object = None
        self._runner: Runner | None = None
        self._session = contextlib.ExitStack()
        self._away: Session | None = None
        self._first: Run | None = None
        self._heard: set[Witness] = set()
        """Witnesses that came here as they should."""
        self._since = 0  # runs since that one was made again

    def do(self, unit: Unit) -> Done:
        """Do a unit.

        Raises:
            SimError: a run was no run, or the unit cannot be done here.
        """
        if self._search != unit.search:
            self.close()
            self._search = unit.search
            if self._only is None and isinstance(unit.server, Elsewhere):
                self._away = self._session.enter_context(unit.server.session())
            else:
                runner = self._only or unit.runner()
                self._session.enter_context(runner.session())
                self._session.enter_context(Watchdog())
                self._runner = runner
        if self._away is not None:
            return self._away.ask(partial(there.do, unit))
        assert self._runner is not None
        self._hear(unit, self._runner)
        tally = Tally(self._runner, first=self._first)
        left, last = _work(unit, self._runner, tally)
        self._first = tally.first
        self._since += tally.part.runs
        if self._since >= FIRST_AGAIN_EVERY or not left:
            self._since = 0
            tally.finish()
        witness = Witness.of(last) if last is not None else None
        if witness is not None:
            self._heard.add(witness)
        return Done(tally.part, left, witness)

    def _hear(self, unit: Unit, runner: Runner) -> None:
        new = [witness for witness in unit.witnesses if witness not in self._heard]
        if new:
            error = Court(runner, Question(**unit.settings)).hear(new, unit.file)
            if error is not None:
                raise error
            self._heard.update(new)

    def close(self) -> None:
        """End the session."""
        self._search = self._runner = self._first = self._away = None
        self._since = 0
        self._heard.clear()
        self._session.close()


def _work(unit: Unit, runner: Runner, tally: Tally) -> tuple[tuple[Piece, ...], Run | None]:
    """Run what a unit stands for, until that is all or a bound is met. Returns what is left, and the last run."""
    question = Question(**unit.settings)
    assert question.cut is not None
    policy = question.cut.below(unit.below)
    started = time.perf_counter()
    run: Run | None = None
    for run in policy.runs(question.play(runner)):
        tally.add(run)
        if tally.part.runs >= unit.runs or (question.stop_early and tally.part.found):
            break
        if unit.seconds is not None and time.perf_counter() - started >= unit.seconds:
            break
    return tuple(policy.left()), run

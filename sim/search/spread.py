"""One search in many hands: its units are given out, done anywhere and in any order, and the answer is always the same.

Theory of operation
===================

A `Search` is the state of one subject's search: a frontier of pieces that wait, units that somebody is doing, and what
has come back. A unit takes some pieces from the front of the frontier; what it leaves goes back there. Nobody knows how
much there is behind a piece, so units are bounded by time: whoever met a big one hands most of it back, and others take
their share of it. That is all the balancing there is.

Rules for this file:

1. What comes back is merged in the order of the search: a part waits until nothing that stands before it is missing. So
   the answer is that of one search in one process, which runs schedules in that order: counts, the simplest runs, and
   the first error. Workers only run ahead.
2. A bound on runs ends the search at the run where it would have ended in one process. If a unit has gone beyond, it is
   done once more, with as many runs as are missing; and so is one that ended in an error, which may stand beyond.
3. With `stop_early` a unit ends at its first discovery, and the search with the first such unit.
4. A bound on time ends it when what is out has come back; then all that was found counts, whatever is missing before.
5. An error ends the search at its place. What stands before it is explored first; what stands behind it never.
6. A unit takes pieces that are neighbours: none that is out or that waits for its merge stands between them, and none
   will. While a unit of a lower level is out, which may leave something between any two, it takes just one.

Memory: with `depth-first` the frontier has for each unit at most the siblings along one schedule, and since its front is
taken first, it stays about as small as that of one search for each worker. With `exhaustive` it has all that is known of
the next level, as one search in one process has.
"""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_right, insort
from typing import TYPE_CHECKING

import attrs

from sim.errors import SimError
from sim.search import there
from sim.search.elsewhere import Elsewhere
from sim.search.explore import Progress
from sim.search.frontier import Frontier
from sim.search.part import Part
from sim.search.question import ONLY_WHEN_TO_STOP
from sim.search.shrink import shrink_all
from sim.search.unit import Bench, Done, Unit, portable
from sim.search.witness import Witnesses, discoveries
from sim.world.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.frontier import Key, Piece
    from sim.search.question import Question
    from sim.search.report import Bound, Report
    from sim.search.runner import Runner
    from sim.search.witness import Witness

QUICK = 0.1
"""Real seconds of a unit where little waits, so that there will soon be more."""
A_RUN = 0.005
"""Real seconds of a run, as long as none is known."""


@attrs.frozen
class _Back:
    """A unit that came back."""

    below: tuple[Piece, ...]
    part: Part | SimError


def runner_of(scenario: Scenario, subject: Subject, question: Question) -> Runner:
    """Who runs what is asked for; if that is done in another environment, with the versions there."""
    runner = question.runner(scenario, subject)
    if isinstance(subject, Elsewhere):
        runner.subject = attrs.evolve(subject, versions=subject.do(there.versions))
    return runner


class Search:
    """One subject's search.

    Args:
        scenario: what is explored.
        subject: with whom.
        question: how.
        name: by which the scenario is found elsewhere.
    """

    def __init__(self, scenario: Scenario, subject: Subject, question: Question, name: str) -> None:
        assert question.cut is not None
        self.cut = question.cut
        self.runner = runner_of(scenario, subject, question)
        self.elsewhere = isinstance(subject, Elsewhere)
        """Whether its runs are made in another environment."""
        self.server = subject.requirement
        self._subject = portable(subject)
        self.over = False
        self.error: SimError | None = None
        """What ended it, if that was an error."""
        self._question = question
        self._name = name
        self._versions = self.runner.versions()
        self._settings = {n: v for n, v in question.settings.items() if n not in ONLY_WHEN_TO_STOP}
        self._part = Part()
        self._witnesses = Witnesses()
        self._file: str | None = None
        self._frontier = Frontier((self.cut.everything,))
        self._out: dict[Key, tuple[Piece, ...]] = {}
        self._back: dict[Key, _Back] = {}
        self._keys: list[Key] = []  # of both, sorted
        self._again: tuple[Piece, ...] = ()  # what rule 2 wants done once more
        self._last = False  # nothing is to be merged but that
        self._until: Key | None = None  # what stands behind this is of no interest any more
        self._left_out = False  # something was left out because of that
        self._first_error: SimError | None = None
        self._finished = False
        self._bound: Bound | None = None
        self._earlier = 0.0
        self._since = 0.0  # when there began to be units out, if there are
        self._ahead = 0
        self._worked = (0, 0.0)  # runs and real seconds of the units that have come back
        self._broken: set[str] = set()

    @property
    def waiting(self) -> int:
        """How many pieces wait."""
        return len(self._frontier)

    @property
    def seconds(self) -> float:
        """Real seconds in which some unit was out, with those of an earlier process if a checkpoint knows of one."""
        return self._earlier + (time.perf_counter() - self._since if self._out else 0.0)

    def take(self, workers: int, seconds: float) -> Unit | None:
        """The next unit to give out, or None if there is none just now.

        Args:
            workers: how many want some.
            seconds: about how long a unit should take.
        """
        self._settle()
        if self.over:
            return None
        missing = self._question.max_runs - self._part.runs
        if self._again:
            below, self._again = self._again, ()
            return self._give(below, missing, None)
        left = self._time_left()
        first = self._frontier.first
        if first is None or self._last or (left is not None and left <= 0):
            return None
        place = bisect_right(self._keys, first.key)
        before = self._keys[place] if place < len(self._keys) else None
        few = len(self._frontier) + len(self._out) < 2 * workers
        wanted = min(seconds, QUICK) if few else seconds
        lower = any(below[0].level < first.level for below in self._out.values())
        at_most = 1 if lower else max(1, len(self._frontier) // (2 * workers))
        below = self._frontier.take(wanted / self._a_run, at_most=at_most, before=before)
        return self._give(below, missing, wanted if left is None else min(left, wanted))

    @property
    def _a_run(self) -> float:
        """Real seconds of a run."""
        runs, seconds = self._worked
        return seconds / runs if runs and seconds else A_RUN

    def _give(self, below: tuple[Piece, ...], runs: int, seconds: float | None) -> Unit:
        key = below[0].key
        if not self._out:
            self._since = time.perf_counter()
        self._out[key] = below
        insort(self._keys, key)
        return self._unit(below, runs, seconds, self._witnesses.few)

    def _unit(self, below: tuple[Piece, ...], runs: int, seconds: float | None, witnesses: tuple[Witness, ...]) -> Unit:
        return Unit(
            self._name, self._subject, self._settings, self._versions, below, runs, seconds, witnesses, self._file
        )

    def bench(self) -> contextlib.closing[Bench]:
        """Where its units are done in this process."""
        return contextlib.closing(Bench(None if self.elsewhere else self.runner))

    def hearing(self, file: str) -> Unit | None:
        """A unit that explores nothing, and hears whatever witnesses there are; None: there are none.

        Args:
            file: the checkpoint that they were read from.
        """
        self._file = file
        witnesses = (*self._witnesses, *discoveries(self._part))
        return self._unit((), 0, None, witnesses) if witnesses else None

    def fail(self, error: SimError) -> None:
        """It cannot be gone on with."""
        self._end(error=error)

    def came(self, unit: Unit, result: Done | SimError) -> bool:
        """A unit is done, or could not be done. Returns whether a checkpoint should know of it."""
        if self.over:
            return False
        key = unit.below[0].key
        seconds = self.seconds
        del self._out[key]
        if not self._out:
            self._earlier = seconds
        self._keys.remove(key)
        if unit.seconds is None:
            if isinstance(result, SimError):
                self._end(error=result)
            elif self._first_error is not None and not self._ends_with(result.part):
                self._end(error=self._first_error)
            else:
                self._part.merge(result.part)
                self._end()
            return False
        self._put(unit.below, result)
        self._settle()
        if isinstance(result, Done) and result.witness is not None:
            self._witnesses.add(result.witness)
        return isinstance(result, Done)

    def resume(self, below: tuple[Piece, ...], done: Done, seconds: float) -> None:
        """A unit was done by an earlier process, `seconds` after it had begun.

        Raises:
            ValueError: it does not follow from the ones before.
        """
        for piece in below:
            self._frontier.remove(piece)
        self._earlier = max(self._earlier, seconds)
        if done.witness is not None:
            self._witnesses.add(done.witness)
        self._put(below, done)
        self._merge()

    def _put(self, below: tuple[Piece, ...], result: Done | SimError) -> None:
        key = below[0].key
        if isinstance(result, Done):
            self._add(result.left)
            self._back[key] = _Back(below, result.part)
            self._ahead += result.part.runs
            self._broken |= result.part.found.keys()
        else:
            self._back[key] = _Back(below, result)
        insort(self._keys, key)
        if isinstance(result, SimError) or (self._question.stop_early and result.part.found):
            self._until = key if self._until is None else min(key, self._until)
            self._add(self._frontier.drop(self._until))

    def _add(self, pieces: Sequence[Piece]) -> None:
        """Let pieces wait, if they are of interest."""
        wanted = [piece for piece in pieces if self._until is None or piece.key < self._until]
        self._left_out = self._left_out or len(wanted) < len(pieces)
        self._frontier.add(wanted)

    def _ends_with(self, part: Part) -> bool:
        """Whether a search that has only this before it is at its end."""
        early = self._question.stop_early and bool(part.found)
        return early or self._part.runs + part.runs >= self._question.max_runs

    def _merge(self) -> None:
        """Rule 1, as far as it goes without an end."""
        while not self._last and self._keys and self._keys[0] in self._back:
            key, first = self._keys[0], self._frontier.first
            part = self._back[key].part
            if first is not None and first.key < key:
                return
            if isinstance(part, SimError) or self._part.runs + part.runs > self._question.max_runs:
                return
            self._forget(key)
            self._part.merge(part)
            if self._question.stop_early and self._part.found:
                self._last = True

    def _forget(self, key: Key) -> _Back:
        back = self._back.pop(key)
        self._keys.remove(key)
        if isinstance(back.part, Part):
            self._ahead -= back.part.runs
        return back

    def _settle(self) -> None:
        """Merge, and see whether that is the end."""
        if self.over or self._last:
            return
        self._merge()
        first = self._frontier.first
        nothing_left = first is None and not self._keys and not self._left_out
        if nothing_left or self._last or self._part.runs >= self._question.max_runs:
            self._end(finished=nothing_left)
        elif self._keys and self._keys[0] in self._back and (first is None or self._keys[0] < first.key):
            back = self._forget(self._keys[0])
            self._again, self._last = back.below, True
            self._first_error = back.part if isinstance(back.part, SimError) else None
        elif not self._out and (left := self._time_left()) is not None and left <= 0:
            self._time_is_up()

    def _time_left(self) -> float | None:
        limit = self._question.max_seconds
        return None if limit is None else limit - self.seconds

    def _time_is_up(self) -> None:
        """Rule 4."""
        for key in list(self._keys):
            part = self._forget(key).part
            if isinstance(part, SimError):
                self._end(error=part)
                return
            if self._part.runs + part.runs > self._question.max_runs:
                break
            self._part.merge(part)
        self._end(finished=False)

    def _end(self, *, finished: bool = False, error: SimError | None = None) -> None:
        self._earlier = self.seconds
        if not (self._question.stop_early and self._part.found):
            self._bound = self._question.stopped_by(self._part, self._earlier)
        self._out.clear()
        self.over, self._finished, self.error = True, finished, error
        self._back.clear()
        self._keys.clear()
        self._frontier = Frontier()

    def progress(self) -> Progress:
        """How far it is."""
        out = [piece for below in self._out.values() for piece in below]
        return Progress(
            self._part.runs + self._ahead,
            self.seconds,
            len(self._part.outcomes),
            len(self._broken),
            self._frontier.schedules + sum(piece.schedules for piece in out),
            min(1.0, self._frontier.share + sum(piece.share for piece in out)),
        )

    def report(self) -> Report:
        """The answer, when it is over and there was no error."""
        question, shrink_runs = self._question, 0
        if self._part.found and question.shrinks(finished=self._finished):
            with self.runner.session(), Watchdog():
                shrink_runs = shrink_all(self.runner, self._part, question.play(self.runner))
        return question.report(
            self.runner,
            self._part,
            finished=self._finished,
            bound=self._bound,
            seconds=self.seconds,
            shrink_runs=shrink_runs,
        )

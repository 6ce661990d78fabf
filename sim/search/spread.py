"""One search in many hands: its units are given out, done anywhere and in any order, and the answer is always the same.

Theory of operation
===================

A `Search` is the state of one subject's search: a frontier of prefixes that wait, units that somebody is doing, and
what has come back. A unit takes some prefixes from the front of the frontier; what it leaves goes back there. Nobody
knows how much is below a prefix, so units are bounded by time: whoever met a big one hands most of it back, and others
take their share of it. That is all the balancing there is.

Rules for this file:

1. What comes back is merged in the order of schedules: a part waits until nothing that stands before it is missing. So
   the answer is that of one search in one process, which runs schedules in that order: counts, the simplest runs, what
   is kept of equals, and the first error. Workers only run ahead.
2. A bound on runs ends the search at the run where it would have ended in one process. If a unit has gone beyond, it is
   done once more, with as many runs as are missing.
3. A bound on time ends it when what is out has come back; then all that was found counts, whatever is missing before.
4. An error ends the search at its place. What stands before it is explored first; what stands behind it never.
5. A unit takes prefixes that are neighbours: none that is out or that waits for its merge stands between them.

Memory: the frontier has for each unit at most the siblings along one schedule, and since its front is taken first,
it stays about as small as that of one depth-first search for each worker.
"""

from __future__ import annotations

import time
from bisect import bisect_right, insort
from typing import TYPE_CHECKING, TypeAlias

import attrs

from sim.errors import SimError
from sim.search.explore import Progress
from sim.search.part import Part
from sim.search.prefixes import ROOT, Frontier
from sim.search.question import ONLY_WHEN_TO_STOP
from sim.search.unit import Done, Unit

if TYPE_CHECKING:
    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.prefixes import Prefix
    from sim.search.question import Question
    from sim.search.report import Report

QUICK = 0.1
"""Real seconds of a unit where few prefixes wait, so that there will soon be more."""

Key: TypeAlias = "tuple[int, ...]"
"""Where a unit stands in the order of schedules: the picks of its first prefix."""


@attrs.frozen
class _Back:
    """A unit that came back."""

    below: tuple[Prefix, ...]
    part: Part | SimError


class Search:
    """One subject's search.

    Args:
        scenario: what is explored.
        subject: with whom.
        question: how.
        name: by which the scenario is found elsewhere.
    """

    def __init__(self, scenario: Scenario, subject: Subject, question: Question, name: str) -> None:
        self.runner = question.runner(scenario, subject)
        self.server = subject.requirement
        self.over = False
        self.error: SimError | None = None
        """What ended it, if that was an error."""
        self._question = question
        self._name = name
        self._versions = self.runner.versions()
        self._settings = {n: v for n, v in question.settings.items() if n not in ONLY_WHEN_TO_STOP}
        self._part = Part()
        self._frontier = Frontier((ROOT,))
        self._out: dict[Key, tuple[Prefix, ...]] = {}
        self._back: dict[Key, _Back] = {}
        self._keys: list[Key] = []  # of both, sorted
        self._again: tuple[Prefix, ...] = ()  # what rule 2 wants done once more
        self._last = False  # nothing is to be merged but that
        self._finished = False
        self._earlier = 0.0
        self._since = 0.0  # when there began to be units out, if there are
        self._ahead = 0
        self._broken: set[str] = set()

    @property
    def waiting(self) -> int:
        """How many prefixes wait."""
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
        place = bisect_right(self._keys, first)
        before = self._keys[place] if place < len(self._keys) else None
        few = len(self._frontier) + len(self._out) < 2 * workers
        below = self._frontier.take(max(1, len(self._frontier) // (4 * workers)), before)
        wanted = min(seconds, QUICK) if few else seconds
        return self._give(below, missing, wanted if left is None else min(left, wanted))

    def _give(self, below: tuple[Prefix, ...], runs: int, seconds: float | None) -> Unit:
        key = below[0].picks
        if not self._out:
            self._since = time.perf_counter()
        self._out[key] = below
        insort(self._keys, key)
        return Unit(self._name, self.server, self._settings, self._versions, below, runs, seconds)

    def came(self, unit: Unit, result: Done | SimError) -> bool:
        """A unit is done, or could not be done. Returns whether a checkpoint should know of it."""
        if self.over:
            return False
        key = unit.below[0].picks
        seconds = self.seconds
        del self._out[key]
        if not self._out:
            self._earlier = seconds
        self._keys.remove(key)
        if unit.seconds is None:
            if isinstance(result, Done):
                self._part.merge(result.part)
                self._end(finished=False)
            else:
                self._end(error=result)
            return False
        self._put(unit.below, result)
        self._settle()
        return isinstance(result, Done)

    def resume(self, below: tuple[Prefix, ...], done: Done, seconds: float) -> None:
        """A unit was done by an earlier process, `seconds` after it had begun.

        Raises:
            ValueError: it does not follow from the ones before.
        """
        for prefix in below:
            self._frontier.remove(prefix)
        self._earlier = max(self._earlier, seconds)
        self._put(below, done)
        self._merge()

    def _put(self, below: tuple[Prefix, ...], result: Done | SimError) -> None:
        key = below[0].picks
        if isinstance(result, Done):
            self._frontier.add(result.left)
            self._back[key] = _Back(below, result.part)
            self._ahead += result.part.runs
            self._broken |= result.part.found.keys()
        else:
            self._back[key] = _Back(below, result)
            self._frontier.drop(key)
        insort(self._keys, key)

    def _merge(self) -> None:
        """Rule 1, as far as it goes without an end."""
        while not self._last and self._keys and self._keys[0] in self._back:
            key, first = self._keys[0], self._frontier.first
            part = self._back[key].part
            if first is not None and first < key:
                return
            if isinstance(part, SimError) or self._part.runs + part.runs > self._question.max_runs:
                return
            self._forget(key)
            self._part.merge(part)

    def _forget(self, key: Key) -> _Back:
        back = self._back.pop(key)
        self._keys.remove(key)
        if isinstance(back.part, Part):
            self._ahead -= back.part.runs
        return back

    def _settle(self) -> None:
        """Merge, and see whether that is the end."""
        self._merge()
        first = self._frontier.first
        if self._last or self.over:
            return
        if self._part.runs >= self._question.max_runs:
            self._end(finished=first is None and not self._keys)
        elif not self._keys and first is None:
            self._end(finished=True)
        elif self._keys and self._keys[0] in self._back and (first is None or self._keys[0] < first):
            back = self._forget(self._keys[0])
            if isinstance(back.part, SimError):
                self._end(error=back.part)
            else:
                self._again, self._last = back.below, True
                self._frontier.drop(back.below[0].picks)
        elif not self._out and (left := self._time_left()) is not None and left <= 0:
            self._time_is_up()

    def _time_left(self) -> float | None:
        limit = self._question.max_seconds
        return None if limit is None else limit - self.seconds

    def _time_is_up(self) -> None:
        """Rule 3."""
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
        self._out.clear()
        self.over, self._finished, self.error = True, finished, error
        self._back.clear()
        self._keys.clear()
        self._frontier = Frontier()

    def progress(self) -> Progress:
        """How far it is."""
        out = [prefix for below in self._out.values() for prefix in below]
        return Progress(
            self._part.runs + self._ahead,
            self.seconds,
            len(self._part.outcomes),
            len(self._broken),
            len(self._frontier) + len(out),
            min(1.0, self._frontier.share + sum(prefix.share for prefix in out)),
        )

    def report(self) -> Report:
        """The answer, when it is over and there was no error."""
        return self._question.report(self.runner, self._part, finished=self._finished, seconds=self.seconds)

"""Shrinking: from a run that breaks something to the simplest that breaks the same.

Theory of operation
===================

What is shrunk is the list of picks. Its zeros are first in, first out, so the number of picks that are not 0, the
*deviations*, is the distance from FIFO; and as a scenario's own choices (how many clients, which message) are in the
same list with the least at 0, inputs and schedule shrink together. What is simpler is one order for the whole of `sim`,
`Run.rank`: fewest deviations, then fewest events, then fewest choices, then the least picks. No two schedules are
equal in it, so there is one simplest run.

Rules for this file:

1. A candidate counts for what its run *was*: it is played, judged, and ranked by the picks that it really made. A pick
   that the world does not offer is the last one that it does, so every list of numbers is a candidate.
2. What is returned was run again, as a forced schedule, and broke the invariant again.
3. Nothing is played twice; several discoveries of one search share what was learnt.
4. The work is bounded by runs and not by time, so that the same search comes to the same end.

How it works. First *up from below*: the schedules with no deviation and with one are run, as `sim.search.deepening`
does; most stories are among them. Failing that, *down*, as delta debugging does it (Zeller and Hildebrandt, 2002): set
deviations to 0, in halves, quarters, ... one by one; then leave choices out, so that those behind move up (a message
less is some choices less); then lower each pick. Again, until nothing helps. What remains is a local minimum. Then on
from below, through all schedules with fewer deviations and those with as many, as far as the budget goes. Where it
goes far enough, which it does for a story of one deviation among a hundred choices, the result is the simplest run of
all, whatever run it began with.

Rejected: to shrink by what is delivered (which message before which) and not by number. It is more robust where an
early pick changes what later ones mean. But it has no place for choices that are not deliveries, and the way up from
below mends what it would have been better at.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from sim.errors import Divergence, SimError
from sim.search.deepening import Deepening
from sim.search.part import Best
from sim.search.schedule import essential
from sim.world.choices import Choice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sim.search.part import Part
    from sim.search.policy import Play
    from sim.search.runner import Rank, Run, Runner
    from sim.world.choices import Decide

DOWN = 300
"""Runs to find a local minimum with, for each discovery."""
BELOW = 400
"""Runs to look below it with, each time."""


class _Tried(NamedTuple):
    """What is kept of a run: how simple it is, its choices without their labels, and what it broke."""

    rank: Rank
    choices: list[Choice]
    broken: frozenset[str]

    @property
    def picks(self) -> tuple[int, ...]:
        return essential(choice.pick for choice in self.choices)

    @property
    def deviations(self) -> int:
        return self.rank[0]


class _OutOfBudget(Exception):  # noqa: N818 - an end, not an error
    """So many runs were allowed, and are used up."""


def shrink_all(runner: Runner, part: Part, play: Play) -> int:
    """Put in place of each run that breaks something the simplest that breaks the same. Returns how many runs it took.

    Args:
        runner: who runs and judges; inside its session.
        part: what was found.
        play: plays a schedule.
    """
    shrinker = Shrinker(play)
    for name, best in sorted(part.found.items(), key=lambda item: item[1].rank):
        run = shrinker.shrink(runner.run(best.picks), name)
        violation = next(violation for invariant, violation in run.violations if invariant.name == name)
        part.found[name] = Best.of(run, violation, best.runs)
    return shrinker.runs


class Shrinker:
    """Shrinks the discoveries of one search.

    Attributes:
        runs: how many runs it has made.

    Args:
        play: plays a schedule.
    """

    def __init__(self, play: Play) -> None:
        self.runs = 0
        self._play = play
        self._tried: dict[tuple[int, ...], _Tried] = {}
        self._budget = 0

    def shrink(self, run: Run, invariant: str) -> Run:
        """The simplest run that was found to break `invariant`, as `run` does.

        Raises:
            Divergence: it did so once, and not when it was run again.
        """
        self._note(run)
        with self._at_most(BELOW):
            self._below(invariant, deepest=1)
        best = self._simplest(invariant)
        if best.deviations > 1:
            with self._at_most(DOWN):
                while best is not (best := self._down(best, invariant)):
                    pass
            with self._at_most(BELOW):
                self._below(invariant, deepest=self._simplest(invariant).deviations)
            best = self._simplest(invariant)
        self.runs += 1
        again = self._play(best.picks)
        if invariant not in _broken(again):
            raise Divergence(
                f"a schedule broke {invariant} while it was shrunk, and did not when it was run again. Something "
                "differs from run to run that is not under the world's control, or an invariant keeps something from "
                "one run to the next."
            )
        return again

    @contextlib.contextmanager
    def _at_most(self, runs: int) -> Iterator[None]:
        """For a body that makes no more runs than that, and ends at one that cannot be judged."""
        self._budget = self.runs + runs
        try:
            yield
        except _OutOfBudget:
            pass
        except SimError as exc:
            if isinstance(exc, Divergence):
                raise

    def _simplest(self, invariant: str) -> _Tried:
        return min((t for t in self._tried.values() if invariant in t.broken), key=lambda tried: tried.rank)

    def _down(self, best: _Tried, invariant: str) -> _Tried:
        """Something simpler by one round of changes, or `best` itself."""
        for change in _straightened, _shortened, _lowered:
            if best.deviations <= 1:
                break
            size = len(best.choices)
            while size:
                position = 0
                while position < len(best.choices):
                    changed = change(best.picks, position, size)
                    tried = self._try(changed) if changed is not None else best
                    if invariant in tried.broken and tried.rank < best.rank:
                        best = tried
                    else:
                        position += size
                size //= 2
        return best

    def _below(self, invariant: str, *, deepest: int) -> None:
        """Try everything that has so many deviations at the most, and no more than what was found."""
        for tried in Deepening().runs(self._try):
            if invariant in tried.broken:
                deepest = min(deepest, tried.deviations)
            if tried.deviations > deepest:
                return

    def _try(self, picks: Sequence[int]) -> _Tried:
        key = essential(picks)
        known = self._tried.get(key)
        if known is not None:
            return known
        if self.runs >= self._budget:
            raise _OutOfBudget
        self.runs += 1
        tried = self._note(self._play((), _following(key)))
        self._tried[key] = tried
        return tried

    def _note(self, run: Run) -> _Tried:
        bare = [Choice(choice.width, choice.pick, "") for choice in run.choices]
        tried = _Tried(run.rank, bare, _broken(run))
        return self._tried.setdefault(tried.picks, tried)


def _straightened(picks: tuple[int, ...], position: int, size: int) -> tuple[int, ...] | None:
    """`picks` with 0 at so many places, or None if 0 is there already."""
    if not any(picks[position : position + size]):
        return None
    return (*picks[:position], *(0 for _ in picks[position : position + size]), *picks[position + size :])


def _shortened(picks: tuple[int, ...], position: int, size: int) -> tuple[int, ...] | None:
    """`picks` without so many of them, or None if nothing is behind them."""
    return (*picks[:position], *picks[position + size :]) if position + size < len(picks) else None


def _lowered(picks: tuple[int, ...], position: int, size: int) -> tuple[int, ...] | None:
    """`picks` with one of them lower by one, or None if it would be 0 then."""
    if size > 1 or position >= len(picks) or picks[position] < 2:
        return None
    return (*picks[:position], picks[position] - 1, *picks[position + 1 :])


def _following(picks: tuple[int, ...]) -> Decide:
    """What makes a run pick these as far as it can, and 0 behind them."""
    left = iter(picks)
    return lambda width, _label: min(next(left, 0), width - 1)


def _broken(run: Run) -> frozenset[str]:
    return frozenset(invariant.name for invariant, _ in run.violations)

"""What the samplers share: a sampler draws the picks of a run, and this makes a search of it.

Theory of operation
===================

The first run is first in, first out, so that a sampler has something to measure (how many choices a run makes). Then
each run gets a generator of random numbers of its own, made from the seed and the run's number: the same seed is the
same search, and one run more or less changes no other. Schedules that were run are not drawn again, and when none is
left the search is complete (`sim.search.seen`).

A sampler that has found nothing has shown nothing, unless it is complete: its verdict is `inconclusive`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Protocol

from sim.search.seen import Seen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sim.search.policy import Play
    from sim.search.runner import Run
    from sim.world.choices import Decide


class Sampler(Protocol):
    """A way to draw schedules."""

    def begin(self, rng: random.Random, /) -> Decide:
        """What answers the choices of one run."""
        ...

    def learn(self, run: Run, /) -> None:
        """Take note of a run that was made."""
        ...

    def state(self) -> Any:
        """What it has learnt, in JSON types."""
        ...

    def resume(self, state: Any, /) -> None:
        """Know what another one had learnt."""
        ...


class Sampling:
    """A policy (see `sim.search.policy`) that draws schedules with `sampler`."""

    def __init__(self, sampler: Sampler, seed: int) -> None:
        self.complete = False
        self._sampler = sampler
        self._seed = seed
        self._seen = Seen()
        self._next = 0

    def outlook(self) -> None:
        """See `Policy`: nobody knows."""

    def runs(self, play: Play) -> Iterator[Run]:
        """Runs without end, or until every schedule was run."""
        while not self.complete:
            number, self._next = self._next, self._next + 1
            if number == 0:
                run = play(())
            else:
                rng = random.Random(f"{self._seed} {number}")
                run = play((), self._seen.bend(self._sampler.begin(rng)))
            self._sampler.learn(run)
            self._seen.add(run.choices)
            self.complete = self._seen.all
            yield run

    def state(self) -> Any:
        """See `Policy`."""
        return [self._next, self._seen.to_json(), self._sampler.state()]

    def resume(self, state: Any) -> None:
        """See `Policy`."""
        self._next, seen, learnt = state
        self._seen = Seen.from_json(seen)
        self._sampler.resume(learnt)
        self.complete = self._seen.all


def below(rng: random.Random, number: int) -> int:
    """One of `range(number)`, the same in every version of Python."""
    return int(rng.random() * number)

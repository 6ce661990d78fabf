"""PCT: lanes by random priority, which changes at a few random moments.

Burckhardt, Kothari, Musuvathi, Nagarakatte, "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs"
(ASPLOS 2010); for messages, Ozkan, Majumdar, Niksic, Tabaei Befrouei, Weissenbacher, "Randomized Testing of Distributed
Systems with Probabilistic Guarantees" (OOPSLA 2018). A bug of *depth* d is one that d events in the right order show.
With n chains of events and k steps, a run of depth d finds it with probability 1/(n·k^(d-1)) at the least.

Here a chain is a *lane* (what is in flight from one side of a connection to the other, or a native thread's results),
the timers are one more, and "just before the timer" is a chain of its own beside a lane's. Always the head of the lane
with the highest priority happens; at each of d - 1 moments, the lane that would be next falls behind all others.

Departures: nobody knows d, so each run draws its own from 1 to `DEEPEST`, which costs that factor in the guarantee.
k is the longest run so far, in choices: steps at which only one thing can happen are none. A choice that is not among
lanes (a scenario's own, or what a script sends next) is drawn with equal probabilities, as the paper does with data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.search.sampling import below
from sim.world.lanes import Menu

if TYPE_CHECKING:
    import random

    from sim.search.runner import Run
    from sim.world.choices import Decide

DEEPEST = 4
"""Depths up to this are tried."""


class Pct:
    """The sampler of the policy "pct"."""

    def __init__(self) -> None:
        self._longest = 1

    def begin(self, rng: random.Random) -> Decide:
        """By priority; a change point's rank is below every priority that is drawn."""
        depth = 1 + below(rng, DEEPEST)
        falls = {below(rng, self._longest): -rank for rank in range(1, depth)}
        priorities: dict[tuple[str, bool], float] = {}
        step = -1

        def decide(width: int, label: object) -> int:
            nonlocal step
            step += 1
            if not isinstance(label, Menu):
                return below(rng, width)
            lanes = [(option.lane, option.late) for option in label.options()]
            for lane in lanes:
                if lane not in priorities:
                    priorities[lane] = rng.random()
            if step in falls:
                priorities[max(lanes, key=priorities.__getitem__)] = falls[step]
            return max(range(width), key=lambda pick: priorities[lanes[pick]])

        return decide

    def learn(self, run: Run) -> None:
        """How long runs are."""
        self._longest = max(self._longest, len(run.choices))

    def state(self) -> int:
        """That."""
        return self._longest

    def resume(self, state: int) -> None:
        """That."""
        self._longest = state

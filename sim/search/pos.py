"""POS: events by random priority, drawn anew for those that race with what has happened.

Yuan, Yang, Gu, "Partial Order Aware Concurrency Sampling" (CAV 2018). Every event gets a random priority when it first
can happen, and the one with the highest does. The others that race with it get a new priority, so that the order of
each pair of racing events is decided by a draw of its own; events that do not race keep theirs, so that orders which
come to the same are not favoured for being many. No length and no depth need be known.

Here an event is a segment, or a native thread's result, that is at the head of its lane; two race if they go to the
same process or host. A timer races with everything, because all that may come before it must be decided against it.
"Nothing yet", between two iterations of a loop, is drawn anew each time. A choice that is not among lanes is drawn
with equal probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.search.sampling import below
from sim.world.lanes import Menu

if TYPE_CHECKING:
    import random

    from sim.search.runner import Run
    from sim.world.choices import Decide


class Pos:
    """The sampler of the policy "pos"."""

    def begin(self, rng: random.Random) -> Decide:
        """By priority of events."""
        priorities: dict[tuple[int, bool], float] = {}

        def decide(width: int, label: object) -> int:
            if not isinstance(label, Menu):
                return below(rng, width)
            options = label.options()
            events = [(option.item, option.late) for option in options]
            for event in events:
                if event not in priorities:
                    priorities[event] = rng.random()
            pick = max(range(width), key=lambda index: priorities[events[index]])
            target = options[pick].target
            for option, event in zip(options, events, strict=True):
                if option.target == target or not option.target or not target:
                    del priorities[event]
            return pick

        return decide

    def learn(self, run: Run) -> None:
        """Nothing."""

    def state(self) -> None:
        """Nothing."""

    def resume(self, state: None) -> None:
        """Nothing."""

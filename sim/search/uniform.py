"""Random walk: each pick with the same probability.

The baseline of every paper. It is fair to picks and not to schedules: one that is met early in a deep tree is far more
likely than another. Bugs that need one thing to be late by many steps are what it is worst at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.search.sampling import below

if TYPE_CHECKING:
    import random

    from sim.search.runner import Run
    from sim.world.choices import Decide


class Uniform:
    """The sampler of the policy "random"."""

    def begin(self, rng: random.Random) -> Decide:
        """Any pick."""
        return lambda width, _label: below(rng, width)

    def learn(self, run: Run) -> None:
        """Nothing."""

    def state(self) -> None:
        """Nothing."""

    def resume(self, state: None) -> None:
        """Nothing."""

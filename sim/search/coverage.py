"""Coverage: schedules that are like those which showed something new.

Greybox fuzzing, as AFL does it with inputs; for schedules see Wolff, Shi, Duck, Mathur, Roychoudhury, "Greybox Fuzzing
for Concurrency Testing" (ASPLOS 2024), and for messages Meng, Pîrlea, Roychoudhury, Sergey, "Greybox Fuzzing of
Distributed Systems" (CCS 2023). A run that shows what no run before it has shown is kept; later ones are drawn by
changing one that was kept: a few of its picks, or all behind some point, or its beginning with the end of another.

What a run *shows* is pairs of a protocol state and an event in it. `sim` knows no protocol, but a trace tells enough:
a state is what each connection, application and client did last, an event is what one of them does next. Things that
were only sent or delivered are the network's and no part of it.

Departures: kept schedules have no energy; the latest that was kept is as likely to be changed as all others together,
which is most of what AFL's schedules of power come to. One run in `FRESH` starts from nothing, so that a search in
which little is new does not go round in circles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from sim.search.sampling import below

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from sim.search.runner import Run
    from sim.world.choices import Decide

FRESH = 5
"""One run in so many is drawn from nothing."""
CHANGES = 3
"""Picks that are changed at the most."""
_Shown: TypeAlias = "tuple[frozenset[tuple[str, str]], str, str]"
"""What each actor did last; and who does what next."""


class Coverage:
    """The sampler of the policy "coverage"."""

    def __init__(self) -> None:
        self._covered: set[_Shown] = set()
        self._kept: list[tuple[int, ...]] = []

    def begin(self, rng: random.Random) -> Decide:
        """The picks of a schedule that was kept, changed; 0 or anything behind them."""
        plan = self._changed(rng)
        position = -1

        def decide(width: int, _label: object) -> int:
            nonlocal position
            position += 1
            pick = plan[position] if position < len(plan) else None
            return below(rng, width) if pick is None else min(pick, width - 1)

        return decide

    def _changed(self, rng: random.Random) -> list[int | None]:
        """A plan: None stands for any pick, and so does what is behind its end."""
        if not self._kept or below(rng, FRESH) == 0:
            return []
        plan: list[int | None] = list(self._one(rng))
        if not plan:
            return []
        how = below(rng, 3)
        if how == 0:
            return plan[: below(rng, len(plan))]
        if how == 1:
            cut = below(rng, len(plan))
            plan[cut:] = [None, *self._one(rng)[cut + 1 :]]
        else:
            for _ in range(1 + below(rng, CHANGES)):
                plan[below(rng, len(plan))] = None
        return plan

    def _one(self, rng: random.Random) -> Sequence[int]:
        return self._kept[-1] if below(rng, 2) else self._kept[below(rng, len(self._kept))]

    def learn(self, run: Run) -> None:
        """Keep the schedule if it shows something new."""
        before = len(self._covered)
        self._covered.update(shown(run))
        if len(self._covered) > before:
            self._kept.append(run.picks)

    def state(self) -> Any:
        """The schedules that were kept, and all that was shown."""
        return [self._kept, sorted([sorted(state), actor, kind] for state, actor, kind in self._covered)]

    def resume(self, state: Any) -> None:
        """The same."""
        kept, covered = state
        self._kept = [tuple(picks) for picks in kept]
        self._covered = {(frozenset(map(tuple, state)), actor, kind) for state, actor, kind in covered}


def shown(run: Run) -> Iterator[_Shown]:
    """Pairs of a state and an event in it."""
    last: dict[str, str] = {}
    state: frozenset[tuple[str, str]] = frozenset()
    for event in run.trace:
        if event.observable:
            yield state, event.actor, event.kind
            last[event.actor] = event.kind
            state = frozenset(last.items())

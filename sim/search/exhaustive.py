"""Every schedule once: depth first over the tree of choices, by replay from the root.

Theory of operation
===================

A run makes choices 1, 2, ... n; the first so many are forced, the rest are 0. The next schedule keeps the longest
prefix whose last pick can still be raised, raises it by one, and forgets what was behind: counting, with digits whose
base is found out on the way. When no pick can be raised, every schedule was run once. Schedules are therefore run in
the order of their picks.

Nothing is stored but the current schedule, so the search needs no memory however long it takes. The forced part of a
run must ask the questions that it asked before; a different width is a `Divergence`, found at once.

A part of the tree is explored in the same way: below a prefix, whose picks are not raised. What is left of it at any
moment is again made of prefixes, one for each way in which a pick of the current schedule could still be raised. So a
search can be stopped between any two runs and go on elsewhere, in one piece or in many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.search.divergence import same_questions
from sim.search.prefixes import ROOT, Prefix, beside

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sim.search.policy import Play
    from sim.search.runner import Run
    from sim.world.choices import Choice


class Exhaustive:
    """The policy "exhaustive" (see `sim.search.policy`).

    Args:
        below: the prefixes to explore, in order.
    """

    def __init__(self, below: Sequence[Prefix] = (ROOT,)) -> None:
        self.complete = False
        self._waiting = list(below)[::-1]
        self._made: Sequence[Choice] = ()
        self._floor = 0

    def runs(self, play: Play) -> Iterator[Run]:
        """Every run there is below the prefixes."""
        while self._waiting:
            prefix = self._waiting.pop()
            self._floor = len(prefix.picks)
            before = prefix.choices()
            forced: tuple[int, ...] | None = prefix.picks
            while forced is not None:
                run = play(forced)
                made = run.choices
                same_questions(before[: len(forced)], made)
                self._made = before = made
                forced = following(made, self._floor)
                self.complete = forced is None and not self._waiting
                yield run

    def left(self) -> list[Prefix]:
        """Between two runs: what has not been explored, in order."""
        return [*beside(self._made, self._floor), *self._waiting[::-1]]


def following(made: Sequence[Choice], floor: int = 0) -> tuple[int, ...] | None:
    """The forced picks of the schedule behind this one; None if it is the last with the same first `floor` picks."""
    last = len(made) - 1
    while last >= floor and made[last].pick + 1 >= made[last].width:
        last -= 1
    return (*(choice.pick for choice in made[:last]), made[last].pick + 1) if last >= floor else None

"""Every schedule once: depth first over the tree of choices, by replay from the root.

Theory of operation
===================

A run makes choices 1, 2, ... n; the first so many are forced, the rest are 0. The next schedule keeps the longest
prefix whose last pick can still be raised, raises it by one, and forgets what was behind: counting, with digits whose
base is found out on the way. When no pick can be raised, every schedule was run once.

Nothing is stored but the current schedule, so the search needs no memory however long it takes. The forced part of a
run must ask the questions that it asked before; a different width is a `Divergence`, found at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.search.divergence import same_questions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sim.search.runner import Run
    from sim.world.choices import Choice


class Exhaustive:
    """The policy "depth-first" (see `sim.search.policy`)."""

    def __init__(self) -> None:
        self.complete = False

    def runs(self, play: Callable[[Sequence[int]], Run]) -> Iterator[Run]:
        """Every run there is."""
        before: list[Choice] = []
        forced: tuple[int, ...] | None = ()
        while forced is not None:
            run = play(forced)
            made = run.choices
            same_questions(before[: len(forced)], made)
            before, forced = made, following(made)
            self.complete = forced is None
            yield run


def following(made: Sequence[Choice]) -> tuple[int, ...] | None:
    """The forced picks of the schedule behind this one; None if it is the last."""
    last = len(made) - 1
    while last >= 0 and made[last].pick + 1 >= made[last].width:
        last -= 1
    return (*(choice.pick for choice in made[:last]), made[last].pick + 1) if last >= 0 else None
